package observability

import (
	"encoding/json"
	"log/slog"
	"os"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	rulesFile     = "../../deploy/observability/rules.yaml"
	dashboardFile = "../../deploy/observability/dashboard.json"
)

// query is an expression, and where it stands.
type query struct {
	where, expression string
}

// panel is what this test needs of a panel of Grafana.
type panel struct {
	ID      int    `json:"id"`
	Title   string `json:"title"`
	Type    string `json:"type"`
	GridPos struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
}

// What Prometheus refuses, promtool check rules refuses too: it is the same code. And each alert tells people enough.
func TestTheRulesCanBeLoaded(t *testing.T) {
	seen := map[string]bool{}
	for _, group := range rules(t).Groups {
		for _, rule := range group.Rules {
			if seen[rule.Alert] {
				t.Errorf("%s is there twice", rule.Alert)
			}
			seen[rule.Alert] = true
			if severity := rule.Labels["severity"]; severity != "warning" && severity != "critical" {
				t.Errorf("%s has the severity %q", rule.Alert, severity)
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s does not say what it means and what to do", rule.Alert)
			}
		}
	}
}

// No panel hides another, and each has a title and something to show.
func TestTheDashboardIsLaidOut(t *testing.T) {
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, panel := range dashboard(t) {
		if ids[panel.ID] {
			t.Errorf("two panels have the id %d", panel.ID)
		}
		ids[panel.ID] = true
		if panel.Title == "" || (panel.Type != "row" && len(panel.Targets) == 0) {
			t.Errorf("panel %d %q has no title, or nothing to show", panel.ID, panel.Title)
		}
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("the panels %q and %q are in the same place", other, panel.Title)
				}
				taken[[2]int{x, y}] = panel.Title
			}
		}
	}
}

func rules(t *testing.T) *rulefmt.RuleGroups {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	groups, problems := rulefmt.Parse(text, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.Default())
	for _, problem := range problems {
		t.Errorf("%s: %v", rulesFile, problem)
	}
	if t.Failed() || len(groups.Groups) == 0 {
		t.Fatalf("%s cannot be used", rulesFile)
	}
	return groups
}

func alerts(t *testing.T) []query {
	t.Helper()
	var found []query
	for _, group := range rules(t).Groups {
		for _, rule := range group.Rules {
			found = append(found, query{"alert " + rule.Alert, rule.Expr})
		}
	}
	return found
}

func dashboard(t *testing.T) []panel {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []panel `json:"panels"`
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	if len(dashboard.Panels) == 0 {
		t.Fatalf("%s has no panels", dashboardFile)
	}
	return dashboard.Panels
}

func panels(t *testing.T) []query {
	t.Helper()
	var found []query
	for _, panel := range dashboard(t) {
		for _, target := range panel.Targets {
			found = append(found, query{"panel " + panel.Title, target.Expr})
		}
	}
	return found
}
