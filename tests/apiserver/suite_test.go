// Package apiserver runs Kubernetes' own storage suite, the tests of k8s.io/apiserver/pkg/storage/etcd3, against Orlop.
//
// The suite starts its etcd in one package, etcd3/testserver. The test here takes the release that go.mod names out of
// Go's module cache, puts the folder testserver of this module in the place of that package, and runs the suite as it
// is otherwise. Every test of it that passes on etcd has to pass: a skip counts as a failure, and so does a run in which
// the tests that the suite is about are missing.
//
// ORLOP_BIN holds the path of the binary. The copy is made in <target>/apiserver-suite, where <target> is
// ORLOP_TARGET_DIR when that is set and the repository's own target folder otherwise.
package apiserver

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

const (
	binaryVariable = "ORLOP_BIN"
	fleetVariable  = "ORLOP_FLEET_BIN"
	targetVariable = "ORLOP_TARGET_DIR"

	// splits lie among the keys that the suite uses.
	splits = "/pods/,/pods/f,/pods/second"

	// The suite takes about a minute once it is built; the rest is room for a machine that is busy with other tests.
	suiteTimeout = 25 * time.Minute
	// Room for building the suite and reporting on it within the time that this test has.
	closingTime = 3 * time.Minute
)

// landmarks are tests of the suite that must have run, one for each part of the store. With the release they may have to
// change, and then the reader learns that something moved.
var landmarks = []string{
	"TestCreate",
	"TestGetListRecursivePrefix",
	"TestGuaranteedUpdate",
	"TestCreateWithTTL",
	"TestWatch/ProgressNotify",
	"TestWatch/RangeStream=true/WatchSemantics",
	"TestCompact",
}

// TestStorageSuite runs the whole suite and fails with the output of every test that failed.
func TestStorageSuite(t *testing.T) {
	check(t, map[string]string{binaryVariable: program(t, binaryVariable)})
}

// TestStorageSuiteOnAFleet runs it against two servers on TiKV, of which the one that is asked does not lead, with the
// keys in several partitions.
func TestStorageSuiteOnAFleet(t *testing.T) {
	check(t, map[string]string{
		binaryVariable: program(t, fleetVariable),
		"FLEET_ORLOP":  program(t, binaryVariable),
		"FLEET_SPLITS": splits,
	})
}

func check(t *testing.T, environment map[string]string) {
	t.Helper()
	copied := prepare(t)
	run := runSuite(t, copied, environment)
	t.Logf("%d tests passed, %d failed, %d were skipped, in %v", run.passed, len(run.failed), len(run.skipped), run.took)
	for _, name := range run.skipped {
		t.Errorf("%s was skipped: no test of the suite is skipped on etcd", name)
	}
	for _, name := range landmarks {
		if !run.ran[name] {
			t.Errorf("%s did not run: the suite has changed or was not run whole", name)
		}
	}
	for _, name := range run.failed {
		t.Errorf("%s failed:\n%s", name, run.output[name])
	}
}

// program is the path that an environment variable holds.
func program(t *testing.T, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s is not set: it must hold the path of a program. Run `cargo xtask test`, which builds and sets it.", variable)
	}
	// The suite's tests run in folders of their own, so a relative path would not be found there.
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatalf("%s cannot be used: %v", variable, err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		t.Fatalf("%s=%s is not an executable file", variable, path)
	}
	return path
}
