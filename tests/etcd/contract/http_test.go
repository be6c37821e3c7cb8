package contract

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

type page struct {
	status      int
	contentType string
	body        string
}

func (s *side) page(t *testing.T, method, path string) page {
	t.Helper()
	request, err := http.NewRequest(method, s.store.Endpoint+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: requestDeadline}).Do(request)
	if err != nil {
		t.Fatalf("%s: %s %s: %v", s.name, method, path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %s %s: %v", s.name, method, path, err)
	}
	return page{response.StatusCode, response.Header.Get("Content-Type"), string(body)}
}

func (p *pair) samePage(method, path string) page {
	p.t.Helper()
	etcd, orlop := p.etcd.page(p.t, method, path), p.orlop.page(p.t, method, path)
	if etcd != orlop {
		p.t.Errorf("%s %s:\n etcd %+v\norlop %+v", method, path, etcd, orlop)
	}
	return orlop
}

func TestHealthPages(t *testing.T) {
	p := start(t)
	for _, path := range []string{
		"/health", "/health?serializable=true", "/health?exclude=NOSPACE", "/livez", "/readyz",
		"/livez?exclude=serializable_read", "/livez/serializable_read", "/readyz/linearizable_read",
		"/readyz/data_corruption?verbose",
	} {
		if got := p.samePage(http.MethodGet, path); got.status != http.StatusOK {
			t.Errorf("GET %s answers %d", path, got.status)
		}
	}
	p.samePage(http.MethodPost, "/health")
	p.samePage(http.MethodPost, "/livez")
	if got := p.orlop.page(t, http.MethodGet, "/nothing/here"); got.status != http.StatusNotFound {
		t.Errorf("an unknown page answers %d", got.status)
	}
}

// Orlop may have checks of its own; etcd's are all there.
func TestVerboseReadinessListsEtcdsChecks(t *testing.T) {
	p := start(t)
	for _, path := range []string{"/livez?verbose", "/readyz?verbose"} {
		lines := strings.Split(p.orlop.page(t, http.MethodGet, path).body, "\n")
		for _, line := range strings.Split(p.etcd.page(t, http.MethodGet, path).body, "\n") {
			if !slices.Contains(lines, line) {
				t.Errorf("%s lacks %q: %q", path, line, lines)
			}
		}
	}
}

func TestHealthTellsTheNoSpaceAlarm(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		_, err := p.alarm.send(s, &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, MemberID: s.status(t).Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if got := p.samePage(http.MethodGet, "/health"); got.status != http.StatusServiceUnavailable {
		t.Errorf("/health answers %d under an alarm", got.status)
	}
	p.samePage(http.MethodGet, "/health?exclude=NOSPACE")
	p.samePage(http.MethodGet, "/livez")
	p.samePage(http.MethodGet, "/readyz")
}

// kubeadm reads the version here.
func TestTheVersionPage(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		got := s.page(t, http.MethodGet, "/version")
		var versions map[string]string
		if err := json.Unmarshal([]byte(got.body), &versions); err != nil {
			t.Fatalf("%s: %v in %q", s.name, err, got.body)
		}
		for _, name := range []string{"etcdserver", "etcdcluster"} {
			if !regexp.MustCompile(`^3\.7\.\d+$`).MatchString(versions[name]) {
				t.Errorf("%s: %s is %q, not a 3.7", s.name, name, versions[name])
			}
		}
	})
}

// The names that etcd's dashboards and alerts, and etcdctl, are built on.
var metricNames = []string{
	"etcd_server_has_leader",
	"etcd_server_is_leader",
	"etcd_server_leader_changes_seen_total",
	"etcd_server_proposals_committed_total",
	"etcd_server_proposals_applied_total",
	"etcd_server_proposals_pending",
	"etcd_server_proposals_failed_total",
	"etcd_server_quota_backend_bytes",
	"etcd_server_version",
	"etcd_mvcc_db_total_size_in_bytes",
	"etcd_mvcc_db_total_size_in_use_in_bytes",
	"etcd_mvcc_range_total",
	"etcd_mvcc_put_total",
	"etcd_mvcc_delete_total",
	"etcd_mvcc_txn_total",
	"etcd_disk_wal_fsync_duration_seconds_bucket",
	"etcd_disk_backend_commit_duration_seconds_bucket",
	"etcd_network_client_grpc_sent_bytes_total",
	"etcd_network_client_grpc_received_bytes_total",
	"etcd_debugging_mvcc_keys_total",
	"etcd_debugging_mvcc_watcher_total",
	"etcd_debugging_mvcc_watch_stream_total",
	"etcd_debugging_mvcc_slow_watcher_total",
	"etcd_debugging_mvcc_current_revision",
	"etcd_debugging_mvcc_compact_revision",
	"etcd_debugging_lease_granted_total",
	"grpc_server_started_total",
	"grpc_server_handled_total",
	"process_resident_memory_bytes",
	"process_cpu_seconds_total",
	"process_open_fds",
	"process_start_time_seconds",
}

func TestMetricsHaveEtcdsNames(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	p.put.ok(put("b", "1"))
	p.rng.ok(get("a"))
	p.each(func(s *side) {
		got := s.page(t, http.MethodGet, "/metrics")
		if got.status != http.StatusOK || !(strings.HasPrefix(got.contentType, "text/plain") || strings.HasPrefix(got.contentType, "application/openmetrics-text")) {
			t.Fatalf("%s: /metrics answers %d %s", s.name, got.status, got.contentType)
		}
		values := parseMetrics(got.body)
		for _, name := range metricNames {
			if _, ok := values[name]; !ok {
				t.Errorf("%s: no metric %s", s.name, name)
			}
		}
		for name, want := range map[string]string{
			"etcd_server_has_leader":               "1",
			"etcd_debugging_mvcc_keys_total":       "2",
			"etcd_debugging_mvcc_current_revision": "3",
			"etcd_mvcc_put_total":                  "2",
		} {
			if values[name] != want {
				t.Errorf("%s: %s is %s, expected %s", s.name, name, values[name], want)
			}
		}
	})
}

// parseMetrics returns the last value of each name.
func parseMetrics(text string) map[string]string {
	values := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, _, _ := strings.Cut(line, "{")
		fields := strings.Fields(line)
		name, _, _ = strings.Cut(name, " ")
		values[name] = fields[len(fields)-1]
	}
	return values
}
