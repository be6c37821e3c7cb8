package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// progressInterval makes the store tell idle watches how far history has come, often enough that none of
// them is behind the compaction of the short-lived cluster when it has to resume. (kubeadm sets the same.)
const progressInterval = "5s"

// Store is the program under test: it holds everything the cluster knows.
type Store struct {
	binary  string
	logDir  string
	dataDir string
	port    int
	args    func(s *Store) ([]string, error)
	process *Process
}

// NewStore chooses the store that the environment names: Orlop (ORLOP_BIN), or with ORLOP_KUBE_STORE=etcd
// the reference, real etcd (ETCD_BIN).
func NewStore(dir, logDir string) (*Store, error) {
	s := &Store{logDir: logDir, dataDir: filepath.Join(dir, "store")}
	variable := "ORLOP_BIN"
	switch kind := os.Getenv("ORLOP_KUBE_STORE"); kind {
	case "", "orlop":
		s.args = orlopArgs
	case "etcd":
		variable, s.args = "ETCD_BIN", etcdArgs
	default:
		return nil, fmt.Errorf("ORLOP_KUBE_STORE=%q: expected orlop or etcd", kind)
	}
	binary := os.Getenv(variable)
	if binary == "" {
		return nil, fmt.Errorf("%s is not set: it must be the path of the program to test", variable)
	}
	if info, err := os.Stat(binary); err != nil || info.IsDir() {
		return nil, fmt.Errorf("%s=%s is not a program: %v", variable, binary, err)
	}
	// A bare name means a file here, not a program on the search path.
	absolute, err := filepath.Abs(binary)
	s.binary = absolute
	return s, err
}

func orlopArgs(s *Store) ([]string, error) {
	return []string{
		"serve", "--data-dir", s.dataDir,
		"--listen-client-urls", s.URL(), "--advertise-client-urls", s.URL(),
		"--watch-progress-notify-interval", progressInterval,
	}, nil
}

func etcdArgs(s *Store) ([]string, error) {
	peerPort, err := FreePort()
	if err != nil {
		return nil, err
	}
	return []string{
		"--name", "reference", "--data-dir", s.dataDir,
		"--listen-client-urls", s.URL(), "--advertise-client-urls", s.URL(),
		"--watch-progress-notify-interval", progressInterval,
		"--listen-peer-urls", httpURL(peerPort),
		"--initial-advertise-peer-urls", "http://127.0.0.1:1", "--initial-cluster", "reference=http://127.0.0.1:1",
	}, nil
}

// URL is where clients reach the store; it stays the same over restarts.
func (s *Store) URL() string { return httpURL(s.port) }

// Start starts the store for the first time, on a free port, and returns when it is ready.
func (s *Store) Start(ctx context.Context) error {
	return withFreePort(func(port int) error {
		s.port = port
		return s.run(ctx)
	})
}

// Restart starts the store again on the data and the port it had before, and returns when it is ready.
func (s *Store) Restart(ctx context.Context) error {
	err := s.run(ctx)
	for attempt := 1; errors.Is(err, errPortTaken) && attempt < startAttempts; attempt++ {
		err = s.run(ctx)
	}
	return err
}

// Kill ends the store as a power cut would (SIGKILL).
func (s *Store) Kill() { s.process.Kill() }

func (s *Store) run(ctx context.Context) error {
	args, err := s.args(s)
	if err != nil {
		return err
	}
	logPath := filepath.Join(s.logDir, "store.log")
	offset := fileSize(logPath)
	if s.process, err = StartProcess("store", s.logDir, s.binary, args, nil); err != nil {
		return err
	}
	err = Poll(ctx, "the store is ready", s.process.Err, func(ctx context.Context) error {
		return answersOK(ctx, http.DefaultClient, s.URL()+"/readyz")
	})
	if err != nil && portTaken(s.process, offset) {
		return errPortTaken
	}
	return err
}

func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func answersOK(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	return nil
}
