package robustness

import (
	"math"
	"slices"

	"github.com/anishathalye/porcupine"

	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// PersistedRequests puts the log into the words of etcd's model: one request for each revision, in their order.
//
// Leases are left out: the model lets a lease's keys go in one revision, whereas in Orlop they go in several, which the
// log has as deletions. Compactions are left out too: they have no place among the revisions, and the model would take
// the place that they are given for one in time.
func PersistedRequests(log *RevisionLog) []model.EtcdRequest {
	requests := make([]model.EtcdRequest, 0, len(log.Revisions))
	for revision := int64(2); revision <= log.Last; revision++ {
		requests = append(requests, requestOf(log.Revisions[revision]))
	}
	return requests
}

func requestOf(changes []Change) model.EtcdRequest {
	operations := make([]model.EtcdOperation, 0, len(changes))
	for _, change := range changes {
		if change.Kind == "delete" {
			operations = append(operations, model.EtcdOperation{
				Type:   model.DeleteOperation,
				Delete: model.DeleteOptions{Key: string(change.Key)},
			})
			continue
		}
		operations = append(operations, model.EtcdOperation{
			Type: model.PutOperation,
			Put:  model.PutOptions{Key: string(change.Key), Value: model.ToValueOrHash(string(*change.Value))},
		})
	}
	return model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: operations}}
}

// ModelReports puts the reports of the clients into the words of etcd's model.
//
//   - A revocation becomes a read of the revision, as the deletions that it causes have revisions of their own. Leases
//     that puts name are still granted before, and taken by nobody but puts, which the log has.
//   - A transaction without an answer that puts something has happened when the log has what it puts, as no value is put
//     twice, and then at the log's revision. Otherwise it is left out. (The validators try the same, but take a
//     transaction for persisted when somebody else has deleted a key that it deletes too.)
//   - A compaction without an answer has happened when the log has it.
//   - What else was asked for without an answer is left out, as it could at most delete, grant or revoke. Instead each
//     revision that only deleted, and that no client was answered, becomes an operation of nobody, at its revision and in
//     the time between the last answer that does not know of it and the first one that does. That somebody has asked for
//     it is checked elsewhere (checkDeletions).
func ModelReports(reports []report.ClientReport, log *RevisionLog, ids identity.Provider) []report.ClientReport {
	adjusted := make([]report.ClientReport, 0, len(reports)+1)
	answers, puts := answersOf(reports), log.puts()
	for _, client := range reports {
		operations := make([]porcupine.Operation, 0, len(client.KeyValue))
		for _, operation := range client.KeyValue {
			if adjusted, keep := adjust(operation, log); keep {
				operations = append(operations, adjusted)
				continue
			}
			if revision := putRevision(operation, puts); revision != 0 {
				operations = append(operations, happenedAt(operation, revision, answers))
			}
		}
		client.KeyValue = operations
		adjusted = append(adjusted, client)
	}
	nobody := report.ClientReport{ClientID: ids.NewClientID()}
	for _, revision := range unansweredDeletions(reports, log) {
		nobody.KeyValue = append(nobody.KeyValue, deletionByNobody(log.Revisions[revision], revision, answers, ids))
	}
	return append(adjusted, nobody)
}

func adjust(operation porcupine.Operation, log *RevisionLog) (porcupine.Operation, bool) {
	request := operation.Input.(model.EtcdRequest)
	response := operation.Output.(model.MaybeEtcdResponse)
	lost := response.Error != ""
	switch {
	case request.Type == model.LeaseRevoke && !lost:
		// No key hangs on no lease: in the model this changes nothing and answers the revision.
		request.LeaseRevoke = &model.LeaseRevokeRequest{}
		operation.Input = request
	case request.Type == model.Compact && lost && log.Compacted[request.Compact.Revision]:
		operation.Output = model.MaybeEtcdResponse{Persisted: true}
		operation.Return = math.MaxInt64
	case lost:
		return operation, request.IsRead()
	}
	return operation, true
}

