// Package server is a TiKV cluster in one process, for tests: the in-memory TiKV of client-go (Percolator transactions,
// regions, locks) served over the protocols of TiKV and PD, with an HTTP side door that splits and moves regions, moves
// PD's clock and injects faults.
//
// What client-go's store leaves out, and a client of the real TiKV relies on, is added here: see read.go, write.go and
// lock.go. What it cannot show:
//   - Raft and replicas: each key is held once, and a store that stops loses nothing;
//   - one-phase and async commit: both are declined, as TiKV may do at any time;
//   - a request whose key lies outside its region gets an Internal error where TiKV answers KeyNotInRegion;
//   - ServerIsBusy comes by injection alone;
//   - real time: timestamps follow the wall clock, sockets are real, and no schedule can be replayed.
package server
