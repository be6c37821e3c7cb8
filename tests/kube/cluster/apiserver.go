package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// EventTTL is how long Events live: short enough that the suite can wait for their end.
	EventTTL = 10 * time.Second
	// CompactionInterval is how often the apiserver drops history. It is well above what one paged list
	// takes, and low enough that a run of the suite meets compactions.
	CompactionInterval = time.Minute
)

// checkCaches makes the apiserver end itself when it finds that its cache differs from the store, which it
// compares every few minutes.
var checkCaches = []string{"KUBE_WATCHCACHE_CONSISTENCY_CHECKER=true"}

// serverGrace is how long a program may take to end when asked to, before it is killed.
const serverGrace = 10 * time.Second

// APIServer is one running kube-apiserver.
type APIServer struct {
	*Process
	URL        string
	Kubeconfig string
	Config     *rest.Config
	Client     *kubernetes.Clientset
}

// apiServerStart is what one kube-apiserver is started with.
type apiServerStart struct {
	name     string
	binary   string
	logDir   string
	identity *identity
	store    *Store
	extra    []string
}

// run starts the apiserver on a free port and returns when every readiness check of it passes.
func (start apiServerStart) run(ctx context.Context) (*APIServer, error) {
	var server *APIServer
	err := withFreePort(func(port int) error {
		var err error
		server, err = start.runOn(ctx, port)
		return err
	})
	return server, err
}

func (start apiServerStart) runOn(ctx context.Context, port int) (*APIServer, error) {
	server := &APIServer{URL: fmt.Sprintf("https://127.0.0.1:%d", port)}
	var err error
	if server.Kubeconfig, err = start.identity.writeKubeconfig(adminUser, server.URL, start.name); err != nil {
		return nil, err
	}
	if server.Config, err = clientcmd.BuildConfigFromFlags("", server.Kubeconfig); err != nil {
		return nil, err
	}
	server.Config.QPS = -1 // the suite wants the store's pace, not the client's
	if server.Client, err = kubernetes.NewForConfig(server.Config); err != nil {
		return nil, err
	}
	offset := fileSize(filepath.Join(start.logDir, start.name+".log"))
	server.Process, err = StartProcess(start.name, start.logDir, start.binary, start.args(port), checkCaches)
	if err != nil {
		return nil, err
	}
	err = Poll(ctx, start.name+" is ready", server.halted(start.store), func(ctx context.Context) error {
		return server.Client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	if err != nil && portTaken(server.Process, offset) {
		return nil, errPortTaken
	}
	return server, err
}

func (s *APIServer) halted(store *Store) func() error {
	return func() error {
		if err := s.Err(); err != nil {
			return err
		}
		return store.Err()
	}
}

func (start apiServerStart) args(port int) []string {
	id := start.identity
	return append([]string{
		"--etcd-servers=" + start.store.URLs(),
		"--etcd-compaction-interval=" + CompactionInterval.String(),
		"--event-ttl=" + EventTTL.String(),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(port),
		// Only published in the kubernetes Service, where loopback is refused: an address for documentation.
		"--advertise-address=192.0.2.1",
		"--tls-cert-file=" + id.servingCertificate(),
		"--tls-private-key-file=" + id.servingKey(),
		"--token-auth-file=" + id.tokenFile(),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + id.serviceAccountKey(),
		"--service-account-signing-key-file=" + id.serviceAccountKey(),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--v=2",
	}, start.extra...)
}
