// Package power cuts the power of real stores, and judges what is there when it comes back.
//
// Orlop, the release binary as it is, keeps its data on a file system of this suite (package powerfs), which at a cut
// throws away what was not fsynced, or a random part of it. Many clients write, and each answer is noted (package
// ledger). After each start the whole history, every key and every lease are compared with the notes: an acknowledged
// write must be there at its revision, any other as a whole or not at all, and nothing else.
//
// The same runs against the real etcd, which shows that the file system asks for nothing that a store cannot do, and
// against an Orlop that acknowledges before its fsync, which shows that the suite would notice.
//
// ORLOP_POWER_SEED repeats the chances of a run (which writes, where the power goes, what is left); the timing of
// threads is not repeated. ORLOP_POWER_ROUNDS multiplies the number of cuts, for a run over night.
package power
