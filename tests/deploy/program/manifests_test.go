// Package program_test gives the real program what the files of deploy/ start it with.
package program_test

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/orlop/orlop/tests/deploy/chart"
	"github.com/orlop/orlop/tests/harness"
)

const (
	// notAFlag makes the program complain about all that is wrong with a command line, and serve nothing.
	notAFlag = "--not-a-flag"
	// usage is the exit code for a command line that is wrong.
	usage = 64
	// stopTime is what the program promises to be gone within after SIGTERM (STOP_TIME_MAX of crates/node).
	stopTime = 5 * time.Second
	// probed answers far sooner, also on a busy machine.
	probed = 10 * time.Second
)

// accepts fails the test when the program finds anything wrong with this command line and environment. Nothing is served:
// one more flag is there that does not exist, and has to be all that is complained about.
func accepts(t *testing.T, environment []string, args ...string) {
	t.Helper()
	result := harness.RunEnv(t, environment, "", harness.Binary(t, harness.OrlopBin), append(args, notAFlag)...)
	var complaints []string
	for line := range strings.Lines(result.Stderr) {
		if !strings.Contains(line, notAFlag) && !strings.Contains(line, "nothing was started") {
			complaints = append(complaints, line)
		}
	}
	if result.ExitCode != usage || !strings.Contains(result.Stderr, notAFlag) || len(complaints) > 0 {
		t.Errorf("orlop %s: code %d, %s", strings.Join(args, " "), result.ExitCode, result.Stderr)
	}
}

// statefulSet is the one of a set's manifests.
func statefulSet(t *testing.T, set chart.Set) appsv1.StatefulSet {
	t.Helper()
	text, err := os.ReadFile(set.Rendered)
	if err != nil {
		t.Fatal(err)
	}
	for manifest := range strings.SplitSeq(string(text), "\n---\n") {
		var object appsv1.StatefulSet
		if strings.Contains(manifest, "\nkind: StatefulSet\n") {
			if err := yaml.UnmarshalStrict([]byte(manifest), &object); err != nil {
				t.Fatalf("%s: %v", set.Rendered, err)
			}
			return object
		}
	}
	t.Fatalf("%s has no StatefulSet", set.Rendered)
	return appsv1.StatefulSet{}
}

// container is the one that serves, and its arguments as a kubelet would expand them for the first server.
func container(t *testing.T, set chart.Set) (corev1.Container, []string) {
	t.Helper()
	object := statefulSet(t, set)
	container := object.Spec.Template.Spec.Containers[0]
	var args []string
	for _, arg := range container.Args {
		args = append(args, strings.ReplaceAll(arg, "$(POD_NAME)", object.Name+"-0"))
	}
	return container, args
}

// TestTheProgramAcceptsEveryCommandLine: of each set of values.
func TestTheProgramAcceptsEveryCommandLine(t *testing.T) {
	for _, set := range chart.Sets {
		t.Run(set.Name, func(t *testing.T) {
			_, args := container(t, set)
			accepts(t, nil, args...)
		})
	}
}

// TestAWrongCommandLineIsNoticed: what the tests here rely on.
func TestAWrongCommandLineIsNoticed(t *testing.T) {
	_, args := container(t, chart.Sets[0])
	args = append(args, "--log-format=yaml", notAFlag)
	result := harness.Run(t, "", harness.Binary(t, harness.OrlopBin), args...)
	if !strings.Contains(result.Stderr, "--log-format") || !strings.Contains(result.Stderr, notAFlag) {
		t.Errorf("not all that is wrong is said: %s", result.Stderr)
	}
}

// TestFilesOfFlagsAreMounted: each file that a flag names lies in a volume of the container, and each volume is used.
func TestFilesOfFlagsAreMounted(t *testing.T) {
	for _, set := range chart.Sets {
		container, args := container(t, set)
		used := map[string]bool{}
		for _, arg := range args {
			flag, path, _ := strings.Cut(arg, "=")
			if !strings.HasPrefix(path, "/") {
				continue
			}
			at := slices.IndexFunc(container.VolumeMounts, func(mount corev1.VolumeMount) bool {
				return strings.HasPrefix(path, mount.MountPath+"/")
			})
			if at < 0 {
				t.Errorf("%s: %s %s: no volume is mounted there", set.Name, flag, path)
				continue
			}
			used[container.VolumeMounts[at].Name] = true
		}
		for _, mount := range container.VolumeMounts {
			if !used[mount.Name] || !mount.ReadOnly {
				t.Errorf("%s: %s: no flag names a file in it, or it can be written to", set.Name, mount.Name)
			}
		}
	}
}

// TestAServerHasTheTimeToDrain: after the pause before it is asked to stop.
func TestAServerHasTheTimeToDrain(t *testing.T) {
	for _, set := range chart.Sets {
		pod := statefulSet(t, set).Spec.Template.Spec
		pause := time.Duration(pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds) * time.Second
		grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
		if grace <= pause+stopTime {
			t.Errorf("%s: killed after %v: it pauses %v and then drains up to %v", set.Name, grace, pause, stopTime)
		}
	}
}

// TestProbesAreAnsweredAsTheyShould: a server without its TiKV lives and is not ready; one with its store is.
func TestProbesAreAnsweredAsTheyShould(t *testing.T) {
	container, args := container(t, chart.Sets[1])
	for _, c := range []struct {
		what    string
		flags   []string
		isReady bool
	}{
		{"its TiKV does not answer", []string{"--pd-endpoints=127.0.0.1:1"}, false},
		{"its store is there", []string{"--engine=embedded"}, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			metrics := fmt.Sprintf("http://127.0.0.1:%d", harness.FreePort(t))
			peers := fmt.Sprintf("http://127.0.0.1:%d", harness.FreePort(t))
			flags := slices.DeleteFunc(slices.Clone(args[1:]), func(flag string) bool {
				return strings.Contains(flag, "-client-urls=")
			})
			flags = append(flags, "--listen-metrics-urls="+metrics, "--listen-peer-urls="+peers)
			store := harness.NewOrlop(t, harness.Flags(append(flags, c.flags...)...))
			store.Spawn()
			harness.Eventually(t, "it listens", func() bool { return probe(metrics, container.StartupProbe) == 200 })
			if code := probe(metrics, container.LivenessProbe); code != http.StatusOK {
				t.Errorf("the liveness probe is answered with %d", code)
			}
			if c.isReady {
				harness.Eventually(t, "it is ready", func() bool { return probe(metrics, container.ReadinessProbe) == 200 })
			} else if code := probe(metrics, container.ReadinessProbe); code != http.StatusServiceUnavailable {
				t.Errorf("the readiness probe is answered with %d", code)
			}
			store.Stop()
		})
	}
}

// probe is the status by which a probe is answered; 0 when it is not.
func probe(url string, probe *corev1.Probe) int {
	client := http.Client{Timeout: probed}
	response, err := client.Get(url + probe.HTTPGet.Path)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}
