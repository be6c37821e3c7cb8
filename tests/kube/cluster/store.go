package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// progressInterval makes the store tell idle watches how far history has come, often enough that none of
// them is behind the compaction of the short-lived cluster when it has to resume. (kubeadm sets the same.)
const progressInterval = "5s"

// Store is the program under test, or several of them on one TiKV cluster: it holds everything the cluster
// knows.
type Store struct {
	binary  string
	logDir  string
	args    func(m *member) ([]string, error)
	members []*member
	// engine is what the members share; nil when there is one, with an engine of its own.
	engine *tikv
}

// member is one server of the store.
type member struct {
	name    string
	dataDir string
	port    int
	process *Process
}

// Kind is what a store is made of.
type Kind string

const (
	// Orlop is one server with the embedded engine (ORLOP_BIN).
	Orlop Kind = "orlop"
	// Etcd is the reference (ETCD_BIN).
	Etcd Kind = "etcd"
	// Fleet is three Orlop servers on the TiKV server of the tests (ORLOP_BIN, ORLOP_TIKV_SERVER).
	Fleet Kind = "fleet"

	fleetSize = 3
)

// KindFromEnvironment is what ORLOP_KUBE_STORE names: Orlop, or real etcd.
func KindFromEnvironment() (Kind, error) {
	switch kind := Kind(os.Getenv("ORLOP_KUBE_STORE")); kind {
	case "":
		return Orlop, nil
	case Orlop, Etcd, Fleet:
		return kind, nil
	default:
		return "", fmt.Errorf("ORLOP_KUBE_STORE=%q: expected %s, %s or %s", kind, Orlop, Etcd, Fleet)
	}
}

// NewStore prepares a store; nothing is started yet.
func NewStore(kind Kind, dir, logDir string) (*Store, error) {
	s := &Store{logDir: logDir}
	variable, count := "ORLOP_BIN", 1
	switch kind {
	case Orlop:
		s.args = orlopArgs
	case Etcd:
		variable, s.args = "ETCD_BIN", etcdArgs
	case Fleet:
		count, s.args = fleetSize, s.fleetArgs
		binary, err := program("ORLOP_TIKV_SERVER")
		if err != nil {
			return nil, err
		}
		s.engine = &tikv{binary: binary, logDir: logDir}
	default:
		return nil, fmt.Errorf("there is no store %q", kind)
	}
	for number := range count {
		name := "store"
		if count > 1 {
			name = fmt.Sprintf("store-%d", number+1)
		}
		s.members = append(s.members, &member{name: name, dataDir: filepath.Join(dir, name)})
	}
	var err error
	s.binary, err = program(variable)
	return s, err
}

// program is the file that a variable names. A bare name means a file here, not a program on the search path.
func program(variable string) (string, error) {
	binary := os.Getenv(variable)
	if binary == "" {
		return "", fmt.Errorf("%s is not set: it must be the path of the program to test", variable)
	}
	if info, err := os.Stat(binary); err != nil || info.IsDir() {
		return "", fmt.Errorf("%s=%s is not a program: %v", variable, binary, err)
	}
	return filepath.Abs(binary)
}

func orlopArgs(m *member) ([]string, error) {
	return []string{
		"serve", "--data-dir", m.dataDir,
		"--listen-client-urls", m.url(), "--advertise-client-urls", m.url(),
		"--watch-progress-notify-interval", progressInterval,
	}, nil
}

func (s *Store) fleetArgs(m *member) ([]string, error) {
	peerPort, err := FreePort()
	if err != nil {
		return nil, err
	}
	return []string{
		"serve", "--engine", "tikv", "--pd-endpoints", s.engine.pd, "--initial-partition-splits", "kubernetes", "--name", m.name,
		"--listen-client-urls", m.url(), "--advertise-client-urls", m.url(),
		"--listen-peer-urls", httpURL(peerPort),
		"--watch-progress-notify-interval", progressInterval,
	}, nil
}

