package security

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/etcd/wire"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An attacker comes from another address than the client that goes on.
const attackersAddress = "127.0.0.2"

// healthy writes and reads on a connection of its own, until the test ends; nothing of it may fail.
type healthy struct {
	t       *testing.T
	rounds  atomic.Int64
	slowest atomic.Int64
}

func startHealthy(t *testing.T, store *harness.Store) *healthy {
	t.Helper()
	h := &healthy{t: t}
	kv := wire.Connect(t, store).KV
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
			begun := time.Now()
			value := []byte(strconv.FormatInt(h.rounds.Load(), 10))
			_, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("healthy"), Value: value})
			if err == nil {
				var read *pb.RangeResponse
				read, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte("healthy")})
				if err == nil && !bytes.Equal(read.Kvs[0].Value, value) {
					err = fmt.Errorf("read %q after %q was written", read.Kvs[0].Value, value)
				}
			}
			cancel()
			if err != nil {
				t.Errorf("a client that behaves was harmed: %v", err)
				return
			}
			h.slowest.Store(max(h.slowest.Load(), int64(time.Since(begun))))
			h.rounds.Add(1)
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
		t.Logf("meanwhile: %d rounds, the slowest took %v", h.rounds.Load(), time.Duration(h.slowest.Load()))
	})
	h.goesOn()
	return h
}

// goesOn waits until further rounds have succeeded.
func (h *healthy) goesOn() {
	h.t.Helper()
	from := h.rounds.Load()
	harness.Eventually(h.t, "a client that behaves goes on", func() bool {
		return h.rounds.Load() >= from+3 || h.t.Failed()
	})
}

// attacker is a connection on which any frame can be sent.
type attacker struct {
	t *testing.T
	net.Conn
	*http2.Framer
	block bytes.Buffer
	hpack *hpack.Encoder
}

func dial(t *testing.T, store *harness.Store) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(attackersAddress)}, Timeout: requestDeadline}
	conn, err := dialer.Dial("tcp", store.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(requestDeadline)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func attack(t *testing.T, store *harness.Store) *attacker {
	t.Helper()
	conn := dial(t, store)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	a := &attacker{t: t, Conn: conn, Framer: http2.NewFramer(conn, conn)}
	a.AllowIllegalWrites = true
	a.hpack = hpack.NewEncoder(&a.block)
	if err := a.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return a
}

// headers returns the encoded headers of a call.
func (a *attacker) headers(path string) []byte {
	a.block.Reset()
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = a.hpack.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return bytes.Clone(a.block.Bytes())
}

// readAway reads what the server sends, so that it never has to wait, and returns how the connection ended.
func (a *attacker) readAway() <-chan error {
	ended := make(chan error, 1)
	go func() {
		for {
			frame, err := a.ReadFrame()
			if err != nil {
				ended <- err
				return
			}
			if away, ok := frame.(*http2.GoAwayFrame); ok && away.ErrCode != http2.ErrCodeNo {
				ended <- fmt.Errorf("%v %s", away.ErrCode, away.DebugData())
				return
			}
		}
	}()
	return ended
}

// until sends until the server has had enough, or so many times.
func (a *attacker) until(ended <-chan error, times int, send func(i int) error) error {
	for i := range times {
		select {
		case err := <-ended:
			return err
		default:
		}
		if err := send(i); err != nil {
			select {
			case err := <-ended:
				return err
			case <-time.After(requestDeadline):
				return err
			}
		}
	}
	return nil
}

const rangePath = "/etcdserverpb.KV/Range"

// Floods that a server has to end the connection for: each of them would otherwise cost memory or time without end.
func TestFloodsEndTheirConnectionAndHarmNobodyElse(t *testing.T) {
	store := harness.StartOrlop(t)
	h := startHealthy(t, store)
	floods := map[string]func(a *attacker) func(i int) error{
		// CVE-2023-44487.
		"calls that are reset at once": func(a *attacker) func(int) error {
			return func(i int) error {
				id := uint32(2*i + 1)
				err := a.WriteHeaders(http2.HeadersFrameParam{
					StreamID: id, BlockFragment: a.headers("/etcdserverpb.Watch/Watch"), EndHeaders: true,
				})
				if err != nil {
					return err
				}
				return a.WriteRSTStream(id, http2.ErrCodeCancel)
			}
		},
		// CVE-2025-8671.
		"calls that the server is made to reset": func(a *attacker) func(int) error {
			return func(i int) error {
				id := uint32(2*i + 1)
				err := a.WriteHeaders(http2.HeadersFrameParam{
					StreamID: id, BlockFragment: a.headers("/etcdserverpb.Watch/Watch"), EndHeaders: true,
				})
				if err != nil {
					return err
				}
				return a.WriteWindowUpdate(id, 1<<31-1)
			}
		},
		// CVE-2024-27316 and others.
		"headers without end": func(a *attacker) func(int) error {
			return func(i int) error {
				if i == 0 {
					return a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.headers(rangePath)})
				}
				a.block.Reset()
				name := fmt.Sprintf("x-%d", i)
				_ = a.hpack.WriteField(hpack.HeaderField{Name: name, Value: strings.Repeat("y", 1000)})
				return a.WriteContinuation(1, false, a.block.Bytes())
			}
		},
		"continuations of nothing": func(a *attacker) func(int) error {
			return func(i int) error {
				if i == 0 {
					return a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.headers(rangePath)})
				}
				return a.WriteContinuation(1, false, nil)
			}
		},
		"frames that are too long": func(a *attacker) func(int) error {
			return func(int) error { return a.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 1<<20)) }
		},
		"data for no stream": func(a *attacker) func(int) error {
			return func(int) error { return a.WriteData(1, false, []byte("x")) }
		},
		"pings": func(a *attacker) func(int) error {
			return func(int) error { return a.WritePing(false, [8]byte{}) }
		},
		"a frame of the wrong length": func(a *attacker) func(int) error {
			return func(int) error { return a.WriteRawFrame(http2.FramePing, 0, 0, []byte("short")) }
		},
		"settings that do not exist": func(a *attacker) func(int) error {
			return func(int) error { return a.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) }
		},
		"a stream from the server": func(a *attacker) func(int) error {
			return func(int) error {
				return a.WriteHeaders(http2.HeadersFrameParam{
					StreamID: 2, BlockFragment: a.headers(rangePath), EndHeaders: true,
				})
			}
		},
		"a window without end": func(a *attacker) func(int) error {
			return func(int) error { return a.WriteWindowUpdate(0, 1<<31-1) }
		},
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			a := attack(t, store)
			ended := a.readAway()
			err := a.until(ended, 200_000, flood(a))
			if err == nil {
				select {
				case err = <-ended:
				case <-time.After(requestDeadline):
					t.Fatal("the connection goes on")
				}
			}
			t.Logf("ended with: %v", err)
			h.goesOn()
		})
	}
}

