package loadertest

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// A distance is how far the server is from the client: half of rtt for each byte and
// direction, and no more than rate bytes a second and direction on a connection; zero is no
// bound.
type distance struct {
	rtt  time.Duration
	rate int
}

// Distance delays what is sent, half of rtt each way, on the connections accepted from now on.
// Unlike Delay, it keeps nobody from sending more meanwhile. A bandwidth of more than zero
// bounds the bytes a second of each connection and direction.
func (p *Proxy) Distance(rtt time.Duration, bandwidth int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.far = distance{rtt, bandwidth}
}

// trips counts round trips. A trip of a connection is a change of direction: the client sends,
// and the server answers. What opens a session, notices, and the server's readiness for COPY's
// data are no trips: nobody waits for the last two.
//
// The longest chain counts those that had to be waited for one after the other, on all
// connections: what the client sends comes after all that has reached it, and an answer comes
// one trip after what has reached the server. It is never more than the time passed, divided by
// the round trip, so that trips at the same time count once.
type trips struct {
	chain  int      // Stats.Chain
	number int      // Stats.Trips
	asked  []string // Stats.Asked
}

// maxAsked bounds Stats.Asked.
const maxAsked = 4096

// course is what a connection knows of its trips. Guarded by Proxy.mu.
type course struct {
	open    bool   // the session is open
	asking  bool   // the client has sent something since the last answer
	asked   string // what it sent
	reached int    // length of the chain that has reached the server
	answer  int    // and of the answer that the server gives
}

// asks notes that the client sends a message.
func (c *conn) asks(kind Kind, sql string) {
	if kind == MsgTerminate || kind == MsgPassword {
		return
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if !c.course.asking {
		c.course.asking, c.course.asked = true, ""
	}
	if sql != "" && !strings.HasSuffix(c.course.asked, sql) {
		if c.course.asked != "" {
			c.course.asked += " | "
		}
		c.course.asked += sql
	}
}

// answers notes a message of the server.
func (c *conn) answers(kind Kind) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	t := &c.course
	t.answer = max(t.answer, t.reached)
	switch kind {
	case MsgNoticeResponse, MsgParameterStatus, MsgNotification, MsgCopyInResponse:
		return
	}
	if !t.open {
		t.open = kind == MsgReadyForQuery
		return
	}
	t.answer = max(t.answer, t.reached+1)
	if !t.asking {
		return
	}
	t.asking = false
	c.p.trips.number++
	if len(c.p.trips.asked) < maxAsked {
		c.p.trips.asked = append(c.p.trips.asked, fmt.Sprintf("%d: %s", c.n, strings.Join(strings.Fields(t.asked), " ")))
	}
}

// arrives notes that what side from sent has reached the other side.
func (c *conn) arrives(from Side, chain int) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if from == Frontend {
		c.course.reached = max(c.course.reached, chain)
	} else {
		c.p.trips.chain = max(c.p.trips.chain, chain)
	}
}

// departs returns the length of the chain of what side from sends now.
func (c *conn) departs(from Side) int {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if from == Frontend {
		return c.p.trips.chain
	}
	return c.course.answer
}

// A link carries what one side of a connection sends, in order and as late as its distance
// demands.
type link struct {
	distance
	parcels chan parcel
	ended   chan struct{} // closed when run has returned
	free    time.Time     // when the next byte can be sent

	underWay atomic.Int64 // parcels sent and not delivered
}

// A parcel is on its way until due.
type parcel struct {
	bytes []byte
	due   time.Time
	chain int
}

// parcelsUnderWay bounds the memory of a link: a sender waits when so many are under way.
const parcelsUnderWay = 1 << 12

// sendAhead is how long before its turn a sender with a bandwidth may be done: the buffers of
// a network.
const sendAhead = 100 * time.Millisecond

// newLinks starts the links of a connection, if there is a distance.
func (c *conn) newLinks() {
	if c.far == (distance{}) {
		return
	}
	for side, to := range []net.Conn{Frontend: c.server, Backend: c.client} {
		l := &link{distance: c.far, parcels: make(chan parcel, parcelsUnderWay), ended: make(chan struct{})}
		c.links[side] = l
		c.p.wg.Go(func() { l.run(c, Side(side), to) })
	}
}

// run delivers parcels until the connection ends.
func (l *link) run(c *conn, from Side, to net.Conn) {
	defer close(l.ended)
	for {
		select {
		case <-c.done:
			return
		case p := <-l.parcels:
			if wait := time.Until(p.due); wait > 0 && !c.pause(wait) {
				return
			}
			c.arrives(from, p.chain)
			if _, err := to.Write(p.bytes); err != nil {
				return
			}
			l.underWay.Add(-1)
		}
	}
}

// send puts b on its way. It reports whether the connection goes on.
func (l *link) send(c *conn, b []byte, chain int) bool {
	for len(b) > 0 {
		piece := b
		now := time.Now()
		if l.free.Before(now) {
			l.free = now
		}
		if l.rate > 0 {
			piece = b[:min(len(b), max(1, l.rate/pieces))]
			l.free = l.free.Add(time.Duration(len(piece)) * time.Second / time.Duration(l.rate))
		}
		b = b[len(piece):]
		l.underWay.Add(1)
		select {
		case l.parcels <- parcel{append([]byte(nil), piece...), l.free.Add(l.rtt / 2), chain}:
		case <-l.ended:
			return false
		case <-c.done:
			return false
		}
		if ahead := l.free.Sub(now) - sendAhead; ahead > 0 && !c.pause(ahead) {
			return false
		}
	}
	return true
}

// drain waits until what is under way has arrived, but not for a side that takes nothing.
func (c *conn) drain() {
	for _, l := range c.links {
		if l == nil {
			continue
		}
		deadline := time.After(l.rtt + time.Second)
		for l.underWay.Load() > 0 {
			select {
			case <-l.ended:
			case <-deadline:
			case <-time.After(time.Millisecond):
				continue
			}
			break
		}
	}
}
