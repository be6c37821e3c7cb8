//go:build !linux

package harness

import "os/exec"

// Other systems cannot tie a child to its parent: there a test that times out leaves its stores behind.
func startTied(cmd *exec.Cmd) error {
	return cmd.Start()
}
