package security

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/etcd/wire"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const requestDeadline = 30 * time.Second

// scene is an authority, its files, and flags for stores that use them.
type scene struct {
	*authority
	files
	flags []string
}

// newScene returns one whose stores let in only clients of the authority.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{authority: newAuthority(t, "the authority"), files: files{t, t.TempDir()}}
	cert, key := s.putIdentity("server", s.server())
	ca := s.put("ca.crt", s.pem())
	s.flags = []string{"--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca, "--client-cert-auth"}
	return s
}

// each runs a test with Orlop, then with etcd.
func (s *scene) each(t *testing.T, ready identity, more []string, run func(t *testing.T, store *harness.Store)) {
	t.Helper()
	flags := append(slices.Clone(s.flags), more...)
	t.Run("orlop", func(t *testing.T) {
		run(t, harness.StartOrlop(t, harness.TLS(s.trust(ready)), harness.Flags(flags...)))
	})
	t.Run("etcd", func(t *testing.T) {
		run(t, harness.StartEtcd(t, harness.TLS(s.trust(ready)), harness.Flags(flags...)))
	})
}

// letsIn asks a store over HTTP and over gRPC, which has to come to the same.
func letsIn(t *testing.T, store *harness.Store, config *tls.Config) bool {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	client := http.Client{Transport: transport, Timeout: requestDeadline}
	response, err := client.Get(store.Endpoint + "/version")
	if err == nil {
		response.Body.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	_, callErr := wire.ConnectWith(t, store, config).KV.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
	if (err == nil) != (callErr == nil) {
		t.Fatalf("HTTP and gRPC do not agree: %v, %v", err, callErr)
	}
	if callErr != nil && !wire.IsUnavailable(callErr) {
		t.Fatalf("unexpected answer: %v", callErr)
	}
	return err == nil
}

// reaches asks a store over gRPC alone: for what changes at any moment.
func reaches(t *testing.T, store *harness.Store, config *tls.Config) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	client := wire.ConnectWith(t, store, config)
	defer client.Conn.Close()
	_, err := client.KV.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
	if err != nil && !wire.IsUnavailable(err) {
		t.Fatalf("unexpected answer: %v", err)
	}
	return err == nil
}

func TestOnlyClientsWithAGoodCertificateComeIn(t *testing.T) {
	s := newScene(t)
	good, takenBack := s.client("good"), s.client("taken back")
	flags := []string{"--client-crl-file", s.put("crl.der", s.revocationList(takenBack))}
	stranger := newAuthority(t, "another authority")
	s.each(t, good, flags, func(t *testing.T, store *harness.Store) {
		for name, c := range map[string]struct {
			config  *tls.Config
			letsHim bool
		}{
			"a good certificate":               {s.trust(good), true},
			"a good certificate, TLS 1.2":      {upTo(tls.VersionTLS12, s.trust(good)), true},
			"TLS 1.1":                          {upTo(tls.VersionTLS11, s.trust(good)), false},
			"none":                             {s.trust(), false},
			"of another authority":             {s.trust(stranger.client("good")), false},
			"one that has expired":             {s.trust(s.expiredClient("good")), false},
			"one that was revoked":             {s.trust(takenBack), false},
			"a client that trusts nobody here": {stranger.trust(good), false},
		} {
			if got := letsIn(t, store, c.config); got != c.letsHim {
				t.Errorf("%s: let in: %v", name, got)
			}
		}
	})
}

func upTo(version uint16, config *tls.Config) *tls.Config {
	config.MinVersion, config.MaxVersion = min(version, tls.VersionTLS12), version
	return config
}

func TestOnlyAllowedHostNamesComeIn(t *testing.T) {
	s := newScene(t)
	good := s.client("any name", "api.example.org")
	flags := []string{"--client-cert-allowed-hostname", "api.example.org,other.example.org"}
	s.each(t, good, flags, func(t *testing.T, store *harness.Store) {
		for host, want := range map[string]bool{
			"api.example.org": true, "other.example.org": true, "*.example.org": true,
			"example.org": false, "api.example.com": false,
		} {
			if got := letsIn(t, store, s.trust(s.client("api.example.org", host))); got != want {
				t.Errorf("%s: let in: %v", host, got)
			}
		}
		if letsIn(t, store, s.trust(s.client("api.example.org"))) {
			t.Error("a common name was taken for a host name")
		}
	})
}

