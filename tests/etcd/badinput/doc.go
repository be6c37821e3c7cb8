// Package badinput meets Orlop with what it cannot accept: requests, files, flags and machines. Each test states the
// message that a person then reads, and that nothing else was harmed.
package badinput