// Floods that a connection may go on after, as each of them costs the server no more than the client.
func TestFloodsThatAreBorneHarmNobodyElse(t *testing.T) {
	store := harness.StartOrlop(t)
	h := startHealthy(t, store)
	const times = 20_000
	floods := map[string]func(a *attacker) func(i int) error{
		"settings": func(a *attacker) func(int) error {
			return func(i int) error {
				return a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
			}
		},
		"priorities": func(a *attacker) func(int) error {
			return func(i int) error {
				return a.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: 0})
			}
		},
		"calls without a message": func(a *attacker) func(int) error {
			return func(i int) error {
				return a.WriteHeaders(http2.HeadersFrameParam{
					StreamID: uint32(2*i + 1), BlockFragment: a.headers(rangePath), EndHeaders: true, EndStream: true,
				})
			}
		},
		"empty data": func(a *attacker) func(int) error {
			return func(i int) error {
				if i == 0 {
					return a.WriteHeaders(http2.HeadersFrameParam{
						StreamID: 1, BlockFragment: a.headers(rangePath), EndHeaders: true,
					})
				}
				return a.WriteData(1, false, nil)
			}
		},
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			a := attack(t, store)
			err := a.until(a.readAway(), times, flood(a))
			t.Logf("ended with: %v", err)
			h.goesOn()
		})
	}
}

// More connections from one address than it may have are closed, and other addresses come in.
func TestConnectionFloodsKeepNobodyOut(t *testing.T) {
	store := harness.StartOrlop(t, harness.Flags("--max-connections", "200", "--max-connections-per-client", "100"))
	h := startHealthy(t, store)
	const flood = 1000
	for range flood {
		dial(t, store)
	}
	harness.Eventually(t, "connections are refused", func() bool {
		return metric(t, store, "orlop_client_connections_refused_total") >= flood-100
	})
	h.goesOn()
	if _, err := wire.Connect(t, store).KV.Range(t.Context(), &pb.RangeRequest{Key: []byte("a")}); err != nil {
		t.Errorf("kept out: %v", err)
	}
}

// Messages that never end take up their client's share of memory, and no more.
func TestMessagesThatNeverEndHarmNobodyElse(t *testing.T) {
	store := harness.StartOrlop(t, harness.Flags("--max-inflight-bytes-per-client", strconv.Itoa(128<<20)))
	h := startHealthy(t, store)
	a := attack(t, store)
	ended := a.readAway()
	// A message of 2 MB is announced, and its first bytes are sent.
	// All together are within the window that a connection begins with.
	begun := append([]byte{0, 0, 0x1f, 0, 0}, make([]byte, 20)...)
	err := a.until(ended, 1000, func(i int) error {
		id := uint32(2*i + 1)
		if err := a.WriteHeaders(http2.HeadersFrameParam{
			StreamID: id, BlockFragment: a.headers("/etcdserverpb.KV/Put"), EndHeaders: true,
		}); err != nil {
			return err
		}
		return a.WriteData(id, false, begun)
	})
	if err != nil {
		t.Fatalf("the connection ended: %v", err)
	}
	// 66 of them fit.
	harness.Eventually(t, "the others are refused", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the connection ended: %v", err)
		default:
		}
		text := `grpc_server_handled_total{grpc_type="unary",grpc_service="etcdserverpb.KV",` +
			`grpc_method="Put",grpc_code="ResourceExhausted"}`
		return metric(t, store, text) >= 900
	})
	h.goesOn()
}

// metric returns the number behind a name, 0 when it is not there.
func metric(t *testing.T, store *harness.Store, name string) float64 {
	t.Helper()
	_, text := get(t, store.Endpoint+"/metrics", nil)
	for line := range strings.Lines(text) {
		if number, found := strings.CutPrefix(line, name+" "); found {
			value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	return 0
}
