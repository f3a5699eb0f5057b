package loadertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A group is a run of client messages that are passed on together.
type group struct {
	buf      []byte
	messages []grouped
}

// A grouped message lies in buf[from:to].
type grouped struct {
	from, to int
	kind     Kind
	sql      string
}

// add appends the message that lies in buf from position from on.
func (g *group) add(from int, kind Kind, sql string) {
	g.messages = append(g.messages, grouped{from, len(g.buf), kind, sql})
}

// append copies a message from elsewhere into the group.
func (g *group) append(kind Kind, sql string, frame []byte) {
	from := len(g.buf)
	g.buf = append(g.buf, frame...)
	g.add(from, kind, sql)
}

// deliver passes the group on as the faults say that meet its messages. It
// reports whether the connection goes on.
func (c *conn) deliver(g *group) bool {
	pos := 0       // how much of buf is done with
	lying := false // the server has been made to fail and ignores all up to Sync
	sendTo := func(to int) bool {
		_, err := c.sw.Write(g.buf[pos:to])
		pos = to
		return err == nil && c.sw.Flush() == nil
	}
	for i, m := range g.messages {
		t := c.enter(m, lying)
		faults := c.p.meet(&Message{From: Frontend, Kind: m.kind, Conn: c.n, SQL: m.sql, Body: g.buf[m.from:m.to][headerSize:]}, lying)
		if lying {
			if m.kind != MsgSync {
				pos = m.to
			}
			continue
		}
		for _, f := range faults {
			switch f.Do {
			case Delay, Throttle, BlackHole, BlackHoleAll, Refuse, Cut:
				if !sendTo(m.from) {
					return false
				}
				if f.Do == Delay {
					c.pause(f.Delay)
				} else if f.Do != Cut {
					c.change(f)
				}
				if f.Do == Refuse || f.Do == Cut {
					c.close(f.Reset || f.Do == Refuse)
					return false
				}
			case CutMiddle:
				sendTo((m.from + m.to) / 2)
				c.close(f.Reset)
				return false
			case CutAfter:
				sendTo(m.to)
				c.close(f.Reset)
				return false
			case SwallowReply:
				if t == nil { // nothing that the server would answer
					sendTo(m.to)
					c.close(f.Reset)
					return false
				}
				c.mu.Lock()
				t.drop = f
				c.mu.Unlock()
			case Hold:
				for _, m := range g.messages[i+1:] {
					c.enter(m, false)
				}
				c.hold(f, g.buf[pos:])
				return false
			case Duplicate:
				c.duplicate(f, g)
			case RollBack:
				if m.kind != MsgQuery && m.kind != MsgBind || !commit.MatchString(m.sql) {
					c.p.t.Errorf("proxy: no COMMIT to roll back: %s %q", m.kind, m.sql)
					return false
				}
				if !sendTo(m.from) {
					return false
				}
				if m.kind == MsgQuery {
					c.sw.Write(instead(m))
				} else {
					b, _ := (&pgproto3.Parse{Query: "ROLLBACK"}).Encode(nil)
					b, _ = (&pgproto3.Bind{}).Encode(b)
					c.mu.Lock()
					t.hide(MsgParse, m.sql)
					c.mu.Unlock()
					c.sw.Write(b)
				}
				pos = m.to
			case Precede:
				if !sendTo(m.from) {
					return false
				}
				c.sw.Write(c.precede(t, f, m.sql))
			case InjectAfter:
				c.lie(t, m.kind, f)
			case Inject:
				if t == nil || fatal(f.Code) || m.kind == MsgStartup {
					c.fail(f)
					return false
				}
				if !sendTo(m.from) {
					return false
				}
				c.lie(t, m.kind, f)
				c.sw.Write(instead(m))
				if m.kind != MsgSync {
					pos, lying = m.to, true
				}
			}
		}
	}
	// Flushed when the client has nothing more to say at once.
	if _, err := c.sw.Write(g.buf[pos:]); err != nil {
		return false
	}
	return c.cr.Buffered() > 0 || c.sw.Flush() == nil
}

// enter notes that the server will answer m, and returns the turn that m belongs
// to, or nil. A message that is not sent, because the server has been made to
// fail before it, adds no step.
func (c *conn) enter(m grouped, unsent bool) *turn {
	c.mu.Lock()
	defer c.mu.Unlock()
	var t *turn
	if len(c.turns) > 0 {
		t = c.turns[len(c.turns)-1]
	}
	switch m.kind {
	case MsgQuery, MsgCall:
		t = &turn{closed: true, steps: []step{{kind: m.kind, sql: m.sql}}}
		c.turns = append(c.turns, t)
	case MsgParse, MsgBind, MsgDescribe, MsgExecute, MsgClose, MsgSync:
		if t == nil || t.closed {
			t = &turn{}
			c.turns = append(c.turns, t)
		}
		if m.kind == MsgSync {
			t.closed = true
		} else if !unsent {
			t.steps = append(t.steps, step{kind: m.kind, sql: m.sql})
		}
	}
	return t
}

// lie makes the answer to the message of kind k that entered t last an ErrorResponse.
func (c *conn) lie(t *turn, k Kind, f *Fault) {
	if t == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	step := len(t.steps)
	if k != MsgSync && step > 0 {
		step--
	}
	t.lie = &lie{fault: f, step: step, after: f.Do == InjectAfter}
}

