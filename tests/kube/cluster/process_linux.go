package cluster

import "syscall"

// dieWithParent lets the kernel end the child when the test process is gone, also after a panic or the
// time limit of `go test`, where no clean-up code runs.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
