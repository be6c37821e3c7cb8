package robustness

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// A log with a key that a lease took along (revision 3), one that a client deleted (5), and a compaction.
const printed = `{"type":"store","cluster_id":1,"revision":5,"compacted_revision":2}
{"type":"revision","revision":2,"partition":1,"slot":3,"epoch":1,"changes":[{"kind":"put","key":"YQ==","value":"MQ==","lease":7,"create_revision":2,"version":1,"previous_revision":0}]}
{"type":"revision","revision":3,"partition":1,"slot":4,"epoch":1,"changes":[{"kind":"delete","key":"YQ==","previous_revision":2}]}
{"type":"revision","revision":4,"partition":1,"slot":5,"epoch":1,"changes":[{"kind":"put","key":"Yg==","value":"Mg==","lease":0,"create_revision":4,"version":1,"previous_revision":0}]}
{"type":"revision","revision":5,"partition":1,"slot":6,"epoch":1,"changes":[{"kind":"delete","key":"Yg==","previous_revision":4}]}
{"type":"system","partition":0,"slot":3,"epoch":1,"changes":[{"kind":"lease_granted","lease":7,"ttl":2},{"kind":"lease_revoking","lease":7},{"kind":"lease_revoked","lease":7},{"kind":"compacted","revision":2}]}
`

func exampleLog(t *testing.T) *RevisionLog {
	t.Helper()
	log := NewRevisionLog()
	if err := log.Add([]byte(printed)); err != nil {
		t.Fatal(err)
	}
	if err := log.Complete(); err != nil {
		t.Fatal(err)
	}
	return log
}

func requireTold(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Fatalf("expected an error that says %q, got %v", part, err)
	}
}

func TestALogThatWasRewrittenOrHasAHoleIsFound(t *testing.T) {
	log := exampleLog(t)
	gone := strings.Replace(printed, `"value":"MQ=="`, `"value":null,"value_gone":"compacted"`, 1)
	if err := log.Add([]byte(gone)); err != nil {
		t.Fatalf("a value that is gone later is no contradiction: %v", err)
	}
	requireTold(t, log.Add([]byte(strings.Replace(printed, `"value":"Mg=="`, `"value":"Mw=="`, 1))), "revision 4 was rewritten")
	requireTold(t, log.Add([]byte(`{"type":"store","revision":4}`)), "went back")
	requireTold(t, NewRevisionLog().after(t, strings.Replace(printed, `"revision","revision":3`, `"filler","revision":3`, 1)).Complete(),
		"revision 3 is missing")
	requireTold(t, NewRevisionLog().after(t, gone).Complete(), "was not seen before it was compacted")
}

func (l *RevisionLog) after(t *testing.T, text string) *RevisionLog {
	t.Helper()
	if err := l.Add([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return l
}

// operation is one of a client's, answered at revision 4 unless a test says otherwise.
func operation(request model.EtcdRequest, response model.MaybeEtcdResponse) porcupine.Operation {
	return porcupine.Operation{Input: request, Output: response, Call: 10, Return: 20}
}

func reportOf(operations ...porcupine.Operation) []report.ClientReport {
	return []report.ClientReport{{ClientID: 1, KeyValue: operations}}
}

func putOf(key, value string, revision int64) porcupine.Operation {
	put := model.EtcdOperation{Type: model.PutOperation, Put: model.PutOptions{Key: key, Value: model.ToValueOrHash(value)}}
	request := model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{put}}}
	answer := model.EtcdResponse{Revision: revision, Txn: &model.TxnResponse{Results: []model.EtcdOperationResult{{}}}}
	return operation(request, model.MaybeEtcdResponse{EtcdResponse: answer})
}

func TestAnAcknowledgedWriteThatTheLogHasNotIsFound(t *testing.T) {
	log := exampleLog(t)
	if err := checkAcknowledged(reportOf(putOf("a", "1", 2), putOf("b", "2", 4)), log); err != nil {
		t.Fatal(err)
	}
	requireTold(t, checkAcknowledged(reportOf(putOf("b", "3", 4)), log), "revision 4 was acknowledged")
	requireTold(t, checkAcknowledged(reportOf(putOf("b", "2", 6)), log), "revision 6 was acknowledged")
}

func eventsOf(at time.Duration, events ...model.WatchEvent) []report.ClientReport {
	watch := model.WatchOperation{
		Request:   model.WatchRequest{WithPrevKV: true},
		Responses: []model.WatchResponse{{Events: events, Time: at}},
	}
	return []report.ClientReport{{ClientID: 1, Watch: []model.WatchOperation{watch}}}
}

func deletion(revision int64) model.WatchEvent {
	event := model.Event{Type: model.DeleteOperation, Key: "a"}
	return model.WatchEvent{PersistedEvent: model.PersistedEvent{Event: event, Revision: revision}}
}