// puts returns the revision of each put.
func (l *RevisionLog) puts() map[model.PutOptions]int64 {
	puts := map[model.PutOptions]int64{}
	for revision, changes := range l.Revisions {
		for _, change := range changes {
			if change.Kind == "put" {
				puts[model.PutOptions{Key: string(change.Key), Value: model.ToValueOrHash(string(*change.Value))}] = revision
			}
		}
	}
	return puts
}

// putRevision returns the revision at which what the operation puts was put, or 0.
func putRevision(operation porcupine.Operation, puts map[model.PutOptions]int64) int64 {
	request := operation.Input.(model.EtcdRequest)
	if request.Type != model.Txn {
		return 0
	}
	for _, operation := range request.Txn.AllOperations() {
		if operation.Type == model.PutOperation {
			return puts[model.PutOptions{Key: operation.Put.Key, Value: operation.Put.Value}]
		}
	}
	return 0
}

// happenedAt gives an operation without an answer the answer that it happened at this revision.
func happenedAt(operation porcupine.Operation, revision int64, answers []answer) porcupine.Operation {
	_, operation.Return = around(revision, answers)
	operation.Output = model.MaybeEtcdResponse{Persisted: true, PersistedRevision: revision}
	return operation
}

// around returns the time in which a revision must have happened: after the last request whose answer does not know of
// it was sent, and before the first answer that does know of it.
func around(revision int64, answers []answer) (call, end int64) {
	// The first moment of all is before every request.
	call, end = 1, math.MaxInt64
	for _, answer := range answers {
		if answer.revision < revision {
			call = max(call, answer.call)
		} else {
			end = min(end, answer.end)
		}
	}
	return call, end
}

// deletesOnly says whether a transaction can change nothing but by deleting.
func deletesOnly(request model.EtcdRequest) bool {
	for _, operation := range request.Txn.AllOperations() {
		if operation.Type == model.PutOperation {
			return false
		}
	}
	return true
}

// unansweredDeletions returns the revisions that only deleted, and of which no client was told.
func unansweredDeletions(reports []report.ClientReport, log *RevisionLog) []int64 {
	var revisions []int64
	answered := deletedByClients(reports)
	for revision := int64(2); revision <= log.Last; revision++ {
		put := func(change Change) bool { return change.Kind != "delete" }
		if !answered[revision] && !slices.ContainsFunc(log.Revisions[revision], put) {
			revisions = append(revisions, revision)
		}
	}
	return revisions
}

func deletionByNobody(changes []Change, revision int64, answers []answer, ids identity.Provider) porcupine.Operation {
	call, end := around(revision, answers)
	output := model.MaybeEtcdResponse{Persisted: true, PersistedRevision: revision}
	return porcupine.Operation{
		ClientId: ids.NewStreamID(),
		Input:    requestOf(changes),
		Call:     call,
		Output:   output,
		Return:   end,
		Metadata: output,
	}
}

// answer is a moment at which a client learnt which revision the store had.
type answer struct{ revision, call, end int64 }

func answersOf(reports []report.ClientReport) []answer {
	var answers []answer
	for _, client := range reports {
		for _, operation := range client.KeyValue {
			response := operation.Output.(model.MaybeEtcdResponse)
			if response.Error == "" && response.Revision > 0 {
				answers = append(answers, answer{response.Revision, operation.Call, operation.Return})
			}
		}
	}
	return answers
}

// deletedByClients returns the revisions of transactions that were answered and may have deleted something.
func deletedByClients(reports []report.ClientReport) map[int64]bool {
	deleted := map[int64]bool{}
	for _, client := range reports {
		for _, operation := range client.KeyValue {
			request := operation.Input.(model.EtcdRequest)
			response := operation.Output.(model.MaybeEtcdResponse)
			if request.Type != model.Txn || response.Txn == nil {
				continue
			}
			for _, result := range response.Txn.Results {
				if result.Deleted != 0 {
					deleted[response.Revision] = true
				}
			}
		}
	}
	return deleted
}