// etcd has this flag for peers only.
func TestOnlyAllowedCommonNamesComeIn(t *testing.T) {
	s := newScene(t)
	flags := append(slices.Clone(s.flags), "--client-cert-allowed-cn", "apiserver,backup")
	store := harness.StartOrlop(t, harness.TLS(s.trust(s.client("apiserver"))), harness.Flags(flags...))
	for name, want := range map[string]bool{"apiserver": true, "backup": true, "apiserver2": false, "": false} {
		if got := letsIn(t, store, s.trust(s.client(name))); got != want {
			t.Errorf("%q: let in: %v", name, got)
		}
	}
}

func TestTheVersionAndTheCipherSuitesCanBeChosen(t *testing.T) {
	s := newScene(t)
	good := s.client("good")
	// Go's HTTP/2 needs this one.
	suite := "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	flags := []string{"--tls-max-version", "TLS1.2", "--cipher-suites", suite}
	s.each(t, good, flags, func(t *testing.T, store *harness.Store) {
		connection, err := tls.Dial("tcp", store.Addr(), s.trust(good))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		state := connection.ConnectionState()
		if state.Version != tls.VersionTLS12 || tls.CipherSuiteName(state.CipherSuite) != suite {
			t.Errorf("spoke %s with %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
		}
		other := upTo(tls.VersionTLS12, s.trust(good))
		other.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		if letsIn(t, store, other) {
			t.Error("another cipher suite was spoken")
		}
	})
	s.each(t, good, []string{"--tls-min-version", "TLS1.3"}, func(t *testing.T, store *harness.Store) {
		if letsIn(t, store, upTo(tls.VersionTLS12, s.trust(good))) || !letsIn(t, store, s.trust(good)) {
			t.Error("expected TLS 1.3 and nothing else")
		}
	})
}

func TestEtcdctlWithCertificates(t *testing.T) {
	s := newScene(t)
	good := s.client("good")
	cert, key := s.putIdentity("good", good)
	wrongCert, wrongKey := s.putIdentity("wrong", newAuthority(t, "another").client("good"))
	s.each(t, good, nil, func(t *testing.T, store *harness.Store) {
		etcdctl := func(args ...string) harness.Result {
			args = append([]string{"--endpoints", store.Endpoint, "--cacert", s.path("ca.crt")}, args...)
			return harness.Run(t, "", harness.Binary(t, harness.EtcdctlBin), args...)
		}
		if got := etcdctl("--cert", cert, "--key", key, "put", "a", "1"); got.ExitCode != 0 || got.Stdout != "OK\n" {
			t.Errorf("put: %+v", got)
		}
		if got := etcdctl("--cert", cert, "--key", key, "get", "a"); got.ExitCode != 0 || got.Stdout != "a\n1\n" {
			t.Errorf("get: %+v", got)
		}
		quick := []string{"--dial-timeout", "1s", "--command-timeout", "1s"}
		for _, shown := range [][]string{nil, {"--cert", wrongCert, "--key", wrongKey}} {
			got := etcdctl(append(append(quick, shown...), "put", "a", "2")...)
			if got.ExitCode == 0 || !strings.Contains(got.Stderr, "context deadline exceeded") {
				t.Errorf("without a good certificate: %+v", got)
			}
		}
		if got := etcdctl("--cert", cert, "--key", key, "get", "a"); got.Stdout != "a\n1\n" {
			t.Errorf("get after refused writes: %+v", got)
		}
	})
}

// Certificates, authorities and revocation lists are replaced while clients work; no request fails that should not.
func TestRotationUnderTraffic(t *testing.T) {
	s := newScene(t)
	s.put("crl.der", s.revocationList())
	apiserver, leaver := s.client("apiserver"), s.client("leaver")
	flags := append(slices.Clone(s.flags), "--client-crl-file", s.path("crl.der"))
	store := harness.StartOrlop(t, harness.TLS(s.trust(apiserver)), harness.Flags(flags...))

	stop, stopped, worked := make(chan struct{}), make(chan struct{}), atomic.Int64{}
	go func() {
		defer close(stopped)
		kept := wire.ConnectWith(t, store, s.trust(apiserver)).KV
		for {
			select {
			case <-stop:
				return
			default:
			}
			fresh := wire.ConnectWith(t, store, s.trust(apiserver))
			for _, kv := range []pb.KVClient{kept, fresh.KV} {
				ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
				if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("a")}); err != nil {
					t.Errorf("a put failed during a rotation: %v", err)
				}
				cancel()
			}
			fresh.Conn.Close()
			worked.Add(1)
		}
	}()
	// Also when the test fails, and before connections and the store are closed.
	defer func() {
		close(stop)
		<-stopped
	}()
	more := func(rounds int64) {
		t.Helper()
		from := worked.Load()
		harness.Eventually(t, "clients go on", func() bool { return worked.Load() >= from+rounds || t.Failed() })
	}

	more(1)
	// A certificate is there before its key, and for a while only half of it.
	renewed := s.server()
	s.put("server.crt", renewed.certPEM[:len(renewed.certPEM)/2])
	eventuallyLogged(t, store, "cannot be used")
	more(1)
	s.put("server.crt", renewed.certPEM)
	more(1)
	s.put("server.key", renewed.keyPEM)
	harness.Eventually(t, "the renewed certificate is shown", func() bool {
		return bytes.Equal(shown(t, store, s.trust(apiserver)), renewed.Certificate.Certificate[0])
	})
	more(1)

	// A second authority is trusted too.
	second := newAuthority(t, "the second authority")
	newcomer := s.trust(second.client("newcomer"))
	if letsIn(t, store, newcomer) {
		t.Fatal("let in before its authority was trusted")
	}
	s.put("ca.crt", append(s.pem(), second.pem()...))
	harness.Eventually(t, "clients of the second authority come in", func() bool { return reaches(t, store, newcomer) })

	// One client's certificate is taken back. What it has open stays, as with etcd.
	open := wire.ConnectWith(t, store, s.trust(leaver)).KV
	read := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
		defer cancel()
		_, err := open.Range(ctx, &pb.RangeRequest{Key: []byte("a")})
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	s.put("crl.der", s.revocationList(leaver))
	harness.Eventually(t, "the client is refused", func() bool { return !reaches(t, store, s.trust(leaver)) })
	if err := read(); err != nil {
		t.Errorf("a connection from before was harmed: %v", err)
	}
	more(1)
}

