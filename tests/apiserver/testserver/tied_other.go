//go:build !linux

package testserver

import "os/exec"

// Other systems cannot tie a child to its parent: there a test that times out leaves its servers behind.
func startTied(cmd *exec.Cmd) error {
	return cmd.Start()
}
