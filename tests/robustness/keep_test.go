package robustness

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
)

// The history is one that no store can have: a write is acknowledged at the revision of another one.
func TestAFailureIsKeptWithHistoryDataLogAndPicture(t *testing.T) {
	server := startServer(t)
	r := &run{T: t, load: newLoad(t.Context(), server, 1), scenario: scenario{traffic: traffic.Kubernetes}, seed: 1}
	if err := traffic.CheckEmptyDatabaseAtStart(r.ctx, zap.NewNop(), r.endpoints(), r.clients); err != nil {
		t.Fatal(err)
	}
	c, err := r.clients.NewClient(r.endpoints())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		if _, err := c.Put(r.ctx, key, key); err != nil {
			t.Fatal(err)
		}
	}
	if err := server.Collect(); err != nil {
		t.Fatal(err)
	}
	reports := r.clients.Reports()
	if err := r.judge(zap.NewNop(), &bytes.Buffer{}, reports); err != nil {
		t.Fatalf("the history is right so far: %v", err)
	}
	last := &reports[1].KeyValue[1]
	output := last.Output.(model.MaybeEtcdResponse)
	output.Revision--
	last.Output = output
	found := new(finding)
	if err := r.judge(zap.NewNop(), &bytes.Buffer{}, reports); !errors.As(err, &found) {
		t.Fatalf("expected a finding, got %v", err)
	}
	for _, name := range []string{"failure.txt", "log.json", "log.jsonl", "orlop.log", "history.html", "client-2/operations.json", "server-orlop/FORMAT"} {
		if info, err := os.Stat(filepath.Join(found.dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s was not kept: %v", name, err)
		}
	}
	if err := os.RemoveAll(found.dir); err != nil {
		t.Fatal(err)
	}
}
