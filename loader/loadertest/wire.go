package loadertest

import (
	"net"
	"time"
)

// pause waits, or until the connection ends.
func (c *conn) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.done:
		return false
	}
}

// change puts a mode into force.
func (c *conn) change(f *Fault) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	switch f.Do {
	case Throttle:
		c.p.rate = f.BytesPerSecond
	case BlackHole:
		dig(&c.holes, f.Only)
	case BlackHoleAll:
		dig(&c.p.holes, f.Only)
	case Refuse:
		c.p.refuse = true
	}
}

// A wire writes what one side sends to the other, as slowly as the modes in
// force demand, or not at all while there is a black hole.
type wire struct {
	c    *conn
	from Side
}

// pieces is how many pieces a throttled second is cut into.
const pieces = 20

func (w wire) Write(b []byte) (int, error) {
	c, written := w.c, 0
	chain := c.departs(w.from)
	to := c.server
	if w.from == Backend {
		to = c.client
	}
	for written < len(b) {
		c.p.mu.Lock()
		rate, hole := c.p.rate, c.p.holes[w.from]
		if hole == nil {
			hole = c.holes[w.from]
		}
		c.p.mu.Unlock()
		if hole != nil {
			select {
			case <-hole:
				continue
			case <-c.done:
				return written, net.ErrClosed
			}
		}
		piece := b[written:]
		if rate > 0 {
			piece = piece[:min(len(piece), max(1, rate/pieces))]
		}
		n, err := w.put(to, piece, chain)
		if written += n; err != nil {
			if w.from == Frontend {
				c.pause(time.Second) // the other pump passes on what the server said last, and ends
			}
			return written, err
		}
		if rate > 0 && !c.pause(time.Duration(n)*time.Second/time.Duration(rate)) {
			return written, net.ErrClosed
		}
	}
	return written, nil
}

// put sends b to the other side, at once or over the link.
func (w wire) put(to net.Conn, b []byte, chain int) (int, error) {
	l := w.c.links[w.from]
	if l == nil {
		w.c.arrives(w.from, chain)
		return to.Write(b)
	}
	if !l.send(w.c, b, chain) {
		return 0, net.ErrClosed
	}
	return len(b), nil
}
