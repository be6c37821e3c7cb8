package security

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// A listener for metrics and health has nothing else, and the client port has them as before.
func TestListenersForMetricsAnswerForMetricsAndHealthAlone(t *testing.T) {
	s := newScene(t)
	good := s.client("good")
	plain := fmt.Sprintf("http://127.0.0.1:%d", harness.FreePort(t))
	secured := fmt.Sprintf("https://127.0.0.1:%d", harness.FreePort(t))
	flags := []string{"--listen-metrics-urls", plain + "," + secured}
	s.each(t, good, flags, func(t *testing.T, store *harness.Store) {
		for path, want := range map[string]int{
			"/metrics": 200, "/health": 200, "/livez": 200, "/readyz": 200, "/readyz/linearizable_read": 200,
			"/version": 404, "/": 404, "/v3/kv/range": 404,
		} {
			for _, url := range []string{plain, secured} {
				if got, _ := get(t, url+path, s.trust(good)); got != want {
					t.Errorf("%s on the listener for metrics: %d, expected %d", path, got, want)
				}
			}
			if got, _ := get(t, store.Endpoint+path, s.trust(good)); want == 200 && got != want {
				t.Errorf("%s on the client port: %d", path, got)
			}
		}
		if _, text := get(t, plain+"/metrics", nil); !strings.Contains(text, "etcd_mvcc_put_total") {
			t.Errorf("no metrics: %.200q", text)
		}
		if got, _ := get(t, secured+"/metrics", s.trust()); got != 0 {
			t.Errorf("answered %d without a certificate", got)
		}
	})
}

func TestListenersForMetricsKnowNoKeys(t *testing.T) {
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	harness.StartOrlop(t, harness.Flags("--listen-metrics-urls", "http://"+address))
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = pb.NewKVClient(conn).Range(t.Context(), &pb.RangeRequest{Key: []byte("a")})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "404") {
		t.Errorf("unexpected answer: %v", err)
	}
}

// get returns the code and the body of an answer, 0 when there is none.
func get(t *testing.T, url string, config *tls.Config) (int, string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	client := http.Client{Transport: transport, Timeout: requestDeadline}
	response, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
