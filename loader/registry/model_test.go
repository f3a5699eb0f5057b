package registry_test

import (
	"fmt"
	"math/bits"
	"strings"

	"bulkload/loader/loadertest"
)

// The model of the registry's protocol: a load of few positions, a few runs, and one who
// cancels or forgets the load. Each takes the steps that stand in modelsteps_test.go beside
// the statements of the code. Everything that may happen between two steps does: any actor
// waits for as long as it likes (a run that was stopped, and wakes), dies, or loses its
// sessions; a COMMIT or a reply gets lost or arrives late. explore visits every state.
//
// The time is not modelled: a run may be taken for stale whenever somebody asks.
const (
	positions = 2
	everyone  = uint8(1<<positions - 1)
	runs      = 3
	admin     = runs // the actor who cancels and forgets
	actors    = runs + 1
)

// A protocol is what differs between the ways in which the registry works or worked.
type protocol struct {
	name string
	// statement: chunks are one statement of rows with a key; else transactions with a
	// ledger row, of rows without a key.
	statement bool
	// serializable: transactions as CockroachDB has them; else READ COMMITTED.
	serializable bool
	// renames: a takeover gives the claims a new name before it ends the sessions, and a
	// cancel deletes them before; else they are marked, and the name stays until they are
	// deleted.
	renames bool
	// refuses: a run that was fenced gets no claim and no new session.
	refuses bool
	// early: a release reads the ledger before it deletes the claims.
	early bool
	// holds: the ledger row locks its claim against deletion until its transaction ends.
	holds bool
	// orphans: a client may lose patience with a COMMIT, which arrives later.
	orphans bool
	// runs is how many there are; ends says that somebody cancels or forgets the load.
	runs int
	ends bool
	// blind: the server shows nobody the sessions of others.
	blind bool
	// mishaps bounds how many there are: deaths, and sessions and replies that get lost.
	// Beside them any actor may wait wherever it is.
	mishaps int
	// deletes: the owner of the table deletes rows when the load is done.
	deletes bool
}

// Where an actor is.
type place uint8

const (
	unborn place = iota
	idle
	claiming  // has locked the load and chosen
	working   // holds a claim; between two chunks
	entering  // the ledger row of a chunk is next
	covering  // a ledger row was there: how far does it reach?
	commiting // the rows and COMMIT are next
	stating   // the statement of a chunk is next
	releasing // BEGIN and the lock are next
	reading   // the claims are next
	dropping  // DELETE of the claims is next
	counting  // the ledger is read next
	sweeping  // DELETE of the ledger is next
	writing   // the load is written next, and COMMIT
	marking   // first statement of a takeover is next
	fencing   // sessions of the target are listed next
	listing   // its claims are read next, by their new name
	purging   // forget: the ledger goes
	removing  // forget: the load goes
	ended
	dead
)

// A chunk is a range of positions; hi is zero where there is none.
type chunk struct{ lo, hi int8 }

func (c chunk) mask() uint8 { return uint8(1)<<c.hi - uint8(1)<<c.lo }

// A held is a row of loader.claims.
type held struct {
	hi     int8 // zero: no row
	run    int8
	done   uint8
	marked bool // a successor is entered
	by     int8 // 1 + the actor whose open transaction deletes it
}

// An inFlight is the chunk that a session has under way; its ledger row is in.
type inFlight struct{ chunk }

type actor struct {
	at     place
	conn   bool // it has sessions
	halt   bool // gives up after this chunk
	claim  chunk
	done   uint8    // of the claim, as the run knows it
	chunk  chunk    // under way
	work   inFlight // in the session of the chunk
	orphan inFlight // in a session that the client has given up
	// Of a takeover or a release.
	target int8  // run that is taken over
	name   int8  // whose claims are deleted
	los    uint8 // the claims, by lo
	span   uint8 // what they cover
	got    uint8 // what is in
	others bool  // somebody else holds something
	ledger uint8 // ledger rows that are deleted, by lo
	tried  bool  // an attempt at the release came to its commit
	ends   int8  // of the admin: 0 cancel, 1 forget
}

