// Command tikv-server runs a TiKV cluster for tests; see the package server for what it is and is not.
//
// Once every address answers it prints a line of JSON with them. It ends at SIGTERM or SIGINT, and with --tied also when
// its standard input closes, so that it cannot outlive whoever started it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/pingcap/log"
	"go.uber.org/zap/zapcore"

	"github.com/orlop/orlop/tests/tikv/server"
)

func main() {
	var options server.Options
	flag.IntVar(&options.Stores, "stores", 3, "the number of stores")
	flag.StringVar(&options.PDAddr, "pd-addr", "127.0.0.1:0", "where PD listens; port 0 is a free one")
	flag.StringVar(&options.AdminAddr, "admin-addr", "127.0.0.1:0", "where the HTTP side door listens")
	flag.StringVar(&options.Data, "data", "", "a directory that keeps the records; none: memory")
	flag.StringVar(&options.TLS, "tls", "", "a directory that gets the files for TLS, which is then needed; none: no TLS")
	split := flag.String("split", "", "keys that regions begin at, separated by commas")
	tied := flag.Bool("tied", false, "end when standard input closes")
	help := flag.Bool("explain", false, "print the side door's requests")
	flag.Parse()
	if *help {
		fmt.Print(server.Usage)
		return
	}
	if *split != "" {
		options.Splits = strings.Split(*split, ",")
	}
	if err := run(options, *tied); err != nil {
		fmt.Fprintln(os.Stderr, "tikv-server:", err)
		os.Exit(1)
	}
}

func run(options server.Options, tied bool) error {
	if err := logToStderr(); err != nil {
		return err
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	running, err := server.Start(options)
	if err != nil {
		return err
	}
	defer running.Close()
	addresses := map[string]string{"pd": running.PDAddr, "admin": running.AdminAddr}
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	closed := make(chan struct{})
	if tied {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(closed)
		}()
	}
	select {
	case <-asked:
	case <-closed:
	case err := <-running.Failed():
		return err
	}
	return nil
}

// logToStderr moves the log of client-go away from standard output: whoever started this reads the addresses there and
// then closes it, and the next line would end the process.
func logToStderr() error {
	stderr := zapcore.Lock(os.Stderr)
	logger, properties, err := log.InitLoggerWithWriteSyncer(&log.Config{Level: "error"}, stderr, stderr)
	if err != nil {
		return fmt.Errorf("the log: %w", err)
	}
	log.ReplaceGlobals(logger, properties)
	return nil
}
