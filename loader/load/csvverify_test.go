package load_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
)

// verified loads a file, lets change happen to the table, and verifies the load.
func verified(t *testing.T, url string, req load.Request, change ...string) load.Report {
	t.Helper()
	l := newLoad(t, url, req)
	if _, err := l.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	loadertest.Exec(t, url, change...)
	again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	got, err := again.Verify(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "loader-sort-") }) {
		t.Errorf("what was sorted on disk is still there: %v, %v", left, err)
	}
	return got
}

// figures are what a report says, but for words.
func figures(r load.Report) string {
	return fmt.Sprintf("%d rows: %d same, %d changed, %d missing, %d repeated, %d of another record, %d of others, ok %t, first in %s",
		r.Rows, r.Same, r.Changed, r.Missing, r.Repeated, r.Order, r.Others, r.OK(), r.Place)
}

// TestVerifyFindsWhatKeysAndContentShow loads a file and makes the table wrong in each way that
// a verification must see. In the first case of each kind it is right.
func TestVerifyFindsWhatKeysAndContentShow(t *testing.T) {
	const plain, many = "id,s\n1,a\n2,b\n3,c\n", "id,s\n1,a\n2,b\n1,c\n2,d\n1,e\n"
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		for _, c := range []struct {
			name, text string
			conflict   commit.Conflict
			before     []string
			change     []string
			want       string
		}{
			{"right", plain, "", nil, nil, "3 rows: 3 same, 0 changed, 0 missing, 0 repeated, 0 of another record, 0 of others, ok true, first in "},
			{"changed", plain, "", nil, []string{"UPDATE t SET s = 'B' WHERE id = 2"}, "3 rows: 2 same, 1 changed, 0 missing, 0 repeated, 0 of another record, 0 of others, ok false, first in x.csv:3"},
			{"missing", plain, "", nil, []string{"DELETE FROM t WHERE id = 3"}, "3 rows: 2 same, 0 changed, 1 missing, 0 repeated, 0 of another record, 0 of others, ok false, first in x.csv:4"},
			{"update", many, commit.UpdateRow, nil, nil, "2 rows: 2 same, 0 changed, 0 missing, 0 repeated, 0 of another record, 0 of others, ok true, first in "},
			{"an earlier record", many, commit.UpdateRow, nil, []string{"UPDATE t SET s = 'a' WHERE id = 1"}, "2 rows: 1 same, 0 changed, 0 missing, 0 repeated, 1 of another record, 0 of others, ok false, first in x.csv:6"},
			{"a row of others", many, commit.UpdateRow, nil, []string{"UPDATE t SET s = 'z' WHERE id = 1"}, "2 rows: 1 same, 1 changed, 0 missing, 0 repeated, 0 of another record, 0 of others, ok false, first in x.csv:6"},
			{"skip", many, commit.SkipRow, []string{"INSERT INTO t VALUES (2, 'old')"}, nil, "2 rows: 1 same, 0 changed, 0 missing, 0 repeated, 0 of another record, 1 of others, ok true, first in x.csv:3"},
			{"a later record", many, commit.SkipRow, nil, []string{"UPDATE t SET s = 'c' WHERE id = 1"}, "2 rows: 1 same, 0 changed, 0 missing, 0 repeated, 1 of another record, 0 of others, ok false, first in x.csv:2"},
			{"passed over and gone", many, commit.SkipRow, nil, []string{"DELETE FROM t WHERE id = 1"}, "2 rows: 1 same, 0 changed, 1 missing, 0 repeated, 0 of another record, 0 of others, ok false, first in x.csv:2"},
		} {
			t.Run(c.name, func(t *testing.T) {
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, append([]string{"CREATE TABLE t (id INT8 PRIMARY KEY, s TEXT)"}, c.before...)...)
				req := fileRequest("t", write(t, "x.csv", c.text))
				filesOf(req).Conflict = c.conflict
				got := verified(t, url, req, c.change...)
				if dir, name, _ := strings.Cut(got.Place, "x.csv"); dir != "" {
					got.Place = "x.csv" + name
				}
				if f := figures(got); f != c.want {
					t.Errorf("got %s\nwant %s", f, c.want)
				}
				if len(got.Unknown) == 0 {
					t.Error("nothing is said of what it cannot know")
				}
			})
		}
	})
}