func eventuallyLogged(t *testing.T, store *harness.Store, text string) {
	t.Helper()
	harness.Eventually(t, "the log says "+text, func() bool { return strings.Contains(store.Log(), text) })
}

// shown returns the certificate that a store shows.
func shown(t *testing.T, store *harness.Store, config *tls.Config) []byte {
	t.Helper()
	config.ServerName = "localhost"
	connection, err := tls.Dial("tcp", store.Addr(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	return connection.ConnectionState().PeerCertificates[0].Raw
}

// Strangers that connect and say nothing, more than handshakes are allowed at a time, keep nobody out.
func TestSilentStrangersKeepNobodyOut(t *testing.T) {
	s := newScene(t)
	good := s.client("good")
	store := harness.StartOrlop(t, harness.TLS(s.trust(good)), harness.Flags(s.flags...))
	const strangers = 1500
	for range strangers {
		connection, err := net.Dial("tcp", store.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
	}
	if !letsIn(t, store, s.trust(good)) {
		t.Error("kept out by strangers")
	}
}

// http:// beside a certificate is served, in the clear, and said.
func TestACertificateThatAnHTTPURLDoesNotUseIsSaid(t *testing.T) {
	s := newScene(t)
	store := harness.StartOrlop(t, harness.Flags(s.flags...))
	response, err := http.Get(store.Endpoint + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"connections to it are in the clear", "whoever reaches it is let in"} {
		if !strings.Contains(store.Log(), text) {
			t.Errorf("the log does not say %q:\n%s", text, store.Log())
		}
	}
}

func TestFilesThatCannotBeUsedAreNamedAtTheStart(t *testing.T) {
	s := newScene(t)
	s.put("server.key", s.server().keyPEM)
	store := harness.NewOrlop(t, harness.TLS(s.trust()), harness.Flags(s.flags...))
	end := store.TryRestart()
	if end == nil {
		t.Fatal("it started with the key of another certificate")
	}
	want := "server.key: it is not the key of the certificate in "
	if end.ExitCode != 1 || !strings.Contains(end.Stderr, want) {
		t.Errorf("ended with %+v, expected %q", end, want)
	}
}
