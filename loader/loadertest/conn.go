package loadertest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A conn is one connection through the proxy: two pumps that read whole messages
// and pass them on. Its frontend pump gathers the messages of a statement up to
// Sync before it passes them on, because some faults concern them all; a client
// that waits for an answer has sent its Sync.
type conn struct {
	p        *Proxy
	n        int // number of the connection
	client   net.Conn
	server   net.Conn
	cr, sr   *bufio.Reader
	detached atomic.Bool // the client's side was cut and the server's kept

	once sync.Once
	done chan struct{} // closed when the connection ends

	out sync.Mutex // held while writing to the client
	cw  *bufio.Writer
	sw  *bufio.Writer // used by the frontend pump only

	holes [2]chan struct{} // black holes of this connection, guarded by Proxy.mu

	far    distance
	links  [2]*link // by the sending side; nil without a distance
	course course

	mu    sync.Mutex
	turns []*turn // in flight, oldest first

	// Of the frontend pump only.
	params     map[string]string // of the startup message
	statements map[string]string // SQL by statement name
	parsed     map[string][]byte // Parse message by statement name
	portals    map[string]string // SQL by portal name
	last       string            // SQL that messages without a text belong to
}

// bufferSize is that of the reads: a COPY of the loader sends 64 KiB messages.
const bufferSize = 128 << 10

func (c *conn) run() {
	defer c.p.forget(c)
	defer c.close(false)
	c.statements, c.parsed, c.portals = map[string]string{}, map[string][]byte{}, map[string]string{}
	c.cr = bufio.NewReaderSize(c.client, bufferSize)
	c.cw = bufio.NewWriterSize(wire{c, Backend}, bufferSize)
	startup, err := c.negotiate()
	if err != nil || startup == nil {
		return
	}
	if !c.attach(nil) {
		return
	}
	c.newLinks()
	var pumps sync.WaitGroup
	defer pumps.Wait()
	defer c.close(false)
	pumps.Go(c.fromServer)
	if c.start(startup) {
		c.fromClient()
	}
}

// attach connects to the server, or takes the connection given.
func (c *conn) attach(server net.Conn) bool {
	if server == nil {
		var err error
		if server, err = c.p.dial(); err != nil {
			reset(c.client)
			return false
		}
	}
	c.p.mu.Lock() // against close
	defer c.p.mu.Unlock()
	c.server = server
	select {
	case <-c.done:
		server.Close()
		return false
	default:
	}
	c.sr = bufio.NewReaderSize(server, bufferSize)
	c.sw = bufio.NewWriterSize(wire{c, Frontend}, bufferSize)
	return true
}

// forget takes an ended connection out of the proxy.
func (p *Proxy) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// close ends both sides, once; a later close does nothing.
func (c *conn) close(rst bool) {
	c.once.Do(func() {
		if !rst {
			c.drain()
		}
		c.p.mu.Lock()
		close(c.done)
		sides := []net.Conn{c.client, c.server}
		c.p.mu.Unlock()
		for _, nc := range sides {
			switch {
			case nc == nil:
			case rst:
				reset(nc)
			default:
				nc.Close()
			}
		}
	})
}

// Codes in place of a protocol version: https://www.postgresql.org/docs/current/protocol-message-formats.html.
const (
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSSEnc = 80877104
)

// negotiate answers requests for encryption and returns the startup message, or
// nil after a cancel request.
func (c *conn) negotiate() ([]byte, error) {
	for {
		head, err := c.cr.Peek(8)
		if err != nil {
			return nil, err
		}
		size, code := binary.BigEndian.Uint32(head), binary.BigEndian.Uint32(head[4:])
		if size < 8 || size > 10_000 {
			return nil, errors.New("not a startup message")
		}
		msg := make([]byte, size)
		if _, err := io.ReadFull(c.cr, msg); err != nil {
			return nil, err
		}
		c.p.mu.Lock()
		switch code {
		case codeSSL:
			c.p.stats.SSLRequests++
		case codeGSSEnc:
			c.p.stats.GSSEncRequests++
		case codeCancel:
			c.p.stats.CancelRequests++
		}
		c.p.mu.Unlock()
		switch code {
		case codeSSL, codeGSSEnc:
			c.cw.WriteByte('N')
			if err := c.cw.Flush(); err != nil {
				return nil, err
			}
		case codeCancel:
			return nil, c.cancel(msg)
		default:
			return msg, nil
		}
	}
}

// cancel passes a cancel request on. The server answers by closing.
func (c *conn) cancel(msg []byte) error {
	if !c.attach(nil) {
		return nil
	}
	c.sw.Write(msg)
	if err := c.sw.Flush(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c.sr)
	return err
}

// start passes the startup message on. It reports whether the connection goes on.
func (c *conn) start(msg []byte) bool {
	var m pgproto3.StartupMessage
	if err := m.Decode(msg[4:]); err == nil {
		c.params = m.Parameters
	}
	c.mu.Lock()
	c.turns = append(c.turns, &turn{closed: true})
	c.mu.Unlock()
	g := &group{buf: msg}
	g.add(0, MsgStartup, "")
	return c.deliver(g)
}

