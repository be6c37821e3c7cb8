// Package testserver starts Orlop where Kubernetes' storage suite starts an embedded etcd.
//
// It takes the place of k8s.io/apiserver/pkg/storage/etcd3/testserver in a copy of that module, so it has the same
// functions with the same signatures and imports nothing that k8s.io/apiserver does not require itself. Every server is
// a process of its own with a fresh data directory; ORLOP_BIN holds the path of the binary.
package testserver

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const (
	binaryVariable = "ORLOP_BIN"
	dialTimeout    = 10 * time.Second
)

// NewTestConfig returns the configuration of a server on a free loopback port with a directory of its own. Tests change
// fields of it; RunEtcd honours the ones that the suite changes and Orlop has.
func NewTestConfig(t testing.TB) *embed.Config {
	t.Helper()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
	cfg := embed.NewConfig()
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: address}}
	cfg.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: address}}
	cfg.Dir = t.TempDir()
	return cfg
}

// RunEtcd starts Orlop with the configuration (or NewTestConfig(t) if nil) and returns a client that is connected to
// it. The server is stopped when the test ends.
func RunEtcd(t testing.TB, cfg *embed.Config) *kubernetes.Client {
	t.Helper()
	if cfg == nil {
		cfg = NewTestConfig(t)
	}
	if !cfg.ClientTLSInfo.Empty() {
		t.Fatal("the test wants a server with TLS, which Orlop does not offer")
	}
	startServer(t, binary(t), arguments(cfg), cfg.ListenClientUrls[0], filepath.Join(cfg.Dir, "orlop.log"))
	return connect(t, cfg.AdvertiseClientUrls[0])
}

func arguments(cfg *embed.Config) []string {
	args := []string{
		"serve",
		"--name", cfg.Name,
		"--data-dir", filepath.Join(cfg.Dir, "data"),
		"--listen-client-urls", cfg.ListenClientUrls[0].String(),
		"--advertise-client-urls", cfg.AdvertiseClientUrls[0].String(),
		"--max-request-bytes", fmt.Sprint(cfg.MaxRequestBytes),
		"--max-txn-ops", fmt.Sprint(cfg.MaxTxnOps),
		"--quota-backend-bytes", fmt.Sprint(cfg.QuotaBackendBytes),
	}
	// etcd takes zero as its default too.
	if cfg.WatchProgressNotifyInterval > 0 {
		args = append(args, "--watch-progress-notify-interval", cfg.WatchProgressNotifyInterval.String())
	}
	return args
}

// connect wraps the client as the suite expects it: the recorders are what its tests count requests with.
func connect(t testing.TB, endpoint url.URL) *kubernetes.Client {
	t.Helper()
	client, err := kubernetes.New(clientv3.Config{
		Endpoints:   []string{endpoint.String()},
		DialTimeout: dialTimeout,
		Logger:      zaptest.NewLogger(t, zaptest.Level(zapcore.ErrorLevel)).Named("etcd-client"),
	})
	if err != nil {
		t.Fatalf("creating a client of %s: %v", endpoint.String(), err)
	}
	// Before the server stops, so that the client does not look for it; a test may have closed it already.
	t.Cleanup(func() { _ = client.Close() })
	recorder := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, recorder)
	client.Kubernetes = recorder
	return client
}

func binary(t testing.TB) string {
	t.Helper()
	path := os.Getenv(binaryVariable)
	if !filepath.IsAbs(path) {
		t.Fatalf("%s=%q: it must hold the absolute path of the binary under test", binaryVariable, path)
	}
	return path
}
