package measure

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"time"
)

// Distant returns target through a link of its own on this machine that delays every byte by half
// of rtt, each way, at any bandwidth. It lasts as long as the process.
func Distant(target string, rtt time.Duration) (string, error) {
	if rtt == 0 {
		return target, nil
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("--url takes a URL")
	}
	server := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				// What opens a connection takes a round trip, too.
				time.Sleep(rtt)
				far, err := net.Dial("tcp", server)
				if err != nil {
					near.Close()
					return
				}
				go carry(near, far, rtt/2)
				carry(far, near, rtt/2)
			}()
		}
	}()
	u.Host = l.Addr().String()
	return u.String(), nil
}

// carry delivers what from sends to to, late by delay, and then its end.
func carry(from, to net.Conn, delay time.Duration) {
	type parcel struct {
		bytes []byte
		due   time.Time
	}
	underWay := make(chan parcel, 1<<12)
	go func() {
		defer close(underWay)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				underWay <- parcel{b[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range underWay {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.bytes); err != nil {
			from.Close()
		}
	}
	time.Sleep(delay)
	to.Close()
	io.Copy(io.Discard, from)
}
