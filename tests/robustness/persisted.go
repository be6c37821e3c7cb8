package robustness

import (
	"math"

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
//   - A compaction whose answer was lost is known to have happened when the log has it.
//   - What the end of a lease deleted becomes an operation of nobody, at the revision that the log has it at, and in the
//     time between the last answer that does not know of it and the first one that does.
func ModelReports(reports []report.ClientReport, log *RevisionLog, ids identity.Provider) []report.ClientReport {
	adjusted := make([]report.ClientReport, 0, len(reports)+1)
	for _, client := range reports {
		operations := make([]porcupine.Operation, 0, len(client.KeyValue))
		for _, operation := range client.KeyValue {
			if adjusted, keep := adjust(operation, log); keep {
				operations = append(operations, adjusted)
			}
		}
		client.KeyValue = operations
		adjusted = append(adjusted, client)
	}
	ends := report.ClientReport{ClientID: ids.NewClientID()}
	answers := answersOf(reports)
	byClients := deletedByClients(reports)
	for revision := int64(2); revision <= log.Last; revision++ {
		if log.DeletedByLease(revision) == 0 || byClients[revision] {
			continue
		}
		ends.KeyValue = append(ends.KeyValue, endOfLease(log.Revisions[revision], revision, answers, ids))
	}
	return append(adjusted, ends)
}

func adjust(operation porcupine.Operation, log *RevisionLog) (porcupine.Operation, bool) {
	request := operation.Input.(model.EtcdRequest)
	response := operation.Output.(model.MaybeEtcdResponse)
	switch request.Type {
	case model.LeaseRevoke:
		if response.Error != "" {
			return operation, false
		}
		// No key hangs on no lease: in the model this changes nothing and answers the revision.
		request.LeaseRevoke = &model.LeaseRevokeRequest{}
		operation.Input = request
	case model.Compact:
		if response.Error != "" && log.Compacted[request.Compact.Revision] {
			operation.Output = model.MaybeEtcdResponse{Persisted: true}
			operation.Return = math.MaxInt64
		}
	}
	return operation, true
}

func endOfLease(changes []Change, revision int64, answers []answer, ids identity.Provider) porcupine.Operation {
	// The first moment of all is before every request.
	call, end := int64(1), int64(math.MaxInt64)
	for _, answer := range answers {
		if answer.revision < revision {
			call = max(call, answer.call)
		} else {
			end = min(end, answer.end)
		}
	}
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