// instead returns the messages that stand in for m: they fail on the server, or
// roll back where m would commit.
func instead(m grouped) []byte {
	sql := "SELECT 1/0"
	if commit.MatchString(m.sql) {
		sql = "ROLLBACK"
	}
	var b []byte
	switch m.kind {
	case MsgQuery, MsgCall:
		b, _ = (&pgproto3.Query{String: sql}).Encode(b)
	case MsgCopyData, MsgCopyDone, MsgCopyFail:
		b, _ = (&pgproto3.CopyFail{Message: "injected fault"}).Encode(b)
	default:
		b, _ = (&pgproto3.Parse{Query: sql}).Encode(b)
		b, _ = (&pgproto3.Bind{}).Encode(b)
		b, _ = (&pgproto3.Execute{}).Encode(b)
	}
	return b
}

// precede returns the messages of a statement in front of the Bind that entered t last, whose
// answers t hides.
func (c *conn) precede(t *turn, f *Fault, sql string) []byte {
	const name = "loadertest" // the unnamed statement may be the client's
	b, _ := (&pgproto3.Close{ObjectType: 'S', Name: name}).Encode(nil)
	b, _ = (&pgproto3.Parse{Name: name, Query: f.Text}).Encode(b)
	b, _ = (&pgproto3.Bind{PreparedStatement: name}).Encode(b)
	b, _ = (&pgproto3.Execute{}).Encode(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range []Kind{MsgClose, MsgParse, MsgBind, MsgExecute} {
		t.hide(k, sql)
	}
	return b
}

// response returns the fault's ErrorResponse.
func (f *Fault) response(severity string) []byte {
	text := f.Text
	if text == "" {
		text = "injected fault " + f.Code
	}
	b, _ := (&pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: f.Code, Message: text}).Encode(nil)
	return b
}

// fail ends the connection with a FATAL error, so that the client reads it.
func (c *conn) fail(f *Fault) {
	c.toClient(f.response("FATAL"))
	c.flushClient()
	if tcp, ok := c.client.(*net.TCPConn); ok {
		// An RST, which unread data would cause, could overtake the error.
		tcp.CloseWrite()
		tcp.SetReadDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, c.cr)
	}
	c.close(false)
}

// A late is a statement that waits on a connection of its own for Fault.Release.
type late struct {
	conn    *conn
	release chan struct{} // closed to deliver it
	mu      sync.Mutex
	fault   *Fault
	replies []string
}

func (l *late) heard(reply string) {
	l.fault.addReply(reply)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replies = append(l.replies, reply)
}

// releaseTimeout is how long Release waits for the server's answer.
const releaseTimeout = 30 * time.Second

func (l *late) deliver() []string {
	close(l.release)
	select {
	case <-l.conn.done:
	case <-time.After(releaseTimeout):
		l.conn.close(false)
		l.heard(fmt.Sprintf("no answer in %v", releaseTimeout))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.replies) == 0 {
		return []string{"connection closed"}
	}
	return l.replies
}

// hold cuts the client off and keeps the messages until they are released.
func (c *conn) hold(f *Fault, messages []byte) {
	c.sw.Flush()
	c.detached.Store(true)
	l := c.park(f)
	if f.Reset {
		reset(c.client)
	} else {
		c.client.Close()
	}
	l.await(messages)
}

// park makes what the connection was about to say last a late statement of f.
func (c *conn) park(f *Fault) *late {
	l := &late{conn: c, release: make(chan struct{}), fault: f}
	c.mu.Lock()
	if n := len(c.turns); n > 0 {
		c.turns[n-1].late = l
	}
	c.mu.Unlock()
	f.keep(l)
	return l
}

// await waits for the release, delivers the messages, and returns when the
// server has answered and the connection has ended; see turn.hears.
func (l *late) await(messages []byte) {
	select {
	case <-l.release:
	case <-l.conn.done:
		return
	}
	l.conn.sw.Write(messages)
	if l.conn.sw.Flush() == nil {
		<-l.conn.done
	}
}

// duplicate opens a second connection that holds a copy of the group.
func (c *conn) duplicate(f *Fault, g *group) {
	copied := &group{}
	have := map[string]bool{}
	for _, m := range g.messages {
		frame := g.buf[m.from:m.to]
		switch m.kind {
		case MsgParse:
			name, _ := cstring(frame[headerSize:])
			have[name] = true
		case MsgBind:
			_, rest := cstring(frame[headerSize:])
			name, _ := cstring(rest)
			if parse := c.parsed[name]; !have[name] && parse != nil {
				copied.append(MsgParse, m.sql, parse)
				have[name] = true
			}
		}
		copied.append(m.kind, m.sql, frame)
	}

	config := c.p.upstream.Copy()
	config.RuntimeParams = map[string]string{}
	for k, v := range c.params {
		switch k {
		case "user":
			config.User = v
		case "database":
			config.Database = v
		default:
			config.RuntimeParams[k] = v
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	pc, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		c.p.t.Errorf("proxy: no connection for the duplicate: %v", err)
		return
	}
	hijacked, err := pc.Hijack()
	if err != nil {
		c.p.t.Errorf("proxy: no connection for the duplicate: %v", err)
		return
	}

	d := &conn{p: c.p, n: c.n, done: make(chan struct{})}
	d.detached.Store(true)
	c.p.mu.Lock()
	closed := c.p.closed
	if !closed {
		c.p.conns[d] = struct{}{}
	}
	c.p.mu.Unlock()
	if closed || !d.attach(hijacked.Conn) {
		hijacked.Conn.Close()
		return
	}
	for _, m := range copied.messages {
		d.enter(m, false)
	}
	l := d.park(f)
	c.p.wg.Go(func() {
		defer c.p.forget(d)
		var pump sync.WaitGroup
		defer pump.Wait()
		defer d.close(false)
		pump.Go(d.fromServer)
		l.await(copied.buf)
	})
}
