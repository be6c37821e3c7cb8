package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/pingcap/kvproto/pkg/keyspacepb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/tikv/client-go/v2/testutils"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// What one message may hold: TiKV's own limits (server.max-grpc-send-msg-len is 10 MiB), and above what clients send.
const (
	sentBytesMax     = 10 << 20
	receivedBytesMax = 128 << 20
)

// Options say where a cluster listens and what it begins with.
type Options struct {
	// Stores is the number of TiKV stores, each with a listener of its own; at least 1.
	Stores int
	// PDAddr is where PD listens. Port 0 takes a free one; so do the stores, always.
	PDAddr string
	// AdminAddr is where the side door listens.
	AdminAddr string
	// Data is a directory that keeps the records over a kill; empty keeps them in memory. Regions and PD's clock are
	// not kept: after a start there is one region, and a clock that was moved is back at the machine's time.
	Data string
	// TLS is a directory for the files that a client needs (ca.pem, cert.pem, key.pem), which are made anew. With it, PD
	// and the stores take clients with such a certificate only; without it, everything is in the clear.
	TLS string
	// Splits are keys that regions begin at.
	Splits []string
}

// Server is a running cluster.
type Server struct {
	// PDAddr is what clients are given.
	PDAddr string
	// AdminAddr is where the side door is.
	AdminAddr string

	cluster *cluster
	tls     *tls.Config
	grpc    []*grpc.Server
	admin   *http.Server
	serving sync.WaitGroup
	failed  chan error
}

// Start begins to serve. When it returns, every address answers.
func Start(options Options) (*Server, error) {
	if options.Stores < 1 {
		return nil, errors.New("a cluster needs at least one store")
	}
	client, regions, _, err := testutils.NewMockTiKV(options.Data, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the data: %w", err)
	}
	s := &Server{cluster: newCluster(client, regions), failed: make(chan error, 1)}
	if options.TLS != "" {
		if s.tls, err = makeTLS(options.TLS); err != nil {
			return nil, err
		}
	}
	stores, _, _, _ := testutils.BootstrapWithMultiStores(regions, options.Stores)
	for _, id := range stores {
		if err := s.serveStore(id); err != nil {
			s.Close()
			return nil, err
		}
	}
	for _, key := range options.Splits {
		s.cluster.split([]byte(key))
	}
	if err := s.serveAdmin(options.AdminAddr); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.servePD(options.PDAddr); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Failed yields the error of a listener that ended by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Close ends every connection and waits for the listeners to end.
func (s *Server) Close() {
	for _, g := range s.grpc {
		g.Stop()
	}
	if s.admin != nil {
		_ = s.admin.Close()
	}
	s.serving.Wait()
}

func (s *Server) serveStore(id uint64) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("store %d: %w", id, err)
	}
	address := listener.Addr().String()
	s.cluster.regions.UpdateStoreAddr(id, address)
	g := s.newGRPC()
	tikvpb.RegisterTikvServer(g, &store{cluster: s.cluster, address: address})
	s.run(func() error { return g.Serve(listener) })
	return nil
}

func (s *Server) servePD(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("PD: %w", err)
	}
	s.PDAddr = listener.Addr().String()
	g := s.newGRPC()
	pdpb.RegisterPDServer(g, &pd{cluster: s.cluster, url: s.scheme() + s.PDAddr})
	keyspacepb.RegisterKeyspaceServer(g, &keyspacepb.UnimplementedKeyspaceServer{})
	s.run(func() error { return g.Serve(listener) })
	return nil
}

func (s *Server) serveAdmin(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	s.AdminAddr = listener.Addr().String()
	s.admin = &http.Server{Handler: s.cluster.admin()}
	s.run(func() error {
		if err := s.admin.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

func (s *Server) newGRPC() *grpc.Server {
	secure := insecure.NewCredentials()
	if s.tls != nil {
		secure = credentials.NewTLS(s.tls)
	}
	g := grpc.NewServer(
		grpc.Creds(secure),
		grpc.MaxRecvMsgSize(receivedBytesMax),
		grpc.MaxSendMsgSize(sentBytesMax),
		grpc.UnaryInterceptor(s.cluster.intercept),
	)
	s.grpc = append(s.grpc, g)
	return g
}

func (s *Server) scheme() string {
	if s.tls != nil {
		return "https://"
	}
	return "http://"
}

func (s *Server) run(serve func() error) {
	s.serving.Add(1)
	go func() {
		defer s.serving.Done()
		if err := serve(); err != nil {
			select {
			case s.failed <- err:
			default: // Only the first counts.
			}
		}
	}()
}
