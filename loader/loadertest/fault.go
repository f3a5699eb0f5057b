package loadertest

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// An Action is what a [Fault] does to the message it meets.
type Action int

// The actions. Those that concern a whole statement (SwallowReply, Hold,
// Duplicate, Inject, InjectAfter) may name any of its messages, best
// [MsgStatement]; they meet client messages only.
const (
	// Cut closes both sides before the message is passed on. What the client sent
	// earlier has reached the server.
	Cut Action = iota
	// CutMiddle passes the first half of the message on, then closes both sides.
	CutMiddle
	// CutAfter passes the message on and closes both sides at once: whether the
	// server still acts on it is open, as on a real network.
	CutAfter

	// SwallowReply passes the statement on, waits until the server has answered
	// it to the end, and closes both sides without passing the answer on.
	// Fault.Replies has what the client did not hear.
	SwallowReply
	// Hold keeps the statement back and cuts the client's side. The server's side
	// stays open, so that Fault.Release delivers the statement late.
	Hold
	// Duplicate passes the statement on as if nothing were, and keeps a copy on a
	// second connection with the same user, database and application_name, which
	// Fault.Release delivers. It is not for COPY.
	Duplicate

	// Inject keeps the statement from the server and answers it with an
	// ErrorResponse of Fault.Code. The server's transaction is aborted as after a
	// real error (after COMMIT it is rolled back), so ROLLBACK TO SAVEPOINT
	// works, and ReadyForQuery comes from the server itself. A code that ends the
	// connection (57P01, 57P02, 57P03, 53300, class 08 and 28, and any code on a
	// StartupMessage) is sent as FATAL, and both sides are closed.
	Inject
	// InjectAfter lets the server execute the statement and replaces its
	// answer by an ErrorResponse of Fault.Code: 40003 for what did happen. A code
	// that ends the connection does so, as with Inject.
	InjectAfter

	// Delay waits Fault.Delay before the message is passed on.
	Delay
	// Throttle slows every connection to Fault.BytesPerSecond in each direction,
	// from the message on until Proxy.Heal.
	Throttle
	// BlackHole stops the connection without closing it, from the message on:
	// what is sent vanishes, and neither side hears that the other has gone.
	// At Proxy.Heal what was sent arrives late, as on a network that retransmits,
	// followed by the end of the connection if the client has gone, at which
	// CockroachDB may drop the statement; use Hold for one that surely arrives.
	// Proxy.CloseAll before it makes it never arrive.
	BlackHole
	// BlackHoleAll is BlackHole for every connection, new ones too: they are
	// accepted and hear nothing.
	BlackHoleAll
	// Refuse closes the connection and resets every new one until Proxy.Heal.
	Refuse
	// Recount makes the number at the end of a CommandComplete of the server, or in
	// Fault.Column of a DataRow in text format, less by Fault.Less: the reply of one that took fewer rows than were sent, though the
	// server took them all.
	Recount
	// RollBack sends ROLLBACK in place of a COMMIT that comes as a Query or a Bind, and passes
	// its answer on: what a server says whose transaction has failed without the client's
	// knowledge, and no error.
	RollBack
	// Precede has the server execute Fault.Text in front of a statement that comes as a Bind, in
	// the same transaction, and hides its answer unless that is an error: a setting which makes
	// the server itself fail.
	Precede
)

var actionNames = []string{"cut", "cut middle", "cut after", "swallow reply", "hold", "duplicate",
	"inject", "inject after", "delay", "throttle", "black hole", "black hole all", "refuse", "recount", "roll back", "precede"}

// String returns the action's name in words.
func (a Action) String() string { return actionNames[a] }

// A Match says which messages a fault may meet. A zero field matches everything,
// so the zero Match is every message that any client sends.
type Match struct {
	From Side
	Kind Kind
	SQL  string // regular expression on the statement's text, upper and lower case alike
	Conn int    // number of the connection, from 1

	// Func, when set, must also be true. It is called with the proxy locked: it
	// must not call the proxy.
	Func func(*Message) bool
}

// A Fault breaks the wire at certain messages. Of the messages that When matches
// it meets the Nth and those behind it, Times times. A fault belongs to one proxy
// and must not be copied once it has been given to it. All methods are safe for
// concurrent use.
//
// When several faults meet one message, those that let it pass (Delay, Throttle,
// BlackHole, BlackHoleAll, Recount, Precede) happen first, then the first of the others in the
// order in which they were given.
type Fault struct {
	When    Match
	Nth     int     // 1 for the first match; 0 means 1
	PerConn bool    // count matches on each connection by itself, not over all
	Times   int     // how often; 0 means once, or without end when P is set; -1 means without end
	P       float64 // probability at each match from the Nth on; 0 means always
	Seed    uint64  // of the draws for P

	Do             Action
	Reset          bool          // the cuts: reset (RST) rather than close (FIN)
	Delay          time.Duration // for Delay
	BytesPerSecond int           // for Throttle
	Only           *Side         // for the black holes: what this side sends vanishes; nil means both
	Code           string        // SQLSTATE for Inject and InjectAfter
	Less           int           // for Recount; negative means more
	Column         int           // for Recount of a DataRow, from 0
	Text           string        // message for Inject and InjectAfter; empty means one that names the code. Statement for Precede

	proxy *Proxy
	sql   *regexp.Regexp

	mu      sync.Mutex
	seen    map[int]int // matches by connection; 0 is over all
	count   int
	met     []time.Time // of each of them
	off     bool
	fired   chan struct{}
	random  *rand.Rand
	replies []string
	late    []*late
}

// ToServer and ToClient are values for Fault.Only.
var (
	ToServer = new(Frontend)
	ToClient = new(Backend)
)

