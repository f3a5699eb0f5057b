package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A localSettings gives settings to each transaction of a pool's connections. A pooler passes
// the server's sessions on to other clients, and gives a client another one for each
// transaction: a setting of a session would affect others, and be missing here. Therefore a query
// before the first message of each transaction, also of an implicit one, sets all settings until
// the transaction ends. pgx does not see the answer to that query. It costs no round trip.
// It is safe for concurrent use.
//
// Note: tried settings in the start-up message. pgbouncer refuses all but five of them.
type localSettings struct {
	mu     sync.Mutex
	values map[string]string
	query  string // sets values; empty sends nothing
}

// use makes the connection of cfg begin its transactions with l's settings. cfg must be of one
// connection.
func (l *localSettings) use(cfg *pgconn.Config) {
	var c *localConn // of the last host that was tried
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		c = &localConn{all: l, r: bufio.NewReaderSize(r, readBuffer), w: w}
		return pgproto3.NewFrontend(c, c)
	}
	connected := cfg.AfterConnect
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		conn.CustomData()[localKey] = c
		if connected == nil {
			return nil
		}
		return connected(ctx, conn)
	}
}

// readBuffer is the size of a connection's buffer in bytes.
const readBuffer = 16 << 10

// localKey is the CustomData key of a connection's *localConn, which Set looks for.
const localKey = "loader local settings"

// set changes the settings of all transactions that begin later.
func (l *localSettings) set(values map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values, l.query = maps.Clone(values), localQuery(values)
}

// localQuery returns the query that sets values until the transaction ends. Values that the
// session has already are not set: some settings only a superuser may set.
func localQuery(values map[string]string) string {
	if len(values) == 0 {
		return ""
	}
	var list []string
	for _, name := range inOrder(values) {
		list = append(list, "("+quote(name)+", "+settingValue(name, values[name])+")")
	}
	return "SELECT pg_catalog.count(CASE WHEN " + differs("pg_catalog.current_setting(s.n, true)") + " THEN pg_catalog.set_config(s.n, s.v, true) END) FROM (VALUES " + strings.Join(list, ", ") + ") AS s (n, v)"
}

// differs returns the SQL condition under which a setting s.n is to be set to s.v. now is its
// value: NULL for one that the server does not know, and for one of the user's own that is not
// set yet.
func differs(now string) string {
	return "s.v <> " + now + " OR s.v IS NOT NULL AND " + now + " IS NULL AND s.n LIKE '%.%'"
}

// settingValue returns the value of a setting as an SQL expression; NULL leaves it unchanged.
func settingValue(name, value string) string {
	if name == "synchronous_commit" { // never lowered
		return "CASE pg_catalog.current_setting('synchronous_commit', true) WHEN 'remote_apply' THEN NULL ELSE " + quote(value) + " END"
	}
	return quote(value)
}

// A localConn is the stream of messages of one connection. A cycle is a simple query, or the
// messages up to a Sync: the server answers each cycle with one ReadyForQuery. A client may send
// further cycles before it has the answers to earlier ones.
type localConn struct {
	all *localSettings
	r   *bufio.Reader
	w   io.Writer
	own map[string]string // settings of this connection alone

	// While rows are copied, one goroutine writes and another reads.
	mu     sync.Mutex
	idle   bool    // no transaction was open before the first cycle of sent
	begun  bool    // a cycle without its Sync was sent
	sent   []cycle // without their ReadyForQuery
	head   []byte  // the rest of a message's header for the client
	toPass int     // bytes of its body for the client
	toDrop int     // bytes of a hidden body
}

// A cycle says which part of the answer to a cycle is hidden from the client.
type cycle struct {
	hide  bool // the answer to the query that sets the settings is still to come
	first int  // number of the client's own results before that answer
}

// query returns the query to send before a transaction's first message.
func (c *localConn) query() string {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if len(c.own) == 0 {
		return c.all.query
	}
	values := maps.Clone(c.all.values)
	if values == nil {
		values = map[string]string{}
	}
	maps.Copy(values, c.own)
	return localQuery(values)
}

// The bytes in front of a message's body: its type, and its length without the type.
const headBytes = 5

// withOptions matches a BEGIN that fails behind a query.
var withOptions = regexp.MustCompile(`(?i)^\s*begin\s+[a-z][^;]*$`)

