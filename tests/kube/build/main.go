// Command build builds the Kubernetes programs of the suite ahead of the tests, so that the time limit of
// `go test` covers the tests alone. It does nothing when they are already there, and prints their folder.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/orlop/orlop/tests/kube/binaries"
)

func main() {
	dir, err := binaries.Ensure(context.Background(), os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
