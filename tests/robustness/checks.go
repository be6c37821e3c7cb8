package robustness

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// What Orlop promises beyond what etcd's validators look at.

// checkPreviousValues wants the previous value in every event that replaced or deleted something: etcd lets it be missing
// once the revision before is compacted, and kube-apiserver then ends the watch.
func checkPreviousValues(reports []report.ClientReport) error {
	for _, client := range reports {
		for _, watch := range client.Watch {
			if !watch.Request.WithPrevKV {
				continue
			}
			for _, response := range watch.Responses {
				for _, event := range response.Events {
					if !event.IsCreate && event.PrevValue == nil {
						return fmt.Errorf("client %d got the event of %s at revision %d without the previous value",
							client.ClientID, event.Key, event.Revision)
					}
				}
			}
		}
	}
	return nil
}

// checkAcknowledged wants every transaction that was acknowledged in the log, with what it has put.
func checkAcknowledged(reports []report.ClientReport, log *RevisionLog) error {
	for _, client := range reports {
		for _, operation := range client.KeyValue {
			if err := checkLogged(operation, log); err != nil {
				return fmt.Errorf("client %d: %w", client.ClientID, err)
			}
		}
	}
	return nil
}

func checkLogged(operation porcupine.Operation, log *RevisionLog) error {
	request := operation.Input.(model.EtcdRequest)
	response := operation.Output.(model.MaybeEtcdResponse)
	if request.Type != model.Txn || response.Txn == nil || response.Persisted {
		return nil
	}
	operations := request.Txn.OperationsOnSuccess
	if response.Txn.Failure {
		operations = request.Txn.OperationsOnFailure
	}
	for i, operation := range operations {
		put := operation.Type == model.PutOperation
		if !put && (operation.Type != model.DeleteOperation || response.Txn.Results[i].Deleted == 0) {
			continue
		}
		if !hasChange(log.Revisions[response.Revision], operation) {
			return fmt.Errorf("revision %d was acknowledged with %+v, and the log has %+v",
				response.Revision, operation, log.Revisions[response.Revision])
		}
	}
	return nil
}

func hasChange(changes []Change, operation model.EtcdOperation) bool {
	for _, change := range changes {
		switch {
		case operation.Type == model.PutOperation && change.Kind == "put" && string(change.Key) == operation.Put.Key &&
			model.ToValueOrHash(string(*change.Value)) == operation.Put.Value:
			return true
		case operation.Type == model.DeleteOperation && change.Kind == "delete" && string(change.Key) == operation.Delete.Key:
			return true
		}
	}
	return false
}

// checkDeletions wants somebody to have asked for every deletion: a lease that ended, or a client that was not answered,
// each of whose requests can have deleted once.
func checkDeletions(reports []report.ClientReport, log *RevisionLog) error {
	asked := map[string]int{}
	for _, client := range reports {
		for _, operation := range client.KeyValue {
			request := operation.Input.(model.EtcdRequest)
			if operation.Output.(model.MaybeEtcdResponse).Error == "" || request.Type != model.Txn || !deletesOnly(request) {
				continue
			}
			for _, operation := range request.Txn.AllOperations() {
				if operation.Type == model.DeleteOperation {
					asked[operation.Delete.Key]++
				}
			}
		}
	}
	for _, revision := range unansweredDeletions(reports, log) {
		if log.DeletedByLease(revision) != 0 {
			continue
		}
		for _, change := range log.Revisions[revision] {
			if asked[string(change.Key)] == 0 {
				return fmt.Errorf("the key %s was deleted at revision %d, and nobody has asked for it", change.Key, revision)
			}
			asked[string(change.Key)]--
		}
	}
	return nil
}

// checkLeases wants no key alive whose lease has ended, and no key deleted by a lease before its time.
func checkLeases(reports []report.ClientReport, log *RevisionLog) error {
	alive := map[string]Change{}
	for revision := int64(2); revision <= log.Last; revision++ {
		for _, change := range log.Revisions[revision] {
			if change.Kind == "delete" {
				delete(alive, string(change.Key))
			} else {
				alive[string(change.Key)] = change
			}
		}
	}
	for key, change := range alive {
		if log.Revoked[change.Lease] {
			return fmt.Errorf("the key %s is alive, and its lease %x has ended", key, change.Lease)
		}
	}
	return checkTimes(reports, log)
}

// checkTimes compares the moments at which leases were asked for with those at which their ends were seen first.
func checkTimes(reports []report.ClientReport, log *RevisionLog) error {
	granted, revoked := map[int64]time.Duration{}, map[int64]bool{}
	for _, client := range reports {
		for _, operation := range client.KeyValue {
			request := operation.Input.(model.EtcdRequest)
			switch request.Type {
			case model.LeaseGrant:
				granted[request.LeaseGrant.LeaseID] = time.Duration(operation.Call)
			case model.LeaseRevoke:
				revoked[request.LeaseRevoke.LeaseID] = true
			}
		}
	}
	byClients := deletedByClients(reports)
	for _, client := range reports {
		for _, watch := range client.Watch {
			for _, response := range watch.Responses {
				for _, event := range response.Events {
					lease := log.DeletedByLease(event.Revision)
					at, known := granted[lease]
					if lease == 0 || !known || revoked[lease] || byClients[event.Revision] {
						continue
					}
					ttl := time.Duration(log.Leases[lease]) * time.Second
					if response.Time < at+ttl {
						return fmt.Errorf("lease %x of %v was asked for at %v, and its key %s was deleted at %v already",
							lease, ttl, at, event.Key, response.Time)
					}
				}
			}
		}
	}
	return nil
}
