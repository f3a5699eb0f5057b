package main

import (
	"context"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// TestServerGoesAway stops the server while it is loaded, for good: the command gives up
// after --retry-for and says how to go on. When the server is there again, that makes the
// load exact.
func TestServerGoesAway(t *testing.T) {
	for _, product := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(product.String(), func(t *testing.T) {
			if product != server.PostgreSQL {
				loadertest.Long(t)
			}
			s, db := loadertest.OwnServer(t, product)
			url, p := s.NewDatabase(t), newPlace(t)
			kinds := []string{"points"}
			if loadertest.Chaos {
				kinds = append(kinds, "csv")
			}
			for _, kind := range kinds {
				sub := subjects(t, s, 20_000)[kind][0]
				sub.fresh(t, url)
				args := append([]string{"loader"}, sub.args...)
				said := interrupted(t, p.command(url, append(args, "--chunk", "10", "--retry-for", "1s")...), exitStopped, func() bool {
					return loadertest.Value[bool](t, url, "SELECT EXISTS (SELECT 1 FROM "+sub.table+")")
				}, func(string) {
					if err := db.Halt(context.Background()); err != nil {
						t.Fatal(err)
					}
				})
				if err := db.Restart(context.Background()); err != nil {
					t.Fatal(err)
				}
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM "+sub.table); n == 0 || n == sub.n {
					t.Errorf("the server went away from a load of %d rows when %d were in", sub.n, n)
				}
				sub.check(t, url, p.typeHint(t, url, said))
				p.checkEmpty(t)
			}
		})
	}
}

// TestRowsThatVanish has a trigger drop rows without a word: the command does not take that
// for success, nor does the registry. With the trigger gone, what it says makes the load exact.
func TestRowsThatVanish(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url, p := registered(t, s), newPlace(t)
	for _, sub := range subjects(t, s, 1000)["points"] {
		if !loadertest.Chaos && sub.via != "copy" {
			continue
		}
		t.Run(sub.String(), func(t *testing.T) {
			sub.fresh(t, url)
			loadertest.Exec(t, url, `CREATE OR REPLACE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
					IF NEW.id % 10 = 3 THEN RETURN NULL; END IF; RETURN NEW; END $$`,
				"DROP TRIGGER IF EXISTS drop_some ON points",
				"CREATE TRIGGER drop_some BEFORE INSERT ON points FOR EACH ROW EXECUTE FUNCTION drop_some()")
			_, before := entered(t, url, 0)
			said := runTo(t, exitUnconfirmed, p.command(url, append([]string{"loader"}, sub.command("--chunk", "100", "--retry-for", "20s")...)...))
			if strings.Count(said, "\nloader: ") != 1 || !strings.Contains(said, "a trigger or rule may drop the others") {
				t.Errorf("it says %s", said)
			}
			// By transaction no chunk is in, not even a part. By statement what the trigger left is
			// in, and found there, but no chunk counts as in.
			n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points")
			if sub.way == "transaction" && n != 0 || sub.way == "statement" && (n == 0 || n >= sub.n) {
				t.Errorf("%d rows are in", n)
			}
			id, _ := entered(t, url, before)
			for _, l := range loads(t, url) {
				if l.ID == id && (l.State != "loading" || l.In != 0 || l.Finished != nil) {
					t.Errorf("the registry has the load %s, with %d of %d rows", l.State, l.In, l.Of)
				}
			}
			loadertest.Exec(t, url, "DROP TRIGGER drop_some ON points")
			if got := p.typeHint(t, url, said); got != id {
				t.Errorf("it goes on with load %s, want %s", got, id)
			}
			sub.check(t, url, id)
		})
	}
}

// TestCountThatDiffers has the reply to a chunk's rows name fewer than were sent, though
// the server took them: by transaction the chunk is rolled back, and the load not
// confirmed; by statement it is looked up, and is well.
func TestCountThatDiffers(t *testing.T) {
	loadertest.Long(t)
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url, p := registered(t, s), newPlace(t)
		for _, sub := range subjects(t, s, 1000)["points"] {
			sub.fresh(t, url)
			_, before := entered(t, url, 0)
			// Text that goes as it is, is parsed and sent again.
			fault := &loadertest.Fault{When: loadertest.Match{From: loadertest.Backend, Kind: loadertest.MsgCommandComplete, SQL: rowsOf.SQL}, Nth: 3, Times: 2, Do: loadertest.Recount, Less: 7}
			proxy := loadertest.NewProxy(t, url, fault)
			args := append([]string{"loader"}, sub.command("--chunk", "100", "--workers", "1")...)
			want := exitOK
			if sub.way == "transaction" {
				want = exitUnconfirmed
			}
			said := runTo(t, want, p.command(proxy.URL(), args...))
			if !fault.Fired() {
				t.Fatal("no count was changed")
			}
			id, _ := entered(t, url, before)
			if want == exitUnconfirmed {
				whole := int64(200)
				if sub.via == "copy" && !s.Cockroach {
					whole = 0 // COPY in one round trip has several replies for a chunk
				}
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != whole {
					t.Errorf("%s: %d rows are in, want the %d of the chunks before", sub, n, whole)
				}
				proxy.Heal()
				p.typeHint(t, proxy.URL(), said)
			} else if !strings.Contains(said, " uncertain outcome") || strings.Contains(said, " 0 uncertain") {
				t.Errorf("%s: it says %s", sub, said)
			}
			proxy.Close()
			sub.check(t, url, id)
		}
	})
}
