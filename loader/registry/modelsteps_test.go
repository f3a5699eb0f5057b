package registry_test

// runStep emits what a run may do next.
func (m *model) runStep(i int, s state) {
	a := &s.actors[i]
	switch a.at {
	case idle:
		m.claimStep(i, s)
	case claiming:
		n := s
		n.lock = 0
		if m.refuses && s.fenced>>i&1 == 1 {
			m.leave(i, n, "insert-claim-refused")
			return
		}
		n.claims[a.chunk.lo] = held{hi: a.chunk.hi, run: int8(i)}
		m.noReply(i, n, "insert-claim") // it does not know that it has the claim
		n.actors[i].at, n.actors[i].claim, n.actors[i].chunk = working, a.chunk, chunk{}
		m.say(i, "insert-claim", n)
	case working:
		m.checkpoint(i, s)
		m.workStep(i, s)
	case entering, covering, commiting, stating:
		m.chunkStep(i, s)
	case marking, fencing, listing:
		m.takeOverStep(i, s)
	default:
		m.releaseStep(i, s)
	}
}

// leave ends an actor, and with it its sessions.
func (m *model) leave(i int, s state, step string) {
	s.cut(i)
	at := ended
	if i != admin {
		at = dead // nobody asks
	}
	s.actors[i] = actor{at: at, orphan: s.actors[i].orphan}
	m.say(i, step, s)
}

// fail ends an actor that has not done what it was asked for.
func (m *model) fail(i int, s state, step string) {
	s.cut(i)
	s.actors[i] = actor{at: dead, orphan: s.actors[i].orphan}
	m.say(i, step, s)
}

// claimStep locks the load, reads its claims and chooses. A transaction before it that only
// proposes a range, to be cut outside of any, reads the same and changes nothing.
func (m *model) claimStep(i int, s state) {
	if !m.connect(i, &s) {
		m.leave(i, s, "is-refused")
		return
	}
	if s.lock != 0 {
		return
	}
	if s.load >= cancelled {
		m.leave(i, s, "lock-cancelled")
		return
	}
	taken, others := s.done, uint8(0)
	for p, c := range s.claims {
		if c.hi == 0 {
			continue
		}
		taken |= chunk{int8(p), c.hi}.mask()
		if int(c.run) != i {
			others |= 1 << c.run
			continue
		}
		if c.marked {
			m.leave(i, s, "read-marked")
			return
		}
		n := s // an attempt whose commit was confirmed to nobody
		own := chunk{int8(p), c.hi}
		n.actors[i].at, n.actors[i].claim, n.actors[i].done = working, own, c.done|s.listed(own)
		m.say(i, "read-own-claim", n)
		return
	}
	if free := everyone &^ taken; free != 0 {
		lo := lowest(free)
		for hi := lo + 1; hi <= positions && free>>(hi-1)&1 == 1; hi++ {
			n := s
			n.lock = int8(i) + 1
			n.actors[i].at, n.actors[i].chunk = claiming, chunk{lo, hi}
			m.say(i, "read-claims", n)
		}
		return
	}
	if others == 0 {
		if s.looked && s.load == loading {
			s.looked, s.load = false, finished
			m.noReply(i, s, "settle")
			m.say(i, "settle", s)
			return
		}
		m.leave(i, s, "read-state")
		return
	}
	for run := range int8(runs + actors) {
		if others>>run&1 == 1 {
			// It has no session, or is stale.
			n := s
			n.actors[i].at, n.actors[i].target = marking, run
			m.say(i, "sessions-of-the-dead", n)
		}
	}
}

// workStep chooses the next chunk, or that there is none.
func (m *model) workStep(i int, s state) {
	a := &s.actors[i]
	n := s
	x := &n.actors[i]
	x.at, x.name, x.los, x.span, x.got = releasing, int8(i), 1<<a.claim.lo, a.claim.mask(), a.done
	if !m.statement && !m.renames {
		x.got = 0 // the ledger alone is believed
	}
	m.say(i, "gives-back", n) // all of it is in, or the user stops it
	gaps := a.claim.mask() &^ a.done
	if gaps == 0 || a.halt {
		return
	}
	lo := lowest(gaps)
	for hi := lo + 1; hi <= positions && gaps>>(hi-1)&1 == 1; hi++ {
		n := s
		n.actors[i].at, n.actors[i].chunk = entering, chunk{lo, hi}
		if m.statement {
			n.actors[i].at = stating
		}
		m.say(i, "chooses", n)
	}
}

// holder returns the claim of a run that holds a chunk.
func (s *state) holder(i int, c chunk) *held {
	for lo := int8(0); lo <= c.lo; lo++ {
		if h := &s.claims[lo]; h.hi >= c.hi && int(h.run) == i {
			return h
		}
	}
	return nil
}

