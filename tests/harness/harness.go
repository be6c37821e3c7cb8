// Package harness starts real stores for tests: Orlop, or the etcd that it is compared with, each as a process of its
// own on loopback with a temporary data directory.
//
// Every process is ended by its own pid when its test ends, its log goes to a file, and the end of that file is printed
// when the test fails. The binaries come from the environment (ORLOP_BIN, ETCD_BIN): `cargo xtask test` builds them and
// sets both. A variable that is not set is a failure, never a skip.
package harness

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

const (
	// OrlopBin names the environment variable that holds the path of the `orlop` binary.
	OrlopBin = "ORLOP_BIN"
	// EtcdBin names the environment variable that holds the path of the real `etcd` binary.
	EtcdBin = "ETCD_BIN"
	// EtcdctlBin names the environment variable that holds the path of the real `etcdctl` binary.
	EtcdctlBin = "ETCDCTL_BIN"
	// FleetBin names the environment variable that holds the path of the program that takes the place of one server with
	// a fleet (tests/tikv/cmd/fleet).
	FleetBin = "ORLOP_FLEET_BIN"
	// EtcdutlBin names the environment variable that holds the path of the real `etcdutl` binary.
	EtcdutlBin = "ETCDUTL_BIN"
	// OrlopPlantedBin names the environment variable that holds the path of an `orlop` with bugs and faults that can be
	// switched on.
	OrlopPlantedBin = "ORLOP_PLANTED_BIN"
)

// Option changes how a store is started.
type Option func(*options)

type options struct {
	flags   []string
	env     []string
	dataDir string
	binary  string
	tls     *tls.Config
}

// Flags appends flags to the store's command line.
func Flags(flags ...string) Option {
	return func(o *options) { o.flags = append(o.flags, flags...) }
}

// Env adds NAME=value pairs to the store's environment.
func Env(pairs ...string) Option {
	return func(o *options) { o.env = append(o.env, pairs...) }
}

// TLS makes the store listen on https://, for which its flags have to name certificates. The harness, and whoever asks
// [Store.TLS], connects with config.
func TLS(config *tls.Config) Option {
	return func(o *options) { o.tls = config }
}

// DataDir makes the store use this directory, which outlives it, instead of a temporary one.
func DataDir(dir string) Option {
	return func(o *options) { o.dataDir = dir }
}

// From makes the store run the binary that this environment variable names, instead of the usual one.
func From(variable string) Option {
	return func(o *options) { o.binary = variable }
}

// Fleet starts, in place of one server, two on a TiKV cluster for tests, and connects to the one that does not lead. What
// they hold is gone when they end.
func Fleet(t testing.TB) Option {
	t.Helper()
	orlop := Binary(t, OrlopBin)
	return func(o *options) {
		o.binary = FleetBin
		o.env = append(o.env, "FLEET_ORLOP="+orlop)
	}
}

// StartOrlop starts `orlop serve` and returns when it is ready to serve.
func StartOrlop(t testing.TB, opts ...Option) *Store {
	t.Helper()
	return start(t, NewOrlop(t, opts...))
}

// NewOrlop prepares `orlop serve` without starting it: for tests that meet a store before it is ready.
func NewOrlop(t testing.TB, opts ...Option) *Store {
	t.Helper()
	o := collect(t, append([]Option{From(OrlopBin)}, opts...))
	url := o.url(t)
	args := append([]string{
		"serve",
		"--data-dir", o.dataDir,
		"--listen-client-urls", url,
		"--advertise-client-urls", url,
	}, o.flags...)
	return prepare(t, &Store{
		Endpoint: url,
		DataDir:  o.dataDir,
		kind:     "orlop",
		binary:   Binary(t, o.binary),
		args:     args,
		env:      o.env,
		exitsOn:  exitsWithZero,
		TLS:      o.tls,
	})
}

// StartEtcd starts a real etcd of one member and returns when it is ready to serve.
func StartEtcd(t testing.TB, opts ...Option) *Store {
	t.Helper()
	return start(t, NewEtcd(t, opts...))
}

// NewEtcd prepares a real etcd of one member without starting it.
func NewEtcd(t testing.TB, opts ...Option) *Store {
	t.Helper()
	o := collect(t, opts)
	url := o.url(t)
	peer := fmt.Sprintf("http://127.0.0.1:%d", FreePort(t))
	args := append([]string{
		"--name", "reference",
		"--data-dir", o.dataDir,
		"--listen-client-urls", url,
		"--advertise-client-urls", url,
		"--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer,
		"--initial-cluster", "reference=" + peer,
		"--log-level", "warn",
	}, o.flags...)
	return prepare(t, &Store{
		Endpoint: url,
		DataDir:  o.dataDir,
		kind:     "etcd",
		binary:   Binary(t, EtcdBin),
		args:     args,
		env:      o.env,
		exitsOn:  exitsOnSignal,
		TLS:      o.tls,
	})
}

// Binary returns the path in an environment variable, or fails the test with what to do about it.
func Binary(t testing.TB, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s is not set: it must hold the path of the binary under test. Run `cargo xtask test`, which builds and sets it.", variable)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatalf("%s=%s cannot be used: %v", variable, path, err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		t.Fatalf("%s=%s is not an executable file", variable, path)
	}
	// Stores run in directories of their own, so a relative path would no longer be found.
	absolute, err := filepath.Abs(path)
	if err != nil {
		t.Fatalf("%s=%s cannot be made absolute: %v", variable, path, err)
	}
	return absolute
}

// url returns a URL to listen on, with a free port.
func (o *options) url(t testing.TB) string {
	scheme := "http"
	if o.tls != nil {
		scheme = "https"
	}
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, FreePort(t))
}

func collect(t testing.TB, opts []Option) *options {
	o := &options{}
	for _, opt := range opts {
		opt(o)
	}
	if o.dataDir == "" {
		o.dataDir = filepath.Join(t.TempDir(), "data")
	}
	return o
}