func TestAnEventWithoutThePreviousValueIsFound(t *testing.T) {
	event := deletion(3)
	requireTold(t, checkPreviousValues(eventsOf(0, event)), "without the previous value")
	event.PrevValue = &model.ValueRevision{ModRevision: 2}
	created := model.WatchEvent{PersistedEvent: model.PersistedEvent{IsCreate: true}}
	if err := checkPreviousValues(eventsOf(0, event, created)); err != nil {
		t.Fatal(err)
	}
}

func TestAKeyThatOutlivesItsLeaseOrGoesTooEarlyIsFound(t *testing.T) {
	log := exampleLog(t)
	granted := operation(model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{LeaseID: 7}},
		model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Revision: 1}})
	granted.Call = int64(time.Second)
	seenAt := func(at time.Duration) []report.ClientReport {
		return append(reportOf(granted), eventsOf(at, deletion(3))...)
	}
	if err := checkLeases(seenAt(3*time.Second), log); err != nil {
		t.Fatal(err)
	}
	requireTold(t, checkLeases(seenAt(3*time.Second-1), log), "was deleted at 2.999999999s already")
	alive := strings.Replace(printed, `"kind":"put","key":"Yg=="`, `"kind":"put","key":"Yw=="`, 1)
	alive = strings.Replace(alive, `"lease":0`, `"lease":7`, 1)
	requireTold(t, checkLeases(nil, NewRevisionLog().after(t, alive)), "is alive, and its lease 7 has ended")
}

func deleteOf(key string, response model.MaybeEtcdResponse) porcupine.Operation {
	deletion := model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: key}}
	request := model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{deletion}}}
	return operation(request, response)
}

// deleted is the answer that a key was deleted at this revision.
func deleted(revision int64) model.MaybeEtcdResponse {
	results := []model.EtcdOperationResult{{Deleted: 1}}
	return model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{Revision: revision, Txn: &model.TxnResponse{Results: results}}}
}

func TestADeletionThatNobodyHasAskedForIsFound(t *testing.T) {
	log := exampleLog(t)
	lost := model.MaybeEtcdResponse{Error: "timeout"}
	for _, asked := range []porcupine.Operation{deleteOf("b", lost), deleteOf("b", deleted(5))} {
		if err := checkDeletions(reportOf(asked), log); err != nil {
			t.Fatal(err)
		}
	}
	told := "b was deleted at revision 5, and nobody has asked for it"
	requireTold(t, checkDeletions(nil, log), told)
	requireTold(t, checkDeletions(reportOf(deleteOf("a", lost)), log), told)
}

func TestWhatALeaseDeletedBecomesAnOperationBetweenTheAnswersAroundIt(t *testing.T) {
	log := exampleLog(t)
	before, after := putOf("a", "1", 2), putOf("b", "2", 4)
	after.Call, after.Return = 30, 40
	known := deleteOf("b", deleted(5))
	known.Call, known.Return = 50, 60
	adjusted := ModelReports(reportOf(before, after, known), log, identity.NewIDProvider())
	ends := adjusted[len(adjusted)-1].KeyValue
	if len(ends) != 1 {
		t.Fatalf("only revision 3 was answered nobody: %+v", ends)
	}
	end := ends[0]
	response := end.Output.(model.MaybeEtcdResponse)
	if end.Call != 10 || end.Return != 40 || response.PersistedRevision != 3 {
		t.Fatalf("expected revision 3 between 10 and 40, got %+v", end)
	}
}

func TestATransactionWhoseAnswerWasLostIsKnownFromTheLog(t *testing.T) {
	lost := func(key, value string) porcupine.Operation {
		operation := putOf(key, value, 0)
		operation.Output = model.MaybeEtcdResponse{Error: "timeout"}
		return operation
	}
	known := putOf("b", "2", 4)
	known.Call, known.Return = 30, 40
	adjusted := ModelReports(reportOf(lost("a", "1"), lost("a", "2"), known), exampleLog(t), identity.NewIDProvider())
	left := adjusted[0].KeyValue
	if len(left) != 2 {
		t.Fatalf("only the put of 1 has happened: %+v", left)
	}
	if output := left[0].Output.(model.MaybeEtcdResponse); output.PersistedRevision != 2 || left[0].Return != 40 {
		t.Fatalf("expected revision 2 before 40, got %+v", left[0])
	}
}

func TestACompactionWhoseAnswerWasLostIsKnownFromTheLog(t *testing.T) {
	log := exampleLog(t)
	lost := func(revision int64) porcupine.Operation {
		request := model.EtcdRequest{Type: model.Compact, Compact: &model.CompactRequest{Revision: revision}}
		return operation(request, model.MaybeEtcdResponse{Error: "timeout"})
	}
	adjusted := ModelReports(reportOf(lost(2), lost(3)), log, identity.NewIDProvider())
	left := adjusted[0].KeyValue
	if len(left) != 1 || !left[0].Output.(model.MaybeEtcdResponse).Persisted {
		t.Fatalf("only the compaction at 2 has happened: %+v", left)
	}
}
