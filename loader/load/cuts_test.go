package load_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/loadertest"
)

// A sweep cuts the connection at one message after the other, each time of another load:
// at the first, and at each that comes so many behind it.
type sweep struct {
	opening bool            // from the first connection on, until the load is entered; else from there on
	from    loadertest.Side // whose messages
	step    int
	through map[string]string // by URL: that of a pooler before it, for the loads
}

func (w sweep) String() string {
	part := "run"
	if w.opening {
		part = "open"
	}
	return part + "/" + w.from.String()
}

// fewestMessages is how many messages there are in each part at least. They are hardly
// fewer whatever changes: a sweep that meets fewer has not cut what it is to cut.
const fewestMessages = 60

// sweeps are those that a subject is put to. Opening is the same for all.
func (s subject) sweeps(srv loadertest.Server) []sweep {
	const client, server = loadertest.Frontend, loadertest.Backend
	opening, answers := 1, 17
	if srv.Cockroach {
		opening, answers = 5, 41 // which takes long to make tables
	}
	switch first := s.kind == "points"; {
	case !loadertest.Chaos && first:
		return []sweep{{true, client, 29, nil}, {false, client, 29, nil}, {false, server, 43, nil}}
	case !loadertest.Chaos:
		return []sweep{{false, client, 29, nil}, {false, server, 43, nil}}
	case s.among(srv) && first:
		return []sweep{{true, client, opening, nil}, {true, server, answers, nil}, {false, client, 1, nil}, {false, server, 7, nil}}
	case s.among(srv):
		return []sweep{{false, client, 1, nil}, {false, server, 7, nil}}
	}
	return []sweep{{false, client, 13, nil}, {false, server, 29, nil}}
}

// TestCutAtEachMessage cuts the connection at the first message that is sent to open and
// run a load, then at the second, and so on, until a load does not meet the cut. Subjects
// that others stand for, and all without the tag chaos, take every few messages only.
func TestCutAtEachMessage(t *testing.T) {
	rng := rand.New(rand.NewPCG(randomSeed(t), 3))
	test := loadertest.ForEachServer
	if !loadertest.Chaos {
		test = func(t *testing.T, f func(*testing.T, loadertest.Server)) {
			loadertest.ForServer(t, loadertest.PostgreSQL, f)
		}
	}
	test(t, func(t *testing.T, srv loadertest.Server) {
		// Two at a time, each in a database of its own.
		urls := []string{srv.NewDatabase(t), srv.NewDatabase(t)}
		list := subjects(srv)
		if !loadertest.Chaos {
			list = few(list)
		}
		for _, sub := range list {
			t.Run(sub.String(), func(t *testing.T) {
				loadertest.CheckNoLeaks(t)
				sub.Chunk, sub.Workers = 20, 1
				for _, w := range sub.sweeps(srv) {
					w.run(t, sub, urls, rng)
				}
			})
		}
	})
}

// TestCutBeforeAPooler is TestCutAtEachMessage for connections to a pooler. It
// holds what arrives back for a while: a statement that was sent before the cut may be executed
// long after it.
func TestCutBeforeAPooler(t *testing.T) {
	loadertest.Long(t)
	rng := rand.New(rand.NewPCG(randomSeed(t), 4))
	srv := loadertest.PostgreSQLServer(t)
	// A load waits a while for a third session of a small pool in session mode.
	for _, mode := range []string{"pool_mode = transaction\ndefault_pool_size = 2", "pool_mode = session"} {
		var urls []string
		pooled := map[string]string{}
		for range 2 {
			url := srv.NewDatabase(t)
			urls = append(urls, url)
			pooled[url] = loadertest.Pooler(t, url, mode)
		}
		for _, sub := range subjects(srv) {
			if sub.CommitMode != commit.Transaction {
				continue
			}
			t.Run(mode+"/"+sub.String(), func(t *testing.T) {
				sub.Chunk, sub.Workers = 20, 1
				for _, w := range []sweep{{from: loadertest.Frontend, step: 7}, {from: loadertest.Backend, step: 17}} {
					w.through = pooled
					w.run(t, sub, urls, rng)
				}
			})
		}
	}
}

// run makes the sweep, with one lane in each database.
func (w sweep) run(t *testing.T, sub subject, urls []string, rng *rand.Rand) {
	// The message to begin with and the way to cut there are others each time.
	first, way := 1+rng.IntN(w.step), rng.IntN(len(cutActions)*2)
	var cuts atomic.Int64
	t.Run(w.String(), func(t *testing.T) {
		for lane, url := range urls {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				clearTables(t, url)
				loadertest.Exec(t, url, sub.ddl)
				for i := lane; ; i += len(urls) {
					fault := &loadertest.Fault{When: loadertest.Match{From: w.from}, Nth: first + i*w.step}
					// Each action with each end of a connection, in turn.
					fault.Do, fault.Reset = cutActions[(way+i)%len(cutActions)], (way+i)/len(cutActions)%2 == 0
					// What a cut may leave is looked for after each, the standard check is
					// made after some.
					w.cut(t, sub, url, fault, (i/len(urls))%8 == 0)
					if t.Failed() {
						t.Fatalf("%v at message %d of the %s, reset %t", fault.Do, fault.Nth, w, fault.Reset)
					}
					if !fault.Fired() {
						return
					}
					cuts.Add(1)
				}
			})
		}
	})
	if n := int(cuts.Load()); n*w.step < fewestMessages-w.step {
		t.Errorf("%s: %d cuts, one at each %d messages; want %d messages at least", w, n, w.step, fewestMessages)
	} else {
		t.Logf("%s: %d cuts, one at each %d messages", w, n, w.step)
	}
}

var cutActions = []loadertest.Action{loadertest.Cut, loadertest.CutAfter, loadertest.CutMiddle}

// cut runs one load with the fault. It is small: two chunks.
func (w sweep) cut(t *testing.T, sub subject, url string, fault *loadertest.Fault, whole bool) {
	const n = 40
	if w.opening {
		clearTables(t, url)
	} else {
		loadertest.Exec(t, url, "DELETE FROM "+sub.table)
	}
	proxy := loadertest.NewProxy(t, cmp.Or(w.through[url], url))
	defer proxy.Close()
	if w.opening {
		proxy.Add(fault)
	}
	x := sub.enter(t, proxy.URL(), url, n)
	defer x.Close()
	if w.opening {
		proxy.Heal() // if it has not happened yet, it does not
	} else {
		proxy.Add(fault)
	}
	if _, err := x.Run(context.Background()); err != nil {
		t.Fatalf("%v at message %d of the %s, reset %t: %v", fault.Do, fault.Nth, w, fault.Reset, err)
	}
	x.Close()
	if whole {
		sub.exact(t, url, x.Load, n)
	} else {
		checkEnd(t, url, x.Load, sub.want(t, url, x.Load, n))
		sub.checkRejects(t, url, x.Load, n)
	}
}
