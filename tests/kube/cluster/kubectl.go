package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kubectl runs kubectl as the administrator with this text as its standard input, and returns what it
// printed. The error contains what it complained about.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.binDir, "kubectl"), c.kubectlArgs(args)...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(environment(), c.kubectlEnv()...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// StartKubectl starts a kubectl that goes on until it is stopped; its log is what it has printed so far.
func (c *Cluster) StartKubectl(name string, args ...string) (*Process, error) {
	return StartProcess(name, c.logDir, filepath.Join(c.binDir, "kubectl"), c.kubectlArgs(args), c.kubectlEnv())
}

func (c *Cluster) kubectlArgs(args []string) []string {
	global := []string{"--kubeconfig=" + c.Kubeconfig, "--cache-dir=" + filepath.Join(c.dir, "kubectl-cache")}
	return append(global, args...)
}

// kubectlEnv keeps the personal configuration of whoever runs the suite out of it.
func (c *Cluster) kubectlEnv() []string {
	return []string{"HOME=" + c.dir, "KUBECTL_KUBERC=false"}
}
