package registry_test

import (
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// now is the protocol as it is, on a server.
func now(server string, statement bool) protocol {
	p := protocol{name: server + "/transaction", statement: statement, refuses: true, holds: true, runs: 2, orphans: true, mishaps: 1}
	if statement {
		p.name = server + "/statement"
	}
	if server == loadertest.CockroachDB {
		p.serializable, p.holds = true, false
	}
	return p
}

// variants are what is explored of a protocol: with one who ends the load, and with
// mishaps. With the tag chaos there are both at once, more mishaps, a third run, and a
// server that shows nobody the sessions of others.
func (p protocol) variants() []protocol {
	ended := p
	ended.name, ended.ends, ended.mishaps = p.name+"/ended", true, 0
	list := []protocol{p, ended}
	if loadertest.Chaos {
		for name, change := range map[string]func(*protocol){
			"both":   func(p *protocol) { p.ends = true },
			"more":   func(p *protocol) { p.ends, p.mishaps = true, 4 },
			"three":  func(p *protocol) { p.runs = 3 },
			"blind":  func(p *protocol) { p.ends, p.blind, p.refuses = true, true, false },
			"owners": func(p *protocol) { p.ends, p.deletes, p.orphans = true, true, false },
		} {
			v := p
			change(&v)
			v.name += "/" + name
			if name != "blind" || !p.statement {
				list = append(list, v)
			}
		}
	}
	return list
}

// TestProtocol visits all states of the protocol: no record is there twice, none is missing
// from a load that is done, and no row comes behind a cancel that has returned.
func TestProtocol(t *testing.T) {
	for _, server := range []string{loadertest.PostgreSQL, loadertest.CockroachDB} {
		for _, statement := range []bool{false, true} {
			for _, p := range now(server, statement).variants() {
				t.Run(p.name, func(t *testing.T) {
					found, states, _ := p.explore(exploreLimit())
					if found != nil {
						t.Fatal(found)
					}
					t.Logf("%d states", states)
					if states >= exploreLimit() {
						t.Errorf("more than %d states: not all were visited", states)
					}
				})
			}
		}
	}
}

// TestFoundByTheModel takes what keeps the promise out of the protocol: the model finds the
// way to a broken one.
func TestFoundByTheModel(t *testing.T) {
	holdless := now(loadertest.PostgreSQL, false)
	holdless.holds = false
	early := now(loadertest.PostgreSQL, false)
	early.early = true
	for _, c := range []struct {
		name string
		protocol
		want string
		way  []string // in this order, beside others
	}{
		// A takeover gave the claims a new name and then ended the sessions. It is killed
		// in between: the next one ends those of the new name, which has none.
		{"renamed before it is fenced", protocol{renames: true, runs: 3}, "there twice",
			[]string{"run0 ledger", "run1 mark", "run2 mark", "run2 sessions", "run0 commit", "run2 commit"}},
		{"COMMIT behind a release", holdless, "there twice",
			[]string{"run0 loses-patience", "run0 update-load", "run1 commit"}},
		{"COMMIT in a release", early, "there twice",
			[]string{"run0 loses-patience", "run0 read-ledger", "run0 orphan-commits", "run0 delete-ledger", "run1 commit"}},
		{"a run that was fenced comes back", protocol{runs: 2, mishaps: 3}, "there twice", nil},
		{"rows behind a cancel", protocol{statement: true, runs: 1, ends: true}, "after a cancel",
			[]string{"admin sessions", "run0 statement"}},
		{"rows come back", protocol{statement: true, runs: 2, deletes: true}, "came back",
			[]string{"run1 update-load", "admin owner-deletes", "run0 statement"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.mishaps > 1 {
				loadertest.Long(t)
			}
			found, states, _ := c.explore(exploreLimit())
			if found == nil {
				t.Fatalf("found nothing in %d states", states)
			}
			t.Logf("%d states: %s", states, found)
			if !strings.Contains(found.why, c.want) {
				t.Errorf("got %q, want %q", found.why, c.want)
			}
			at := 0
			for _, step := range found.trace {
				if at < len(c.way) && strings.HasPrefix(step, c.way[at]) {
					at++
				}
			}
			if at < len(c.way) {
				t.Errorf("not on its way: %s", c.way[at])
			}
		})
	}
}