// chunkStep makes the next step of a chunk.
func (m *model) chunkStep(i int, s state) {
	if !m.connect(i, &s) {
		m.leave(i, s, "is-refused")
		return
	}
	a := &s.actors[i]
	halts := func(step string) {
		n := s
		x := &n.actors[i]
		x.at, x.halt, x.chunk, x.work = working, true, chunk{}, inFlight{}
		m.say(i, step, n)
	}
	in := func(n *state, mask uint8) {
		x := &n.actors[i]
		x.at, x.done, x.chunk, x.work = working, x.done|mask&x.claim.mask(), chunk{}, inFlight{}
	}
	switch a.at {
	case entering:
		halts("gives-up")
		h := s.holder(i, a.chunk)
		if s.pending(a.chunk, true) || h != nil && h.by != 0 && (m.serializable || m.holds) {
			return // it waits
		}
		n := s
		n.actors[i].at = covering
		if h != nil && !h.marked && s.ledger[a.chunk.lo] == 0 {
			n.actors[i].at, n.actors[i].work = commiting, inFlight{a.chunk}
		}
		m.say(i, "ledger", n)
	case covering:
		hi := s.ledger[a.chunk.lo]
		if hi < a.chunk.hi { // lost, or not confirmed
			halts("covering")
			return
		}
		n := s
		in(&n, chunk{a.chunk.lo, hi}.mask())
		m.say(i, "covering", n)
	case commiting:
		n := s
		if m.put(&n, a.work) {
			m.noReply(i, n, "commit")
			in(&n, a.chunk.mask())
			m.say(i, "commit", n)
		}
		m.impatience(i, s, entering)
	case stating:
		halts("gives-up")
		n := s
		there := false
		for p := a.chunk.lo; p < a.chunk.hi; p++ {
			there = there || s.rows[p] > 0
		}
		if there && !s.looked {
			n.looked = true
			m.say(i, "doubt", n)
			m.impatience(i, s, stating)
			return
		}
		for p := a.chunk.lo; p < a.chunk.hi; p++ {
			if n.rows[p] == 0 && !m.put(&n, inFlight{chunk{p, p + 1}}) {
				panic("a row is there and not there")
			}
		}
		in(&n, a.chunk.mask())
		m.say(i, "statement", n)
		s.actors[i].work = inFlight{a.chunk}
		m.impatience(i, s, stating)
	}
}

// impatience has a client give a session up whose answer does not come. What it has sent
// may still arrive.
func (m *model) impatience(i int, s state, next place) {
	a := &s.actors[i]
	if !m.orphans || a.orphan.hi != 0 || m.spared(&s) {
		return
	}
	a.at, a.orphan, a.work = next, a.work, inFlight{}
	m.say(i, "loses-patience", s)
}

// checkpoint writes what is in of the claim.
func (m *model) checkpoint(i int, s state) {
	a := &s.actors[i]
	if !a.conn || a.halt {
		return
	}
	h := &s.claims[a.claim.lo]
	switch {
	case h.hi == 0 || int(h.run) != i || h.marked:
		a.halt = true
	case h.by != 0 || h.done == a.done || !m.statement && !m.renames: // a sign of life alone
		return
	default:
		h.done = a.done
	}
	m.say(i, "checkpoint", s)
}

// takeOverStep makes the next step of a takeover up to the release.
func (m *model) takeOverStep(i int, s state) {
	if !m.connect(i, &s) {
		m.leave(i, s, "is-refused")
		return
	}
	a := &s.actors[i]
	switch a.at {
	case marking:
		name := a.target
		if m.renames {
			name = runs + int8(i)
		} else if s.lock != 0 {
			return // it waits
		}
		if !m.mark(&s, a.target, name) {
			return
		}
		m.noReply(i, s, "mark")
		a.at = fencing
		m.say(i, "mark", s)
	case fencing:
		n := s
		if m.sessions(&s, a.target) {
			n.cut(int(a.target))
			m.say(i, "end-session", n)
			m.fail(i, s, "end-session-fails") // it may not, or they do not go away
			return
		}
		x := &n.actors[i]
		x.at, x.name, x.target = releasing, a.target, 0
		if m.renames {
			x.at, x.name = listing, runs+int8(i)
		}
		m.say(i, "sessions", n)
	case listing:
		s.list(a)
		if a.at = releasing; a.los == 0 {
			a.rest()
		}
		m.say(i, "read-claims", s)
	}
}

// mark has a run, or with a negative one all of them, work no more; false: it waits.
func (m *model) mark(s *state, run, name int8) bool {
	for p := range s.claims {
		if h := &s.claims[p]; h.hi != 0 && (h.run == run || run < 0) {
			if h.by != 0 {
				return false
			}
			h.marked = !m.renames
			if run >= 0 {
				h.run = name
			}
		}
	}
	if run < 0 {
		s.fenced = 1<<runs - 1
	} else if run < runs {
		s.fenced |= 1 << run
	}
	if !m.refuses {
		s.fenced = 0
	}
	return true
}

// list has an actor take the claims of a name for its release.
func (s *state) list(a *actor) {
	a.los, a.span, a.got = 0, 0, 0
	for p, c := range s.claims {
		if c.hi != 0 && c.run == a.name {
			a.los |= 1 << p
			a.span |= chunk{int8(p), c.hi}.mask()
			a.got |= c.done
		}
	}
}