func etcdArgs(m *member) ([]string, error) {
	peerPort, err := FreePort()
	if err != nil {
		return nil, err
	}
	return []string{
		"--name", "reference", "--data-dir", m.dataDir,
		"--listen-client-urls", m.url(), "--advertise-client-urls", m.url(),
		"--watch-progress-notify-interval", progressInterval,
		"--listen-peer-urls", httpURL(peerPort),
		"--initial-advertise-peer-urls", "http://127.0.0.1:1", "--initial-cluster", "reference=http://127.0.0.1:1",
	}, nil
}

func (m *member) url() string { return httpURL(m.port) }

// URLs are where clients reach the store, separated by commas; they stay the same over restarts.
func (s *Store) URLs() string {
	var urls []string
	for _, m := range s.members {
		urls = append(urls, m.url())
	}
	return strings.Join(urls, ",")
}

// Start starts the store for the first time, on free ports, and returns when all of it is ready.
func (s *Store) Start(ctx context.Context) error {
	if s.engine != nil {
		if err := s.engine.start(ctx); err != nil {
			return err
		}
	}
	for _, m := range s.members {
		err := withFreePort(func(port int) error {
			m.port = port
			return s.run(ctx, m)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Restart starts those members again that have ended, with the data and the port they had before, and returns
// when they are ready.
func (s *Store) Restart(ctx context.Context) error {
	for _, m := range s.members {
		if m.process.Err() == nil {
			continue
		}
		err := s.run(ctx, m)
		for attempt := 1; errors.Is(err, errPortTaken) && attempt < startAttempts; attempt++ {
			err = s.run(ctx, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Kill ends the store as a power cut would (SIGKILL); of several members the one that leads.
func (s *Store) Kill(ctx context.Context) error {
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	leader.process.Kill()
	return nil
}

// Roll stops and starts the members, one after the other, each when the one before it is ready again; the one
// that leads last, so that all of them hand over to somebody who stays.
func (s *Store) Roll(ctx context.Context, grace time.Duration) error {
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	order := []*member{}
	for _, m := range s.members {
		if m != leader {
			order = append(order, m)
		}
	}
	for _, m := range append(order, leader) {
		m.process.Stop(grace)
		if err := s.Restart(ctx); err != nil {
			return err
		}
	}
	return nil
}

// leader is the member that says of itself that it leads.
func (s *Store) leader(ctx context.Context) (*member, error) {
	if len(s.members) == 1 {
		return s.members[0], nil
	}
	var leader *member
	err := Poll(ctx, "a server leads the store", s.Err, func(ctx context.Context) error {
		for _, m := range s.members {
			leads, err := m.leads(ctx)
			if err != nil {
				return err
			}
			if leads {
				leader = m
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader, err
}

// leads asks the metric that etcd has for this.
func (m *member) leads(ctx context.Context) (bool, error) {
	metrics, err := get(ctx, http.DefaultClient, m.url()+"/metrics")
	return strings.Contains(metrics, "\netcd_server_is_leader 1\n"), err
}

// Err says which member has ended though nobody asked it to, or that the engine has; nil while all run.
func (s *Store) Err() error {
	var ended []error
	for _, m := range s.members {
		if m.process != nil {
			ended = append(ended, m.process.Err())
		}
	}
	if s.engine != nil && s.engine.process != nil {
		ended = append(ended, s.engine.process.Err())
	}
	return errors.Join(ended...)
}

// Stop asks all of it to end.
func (s *Store) Stop(grace time.Duration) {
	for _, m := range s.members {
		if m.process != nil {
			m.process.Stop(grace)
		}
	}
	if s.engine != nil && s.engine.process != nil {
		s.engine.process.Stop(grace)
	}
}

func (s *Store) run(ctx context.Context, m *member) error {
	args, err := s.args(m)
	if err != nil {
		return err
	}
	logPath := filepath.Join(s.logDir, m.name+".log")
	offset := fileSize(logPath)
	if m.process, err = StartProcess(m.name, s.logDir, s.binary, args, nil); err != nil {
		return err
	}
	err = Poll(ctx, m.name+" is ready", m.process.Err, func(ctx context.Context) error {
		_, err := get(ctx, http.DefaultClient, m.url()+"/readyz")
		return err
	})
	if err != nil && portTaken(m.process, offset) {
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
