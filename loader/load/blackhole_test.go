package load_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/loadertest"
)

// rowsOf matches the message with which the rows of a chunk set out, in a transaction
// whose ledger row is written.
const rowsOf = `^(BEGIN; )?(INSERT INTO|COPY) .*(points|accounts)`

// aBlackHole is a chunk's time in these tests: short, for that is what is waited for.
const aBlackHole = 700 * time.Millisecond

// within calls f, which must return within a multiple of the chunk's time: a bound that
// holds on a busy machine too, and that a wait for the network would never meet.
func within(t *testing.T, times int, f func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(times)*aBlackHole)
	defer cancel()
	err := f(ctx)
	if ctx.Err() != nil {
		t.Fatalf("not back within %d times the chunk's: %v", times, err)
	}
	return err
}

// TestBlackHoles has a connection go silent without ending: when a chunk is to become
// durable, when the server is idle in the chunk's transaction and holds its ledger row,
// and when the registry is asked or told something. The attempt ends with its time, the
// server lets the locks go, and the next attempt is not blocked.
func TestBlackHoles(t *testing.T) {
	eachOf(t, shortOf, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		if srv.Cockroach {
			loadertest.Long(t)
		}
		holes := map[string]loadertest.Match{"commit": sub.commits(srv)}
		if loadertest.Chaos {
			holes["claim"] = loadertest.Match{SQL: `^INSERT INTO loader\.claims`, Kind: loadertest.MsgStatement}
			holes["record"] = loadertest.Match{SQL: `^(UPDATE loader\.(claims|loads)|DELETE FROM loader\.claims)`, Kind: loadertest.MsgStatement}
			holes["reply"] = loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgCommandComplete, SQL: sub.commits(srv).SQL}
		}
		if sub.CommitMode == commit.Transaction {
			holes["idle in transaction"] = loadertest.Match{SQL: rowsOf, Kind: loadertest.MsgBind}
			if sub.Method == commit.Copy {
				holes["idle in transaction"] = loadertest.Match{SQL: rowsOf, Kind: loadertest.MsgQuery}
				if loadertest.Chaos || !srv.Cockroach { // where BEGIN and the ledger row come with it
					holes["in COPY"] = loadertest.Match{SQL: rowsOf, Kind: loadertest.MsgCopyData}
				}
			}
		}
		for name, match := range holes {
			t.Run(name, func(t *testing.T) {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS "+sub.table)
				fault := &loadertest.Fault{When: match, Nth: 2, Do: loadertest.BlackHole}
				if name == "claim" || name == "record" {
					fault.Nth = 1
				}
				sub.ChunkTimeout = aBlackHole
				var x *trial
				err := within(t, 20, func(ctx context.Context) error {
					x = sub.start(t, url, 1000, fault)
					select {
					case <-x.done:
						return x.err
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if !fault.Fired() {
					t.Fatal("nothing fell into the black hole")
				}
				sub.exact(t, url, x.Load, 1000)
			})
		}
	})
}

// TestBlackHoleForEver is the control: where no connection works any more, a load ends
// within its time, and can be resumed.
func TestBlackHoleForEver(t *testing.T) {
	loadertest.Long(t)
	eachOf(t, shortOf, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		sub.ChunkTimeout, sub.RetryFor = aBlackHole, 2*aBlackHole
		fault := &loadertest.Fault{When: sub.commits(srv), Nth: 2, Do: loadertest.BlackHoleAll}
		x := sub.start(t, url, 1000, fault)
		err := within(t, 30, func(ctx context.Context) error {
			select {
			case <-x.done:
				return x.err
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if !errors.Is(err, loader.ErrGaveUp) && (err == nil || !strings.Contains(err.Error(), "deadline")) {
			t.Errorf("got %v, want to give up", err)
		}
		x.proxy.CloseAll() // what was sent never arrives
		x.proxy.Heal()
		x.Close()
		resume(t, url, x.Load, sub.Settings)
		sub.exact(t, url, x.Load, 1000)
	})
}
