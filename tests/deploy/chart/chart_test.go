package chart_test

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"

	"github.com/orlop/orlop/tests/deploy/chart"
)

// TestPlainManifestsAreWhatTheChartRenders writes those that are not, and fails.
func TestPlainManifestsAreWhatTheChartRenders(t *testing.T) {
	for _, set := range chart.Sets {
		t.Run(set.Name, func(t *testing.T) {
			want, err := set.Manifests()
			if err != nil {
				t.Fatal(err)
			}
			found, err := os.ReadFile(set.Rendered)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if string(found) == want {
				return
			}
			if err := os.WriteFile(set.Rendered, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			t.Fatalf("%s was not up to date. It was written anew: look at it and keep it.", set.Rendered)
		})
	}
}

// TestEverySetOfValuesIsRendered: a file in the chart's folder ci that nothing renders would be checked by nobody.
func TestEverySetOfValuesIsRendered(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(chart.Dir, "ci", "*-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), "-values.yaml")
		if !slices.ContainsFunc(chart.Sets, func(set chart.Set) bool { return set.Name == name }) {
			t.Errorf("%s: add it to the sets of this package", file)
		}
	}
}

// TestTheSetEverythingSetsEverything: so that no value of the chart is without a check.
func TestTheSetEverythingSetsEverything(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chart.Dir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := common.ReadValues(content)
	if err != nil {
		t.Fatal(err)
	}
	set := chart.Sets[len(chart.Sets)-1]
	values, err := set.Values()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		// autoscaling takes its place.
		if name != "replicas" && (values[name] == nil || reflect.DeepEqual(values[name], own[name])) {
			t.Errorf("%s: is not set there, or to the same", name)
		}
	}
}

// TestValuesThatCannotBeMeantAreRefusedByName: what is wrong is said, and with which value.
func TestValuesThatCannotBeMeantAreRefusedByName(t *testing.T) {
	pd := []any{"pd:2379"}
	for _, wrong := range []struct {
		says   string
		values map[string]any
	}{
		{"pdEndpoints: say where TiKV's PD is", map[string]any{}},
		{"replica", map[string]any{"pdEndpoints": pd, "replica": 3}},
		{"pdEndpoints", map[string]any{"pdEndpoints": []any{"http://pd:2379"}}},
		{"extraArgs", map[string]any{"pdEndpoints": pd, "extraArgs": []any{"log-level"}}},
		{"at least 6 above preStopSeconds", map[string]any{"pdEndpoints": pd, "preStopSeconds": 15}},
		{
			"permissions: clients have names by their certificates",
			map[string]any{
				"pdEndpoints": pd, "permissions": "[a]",
				"tls": map[string]any{"client": map[string]any{"enabled": false}},
			},
		},
	} {
		_, err := chart.Render(wrong.values)
		if err == nil || !strings.Contains(err.Error(), wrong.says) {
			t.Errorf("%v: %v, expected %q", wrong.values, err, wrong.says)
		}
	}
}

// TestNotesNameEveryEndpointAndWhatIsOpen: what is told after an installation.
func TestNotesNameEveryEndpointAndWhatIsOpen(t *testing.T) {
	values, err := chart.Sets[1].Values()
	if err != nil {
		t.Fatal(err)
	}
	files, err := chart.Render(values)
	if err != nil {
		t.Fatal(err)
	}
	notes := files["orlop/templates/NOTES.txt"]
	for _, part := range []string{
		"http://orlop-0.orlop-peers.orlop.svc.cluster.local:2379",
		"http://orlop-2.orlop-peers.orlop.svc.cluster.local:2379",
		"WARNING: tls.client is off", "WARNING: tls.peer is off",
	} {
		if !strings.Contains(notes, part) {
			t.Errorf("the notes do not say %q:\n%s", part, notes)
		}
	}
}
