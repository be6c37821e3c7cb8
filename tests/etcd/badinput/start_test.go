package badinput

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	exitFailed = 1
	// A configuration that cannot be used (EX_USAGE).
	exitUsage = 64
)

// serve runs `orlop serve` on a free port and a data directory until it ends, which it must.
func serve(t *testing.T, dataDir string, flags ...string) harness.Result {
	t.Helper()
	url := fmt.Sprintf("http://127.0.0.1:%d", harness.FreePort(t))
	args := append([]string{"serve", "--data-dir", dataDir, "--listen-client-urls", url}, flags...)
	return harness.Run(t, "", harness.Binary(t, harness.OrlopBin), args...)
}

// requireRefused checks the exit code, and that each part of the message is there.
func requireRefused(t *testing.T, result harness.Result, code int, parts ...string) {
	t.Helper()
	if result.ExitCode != code {
		t.Errorf("exit code %d, expected %d", result.ExitCode, code)
	}
	for _, part := range parts {
		if !strings.Contains(result.Stderr, part) {
			t.Errorf("standard error does not say %q", part)
		}
	}
	if strings.Contains(result.Stderr, "panicked") {
		t.Errorf("a refusal is not a panic")
	}
	if t.Failed() {
		t.Fatalf("standard error:\n%s\nstandard output:\n%s", result.Stderr, result.Stdout)
	}
}

func connectAnew(t *testing.T, s *store) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestASecondProcessOnADataDirectoryIsTurnedAway(t *testing.T) {
	s := start(t)
	s.mustPut("a", "1")
	requireRefused(t, serve(t, s.DataDir), exitFailed,
		"the data directory "+s.DataDir+" is in use by another process",
		fmt.Sprintf("process id %d", s.Pid),
		"stop that process, or choose another directory",
	)
	s.mustHave("a", "1")
	s.mustPut("a", "2")
}

func TestANewerFormatIsNotTouched(t *testing.T) {
	s := start(t)
	s.mustPut("a", "1")
	s.Stop()
	format := find(t, s.DataDir, func(path string) bool { return filepath.Base(path) == "FORMAT" })
	ours, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	newer := strings.TrimRight(string(ours), "0123456789\n") + "999\n"
	if err := os.WriteFile(format, []byte(newer), 0o600); err != nil {
		t.Fatal(err)
	}
	requireRefused(t, serve(t, s.DataDir), exitFailed,
		"has format version 999, this program reads up to 1",
		"use the program version that wrote it, or a later one",
	)
	if err := os.WriteFile(format, ours, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	s.mustHave("a", "1")
}

func TestAPortInUseIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	result := serve(t, filepath.Join(t.TempDir(), "data"), "--listen-client-urls", "http://"+address)
	requireRefused(t, result, exitFailed, address, "in use")
}

func TestADataDirectoryBelowAFileIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	requireRefused(t, serve(t, filepath.Join(file, "data")), exitFailed, filepath.Join(file, "data"), "Not a directory")
}

func TestADataDirectoryThatIsAFileIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	requireRefused(t, serve(t, file), exitFailed, file)
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Fatalf("the file was harmed: %q %v", text, err)
	}
}

func TestAllWrongSettingsAreReportedAtOnce(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "orlop.toml")
	if err := os.WriteFile(config, []byte("quota-backend-bytes = \"much\"\nno-such-key = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := []string{"ORLOP_LOG_LEVEL=shouting", "ORLOP_NO_SUCH_VARIABLE=1"}
	result := harness.RunEnv(t, environment, "", harness.Binary(t, harness.OrlopBin),
		"serve",
		"--data-dir", filepath.Join(dir, "data"),
		"--engine", "steam",
		"--max-request-bytes=-1",
		"--watch-progress-notify-interval", "often",
		"--listen-client-urls", "nonsense",
		"--no-such-flag", "1",
		"--config-file", config,
	)
	wrong := []string{
		"--engine", "steam", "--max-request-bytes", "--watch-progress-notify-interval", "--listen-client-urls",
		"--no-such-flag", "ORLOP_LOG_LEVEL", "ORLOP_NO_SUCH_VARIABLE", "quota-backend-bytes", "no-such-key",
	}
	requireRefused(t, result, exitUsage, wrong...)
	if lines := strings.Count(strings.TrimSpace(result.Stderr), "\n") + 1; lines < 9 {
		t.Fatalf("%d lines, expected one for each of the nine errors:\n%s", lines, result.Stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		t.Fatal("the data directory was made although nothing could be started")
	}
}

func TestAMisspelledFlagIsAnsweredWithTheRightOne(t *testing.T) {
	result := harness.Run(t, "", harness.Binary(t, harness.OrlopBin), "serve", "--data-dri", "x")
	requireRefused(t, result, exitUsage, "--data-dri", "--data-dir")
}

// find returns the one file below a directory that is meant.
func find(t *testing.T, dir string, meant func(path string) bool) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && meant(path) {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("expected one such file in %s, found %q (%v)", dir, found, err)
	}
	return found[0]
}