// fromClient passes what the client sends on to the server.
func (c *conn) fromClient() {
	g := &group{}
	for {
		from := len(g.buf)
		var err error
		if g.buf, err = appendFrame(c.cr, g.buf); err != nil {
			if c.swallowing() { // the client has gone, but the server is to answer
				<-c.done
			}
			return
		}
		kind, sql := c.understand(g.buf[from:])
		g.add(from, kind, sql)
		c.asks(kind, sql)
		switch kind {
		case MsgParse, MsgBind, MsgDescribe, MsgExecute, MsgClose:
			continue // up to Sync
		}
		if !c.deliver(g) {
			return
		}
		g.buf, g.messages = g.buf[:0], g.messages[:0]
	}
}

// swallowing reports whether an answer of the server is still to be swallowed.
func (c *conn) swallowing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.turns {
		if t.drop != nil {
			return true
		}
	}
	return false
}

// understand returns the kind of a client's message and the statement that it belongs to.
func (c *conn) understand(frame []byte) (kind Kind, sql string) {
	body := frame[headerSize:]
	if kind = frontendKinds[frame[0]]; kind == "" {
		kind = Kind(frame[:1])
	}
	switch kind {
	case MsgQuery:
		c.last = sqlText(body)
	case MsgParse:
		name, rest := cstring(body)
		c.last = sqlText(rest)
		c.statements[name] = c.last
		c.parsed[name] = append([]byte(nil), frame...)
	case MsgBind:
		portal, rest := cstring(body)
		name, _ := cstring(rest)
		c.last = c.statements[name]
		c.portals[portal] = c.last
	case MsgDescribe, MsgClose:
		if len(body) > 0 {
			names := c.statements
			if body[0] == 'P' {
				names = c.portals
			}
			name, _ := cstring(body[1:])
			return kind, names[name]
		}
	case MsgExecute:
		portal, _ := cstring(body)
		c.last = c.portals[portal]
	case MsgPassword, MsgTerminate:
		return kind, ""
	}
	return kind, c.last
}

// fromServer passes what the server sends on to the client.
func (c *conn) fromServer() {
	defer c.close(false)
	var buf []byte
	for {
		var err error
		if buf, err = appendFrame(c.sr, buf[:0]); err != nil {
			c.flushClient()
			return
		}
		if !c.reply(buf) {
			return
		}
		if c.sr.Buffered() == 0 && c.flushClient() != nil {
			return
		}
	}
}

// reply decides about one message of the server and passes it on. It reports
// whether the connection goes on.
func (c *conn) reply(frame []byte) bool {
	m := Message{From: Backend, Kind: backendKinds[frame[0]], Conn: c.n, Body: frame[headerSize:]}
	if m.Kind == "" {
		m.Kind = Kind(frame[:1])
	}

	c.answers(m.Kind)

	// 1. Which turn it belongs to, and what that turn makes of it.
	what := pass
	var l *lie
	var drop *Fault
	c.mu.Lock()
	if len(c.turns) > 0 {
		t := c.turns[0]
		m.SQL = t.sql()
		what, l, drop = t.hears(m.Kind, m.Body), t.lie, t.drop
		t.answered(m.Kind)
		if m.Kind == MsgReadyForQuery {
			c.turns = c.turns[1:]
		}
	}
	c.mu.Unlock()

	// 2. The faults that meet it. What the client would not see they do not see either.
	var faults []*Fault
	if !c.detached.Load() && what != end && what != discard {
		faults = c.p.meet(&m, false)
	}
	for _, f := range faults {
		if c.flushClient() != nil {
			return false
		}
		switch f.Do {
		case Delay:
			c.pause(f.Delay)
		case Throttle, BlackHole, BlackHoleAll, Refuse:
			c.change(f)
			if f.Do == Refuse {
				return false
			}
		case Recount:
			frame = recount(frame, f)
		case CutMiddle:
			frame = frame[:len(frame)/2]
			fallthrough
		case CutAfter:
			c.toClient(frame)
			c.flushClient()
			fallthrough
		case Cut:
			c.close(f.Reset)
			return false
		}
	}

	// 3. On its way.
	switch what {
	case end:
		if drop != nil {
			drop.swallowed()
			c.close(drop.Reset)
		}
		return false
	case replace:
		if fatal(l.fault.Code) {
			c.toClient(l.fault.response("FATAL"))
			c.flushClient()
			return false
		}
		return c.toClient(l.fault.response("ERROR")) == nil
	case pass:
		return c.toClient(frame) == nil
	}
	return true
}

func (c *conn) toClient(b []byte) error {
	if c.detached.Load() {
		return nil
	}
	c.out.Lock()
	defer c.out.Unlock()
	if _, err := c.cw.Write(b); err != nil && !c.detached.Load() {
		return err
	}
	return nil
}

func (c *conn) flushClient() error {
	if c.detached.Load() {
		return nil
	}
	c.out.Lock()
	defer c.out.Unlock()
	if err := c.cw.Flush(); err != nil && !c.detached.Load() {
		return err
	}
	return nil
}
