// Package cluster starts and stops a Kubernetes control plane on loopback, from real programs: a store,
// kube-apiserver, kube-controller-manager and kube-scheduler, with nodes that exist in the API only.
//
// Every program writes to a log file of its own and ends with the test process; nothing is shared with
// other runs on the same machine but the built programs.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"k8s.io/client-go/dynamic"
)

// logTail is how much of each log is shown when a test failed.
const logTail = 12 << 10

// Cluster is one running control plane.
type Cluster struct {
	*APIServer
	Store   *Store
	Dynamic dynamic.Interface

	binDir      string
	dir         string
	logDir      string
	identity    *identity
	controllers *Process
	scheduler   *Process
}

// Start starts the store and a control plane on it, with the programs of binDir. All files are under dir,
// but for the logs when ORLOP_KUBE_LOGS names a folder to keep them in.
// The store is of this kind. On an error the returned cluster is still there to be stopped and asked for its logs.
func Start(ctx context.Context, kind Kind, binDir, dir string) (*Cluster, error) {
	c := &Cluster{binDir: binDir, dir: dir, logDir: os.Getenv("ORLOP_KUBE_LOGS")}
	if c.logDir == "" {
		c.logDir = filepath.Join(dir, "logs")
	}
	identityDir := filepath.Join(dir, "identity")
	for _, path := range []string{c.logDir, identityDir} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return c, err
		}
	}
	var err error
	if c.identity, err = newIdentity(identityDir); err != nil {
		return c, err
	}
	if c.Store, err = NewStore(kind, dir, c.logDir); err != nil {
		return c, err
	}
	if err := c.Store.Start(ctx); err != nil {
		return c, err
	}
	if c.APIServer, err = c.apiServer("kube-apiserver").run(ctx); err != nil {
		return c, err
	}
	if c.Dynamic, err = dynamic.NewForConfig(c.Config); err != nil {
		return c, err
	}
	if err := c.startControllers(); err != nil {
		return c, err
	}
	return c, c.startScheduler()
}

// StartAPIServer starts one more apiserver on the same store; the caller stops it.
func (c *Cluster) StartAPIServer(ctx context.Context, name string, extra ...string) (*APIServer, error) {
	start := c.apiServer(name)
	start.extra = extra
	return start.run(ctx)
}

func (c *Cluster) apiServer(name string) apiServerStart {
	return apiServerStart{
		name: name, binary: filepath.Join(c.binDir, "kube-apiserver"), logDir: c.logDir, identity: c.identity,
		store: c.Store,
	}
}

// leaderElection makes the controllers hold their leases as they do in production, and keep them while
// the store is being killed and started again on a slow machine.
var leaderElection = []string{
	"--leader-elect-lease-duration=180s", "--leader-elect-renew-deadline=150s", "--leader-elect-retry-period=2s",
}

func (c *Cluster) startControllers() error {
	kubeconfig, err := c.identity.writeKubeconfig(controllerManagerUser, c.URL, "kube-controller-manager")
	if err != nil {
		return err
	}
	args := append([]string{
		"--kubeconfig=" + kubeconfig, "--use-service-account-credentials=true", "--secure-port=0",
		"--service-account-private-key-file=" + c.identity.serviceAccountKey(),
		"--root-ca-file=" + c.identity.servingCertificate(), "--v=2",
	}, leaderElection...)
	binary := filepath.Join(c.binDir, "kube-controller-manager")
	c.controllers, err = StartProcess("kube-controller-manager", c.logDir, binary, args, nil)
	return err
}

func (c *Cluster) startScheduler() error {
	kubeconfig, err := c.identity.writeKubeconfig(schedulerUser, c.URL, "kube-scheduler")
	if err != nil {
		return err
	}
	args := append([]string{"--kubeconfig=" + kubeconfig, "--secure-port=0", "--v=2"}, leaderElection...)
	c.scheduler, err = StartProcess("kube-scheduler", c.logDir, filepath.Join(c.binDir, "kube-scheduler"), args, nil)
	return err
}

// Halted says which program has ended though nobody asked it to; nil while all run.
func (c *Cluster) Halted() error {
	return errors.Join(c.Store.Err(), c.ControlPlaneHalted())
}

// ControlPlaneHalted is Halted without the store, for the time in which the store is meant to be down.
func (c *Cluster) ControlPlaneHalted() error {
	return errors.Join(c.APIServer.Err(), c.controllers.Err(), c.scheduler.Err())
}

// Poll waits until check returns nil, while all programs run.
func (c *Cluster) Poll(ctx context.Context, what string, check func(context.Context) error) error {
	return Poll(ctx, what, c.Halted, check)
}

// Stop ends every program that was started.
func (c *Cluster) Stop() {
	if c.scheduler != nil {
		c.scheduler.Stop(serverGrace)
	}
	if c.controllers != nil {
		c.controllers.Stop(serverGrace)
	}
	if c.APIServer != nil && c.APIServer.Process != nil {
		c.APIServer.Stop(serverGrace)
	}
	if c.Store != nil {
		c.Store.Stop(serverGrace)
	}
}

// PrintLogs writes the end of every program's log.
func (c *Cluster) PrintLogs(out io.Writer) {
	paths, err := filepath.Glob(filepath.Join(c.logDir, "*.log"))
	if err != nil {
		fmt.Fprintln(out, err)
	}
	sort.Strings(paths)
	for _, path := range paths {
		fmt.Fprintf(out, "\n===== end of %s =====\n%s\n", filepath.Base(path), tail(path, logTail))
	}
}
