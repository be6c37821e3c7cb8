package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports are taken below the range from which systems give out source ports (Linux: 32768 and up). A client
// that keeps dialling a server which is down could otherwise be given the server's own port as its source
// port, connect to itself, and keep the server from coming back.
const (
	firstPort    = 15000
	lastPort     = 31000
	portAttempts = 200
)

// startAttempts bounds how often a program is started again because its port was taken meanwhile.
const startAttempts = 5

var errPortTaken = errors.New("the port was taken by another program")

// FreePort returns a loopback port on which nothing listens at the moment.
func FreePort() (int, error) {
	for range portAttempts {
		port := firstPort + rand.IntN(lastPort-firstPort)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, fmt.Errorf("no free port among %d tried between %d and %d", portAttempts, firstPort, lastPort)
}

// withFreePort runs start on free ports until it does not meet a port that was taken in between.
func withFreePort(start func(port int) error) error {
	var err error
	for range startAttempts {
		var port int
		if port, err = FreePort(); err != nil {
			return err
		}
		if err = start(port); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

// portTaken tells a lost race for a port from every other reason to end early.
func portTaken(p *Process, offset int64) bool {
	return p.Err() != nil && p.logMentions(offset, "address already in use", "Address already in use", "EADDRINUSE")
}

func httpURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
