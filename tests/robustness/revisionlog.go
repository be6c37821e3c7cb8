package robustness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Change is what one revision did to one key.
type Change struct {
	Kind             string  `json:"kind"`
	Key              []byte  `json:"key"`
	Value            *[]byte `json:"value"`
	Lease            int64   `json:"lease"`
	CreateRevision   int64   `json:"create_revision"`
	Version          int64   `json:"version"`
	PreviousRevision int64   `json:"previous_revision"`
}

// RevisionLog is all that a store's log has said about it, read piece by piece before compaction removes it.
type RevisionLog struct {
	// Revisions holds the changes of each revision.
	Revisions map[int64][]Change
	// Last is the newest revision.
	Last int64
	// Leases holds the TTL of each lease that was granted.
	Leases map[int64]int64
	// Revoking and Revoked hold the leases whose revocation was begun and finished.
	Revoking, Revoked map[int64]bool
	// Compacted holds the revisions that were compacted through.
	Compacted map[int64]bool
	// Takeovers counts how often the partition of the user keys was taken over.
	Takeovers int
}

// NewRevisionLog returns the log of a store that nobody has written to.
func NewRevisionLog() *RevisionLog {
	return &RevisionLog{
		Revisions: map[int64][]Change{}, Last: 1,
		Leases: map[int64]int64{}, Revoking: map[int64]bool{}, Revoked: map[int64]bool{}, Compacted: map[int64]bool{},
	}
}

type logLine struct {
	Type     string          `json:"type"`
	Revision int64           `json:"revision"`
	Changes  json.RawMessage `json:"changes"`
	Part     int             `json:"partition"`
	Slot     int64           `json:"slot"`
}

type systemChange struct {
	Kind     string `json:"kind"`
	Lease    int64  `json:"lease"`
	TTL      int64  `json:"ttl"`
	Revision int64  `json:"revision"`
}

// Add merges in what `orlop log` has printed. What was known before must not have changed.
func (l *RevisionLog) Add(printed []byte) error {
	takeovers := 0
	scanner := bufio.NewScanner(bytes.NewReader(printed))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var line logLine
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			return fmt.Errorf("`orlop log` printed %q: %w", scanner.Text(), err)
		}
		var err error
		switch line.Type {
		case "revision":
			err = l.addRevision(line)
		case "system":
			err = l.addSystem(line)
		case "store":
			if line.Revision < l.Last {
				err = fmt.Errorf("the log went back from revision %d to %d", l.Last, line.Revision)
			}
			l.Last = max(l.Last, line.Revision)
		case "takeover":
			if line.Part == 1 {
				takeovers++
			}
		}
		if err != nil {
			return err
		}
	}
	l.Takeovers = max(l.Takeovers, takeovers)
	return scanner.Err()
}

func (l *RevisionLog) addRevision(line logLine) error {
	var changes []Change
	if err := json.Unmarshal(line.Changes, &changes); err != nil {
		return err
	}
	known, found := l.Revisions[line.Revision]
	if !found {
		l.Revisions[line.Revision] = changes
		return nil
	}
	// A value that was there before may be gone by now; nothing else may have changed.
	for i := range changes {
		if i < len(known) && changes[i].Value == nil {
			changes[i].Value = known[i].Value
		}
	}
	if !reflect.DeepEqual(known, changes) {
		return fmt.Errorf("revision %d was rewritten: it was %+v and is %+v", line.Revision, known, changes)
	}
	return nil
}

func (l *RevisionLog) addSystem(line logLine) error {
	var changes []systemChange
	if err := json.Unmarshal(line.Changes, &changes); err != nil {
		return err
	}
	for _, change := range changes {
		switch change.Kind {
		case "lease_granted":
			l.Leases[change.Lease] = change.TTL
		case "lease_revoking":
			l.Revoking[change.Lease] = true
		case "lease_revoked":
			l.Revoked[change.Lease] = true
		case "compacted":
			l.Compacted[change.Revision] = true
		}
	}
	return nil
}

// Complete is an error where the log is not dense: every mutating transaction has the next revision, none is missing.
func (l *RevisionLog) Complete() error {
	for revision := int64(2); revision <= l.Last; revision++ {
		changes, found := l.Revisions[revision]
		if !found {
			return fmt.Errorf("revision %d is missing in a log up to %d", revision, l.Last)
		}
		for _, change := range changes {
			if change.Kind == "put" && change.Value == nil {
				return fmt.Errorf("the value of %s at revision %d was not seen before it was compacted", change.Key, revision)
			}
		}
	}
	return nil
}

// leaseAt returns the lease that the version of a key hangs on that was put at this revision.
func (l *RevisionLog) leaseAt(key []byte, revision int64) int64 {
	for _, change := range l.Revisions[revision] {
		if bytes.Equal(change.Key, key) {
			return change.Lease
		}
	}
	return 0
}

// DeletedByLease returns the lease whose end deleted everything that this revision deleted, or 0.
func (l *RevisionLog) DeletedByLease(revision int64) int64 {
	var lease int64
	for _, change := range l.Revisions[revision] {
		of := l.leaseAt(change.Key, change.PreviousRevision)
		if change.Kind != "delete" || of == 0 || !l.Revoking[of] || (lease != 0 && lease != of) {
			return 0
		}
		lease = of
	}
	return lease
}
