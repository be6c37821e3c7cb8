package observability

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/orlop/orlop/tests/harness"
)

// ofPrometheus are labels that Prometheus adds when it scrapes.
var ofPrometheus = map[string]bool{"job": true, "instance": true, labels.MetricName: true}

// series are what a server prints, by name.
type series map[string][]labels.Labels

// A selector matches a series of a server of either kind: with a name or a label that is not there a panel would stay
// empty, and an alert would never fire.
func TestWhateverIsAskedForIsThere(t *testing.T) {
	embedded := scrape(t, harness.StartOrlop(t))
	fleet := scrape(t, harness.StartOrlop(t, harness.Fleet(t)))
	asked := append(alerts(t), panels(t)...)
	for _, query := range asked {
		for _, selector := range selectors(t, query) {
			if !embedded.has(selector) && !fleet.has(selector) {
				t.Errorf("%s: nothing that a server prints matches %s", query.where, selector)
			}
		}
	}
	if len(asked) < 50 {
		t.Errorf("only %d expressions were found", len(asked))
	}
}

// The check itself finds a name, a label, and a label's value that are not there.
func TestWhatIsNotThereIsFound(t *testing.T) {
	there := series{"a_total": {labels.FromStrings("outcome", "committed")}}
	for expression, want := range map[string]bool{
		`rate(a_total[5m])`: true,
		`a_total{job=~".*orlop.*", outcome="committed"}`:               true,
		`a_total{outcome=~"other|committed"}`:                          true,
		`b_total`:                                                      false,
		`a_total{outcome="comitted"}`:                                  false,
		`a_total{result="committed"}`:                                  false,
		`sum by (x) (a_total) / sum by (x) (rate(a_totals[5m])) > 0.1`: false,
	} {
		all := true
		for _, selector := range selectors(t, query{"here", expression}) {
			all = all && there.has(selector)
		}
		if all != want {
			t.Errorf("%s: found %v, expected %v", expression, all, want)
		}
	}
}

func (s series) has(selector *parser.VectorSelector) bool {
	for _, found := range s[selector.Name] {
		matches := true
		for _, matcher := range selector.LabelMatchers {
			if !ofPrometheus[matcher.Name] {
				// A label that is not there is the empty text, which "!=" matches: it has to be there all the same.
				matches = matches && found.Has(matcher.Name) && matcher.Matches(found.Get(matcher.Name))
			}
		}
		if matches {
			return true
		}
	}
	return false
}

// scrape reads what a server prints now. Prometheus adds `up` to it.
func scrape(t *testing.T, store *harness.Store) series {
	t.Helper()
	var text string
	// The first heartbeat between servers takes a moment.
	harness.Eventually(t, "the server has metrics of everything", func() bool {
		client := http.Client{Timeout: 10 * time.Second}
		answer, err := client.Get(store.Endpoint + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("/metrics: %s, %v", answer.Status, err)
		}
		text = string(body)
		alone := strings.Contains(text, "\norlop_members 1\n")
		return alone || strings.Contains(text, "etcd_network_peer_round_trip_time_seconds_bucket")
	})
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("/metrics cannot be read by Prometheus: %v", err)
	}
	found := series{"up": {labels.EmptyLabels()}}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			pairs := []string{}
			for _, label := range metric.GetLabel() {
				pairs = append(pairs, label.GetName(), label.GetValue())
			}
			plain := labels.FromStrings(pairs...)
			if metric.GetHistogram() == nil {
				found[name] = append(found[name], plain)
				continue
			}
			found[name+"_sum"] = append(found[name+"_sum"], plain)
			found[name+"_count"] = append(found[name+"_count"], plain)
			bucket := labels.FromStrings(append(pairs, "le", "+Inf")...)
			found[name+"_bucket"] = append(found[name+"_bucket"], bucket)
		}
	}
	return found
}

// variable are what Grafana puts values in the place of.
var variable = regexp.MustCompile(`\$__rate_interval`)

func selectors(t *testing.T, query query) []*parser.VectorSelector {
	t.Helper()
	text := variable.ReplaceAllString(query.expression, "5m")
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		t.Fatalf("%s: %s: %v", query.where, query.expression, err)
	}
	var found []*parser.VectorSelector
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			found = append(found, selector)
		}
		return nil
	})
	if len(found) == 0 {
		t.Errorf("%s: %s asks for nothing", query.where, query.expression)
	}
	return found
}