type state struct {
	load   uint8 // loading, done, cancelled, gone
	done   uint8
	lock   int8 // 1 + the actor whose open transaction locks the load
	claims [positions]held
	ledger [positions]int8 // hi by lo; zero: no row
	rows   [positions]uint8
	fenced uint8 // runs
	gone   uint8 // rows that were deleted when the load was done
	back   bool  // one of them came back
	looked bool  // a chunk was decided by looking, which is not settled yet
	late   bool  // a row came after a cancel had returned
	hurt   int8  // mishaps so far
	actors [actors]actor
}

const (
	loading uint8 = iota
	finished
	cancelled
	forgotten
)

// A model explores a protocol.
type model struct {
	protocol
	emit  func(step string, s state)
	taken map[string]bool
}

// A finding is the way to a state that breaks a promise.
type broken struct {
	why   string
	trace []string
}

func (b *broken) String() string {
	return fmt.Sprintf("%s, after\n  %s", b.why, strings.Join(b.trace, "\n  "))
}

// explore visits every state that can be reached, the near ones first, and returns the
// shortest way to one that breaks a promise, or nil, with the number of states.
func (p protocol) explore(limit int) (found *broken, states int, taken map[string]bool) {
	type from struct {
		parent int32
		step   string
	}
	var begin state
	m := &model{protocol: p, taken: map[string]bool{}}
	seen := map[state]int32{begin: 0}
	list, ways := []state{begin}, []from{{-1, ""}}
	for i := 0; i < len(list) && len(list) < limit; i++ {
		m.emit = func(step string, s state) {
			m.taken[strings.Fields(step)[1]] = true
			if _, ok := seen[s]; ok {
				return
			}
			seen[s] = int32(len(list))
			list, ways = append(list, s), append(ways, from{int32(i), step})
		}
		if why := p.breaks(&list[i]); why != "" {
			found = &broken{why: why}
			for at := int32(i); at > 0; at = ways[at].parent {
				found.trace = append([]string{ways[at].step}, found.trace...)
			}
			return found, len(list), m.taken
		}
		m.next(list[i])
	}
	return nil, len(list), m.taken
}

// breaks says which promise a state breaks, or nothing.
func (p protocol) breaks(s *state) string {
	for i, n := range s.rows {
		switch {
		case n > 1:
			return fmt.Sprintf("record %d is there twice", i)
		case s.load == finished && n == 0 && s.gone>>i&1 == 0:
			return fmt.Sprintf("the load is done, and record %d is not there", i)
		}
	}
	switch {
	case s.back:
		return "a row that was deleted after the end of the load came back"
	case s.late:
		return "a row came after a cancel had returned"
	}
	return ""
}

// next emits each state that may follow s.
func (m *model) next(s state) {
	for i := range actors {
		a := &s.actors[i]
		switch {
		case a.at == unborn && m.born(i, &s):
			n := s
			n.actors[i].at = idle
			if i != admin {
				m.say(i, "begins", n)
				break
			}
			n.actors[i].ends = 0
			m.say(i, "cancels", n)
			n.actors[i].ends = 1
			m.say(i, "forgets", n)
		case a.at == unborn || a.at == ended || a.at == dead:
		default:
			m.mishap(i, s)
			if i == admin {
				m.adminStep(i, s)
			} else {
				m.runStep(i, s)
			}
		}
		if a.orphan.hi != 0 {
			n := s
			n.actors[i].orphan = inFlight{}
			m.say(i, "orphan-dies", n)
			if m.put(&n, a.orphan) {
				m.say(i, "orphan-commits", n)
			}
		}
	}
	if m.deletes && s.load == finished && s.gone == 0 {
		for p := range positions {
			n := s
			n.rows[p], n.gone = 0, 1<<p
			m.say(admin, "owner-deletes", n)
		}
	}
}

