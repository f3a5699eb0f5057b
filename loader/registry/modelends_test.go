package registry_test

// rest lets an actor look for work again.
func (a *actor) rest() { *a = actor{at: idle, conn: a.conn, orphan: a.orphan} }

// releaseStep makes the next step of a release.
func (m *model) releaseStep(i int, s state) {
	if !m.connect(i, &s) {
		m.leave(i, s, "is-refused")
		return
	}
	a := &s.actors[i]
	switch a.at {
	case releasing:
		if s.lock != 0 {
			return
		}
		settles := int(a.name) != i && !m.renames
		switch {
		case s.load == forgotten, s.load == cancelled && !settles:
			m.leave(i, s, "lock-cancelled")
			return
		case s.load == cancelled: // the claims are the canceller's
			a.rest()
			m.say(i, "lock-cancelled", s)
			return
		}
		s.lock, a.at = int8(i)+1, reading
		m.say(i, "lock", s)
	case reading:
		settles := int(a.name) != i && !m.renames
		if settles {
			s.list(a)
		}
		for p := range s.claims {
			h := &s.claims[p]
			switch mine := a.los>>p&1 == 1; {
			case !mine:
				a.others = a.others || h.hi != 0
			case h.hi != 0 && h.run == a.name && (settles || !h.marked):
			case covers(s.done, a.span), a.tried && !m.renames:
				a.los &^= 1 << p
				a.others = a.others || h.hi != 0
			default:
				m.leave(i, s, "read-lost")
				return
			}
		}
		a.at = dropping
		if m.early {
			a.at = counting
		}
		switch {
		case a.los == 0 && settles: // a third run was faster
			s.lock = 0
			a.rest()
		case a.los == 0 && !m.renames:
			a.at, a.span, a.got = writing, 0, 0
		case a.los == 0:
			a.at, a.span = writing, 0
		}
		m.say(i, "read", s)
	case dropping:
		if !m.drop(i, &s, a.los, a.name) {
			return
		}
		switch a.at = counting; {
		case m.statement && int(a.name) == i:
			a.at = writing
		case m.early:
			a.at = sweeping
		}
		m.say(i, "delete-claims", s)
	case counting, sweeping:
		m.ledgerStep(i, s)
	case writing:
		m.finish(i, &s)
		s.load = loading
		if !a.others && s.done == everyone && !s.looked {
			s.load = finished
		}
		m.noReply(i, s, "update-load")
		if a.halt {
			m.leave(i, s, "update-load")
			return
		}
		a.rest()
		m.say(i, "update-load", s)
	}
}

// drop deletes claims of a name in an open transaction; false: it waits.
func (m *model) drop(i int, s *state, los uint8, name int8) bool {
	for p := range s.claims {
		h := &s.claims[p]
		if los>>p&1 == 0 || h.hi == 0 || name >= 0 && h.run != name {
			continue
		}
		if m.holds && s.pending(chunk{int8(p), h.hi}, false) {
			return false
		}
		h.by = int8(i) + 1
	}
	return true
}

// listed returns what the ledger has of a chunk.
func (s *state) listed(c chunk) (in uint8) {
	for p := c.lo; p < c.hi; p++ {
		if hi := s.ledger[p]; hi != 0 {
			in |= chunk{p, hi}.mask()
		}
	}
	return in
}

// ledgerStep reads the ledger, or deletes what the claims have there.
func (m *model) ledgerStep(i int, s state) {
	a := &s.actors[i]
	var lists uint8
	for p, hi := range s.ledger {
		if a.span>>p&1 == 0 {
			continue
		}
		if m.serializable && s.pending(chunk{int8(p), int8(p) + 1}, true) {
			return // it waits
		}
		if hi != 0 {
			lists |= 1 << p
			if a.at == counting {
				a.got |= chunk{int8(p), hi}.mask()
			}
		}
	}
	if a.at == counting {
		a.at = sweeping
		if m.early || m.renames && i == admin {
			a.at = dropping
		}
		m.say(i, "read-ledger", s)
		return
	}
	a.ledger, a.at = lists, writing
	m.say(i, "delete-ledger", s)
}

// finish commits what the transaction of a release, or of an end, has done.
func (m *model) finish(i int, s *state) {
	a := &s.actors[i]
	for p := range s.claims {
		if s.claims[p].by == int8(i)+1 {
			s.claims[p] = held{}
		}
		if a.ledger>>p&1 == 1 {
			s.ledger[p] = 0
		}
	}
	s.done |= a.got
	s.lock = 0
}

// adminStep emits what the one who cancels or forgets the load may do next.
func (m *model) adminStep(i int, s state) {
	a := &s.actors[i]
	a.conn = true
	switch a.at {
	case idle:
		if s.lock != 0 {
			return
		}
		switch {
		case s.load == forgotten, s.load == finished && a.ends == 0:
			m.leave(i, s, "lock-ended")
			return
		case s.load == finished:
			a.at = purging
		case m.renames && s.load == cancelled:
			a.at = fencing
		case m.renames:
			m.collect(i, &s)
		default:
			if !m.mark(&s, -1, -1) {
				return
			}
			s.load, a.at = cancelled, fencing
			lost := s
			lost.actors[i].at = idle
			m.noReply(i, lost, "mark-all")
			m.say(i, "mark-all", s)
			return
		}
		m.say(i, "lock", s)
	case counting, sweeping:
		m.ledgerStep(i, s)
	case dropping:
		if m.drop(i, &s, everyone, -1) {
			if a.at = counting; m.early || m.renames {
				a.at = sweeping
			}
			m.say(i, "delete-claims", s)
		}
	case writing:
		m.finish(i, &s)
		switch s.load, a.at = cancelled, fencing; {
		case m.renames:
		case a.ends == 0:
			m.leave(i, s, "update-done")
			return
		default:
			a.at = purging
		}
		m.say(i, "update-done", s)
	case fencing:
		for run := range runs {
			if m.sessions(&s, int8(run)) {
				n := s
				n.cut(run)
				m.say(i, "end-session", n)
				m.fail(i, s, "end-session-fails")
				return
			}
		}
		switch a.at = releasing; {
		case !m.renames:
		case a.ends == 0:
			m.leave(i, s, "sessions")
			return
		default:
			a.at = purging
		}
		m.say(i, "sessions", s)
	case releasing:
		if s.lock == 0 {
			m.collect(i, &s)
			m.say(i, "lock", s)
		}
	case purging:
		s.ledger, a.at = [positions]int8{}, removing
		m.say(i, "purge-ledger", s)
	case removing:
		s.load = forgotten
		m.leave(i, s, "remove-load")
	}
}

// collect locks the load for its end and reads what is in of its claims.
func (m *model) collect(i int, s *state) {
	a := &s.actors[i]
	if s.lock, a.at = int8(i)+1, dropping; m.early || m.renames {
		a.at = counting
	}
	a.los, a.span, a.got = everyone, everyone, 0
	for _, c := range s.claims {
		a.got |= c.done
	}
}
