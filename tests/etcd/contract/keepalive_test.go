package contract

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A client that asks all the time whether its connection lives is told to calm down, and cut off: at its fourth ping in a
// row, as by Go's gRPC.
func TestAClientThatPingsAllTheTimeIsTurnedAway(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		connection, err := net.Dial("tcp", s.store.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		connection.SetDeadline(time.Now().Add(requestDeadline))
		if _, err := io.WriteString(connection, http2.ClientPreface); err != nil {
			t.Fatal(err)
		}
		framer := http2.NewFramer(connection, connection)
		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		answered := 0
		for {
			if err := framer.WritePing(false, [8]byte{byte(answered)}); err != nil {
				t.Fatalf("%s: cut off without a word after %d pings: %v", s.name, answered, err)
			}
			frame := nextPingOrGoAway(t, s.name, framer)
			if farewell, ok := frame.(*http2.GoAwayFrame); ok {
				if farewell.ErrCode != http2.ErrCodeEnhanceYourCalm || string(farewell.DebugData()) != "too_many_pings" {
					t.Errorf("%s: turned away with %v %q", s.name, farewell.ErrCode, farewell.DebugData())
				}
				break
			}
			answered++
		}
		// etcd answers the ping that is one too many before it says goodbye.
		if answered != 3 && answered != 4 {
			t.Errorf("%s: turned away after %d pings that were answered, expected 3 or 4", s.name, answered)
		}
		if _, err := io.Copy(io.Discard, connection); err != nil && !errors.Is(err, net.ErrClosed) {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("%s: the connection stays open", s.name)
			}
		}
	})
	p.put.ok(put("a", "others are served"))
}

func nextPingOrGoAway(t *testing.T, name string, framer *http2.Framer) http2.Frame {
	t.Helper()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("%s: the connection broke: %v", name, err)
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			return frame
		case *http2.PingFrame:
			if frame.IsAck() {
				return frame
			}
		}
	}
}
