// Command fleet takes the place of `orlop` in suites that start one server and talk to it: it starts a TiKV cluster for
// tests, a server that leads the store on it, and then the server that the suite asked for, which owns nothing. So
// whatever the suite asks is forwarded to the leader, or answered from a copy of its state.
//
// FLEET_ORLOP names the orlop to start, FLEET_SPLITS the keys at which its partitions begin, if there are to be several.
// The arguments are those of `orlop serve`; --data-dir and --name are left out, because the records are in TiKV's memory
// and each server needs a name of its own. SIGTERM and SIGINT end both servers; the exit code is 0 when theirs were.
package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pingcap/log"
	"go.uber.org/zap/zapcore"

	"github.com/orlop/orlop/tests/tikv/server"
)

const (
	binaryVariable = "FLEET_ORLOP"
	splitsVariable = "FLEET_SPLITS"
	// A server is ready in well under a second; the rest is room for a busy machine.
	readyDeadline = 60 * time.Second
	pollInterval  = 10 * time.Millisecond

	portFirst    = 2000
	portLast     = 11998
	portAttempts = 100
)

// dropped are the settings that make no sense for both servers, each followed by its value.
var dropped = []string{"--data-dir", "--name", "--engine", "--listen-client-urls", "--advertise-client-urls"}

func main() {
	// The kernel ends the servers with the thread that started them.
	runtime.LockOSThread()
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	stderr := zapcore.Lock(os.Stderr)
	logger, properties, err := log.InitLoggerWithWriteSyncer(&log.Config{Level: "error"}, stderr, stderr)
	if err != nil {
		return 1, err
	}
	log.ReplaceGlobals(logger, properties)
	tikv, err := server.Start(server.Options{Stores: 1, PDAddr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0"})
	if err != nil {
		return 1, err
	}
	defer tikv.Close()

	common := append(without(args, dropped), "--engine", "tikv", "--pd-endpoints", tikv.PDAddr)
	if splits := os.Getenv(splitsVariable); splits != "" {
		common = append(common, "--initial-partition-splits", splits)
	}
	urls := value(args, "--listen-client-urls")
	ended := make(chan error, 2)
	leaderURL, err := freeURL()
	if err != nil {
		return 1, err
	}
	leader, err := start("leader", leaderURL, common, ended)
	if err != nil {
		return 1, err
	}
	if err := awaitReady(leaderURL, ended); err != nil {
		return 1, fmt.Errorf("the leader: %w", err)
	}
	follower, err := start("follower", urls, common, ended)
	if err != nil {
		return 1, err
	}
	select {
	case err := <-ended:
		return 1, fmt.Errorf("a server ended: %w", errors.Join(err, errors.New("nobody asked it to")))
	case <-asked:
	}
	// The follower first: it ends what it forwards while there is somebody to forward it to.
	for _, process := range []*exec.Cmd{follower, leader} {
		_ = process.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			return 1, err
		}
	}
	return 0, nil
}

// start starts a server that is reached by clients at these URLs, and tells ended when it is gone.
func start(name, urls string, common []string, ended chan<- error) (*exec.Cmd, error) {
	args := slices.Concat(common, []string{
		"--name", name, "--listen-client-urls", urls, "--advertise-client-urls", urls, "--listen-peer-urls", "http://127.0.0.1:0",
	})
	cmd := exec.Command(os.Getenv(binaryVariable), args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s=%s: %w", binaryVariable, os.Getenv(binaryVariable), err)
	}
	go func() { ended <- cmd.Wait() }()
	return cmd, nil
}

func awaitReady(url string, ended <-chan error) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	last := errors.New("never asked")
	for deadline := time.Now().Add(readyDeadline); time.Now().Before(deadline); {
		select {
		case err := <-ended:
			return fmt.Errorf("it ended: %w", errors.Join(err, last))
		case <-time.After(pollInterval):
		}
		response, err := client.Get(url + "/readyz")
		if err != nil {
			last = err
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		last = errors.New(response.Status)
	}
	return fmt.Errorf("not ready within %v: %w", readyDeadline, last)
}

// freeURL is a URL on a port that was free a moment ago, below those that kernels give to clients.
func freeURL() (string, error) {
	var last error
	for range portAttempts {
		address := fmt.Sprintf("127.0.0.1:%d", portFirst+rand.IntN(portLast-portFirst))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			last = err
			continue
		}
		return "http://" + address, listener.Close()
	}
	return "", fmt.Errorf("no free port: %w", last)
}

// value is what follows a flag.
func value(args []string, flag string) string {
	for i, arg := range args {
		if arg == flag && i+1 < len(args) {
			return args[i+1]
		}
		if text, found := strings.CutPrefix(arg, flag+"="); found {
			return text
		}
	}
	return ""
}

// without leaves flags out, each with its value.
func without(args, flags []string) []string {
	var left []string
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		if !slices.Contains(flags, name) {
			left = append(left, args[i])
			continue
		}
		if !joined {
			i++
		}
	}
	return left
}
