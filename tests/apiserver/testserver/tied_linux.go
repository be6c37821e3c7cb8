package testserver

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

type startRequest struct {
	cmd    *exec.Cmd
	result chan error
}

// starter starts processes that the kernel ends when this test process dies, even when no clean-up ran (a test that
// timed out, a panic). The kernel ties a child to the thread that started it, so one thread starts them all and stays.
var starter = sync.OnceValue(func() chan<- startRequest {
	requests := make(chan startRequest)
	go func() {
		runtime.LockOSThread()
		for request := range requests {
			request.result <- request.cmd.Start()
		}
	}()
	return requests
})

func startTied(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	request := startRequest{cmd: cmd, result: make(chan error)}
	starter() <- request
	return <-request.result
}