// Write sends whole messages, as pgproto3 writes them, with the queries that it adds.
func (c *localConn) Write(p []byte) (int, error) {
	out := c.withQueries(p)
	n, err := c.w.Write(out)
	if err == nil {
		n = len(p)
	}
	return min(n, len(p)), err
}

// withQueries returns p with the query before each cycle that begins in p, if the cycle opens a
// transaction. Of cycles that are sent without waiting for answers, as Together does, the first one
// decides for all.
func (c *localConn) withQueries(p []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.idle && len(c.sent) == 0 && !c.begun {
		return p // logs in, or within a transaction
	}
	var out []byte
	done := 0 // bytes of p that out has
	for at := 0; len(p)-at >= headBytes; {
		end := at + 1 + int(binary.BigEndian.Uint32(p[at+1:]))
		if end > len(p) || end < at+headBytes {
			break
		}
		switch p[at] {
		case 'Q':
			query, own := c.begin(), p[at+headBytes:end-1]
			if query == "" {
				break
			}
			text := query + "; " + string(own)
			if withOptions.Match(own) {
				text = string(own) + "; " + query
				c.sent[len(c.sent)-1].first = 1
			}
			out = appendMessage(append(out, p[done:at]...), 'Q', append([]byte(text), 0))
			done = end
		case 'P', 'B', 'D', 'E', 'C':
			if c.begun {
				break
			}
			query := c.begin()
			if c.begun = true; query == "" {
				break
			}
			out = append(out, p[done:at]...)
			out = appendMessage(out, 'P', append([]byte("\x00"+query), 0, 0, 0)) // unnamed, no types
			out = appendMessage(out, 'B', make([]byte, 8))                       // unnamed, no parameters, results as text
			out = appendMessage(out, 'E', make([]byte, 5))                       // unnamed, all rows
			done = at
		case 'S':
			if !c.begun {
				c.sent = append(c.sent, cycle{})
			}
			c.begun = false
		}
		at = end
	}
	if out == nil {
		return p
	}
	return append(out, p[done:]...)
}

// begin begins a cycle and returns the query in front of it, or "".
func (c *localConn) begin() string {
	query := ""
	if c.idle {
		query = c.query()
	}
	c.sent = append(c.sent, cycle{hide: query != ""})
	return query
}

func appendMessage(out []byte, kind byte, body []byte) []byte {
	out = append(out, kind)
	out = binary.BigEndian.AppendUint32(out, uint32(4+len(body)))
	return append(out, body...)
}

// Read passes the server's messages on, without the answer to the query.
func (c *localConn) Read(p []byte) (int, error) {
	for {
		switch {
		case len(c.head) > 0:
			n := copy(p, c.head)
			c.head = c.head[n:]
			return n, nil
		case c.toPass > 0:
			n, err := c.r.Read(p[:min(len(p), c.toPass)])
			c.toPass -= n
			return n, err
		case c.toDrop > 0:
			n, err := c.r.Discard(c.toDrop)
			c.toDrop -= n
			if err != nil {
				return 0, err
			}
		}
		head, err := c.r.Peek(headBytes)
		if err != nil {
			return 0, err
		}
		kind, size := head[0], int(binary.BigEndian.Uint32(head[1:]))-4
		if size < 0 {
			return 0, fmt.Errorf("the server sent a message of %d bytes", size)
		}
		if kind == 'Z' && size == 1 {
			if head, err = c.r.Peek(headBytes + 1); err != nil {
				return 0, err
			}
			c.ready(head[headBytes])
		}
		if c.hides(kind) {
			c.toDrop = headBytes + size
			continue
		}
		c.head = append(c.head[:0:0], head[:headBytes]...)
		c.r.Discard(headBytes) // it was peeked
		c.toPass = size
	}
}

// ready ends a cycle, with the server's status behind it.
func (c *localConn) ready(status byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sent) > 0 {
		c.sent = c.sent[1:]
	}
	if len(c.sent) == 0 && !c.begun {
		c.idle = status == 'I'
	}
}

// hides reports whether a message belongs to the answer to the query.
func (c *localConn) hides(kind byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sent) == 0 || !c.sent[0].hide {
		return false
	}
	now := &c.sent[0]
	switch kind {
	case 'E': // the message in front of it, or the query itself: pgx learns of it
		now.hide = false
	case 'C':
		if now.first > 0 {
			now.first--
			return false
		}
		now.hide = false
		return true
	case '1', '2', 'T', 'D':
		return now.first == 0
	}
	return false
}