// born reports whether an actor may begin now: the runs one after the other, since they
// are all alike.
func (m *model) born(i int, s *state) bool {
	if i == admin {
		return m.ends && s.actors[0].at != unborn
	}
	return i < m.runs && (i == 0 || s.actors[i-1].at != unborn)
}

func (m *model) say(i int, step string, s state) {
	who := fmt.Sprintf("run%d", i)
	if i == admin {
		who = "admin"
	}
	m.emit(who+" "+step, s)
}

// mishap emits what may happen to an actor anywhere: it dies, with its sessions, or its
// sessions end alone, and it goes on with others.
func (m *model) mishap(i int, s state) {
	if m.spared(&s) {
		return
	}
	m.fail(i, s, "dies")
	switch s.actors[i].at {
	case unborn, idle, working, entering, stating, releasing, marking, listing:
		return // nothing is under way in it: this is as when it connects again
	}
	s.cut(i)
	m.say(i, "loses-session", s)
}

// spared reports whether no mishap may happen any more, and counts it else.
func (m *model) spared(s *state) bool {
	s.hurt++
	return int(s.hurt) > m.mishaps
}

// noReply has an actor not hear of the commit that led to s.
func (m *model) noReply(i int, s state, step string) {
	if !m.spared(&s) {
		s.cut(i)
		m.say(i, step+"-and-no-reply", s)
	}
}

// cut ends the sessions of an actor: its transactions are rolled back, and it begins them
// again.
func (s *state) cut(i int) {
	a := &s.actors[i]
	a.conn, a.work = false, inFlight{}
	if s.lock == int8(i)+1 {
		s.lock = 0
	}
	for p := range s.claims {
		if s.claims[p].by == int8(i)+1 {
			s.claims[p].by = 0
		}
	}
	switch a.at {
	case claiming:
		a.at, a.chunk = idle, chunk{}
	case covering, commiting:
		a.at = entering
	case reading, dropping, counting, sweeping, writing:
		a.tried = a.tried || a.at == writing
		a.at = releasing
		a.others, a.ledger = false, 0
	}
}

// connect gives an actor a session, or says that it gets none.
func (m *model) connect(i int, s *state) bool {
	if m.refuses && i != admin && (s.fenced>>i&1 == 1 || s.load >= cancelled) && !s.actors[i].conn {
		return false
	}
	s.actors[i].conn = true
	return true
}

// put makes the rows of a chunk durable, as its transaction or statement does that ends;
// false: it is refused.
func (m *model) put(s *state, w inFlight) bool {
	if m.statement {
		for p := w.lo; p < w.hi; p++ {
			if s.rows[p] > 0 {
				return false // the key is there
			}
		}
	} else {
		s.ledger[w.lo] = w.hi
	}
	for p := w.lo; p < w.hi; p++ {
		s.rows[p]++
		s.back = s.back || s.gone>>p&1 == 1
	}
	s.late = s.late || s.load >= cancelled && s.actors[admin].at == ended
	return true
}

// pending reports whether an open transaction has a ledger row in the chunk; exact asks
// for the same lo alone.
func (s *state) pending(c chunk, exact bool) bool {
	for i := range runs {
		for _, w := range []inFlight{s.actors[i].work, s.actors[i].orphan} {
			if w.hi != 0 && (w.lo == c.lo || !exact && w.lo >= c.lo && w.lo < c.hi) {
				return true
			}
		}
	}
	return false
}

// sessions reports whether the server lists sessions of a run.
func (m *model) sessions(s *state, run int8) bool {
	if m.blind || run >= runs {
		return false // the name of a takeover
	}
	a := &s.actors[run]
	return a.conn || a.orphan.hi != 0
}

func covers(has, want uint8) bool { return has&want == want }

func lowest(mask uint8) int8 { return int8(bits.TrailingZeros8(mask)) }

// exploreAll is how many states an exploration may see before the test says that it is not
// complete.
func exploreLimit() int {
	if loadertest.Chaos {
		return 20_000_000
	}
	return 3_000_000
}
