package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Ports are taken below the range that kernels hand out for outgoing connections, so that no client of another test
// can sit on a port between the moment it was found free and the moment the store binds it.
const (
	portFirst    = 12000
	portLast     = 31998
	portAttempts = 1000
)

// FreePort returns a loopback port that no other test of this run gets, in this process or in another.
//
// Ports come in pairs: the even one is returned, the odd one above it stays bound until the test ends and is the proof
// that the pair is taken.
func FreePort(t testing.TB) int {
	t.Helper()
	for range portAttempts {
		port := portFirst + 2*rand.IntN((portLast-portFirst)/2)
		claim, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err != nil {
			continue
		}
		probe, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = claim.Close()
			continue
		}
		_ = probe.Close()
		t.Cleanup(func() { _ = claim.Close() })
		return port
	}
	t.Fatalf("no free loopback port between %d and %d in %d attempts", portFirst, portLast, portAttempts)
	return 0
}
