//go:build !linux

package cluster

import "syscall"

// dieWithParent exists on Linux only; elsewhere a killed test run can leave its children behind.
func dieWithParent() *syscall.SysProcAttr { return nil }
