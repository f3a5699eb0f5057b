package server

import (
	"io"
	"net"
	"testing"
)

// TestLastWordsOfAServer writes to a connection that the server has reset behind its last
// words: while the client logs in they are read, afterwards the write fails.
func TestLastWordsOfAServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, in := range []bool{false, true} {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := &loginConn{Conn: nc}
		c.in.Store(in)
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		// What a closing server has not read makes its good-bye a reset.
		io.ReadFull(server, make([]byte, 4))
		server.Write([]byte("no"))
		server.Close()
		if in {
			for err == nil {
				_, err = c.Write([]byte("more"))
			}
			continue
		}
		for range 2 { // the first may find the connection whole
			if _, err := c.Write([]byte("more")); err != nil {
				t.Errorf("write while logging in: %v", err)
			}
		}
		if said, err := io.ReadAll(c); string(said) != "no" {
			t.Errorf("read %q (%v)", said, err)
		}
	}
}
