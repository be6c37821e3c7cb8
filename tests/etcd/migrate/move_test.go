package migrate

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// moved asserts that one store goes on where the other one was when the snapshot was taken.
func moved(t *testing.T, from, to *client, was state) {
	t.Helper()
	mustEqual(t, "after the move", to.state(), was)
	to.refusesBefore(was.Revision)
	if diff := cmp.Diff(from.changesAt(was.Revision), to.changesAt(was.Revision)); diff != "" {
		t.Errorf("what a watch from the snapshot's revision on is told (-before +after):\n%s", diff)
	}
	if next := to.state().Revision; next != was.Revision+1 {
		t.Errorf("the first write after the move has revision %d, expected %d", next, was.Revision+1)
	}
}

func TestAnEtcdMovesIn(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			etcd := connect(t, harness.StartEtcd(t))
			etcd.fill(seed)
			if seed > 0 {
				compact := &pb.CompactionRequest{Revision: 100 * int64(seed), Physical: true}
				if _, err := etcd.kv.Compact(etcd.ctx, compact); err != nil {
					t.Fatal(err)
				}
			}
			was := etcd.state()
			orlop := startImported(t, save(t, etcd.store))
			moved(t, etcd, orlop, was)
			orlop.store.Restart()
			if _, err := orlop.lease.LeaseRevoke(orlop.ctx, &pb.LeaseRevokeRequest{ID: 77}); err != nil {
				t.Fatal(err)
			}
			for _, kv := range orlop.state().KVs {
				if kv.Lease == 77 {
					t.Errorf("%q is there after its lease was revoked", kv.Key)
				}
			}
		})
	}
}

func TestAnOrlopMovesOut(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			orlop := connect(t, harness.StartOrlop(t))
			orlop.fill(seed)
			was := orlop.state()
			file := save(t, orlop.store)
			var status struct {
				Revision int64
				TotalKey int
				Version  string
			}
			told := run(t, harness.EtcdutlBin, "snapshot", "status", file, "--write-out", "json")
			if err := json.Unmarshal([]byte(told), &status); err != nil {
				t.Fatalf("%v: %s", err, told)
			}
			if status.Revision != was.Revision || status.TotalKey != len(was.KVs) || status.Version != "3.7.0" {
				t.Errorf("etcdutl says %+v, expected revision %d and %d keys", status, was.Revision, len(was.KVs))
			}
			moved(t, orlop, startRestored(t, file), was)
		})
	}
}

func TestAnOrlopMovesIntoAnother(t *testing.T) {
	first := connect(t, harness.StartOrlop(t))
	first.fill(9)
	was := first.state()
	moved(t, first, startImported(t, save(t, first.store)), was)
}

func TestAnEmptyStoreMovesToo(t *testing.T) {
	orlop := connect(t, harness.StartOrlop(t))
	file := save(t, orlop.store)
	mustEqual(t, "in etcd", startRestored(t, file).state(), state{Revision: 1})
	mustEqual(t, "in Orlop", startImported(t, file).state(), state{Revision: 1})
	etcd := connect(t, harness.StartEtcd(t))
	mustEqual(t, "from etcd", startImported(t, save(t, etcd.store)).state(), state{Revision: 1})
}

// A file of many pages: three levels of them.
func TestALargeStoreMoves(t *testing.T) {
	orlop := connect(t, harness.StartOrlop(t))
	for batch := range 300 {
		var ops []*pb.RequestOp
		for number := range 100 {
			ops = append(ops, putOp(fmt.Sprintf("key-%05d-%03d", batch, number), strings.Repeat("v", 700), 0))
		}
		orlop.txn(ops...)
	}
	orlop.put("large", strings.Repeat("x", 1<<20), 0)
	was := orlop.state()
	file := save(t, orlop.store)
	run(t, harness.EtcdutlBin, "snapshot", "status", file)
	moved(t, orlop, startRestored(t, file), was)
	mustEqual(t, "in Orlop", startImported(t, file).state(), was)
}

func TestRevisionsCanBeBumped(t *testing.T) {
	etcd := connect(t, harness.StartEtcd(t))
	etcd.fill(4)
	was := etcd.state()
	file := save(t, etcd.store)
	orlop := startImported(t, file, "--bump-revision", "1000000", "--mark-compacted")
	was.Revision += 1000000
	mustEqual(t, "after the bump", orlop.state(), was)
	orlop.refusesBefore(was.Revision)
	// What etcdutl has bumped is understood as well.
	dir := filepath.Join(t.TempDir(), "restored")
	run(t, harness.EtcdutlBin, "snapshot", "restore", file, "--data-dir", dir, "--bump-revision", "1000000", "--mark-compacted")
	mustEqual(t, "from a bumped file", startImported(t, filepath.Join(dir, "member", "snap", "db")).state(), was)
}

