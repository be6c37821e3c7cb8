package harness

import (
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestAFreePortIsNeverGivenTwice(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		port := FreePort(t)
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatalf("port %d is not free: %v", port, err)
		}
		_ = listener.Close()
	}
}

func TestRunReportsExitCodeAndBothStreams(t *testing.T) {
	result := Run(t, "in", "/bin/sh", "-c", "cat; echo err >&2; exit 3")
	if result.ExitCode != 3 || result.Stdout != "in" || strings.TrimSpace(result.Stderr) != "err" {
		t.Fatalf("unexpected result: %+v", result)
	}
}

func TestAStoreSurvivesKillAndStopAndRestart(t *testing.T) {
	store := StartEtcd(t)
	first := store.Pid
	store.Kill9()
	store.Restart()
	if store.Pid == first {
		t.Fatal("a restart has a new pid")
	}
	store.Stop()
	store.Restart()
	if _, err := os.Stat(store.DataDir); err != nil {
		t.Fatal(err)
	}
}
