// Package powerfs is a file system, mounted through FUSE, that can lose power.
//
// It keeps two states of every file and every directory: what processes see, and what is durable. What is written to a
// file is durable after an fsync or fdatasync of that file, names are durable after an fsync of their directory, and
// nothing else makes anything durable: the least that POSIX promises. A cut of the power leaves what is durable and, of
// the rest, nothing or any part: sectors of 512 bytes, whole or old or garbage, in any order, and names that made it or
// not. A seed decides, so that a cut can be repeated on the same disk.
//
// A disk can also fail on order (EIO, ENOSPC, a write of which only a part gets through). A failed fsync does what
// Linux does: the pages count as written from then on, so that the next fsync succeeds and does not write them.
//
// The kernel's cache does not hide anything: without FUSE's writeback cache, which is off here, every write and every
// fsync reaches this package before the process that called it goes on. A test shows that.
//
// Everything is in memory; space that is only allocated takes none.
package powerfs