// Every write changes two keys alike, so a snapshot that is not of one revision has different ones.
func TestASnapshotUnderWritesIsOfOneRevision(t *testing.T) {
	orlop := connect(t, harness.StartOrlop(t))
	for number := range 40 {
		orlop.put(fmt.Sprintf("m-%d", number), strings.Repeat("v", 1<<18), 0)
	}
	before := orlop.put("z", "start", 0)
	var stop atomic.Bool
	var writers sync.WaitGroup
	writers.Go(func() {
		for count := 0; !stop.Load(); count++ {
			value := fmt.Sprint(count)
			if _, err := orlop.kv.Txn(orlop.ctx, &pb.TxnRequest{Success: []*pb.RequestOp{
				putOp("a", value, 0), putOp("z", value, 0), putOp(fmt.Sprintf("m-%d", count%40), value+strings.Repeat("v", 1<<18), 0),
			}}); err != nil {
				t.Errorf("writing: %v", err)
				return
			}
		}
	})
	harness.Eventually(t, "the writer writes", func() bool { return orlop.state().Revision > before })
	var files []string
	for range 3 {
		files = append(files, save(t, orlop.store))
	}
	stop.Store(true)
	writers.Wait()
	for _, file := range files {
		imported := startImported(t, file).state()
		values := map[string]string{}
		newest := int64(0)
		for _, kv := range imported.KVs {
			values[string(kv.Key)] = string(kv.Value)
			newest = max(newest, kv.ModRevision)
		}
		if values["a"] != values["z"] || values["a"] == "" || newest != imported.Revision {
			t.Errorf("a = %q, z = %q, the newest change is of %d and the store at %d", values["a"], values["z"], newest, imported.Revision)
		}
		mustEqual(t, "etcd has the same", startRestored(t, file).state(), imported)
	}
}

func TestAServerThatDoesNotLeadSaysWhoTakesSnapshots(t *testing.T) {
	follower := connect(t, harness.StartOrlop(t, harness.Fleet(t)))
	follower.put("a", "1", 0)
	file := filepath.Join(t.TempDir(), "snapshot.db")
	result := harness.Run(t, "", harness.Binary(t, harness.EtcdctlBin), "--endpoints", follower.store.Addr(), "snapshot", "save", file)
	if result.ExitCode == 0 || !strings.Contains(result.Stderr, "a snapshot is taken by the server that leads") {
		t.Errorf("exit code %d: %s", result.ExitCode, result.Output())
	}
}

// refused asserts that an import ends with this text on standard error, and leaves nothing that is served as a store.
func refused(t *testing.T, file, text string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	result := harness.Run(t, "", harness.Binary(t, harness.OrlopBin), "import", "--from-snapshot", file, "--data-dir", dir)
	if result.ExitCode != 1 || !strings.Contains(result.Stderr, text) || !strings.Contains(result.Stderr, file) {
		t.Errorf("exit code %d, expected 1, and %q about %s in:\n%s", result.ExitCode, text, file, result.Stderr)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("there is a data directory: %v", err)
	}
}

func TestWhatIsNoWholeSnapshotIsRefused(t *testing.T) {
	etcd := connect(t, harness.StartEtcd(t))
	etcd.fill(5)
	whole, err := os.ReadFile(save(t, etcd.store))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	flipped := append([]byte{}, whole...)
	flipped[len(flipped)/2] ^= 1
	refused(t, write("flipped", flipped), "its checksum does not match")
	refused(t, write("half", whole[:len(whole)/2/4096*4096]), "it is cut off")
	refused(t, write("odd", whole[:len(whole)-777]), "it is cut off")
	refused(t, write("text", []byte("hello")), "it is no bbolt file")
	refused(t, write("nothing", nil), "it is no bbolt file")
	refused(t, filepath.Join(t.TempDir(), "none"), "No such file")
}

func TestUsersAreRefused(t *testing.T) {
	etcd := connect(t, harness.StartEtcd(t))
	run(t, harness.EtcdctlBin, "--endpoints", etcd.store.Addr(), "user", "add", "somebody:secret")
	refused(t, save(t, etcd.store), "Orlop has none of them")
}

func TestADirectoryThatIsNotEmptyIsLeftAlone(t *testing.T) {
	orlop := connect(t, harness.StartOrlop(t))
	orlop.put("a", "1", 0)
	file := save(t, orlop.store)
	orlop.store.Stop()
	result := harness.Run(t, "", harness.Binary(t, harness.OrlopBin), "import", "--from-snapshot", file, "--data-dir", orlop.store.DataDir)
	if result.ExitCode != 1 || !strings.Contains(result.Stderr, "is not empty") {
		t.Errorf("exit code %d: %s", result.ExitCode, result.Stderr)
	}
	orlop.store.Restart()
	if got := orlop.state(); got.Revision != 2 {
		t.Errorf("the store that was there is at revision %d", got.Revision)
	}
}

// The import is killed when it has begun to write. A server either finds it whole or does not start.
func TestAnImportThatIsKilledIsNotServed(t *testing.T) {
	orlop := connect(t, harness.StartOrlop(t))
	for number := range 100 {
		orlop.put(fmt.Sprintf("key-%d", number), strings.Repeat("v", 1<<20), 0)
	}
	was := orlop.state()
	file := save(t, orlop.store)
	cut := 0
	for range 5 {
		dir := filepath.Join(t.TempDir(), "data")
		cmd := exec.Command(harness.Binary(t, harness.OrlopBin), "import", "--from-snapshot", file, "--data-dir", dir)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		told, piece := "", make([]byte, 256)
		for !strings.Contains(told, "writing the keys") {
			length, err := stderr.Read(piece)
			if err != nil {
				t.Fatalf("the import ended before it wrote: %v\n%s", err, told)
			}
			told += string(piece[:length])
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		server := harness.NewOrlop(t, harness.DataDir(dir))
		if end := server.TryRestart(); end != nil {
			cut++
			if end.ExitCode != 1 || !strings.Contains(end.Stderr, "an import was begun here and not finished") {
				t.Errorf("exit code %d:\n%s", end.ExitCode, end.Stderr)
			}
			continue
		}
		mustEqual(t, "after an import that ended before it was killed", connect(t, server).state(), was)
	}
	if cut == 0 {
		t.Error("every import was done before it could be killed")
	}
}
