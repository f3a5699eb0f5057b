package anytable_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"bulkload/loader"
	"bulkload/loader/anytable"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestForeignKeys holds for the keys that rows point to: those that a load of rows made are
// computed, also more than a sample has, and no longer where one of them is gone; rows of a table
// that points to itself point to earlier rows, whatever the chunks, the workers and the runs.
func TestForeignKeys(t *testing.T) {
	ctx := context.Background()
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		loadertest.Exec(t, url,
			"CREATE TABLE parent (a INT8, b UUID, code VARCHAR(12) NOT NULL UNIQUE, PRIMARY KEY (a, b))",
			"CREATE TABLE child (id INT8 PRIMARY KEY, a INT8 NOT NULL, b UUID NOT NULL, code VARCHAR(12) REFERENCES parent (code), FOREIGN KEY (a, b) REFERENCES parent)",
			"CREATE TABLE grandchild (child INT8 PRIMARY KEY REFERENCES child)",
			"CREATE TABLE tree (id INT8 PRIMARY KEY, above INT8 REFERENCES tree, name TEXT, UNIQUE (above, name))",
			"CREATE TABLE rooted (id INT8 PRIMARY KEY, above INT8 NOT NULL REFERENCES rooted)")
		rule := func(table, column string) string {
			t.Helper()
			p, err := load.NewPreview(ctx, loadertest.Open(t, url), request(table, 10, load.Settings{}), "")
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range p.Rules {
				if r.Column == column {
					return r.Rule
				}
			}
			t.Fatalf("%s has no rule for %s", table, column)
			return ""
		}
		const n = 1500 // more than a sample has
		run(t, fill(t, url, "parent", n, load.Settings{}))
		if got, want := rule("child", "a"), "any of 1500 keys of public.parent, computed"; got != want {
			t.Errorf("keys of a loaded parent: %q, want %q", got, want)
		}
		run(t, fill(t, url, "child", n, load.Settings{Chunk: 500}))
		if got, want := rule("grandchild", "child"), "each row of public.child at most once"; got != want {
			t.Errorf("a key of its own in each row: %q, want %q", got, want)
		}
		run(t, fill(t, url, "grandchild", n, load.Settings{Chunk: 500}))
		loadertest.Exec(t, url, "INSERT INTO parent VALUES (1, '00000000-0000-0000-0000-000000000001', 'mine')", "DELETE FROM grandchild", "DELETE FROM child",
			"DELETE FROM parent WHERE code = (SELECT code FROM parent WHERE code <> 'mine' ORDER BY code LIMIT 1)")
		if got, want := rule("child", "a"), "any of 1000 keys of public.parent"; got != want {
			t.Errorf("keys of a parent of which a row was deleted: %q, want %q", got, want)
		}

		var stop = make(chan struct{})
		var once sync.Once
		begun := fill(t, url, "tree", 400, load.Settings{Chunk: 50, Workers: 3, Stop: stop, Observe: func(loader.Event) { once.Do(func() { close(stop) }) }})
		if _, err := begun.Run(ctx); !errors.Is(err, loader.ErrStopped) {
			t.Fatalf("the load was not stopped: %v", err)
		}
		resumedByTwo(t, url, begun.ID, load.Settings{Chunk: 30, Workers: 2}, load.Settings{Chunk: 90, Workers: 2})
		if n := loadertest.Value[int64](t, url, "SELECT count(above) FROM tree"); n < 250 || n > 380 {
			t.Errorf("%d of 400 rows point to another row of the table, want about 80 %%", n)
		}
		run(t, fill(t, url, "rooted", 100, load.Settings{Chunk: 30}))
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM rooted WHERE above = id"); n != 1 {
			t.Errorf("%d rows point to themselves, want the first one", n)
		}
		again, err := load.Resume(ctx, loadertest.Open(t, url), begun.ID, load.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(again.Close)
		if got, err := again.Verify(ctx, nil); err != nil || !got.OK() || got.Same != 400 {
			t.Errorf("verified %+v, %v; want 400 rows", got, err)
		}

		// A cycle of keys that allow no NULL: one row of each is written first. A child is no part of it.
		loadertest.Exec(t, url, "CREATE TABLE hen (id INT8 PRIMARY KEY, egg INT8 NOT NULL, name TEXT NOT NULL, hatched DATE NOT NULL)", "CREATE TABLE egg (id INT8 PRIMARY KEY, hen INT8 NOT NULL REFERENCES hen)",
			"ALTER TABLE hen ADD CONSTRAINT hen_egg FOREIGN KEY (egg) REFERENCES egg", "CREATE TABLE chick (id INT8 PRIMARY KEY, egg INT8 NOT NULL REFERENCES egg)")
		srv, names := loadertest.Open(t, url), []string{"chick", "hen", "egg"}
		if _, err := load.New(ctx, srv, request("hen", 5, load.Settings{})); err == nil || !strings.Contains(err.Error(), "load public.egg first") {
			t.Errorf("the error of one table of a cycle is %v", err)
		}
		order, err := anytable.Order(ctx, srv, names)
		if err != nil || len(order) != 3 || len(order[0].Cycle) != 2 || order[1].Cycle != nil || order[2].Table != 0 {
			t.Fatalf("the order is %v, %v; want a cycle of hen and egg, and then chick", order, err)
		}
		for again := range 2 {
			note, err := anytable.Begin(ctx, srv, names, order[0].Cycle, 7)
			if err != nil || (note == "") != (again == 1) {
				t.Errorf("begun %d times: %q, %v", again, note, err)
			}
		}
		for _, step := range order {
			run(t, fill(t, url, names[step.Table], 50, load.Settings{}))
		}
		if got := loadertest.Value[string](t, url, "SELECT (SELECT count(*) FROM hen) || ' ' || (SELECT count(*) FROM egg) || ' ' || (SELECT count(*) FROM chick)"); got != "51 51 50" {
			t.Errorf("the tables of a cycle have %s rows, want 51 51 50", got)
		}
	})
}
