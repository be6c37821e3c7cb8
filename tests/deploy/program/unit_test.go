package program_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/orlop/orlop/tests/deploy/chart"
	"github.com/orlop/orlop/tests/harness"
)

// installed is where the files of deploy/ go, by their names there.
var installed = map[string]string{
	"orlop.toml": "/etc/orlop/orlop.toml",
	"orlop.env":  "/etc/orlop/orlop.env",
}

// deployed is the path and the text of a file of deploy/.
func deployed(t *testing.T, name string) (string, string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(chart.Root, "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, string(text)
}

// settings are the values that the unit has for a name, in their order.
func settings(unit, name string) []string {
	var values []string
	for line := range strings.Lines(unit) {
		if found, value, is := strings.Cut(strings.TrimSpace(line), "="); is && found == name {
			values = append(values, value)
		}
	}
	return values
}

// variables are those that an environment file sets; with the ones that are commented out.
func variables(text string) []string {
	var pairs []string
	for line := range strings.Lines(text) {
		pair := strings.TrimSpace(strings.TrimPrefix(line, "# "))
		if regexp.MustCompile(`^[A-Z_]+=`).MatchString(pair) {
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

// TestTheProgramAcceptsTheUnitAndItsFiles: the command line of the unit with the example files, as they are and with
// everything in them that is commented out.
func TestTheProgramAcceptsTheUnitAndItsFiles(t *testing.T) {
	_, unit := deployed(t, "orlop.service")
	file, text := deployed(t, "orlop.toml")
	_, environment := deployed(t, "orlop.env")
	if got := settings(unit, "EnvironmentFile"); !slices.Equal(got, []string{"-" + installed["orlop.env"]}) {
		t.Errorf("the unit reads %v", got)
	}
	start := strings.Fields(settings(unit, "ExecStart")[0])[1:]
	at := slices.Index(start, installed["orlop.toml"])
	if at < 0 {
		t.Fatalf("the unit does not name the file of settings: %v", start)
	}
	start[at] = file
	accepts(t, variables(environment), start...)

	all := filepath.Join(t.TempDir(), "all.toml")
	setting := regexp.MustCompile(`(?m)^# ([a-z-]+ = .*)$`)
	first := strings.Replace(text, `listen-client-urls = "http://127.0.0.1:2379"`, "", 1)
	uncommented := setting.ReplaceAllString(first, "$1")
	if uncommented == text || !strings.Contains(uncommented, "\ncert-file = ") {
		t.Fatalf("nothing was commented out:\n%s", uncommented)
	}
	if err := os.WriteFile(all, []byte(uncommented), 0o600); err != nil {
		t.Fatal(err)
	}
	start[at] = all
	accepts(t, variables(environment), start...)
}

// TestTheUnitKeepsItsPromises: what the text beside it says of it.
func TestTheUnitKeepsItsPromises(t *testing.T) {
	_, unit := deployed(t, "orlop.service")
	_, file := deployed(t, "orlop.toml")
	state := "/var/lib/" + settings(unit, "StateDirectory")[0]
	if !strings.Contains(file, `data-dir = "`+state+`"`) {
		t.Errorf("the example does not keep its data in %s, and the unit can write nowhere else", state)
	}
	for name, value := range map[string]string{
		"Type": "exec", "DynamicUser": "yes", "ProtectSystem": "strict", "NoNewPrivileges": "yes",
		"CapabilityBoundingSet": "", "RestartPreventExitStatus": "64",
	} {
		if got := settings(unit, name); !slices.Equal(got, []string{value}) {
			t.Errorf("%s=%v, expected %q", name, got, value)
		}
	}
}

// TestSystemdFindsNothingWrongWithTheUnit, where there is a systemd: the parser of the real one.
func TestSystemdFindsNothingWrongWithTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here; the other tests read the unit all the same")
	}
	_, text := deployed(t, "orlop.service")
	// It looks for the program.
	text = strings.Replace(text, "/usr/local/bin/orlop", harness.Binary(t, harness.OrlopBin), 1)
	unit := filepath.Join(t.TempDir(), "orlop.service")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	result := harness.Run(t, "", analyze, "verify", "--man=no", unit)
	if result.ExitCode != 0 || strings.Contains(result.Output(), "orlop.service") {
		t.Errorf("code %d: %s", result.ExitCode, result.Output())
	}
}