// Fired reports whether the fault has met a message.
func (f *Fault) Fired() bool { return f.Count() > 0 }

// Count returns how many messages the fault has met.
func (f *Fault) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// CheckGrows fails the test unless the fault met its messages further and further apart,
// as it does where all attempts at one thing fail. The waits between these double from 10 ms or
// more, and each is drawn between half and the whole. A busy machine only makes them longer.
func (f *Fault) CheckGrows(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	met := slices.Clone(f.met)
	f.mu.Unlock()
	if len(met) < 5 {
		t.Fatalf("%d attempts, want 5 at least", len(met))
	}
	shortest := 5 * time.Millisecond
	for i, at := range met[1:min(len(met), 6)] { // as many as cockroach-go makes on one connection
		gap := at.Sub(met[i])
		if gap < shortest {
			t.Errorf("the wait before attempt %d is %v, want %v at least", i+2, gap, shortest)
		}
		shortest *= 2
	}
}

// Done is closed when the fault has happened for the first time: when the server
// has answered (SwallowReply), when there is something to release (Hold,
// Duplicate), else when the message was met. The fault must have been given to a
// proxy.
func (f *Fault) Done() <-chan struct{} { return f.fired }

// Replies returns what the server answered to the statements whose reply was
// swallowed or that were released: command tags ("INSERT 0 500") and
// "ERROR <SQLSTATE>", in the order of arrival.
func (f *Fault) Replies() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.replies)
}

func (f *Fault) addReply(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replies = append(f.replies, s)
}

// Release delivers every statement that Hold or Duplicate has kept until now,
// one after the other, and waits for the server's answer to each, at most half a
// minute. It returns the answers as Replies has them; a statement whose
// connection the server has closed meanwhile is answered by "connection closed".
func (f *Fault) Release() []string {
	f.mu.Lock()
	waiting := f.late
	f.late = nil
	f.mu.Unlock()
	var replies []string
	for _, l := range waiting {
		replies = append(replies, l.deliver()...)
	}
	return replies
}

// bind checks the fault and ties it to p.
func (f *Fault) bind(p *Proxy) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch statement := f.Do >= SwallowReply && f.Do <= InjectAfter; {
	case f.proxy != nil:
		return fmt.Errorf("fault %q has been given to a proxy before", f.Do)
	case statement && f.When.From == Backend:
		return fmt.Errorf("fault %q meets client messages only", f.Do)
	case (f.Do == Inject || f.Do == InjectAfter) && len(f.Code) != 5:
		return fmt.Errorf("fault %q needs a Code", f.Do)
	case f.Do == Recount && (f.When.From != Backend || f.Less == 0):
		return fmt.Errorf("fault %q meets messages of the server only, and needs Less", f.Do)
	case f.Do == RollBack && f.When.Kind != MsgStatement && f.When.Kind != MsgQuery && f.When.Kind != MsgBind || f.Do == RollBack && f.When.From == Backend:
		return fmt.Errorf("fault %q meets statements of the client only", f.Do)
	case f.Do == Precede && (f.When.From == Backend || f.When.Kind != MsgBind || f.Text == ""):
		return fmt.Errorf("fault %q meets a Bind only, and needs Text", f.Do)
	case f.Do == Throttle && f.BytesPerSecond <= 0:
		return fmt.Errorf("fault %q needs BytesPerSecond", f.Do)
	}
	if f.When.SQL != "" {
		re, err := regexp.Compile("(?is)" + f.When.SQL)
		if err != nil {
			return err
		}
		f.sql = re
	}
	f.proxy = p
	f.seen = map[int]int{}
	f.fired = make(chan struct{})
	f.random = rand.New(rand.NewPCG(f.Seed, 0x6c6f61646572))
	return nil
}

// meets counts m if it matches and reports whether the fault happens at it;
// never when m is moot.
func (f *Fault) meets(m *Message, moot bool) bool {
	if m.From != f.When.From || !m.is(f.When.Kind) ||
		f.When.Conn != 0 && f.When.Conn != m.Conn ||
		f.sql != nil && !f.sql.MatchString(m.SQL) ||
		f.When.Func != nil && !f.When.Func(m) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := 0
	if f.PerConn {
		key = m.Conn
	}
	f.seen[key]++
	times := f.Times
	if times == 0 && f.P == 0 {
		times = 1
	}
	switch {
	case f.off, moot, f.seen[key] < f.Nth, times > 0 && f.count >= times:
		return false
	case f.P > 0 && f.random.Float64() >= f.P:
		return false
	}
	f.count++
	f.met = append(f.met, time.Now())
	if f.Do != Hold && f.Do != Duplicate && f.Do != SwallowReply {
		f.happened()
	}
	return true
}

// happened closes Done. The caller holds mu.
func (f *Fault) happened() {
	select {
	case <-f.fired:
	default:
		close(f.fired)
	}
}

// keep takes a statement for Release.
func (f *Fault) keep(l *late) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late = append(f.late, l)
	f.happened()
}

// swallowed says that the server's answer has been dropped.
func (f *Fault) swallowed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.happened()
}

// passing reports whether the message still goes on its way after the fault.
func (f *Fault) passing() bool {
	return f.Do == Delay || f.Do == Throttle || f.Do == BlackHole || f.Do == BlackHoleAll || f.Do == Recount || f.Do == Precede
}

// disarm ends the fault.
func (f *Fault) disarm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
}

// fatal reports whether a server that sends the code also ends the connection.
func fatal(code string) bool {
	switch code {
	case "57P01", "57P02", "57P03", "53300":
		return true
	}
	return code[:2] == "08" || code[:2] == "28"
}
