package program_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/orlop/orlop/tests/deploy/chart"
)

// TestTheImageIsWhatTheChartExpects: the user, the ports and the command of the last stage are those of the chart's
// pods, nothing but the program is in it, and it is built with a Rust that builds the program.
func TestTheImageIsWhatTheChartExpects(t *testing.T) {
	_, text := deployed(t, "Containerfile")
	_, last, found := strings.Cut(text, "\nFROM scratch\n")
	if !found || strings.Contains(last, "\nFROM ") {
		t.Fatal("the last stage does not begin with nothing")
	}
	instructions := map[string][]string{}
	for line := range strings.Lines(last) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		instructions[name] = append(instructions[name], rest)
	}
	template := statefulSet(t, chart.Sets[0]).Spec.Template.Spec
	container := template.Containers[0]
	security := template.SecurityContext
	var ports []string
	for _, port := range container.Ports {
		ports = append(ports, fmt.Sprint(port.ContainerPort))
	}
	for name, want := range map[string]string{
		"USER":       fmt.Sprintf("%d:%d", *security.RunAsUser, *security.RunAsGroup),
		"EXPOSE":     strings.Join(ports, " "),
		"ENTRYPOINT": `["/orlop"]`,
		"CMD":        `["` + container.Args[0] + `"]`,
	} {
		if got := instructions[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s %v, expected %s", name, got, want)
		}
	}
	if len(container.Command) > 0 {
		t.Errorf("the pods run %v, not what the image is for", container.Command)
	}

	manifest, err := os.ReadFile(filepath.Join(chart.Root, "Cargo.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for what, pattern := range map[string]string{"version": `(?m)^version = "(.*)"`, "Rust": `(?m)^rust-version = "(.*)"`} {
		version := regexp.MustCompile(pattern).FindSubmatch(manifest)
		if version == nil {
			t.Fatalf("Cargo.toml has no %s", what)
		}
		wanted := map[string]string{"version": "orlop:" + string(version[1]), "Rust": "/rust:" + string(version[1]) + "-alpine"}[what]
		if !strings.Contains(text, wanted) {
			t.Errorf("the Containerfile does not say %s", wanted)
		}
		if what == "version" && container.Image != wanted {
			t.Errorf("the chart runs %s, expected %s", container.Image, wanted)
		}
	}
}