// TestVerifyFindsRepeatedRecords verifies a load of which two records have one key, as a
// server that lost a part, or an older version, may leave behind.
func TestVerifyFindsRepeatedRecords(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, s TEXT)")
		l := newLoad(t, url, fileRequest("t", write(t, "x.csv", "id,s\n1,a\n2,b\n01,a\n3,c\n")))
		if _, err := l.Run(context.Background()); err == nil {
			t.Fatal("a repeated record is taken for a row")
		}
		loadertest.Exec(t, url, "DELETE FROM t", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
			fmt.Sprintf("UPDATE loader.loads SET state = 'done' WHERE id = '%s'", l.ID))
		got, err := l.Verify(context.Background(), nil)
		if err != nil || got.OK() || got.Repeated != 1 || !strings.HasSuffix(got.Place, "x.csv:4") {
			t.Errorf("got %s, %v; want one repeated record, at x.csv:4", figures(got), err)
		}
	})
}

// TestVerifyCountsWithoutKeys verifies loads into tables without a key.
func TestVerifyCountsWithoutKeys(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		for _, c := range []struct {
			name           string
			before, change []string
			there          int64
			ok             bool
		}{
			{"right", nil, nil, 3, true},
			{"twice", nil, []string{"INSERT INTO t VALUES (1, 'a')"}, 4, false},
			{"missing", nil, []string{"DELETE FROM t WHERE a = 1"}, 2, false},
			{"others", []string{"INSERT INTO t VALUES (9, 'z')"}, nil, 4, true},
			{"missing beside others", []string{"INSERT INTO t VALUES (9, 'z')"}, []string{"DELETE FROM t WHERE a <> 1"}, 1, false},
		} {
			t.Run(c.name, func(t *testing.T) {
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, append([]string{"CREATE TABLE t (a INT8, s TEXT)"}, c.before...)...)
				got := verified(t, url, fileRequest("t", write(t, "x.csv", "a,s\n1,a\n2,b\n3,c\n")), c.change...)
				if !got.Counted || got.Rows != 3 || got.There != c.there || got.OK() != c.ok {
					t.Errorf("got %+v, want 3 records, %d rows, ok %t", got, c.there, c.ok)
				}
				if c.name == "others" && !strings.Contains(strings.Join(got.Unknown, "; "), "whether 1 additional rows are duplicates") {
					t.Errorf("of the rows of others it says %q", got.Unknown)
				}
			})
		}
	})
}

// TestVerifyAfterImport verifies files that the server's bulk reader has loaded.
func TestVerifyAfterImport(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		if !s.Cockroach {
			t.Skip("PostgreSQL has no IMPORT")
		}
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, s TEXT)")
		req := fileRequest("t", write(t, "x.csv", "id,s\n1,a\n2,b\n3,c\n"))
		req.Method = load.Import
		if got := verified(t, url, req, "UPDATE t SET s = 'B' WHERE id = 2"); got.OK() || got.Same != 2 || got.Changed != 1 {
			t.Errorf("got %s, want one row changed", figures(got))
		}
	})
}

// TestVerifyWhileConnectionsBreak cuts every second connection at what it asks, while loads are
// verified and their rejects are read. The cuts must be of no consequence.
func TestVerifyWhileConnectionsBreak(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		ctx := context.Background()
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, s TEXT)")
		file := fileRequest("t", write(t, "x.csv", "id,s\n1,a\n2,b\nno,c\n3,d\n"))
		filesOf(file).MaxErrors.Records = 1
		for _, req := range []load.Request{file, {Dataset: dataset.NewPoints(12_000, 42)}} {
			l := newLoad(t, url, req)
			res, err := l.Run(ctx)
			if err != nil {
				t.Fatal(err)
			}
			proxy := loadertest.NewProxy(t, url)
			again, err := load.Resume(ctx, loadertest.Open(t, proxy.URL()), l.ID, load.Settings{Input: files.NewInput(nil), Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			var cuts []*loadertest.Fault
			for _, sql := range []string{`FROM loader\.rejects`, `FROM loader\.moved`, `points|"t"`} {
				cut := &loadertest.Fault{When: loadertest.Match{SQL: sql, Kind: loadertest.MsgStatement}, Times: 2, Do: loadertest.CutAfter}
				cuts = append(cuts, cut)
				proxy.Add(cut)
			}
			if got, err := again.Verify(ctx, nil); err != nil || !got.OK() || got.Same != res.Rows {
				t.Errorf("got %s, %v; want all rows the same", figures(got), err)
			}
			rejects := 0
			proxy.Add(&loadertest.Fault{When: loadertest.Match{SQL: `FROM loader\.rejects`, Kind: loadertest.MsgStatement}, Do: loadertest.Cut})
			if err := again.EachReject(ctx, func(rows.Reject) error { rejects++; return nil }); err != nil || int64(rejects) != res.Rejected {
				t.Errorf("%d rejects were read, %v; want %d", rejects, err, res.Rejected)
			}
			fired := 0
			for _, cut := range cuts {
				fired += cut.Count()
			}
			if fired < 3 {
				t.Errorf("%d connections were cut, want more", fired)
			}
		}
	})
}
