package load_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/failure"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// TestModeOfFiles has the plan decide how the chunks of a file are committed, and say why.
func TestModeOfFiles(t *testing.T) {
	const plain = "CREATE TABLE kv (k INT8 PRIMARY KEY, v INT8)"
	s := loadertest.CockroachServer(t) // PostgreSQL commits files by transaction unless told
	url := s.NewDatabase(t)
	srv := loadertest.Open(t, url)
	for _, x := range []struct {
		want string
		why  string
		ddl  []string
		set  func(*load.Request)
	}{
		{"statement", "the table was empty", []string{plain}, nil},
		{"statement", "", []string{plain}, func(r *load.Request) { r.CommitMode = commit.Statement }},
		{"transaction", "", []string{plain}, func(r *load.Request) { r.CommitMode = commit.Transaction }},
		{"transaction", "the table had rows", []string{plain, "INSERT INTO kv VALUES (7, 7)"}, nil},
		{"transaction", "--max-errors need", []string{plain}, func(r *load.Request) { filesOf(*r).MaxErrors.Records = 1 }},
		{"transaction", "--on-conflict and", []string{plain}, func(r *load.Request) { filesOf(*r).Conflict = commit.SkipRow }},
		{"transaction", "computed by --set", []string{plain}, func(r *load.Request) {
			filesOf(*r).Columns, filesOf(*r).Set = []string{"k", "x"}, []commit.Assignment{{Column: "v", Expr: "x::INT8"}}
		}},
		{"transaction", "which standard input does not allow", []string{plain}, func(r *load.Request) {
			filesOf(*r).Names, filesOf(*r).Input = []string{files.Stdin}, files.NewInput(strings.NewReader("1,2\n"))
		}},
		{"transaction", "the whole primary key", []string{"CREATE TABLE kv (k INT8, v INT8)"}, nil},
		{"transaction", "the whole primary key", []string{"CREATE TABLE kv (k INT8, v INT8, w INT8 AS (k % 3) STORED, PRIMARY KEY (w, k))"}, nil},
		{"transaction", "different texts can be equal", []string{"CREATE TABLE kv (k DECIMAL PRIMARY KEY, v INT8)"}, nil},
		{"transaction", "elements are truncated", []string{"CREATE TABLE kv (k INT8 PRIMARY KEY, v DECIMAL(12,2)[])"}, func(r *load.Request) {
			filesOf(*r).Names = []string{write(t, "array.csv", "1,{2}\n")}
		}},
		{"transaction", "changes with each UPDATE", onlyFrom(srv, 22, "CREATE TABLE kv (k INT8 PRIMARY KEY, v INT8 ON UPDATE 7)"), nil},
		{"statement", "the table was empty", onlyFrom(srv, 22, "CREATE TABLE kv (k INT8 PRIMARY KEY, v INT8, w INT8 DEFAULT 1 ON UPDATE 7)"), nil},
		{"transaction", "have expired", onlyFrom(srv, 22, "CREATE TABLE kv (k INT8 PRIMARY KEY, v INT8) WITH (ttl_expire_after = '1 day')"), nil},
		{"transaction", "trigger tr of public.kv may change them", onlyFrom(srv, 26, plain, changeV, "CREATE TRIGGER tr BEFORE INSERT ON kv FOR EACH ROW EXECUTE FUNCTION change()"), nil},
		{"statement", "the table was empty", onlyFrom(srv, 26, plain, changeV, "CREATE TRIGGER tr BEFORE DELETE ON kv FOR EACH ROW EXECUTE FUNCTION change()"), nil},
		{"transaction", "row-level security", onlyFrom(srv, 26, plain, "ALTER TABLE kv ENABLE ROW LEVEL SECURITY"), nil},
	} {
		if x.ddl == nil {
			continue
		}
		loadertest.Exec(t, url, append([]string{"DROP TABLE IF EXISTS kv"}, x.ddl...)...)
		req := fileRequest("kv", write(t, "x.csv", "1,2\n3,4\n"))
		filesOf(req).Columns = []string{"k", "v"}
		if x.set != nil {
			x.set(&req)
		}
		p, err := load.NewPreview(context.Background(), srv, req, "")
		if err != nil {
			t.Errorf("%v: %v", x.ddl, err)
			continue
		}
		if string(p.CommitMode) != x.want || (p.CommitWhy == "") != (x.why == "") || !strings.Contains(p.CommitWhy, x.why) {
			t.Errorf("%v: by %s, for %q; want by %s, for %q", x.ddl, p.CommitMode, p.CommitWhy, x.want, x.why)
		}
		if slices.Contains(filesOf(req).Names, files.Stdin) {
			continue // the plan has read it
		}
		if l := newLoad(t, url, req); l.CommitMode != p.CommitMode {
			t.Errorf("%v: the load goes by %s, and the plan says %s", x.ddl, l.CommitMode, p.CommitMode)
		}
	}
}

// changeV makes a trigger's function that changes the key.
const changeV = "CREATE OR REPLACE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.k = (NEW).k + 1000; RETURN NEW; END'"

// onlyFrom returns statements for servers of that major version and later; nil for others.
func onlyFrom(srv *server.Server, major int, statements ...string) []string {
	if !srv.AtLeast(major, 1, 0) {
		return nil
	}
	return statements
}

// fileWithout returns n records for table kv, of which those in bad are no rows, and the rows.
func fileWithout(n int, bad map[int]string) (text string, want []string) {
	var b strings.Builder
	for i := range n {
		if line, ok := bad[i]; ok {
			b.WriteString(line + "\n")
			continue
		}
		fmt.Fprintf(&b, "%d,%d\n", i, 7*i)
		k, v := fmt.Sprint(i), fmt.Sprint(7*i)
		want = append(want, show([]*string{&k, &v}))
	}
	slices.Sort(want)
	return b.String(), want
}

// inDoubt runs a load by statement whose reply to statement nth is lost, and which ends without
// having looked, as a kill would end it.
func inDoubt(t *testing.T, s loadertest.Server, url string, req load.Request, nth int) *load.Load {
	t.Helper()
	proxy := loadertest.NewProxy(t, url)
	l := newLoad(t, proxy.URL(), req)
	ctx, kill := context.WithCancel(context.Background())
	fault := &loadertest.Fault{When: rowsInto(s, commit.Insert), Nth: nth, Do: loadertest.SwallowReply, Times: 1}
	proxy.Add(fault)
	ended := make(chan struct{})
	go func() { defer close(ended); l.Run(ctx) }()
	loadertest.Eventually(t, "the reply to be lost", fault.Fired)
	kill()
	<-ended
	l.Close()
	return l
}

func resumed(t *testing.T, url, id string, set load.Settings, maxErrors int64) (*load.Load, loader.Result, error) {
	t.Helper()
	set.Input = files.NewInput(nil)
	if maxErrors > 0 {
		set.Input.MaxErrors = &files.Tolerance{Records: maxErrors}
	}
	l, err := load.Resume(context.Background(), loadertest.Open(t, url), id, set)
	if err != nil {
		return nil, loader.Result{}, err
	}
	t.Cleanup(l.Close)
	res, err := l.Run(context.Background())
	return l, res, err
}

// TestRejectsByStatement goes on with --max-errors where a load by statement met a bad record, or
// was killed: each record becomes a row or a reject, once, whatever the dead run has sent.
func TestRejectsByStatement(t *testing.T) {
	bad := map[int]string{97: "97,x", 143: "143", 144: "5,36", 230: "\"230,1"[:3] + "x,1", 349: "y,1"}
	s := loadertest.CockroachServer(t) // PostgreSQL commits files by statement only if told, and then without rejects
	url := s.NewDatabase(t)
	for _, nth := range []int{0, 1, 2} {
		for _, chunk := range []int64{50, 33, 1000} {
			// A chunk of 1000 has both rows of the lost statement and bad records.
			if !loadertest.Chaos && !(nth == 0 && chunk == 33 || nth == 1 && chunk == 1000) {
				continue // the rest is of the long tier
			}
			what := fmt.Sprintf("statement %d lost, then chunks of %d", nth, chunk)
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
			text, want := fileWithout(350, bad)
			req := byStatement(t, text, commit.Insert, 40)
			req.CommitMode = "" // it is the default
			var id string
			if nth == 0 {
				l := newLoad(t, url, req)
				_, err := l.Run(context.Background())
				var at interface{ Where() rows.Place }
				if !errors.As(err, &at) || at.Where().Line != 98 {
					t.Fatalf("%s: got %v, want the bad record at line 98", what, err)
				}
				id = l.ID
			} else {
				id = inDoubt(t, s, url, req, nth).ID
			}
			l, res, err := resumed(t, url, id, load.Settings{Chunk: chunk, Workers: 1, StaleAfter: time.Second}, 10)
			if err != nil || l.CommitMode != commit.Statement {
				t.Errorf("%s: %+v, %v", what, res, err)
				continue
			}
			if got := table(t, url, "SELECT k::TEXT, v::TEXT FROM kv"); !slices.Equal(got, want) {
				t.Errorf("%s: the table has %d rows, want %d", what, len(got), len(want))
			}
			var lines []int64
			if err := l.EachReject(context.Background(), func(r rows.Reject) error { lines = append(lines, r.Line); return nil }); err != nil {
				t.Error(err)
			}
			if want := []int64{98, 144, 145, 231, 350}; !slices.Equal(lines, want) {
				t.Errorf("%s: rejects at lines %d, want %d", what, lines, want)
			}
			if n := loadertest.Value[int64](t, url, "SELECT (SELECT count(*) FROM loader.ledger WHERE load = $1) + (SELECT count(*) FROM loader.ranges WHERE load = $1)", id); n != 0 {
				t.Errorf("%s: %d records of chunks are left behind", what, n)
			}
		}
	}
}

// TestMendedFileByStatement mends a file behind the chunks that are in, and in front of them. A
// chunk whose outcome is open is looked up where it stands now.
func TestMendedFileByStatement(t *testing.T) {
	loadertest.ForServer(t, loadertest.CockroachDB, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		begin := func(bad int) (load.Request, string, []string) {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
			text, _ := fileWithout(600, map[int]string{bad: fmt.Sprintf("%d,x", bad)})
			mended, want := fileWithout(600, nil)
			req := byStatement(t, text, commit.Insert, 40)
			req.InOrder = true
			if s.Cockroach {
				req.CommitMode = "" // it is the default
			}
			return req, mended, want
		}
		mend := func(req load.Request, text string) {
			if err := os.WriteFile(filesOf(req).Names[0], []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		req, mended, want := begin(130)
		l := newLoad(t, url, req)
		if _, err := l.Run(context.Background()); err == nil {
			t.Fatal("a bad record is loaded")
		}
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM kv"); n != 120 {
			t.Errorf("%d rows are in, want the three chunks before the bad one", n)
		}
		mend(req, mended)
		if _, res, err := resumed(t, url, l.ID, load.Settings{Mend: true}, 0); err != nil {
			t.Errorf("the mended file: %+v, %v", res, err)
		}
		if got := table(t, url, "SELECT k::TEXT, v::TEXT FROM kv"); !slices.Equal(got, want) {
			t.Errorf("the mended file: %d rows, want %d", len(got), len(want))
		}
		// A chunk that is in differs.
		req, mended, _ = begin(130)
		l = newLoad(t, url, req)
		if _, err := l.Run(context.Background()); err == nil {
			t.Fatal("a bad record is loaded")
		}
		mend(req, strings.Replace(mended, "7,49\n", "7,50\n", 1))
		if _, _, err := resumed(t, url, l.ID, load.Settings{Mend: true}, 0); !errors.Is(err, files.ErrChanged) {
			t.Errorf("a changed chunk: %v, want it refused", err)
		}
		// A chunk is in, and nobody knows: what was sent must stand in the file unchanged.
		for _, nth := range []int{1, 3} {
			// On a slow machine some parts behind it are announced, too, so the bad record stands far
			// behind.
			req, mended, want = begin(590)
			req.Workers = 1
			l = inDoubt(t, s, url, req, nth)
			old := fmt.Sprintf("%d,%d\n", 40*nth-33, 7*(40*nth-33))
			mend(req, strings.Replace(mended, old, "1007,49\n", 1))
			_, _, err := resumed(t, url, l.ID, load.Settings{Mend: true, StaleAfter: time.Second}, 0)
			if named := fmt.Sprintf("lines %d to %d, which may be loaded, are missing or changed", 40*nth-39, 40*nth); !errors.Is(err, files.ErrChanged) || !strings.Contains(err.Error(), named) {
				t.Errorf("chunk %d in doubt and changed: %v, want it refused, and %s", nth, err, named)
			}
			// It moves by a record that is new in front of it, and looks itself up there.
			if mended += "1000,7000\n"; nth == 1 {
				mended = "1000,7000\n" + strings.TrimSuffix(mended, "1000,7000\n")
			}
			mend(req, mended)
			want = append(want, show([]*string{new("1000"), new("7000")}))
			slices.Sort(want)
			_, res, err := resumed(t, url, l.ID, load.Settings{Mend: true, StaleAfter: time.Second, Chunk: 25}, 0)
			if err != nil || res.LookUps == 0 || res.AlreadyCommittedRows == 0 {
				t.Errorf("chunk %d in doubt: %+v, %v; want it looked up", nth, res, err)
			}
			if got := table(t, url, "SELECT k::TEXT, v::TEXT FROM kv"); !slices.Equal(got, want) {
				t.Errorf("chunk %d in doubt: the table has %d rows, want %d", nth, len(got), len(want))
			}
			if n := loadertest.Value[int64](t, url, "SELECT (SELECT count(*) FROM loader.sent WHERE load = $1) + (SELECT count(*) FROM loader.doubts WHERE load = $1)", l.ID); n != 0 {
				t.Errorf("chunk %d in doubt: %d records of it are left behind", nth, n)
			}
		}
	})
}

// TestTriggerInBetween makes a trigger that changes keys, after the plan, for the one statement
// whose reply is lost. The look-up does not find its rows, and they are sent again: the load must
// not be complete.
func TestTriggerInBetween(t *testing.T) {
	s := loadertest.NewestCockroachServer(t) // there are no triggers before 24.3
	url := s.NewDatabase(t)
	for _, gone := range []bool{true, false} {
		loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL, changeV)
		proxy := loadertest.NewProxy(t, url)
		req := byStatement(t, repeats(100, 0), commit.Insert, 50)
		req.CommitMode = ""
		l := newLoad(t, proxy.URL(), req)
		loadertest.Exec(t, url, "CREATE TRIGGER tr BEFORE INSERT ON kv FOR EACH ROW EXECUTE FUNCTION change()")
		fault := &loadertest.Fault{When: rowsInto(s, commit.Insert), Do: loadertest.SwallowReply, Times: 1}
		proxy.Add(fault) // before Done
		if gone {
			// The look-up waits until the trigger is gone, or about so.
			proxy.Add(&loadertest.Fault{When: loadertest.Match{SQL: `LOOKUP JOIN`, Kind: loadertest.MsgStatement}, Times: 1, Do: loadertest.Delay, Delay: 2 * time.Second})
			dropped := make(chan struct{})
			go func() {
				defer close(dropped)
				<-fault.Done()
				loadertest.Exec(t, url, "DROP TRIGGER tr ON kv")
			}()
			defer func() { <-dropped }()
		}
		res, err := l.Run(context.Background())
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM kv"); !fault.Fired() || n <= 100 && err == nil {
			t.Errorf("the attack did not happen: %d rows, %+v", n, res)
		}
		// While the trigger stays, the rows collide with those that it has changed.
		if !errors.Is(err, loader.ErrUnconfirmed) || failure.Of(err) != failure.Unconfirmed || !gone && !strings.Contains(err.Error(), "x.csv:1") {
			t.Errorf("dropped again %t: got %v, want it not confirmed, and the line", gone, err)
		}
	}
}

// TestRepeatedRecordsUnderKills kills a load by statement 50 times, each time with a reply lost,
// and resumes it with other chunks. Without repeated records each row is in, once; with them the
// load never ends as complete.
func TestRepeatedRecordsUnderKills(t *testing.T) {
	loadertest.Long(t)
	const n, kills = 3000, 50
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		random := rand.New(rand.NewPCG(randomSeed(t), 21))
		for _, again := range []int{0, 40} {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
			proxy := loadertest.NewProxy(t, url)
			req := byStatement(t, repeats(n, again), commit.Insert, 20)
			req.InOrder, req.Workers = true, 2
			l := newLoad(t, proxy.URL(), req)
			id, killed := l.ID, 0
			for ; killed < kills; killed++ {
				ctx, kill := context.WithCancel(context.Background())
				// A resumed load chooses its method again.
				rows := loadertest.Match{SQL: `^(INSERT INTO|COPY) .*kv`, Kind: loadertest.MsgStatement}
				fault := &loadertest.Fault{When: rows, Nth: 1 + random.IntN(3), Times: 1, Do: loadertest.SwallowReply}
				if random.IntN(3) == 0 {
					fault.Do, fault.Reset = loadertest.CutAfter, true
				}
				proxy.Add(fault)
				ended := make(chan error, 1)
				go func() { _, err := l.Run(ctx); ended <- err }()
				var over bool
				select {
				case <-fault.Done():
				case <-ended:
					over = true
				}
				kill()
				if !over {
					<-ended
				}
				l.Close()
				var err error
				set := load.Settings{Chunk: int64(10 + random.IntN(30)), Workers: 2, Input: files.NewInput(nil)}
				if l, err = load.Resume(context.Background(), loadertest.Open(t, proxy.URL()), id, set); err != nil {
					t.Fatal(err)
				}
				if over {
					break
				}
			}
			_, err := l.Run(context.Background())
			l.Close()
			var dup *commit.DuplicateError
			if again == 0 && err != nil || again > 0 && !errors.As(err, &dup) {
				t.Errorf("%d again, %d kills: %v", again, killed, err)
			}
			if killed < kills/2 {
				t.Errorf("%d again: only %d kills", again, killed)
			}
			if rows, keys := loadertest.Value[int64](t, url, "SELECT count(*) FROM kv"), loadertest.Value[int64](t, url, "SELECT count(DISTINCT k) FROM kv WHERE v = 7 * k"); rows != keys || again == 0 && rows != n {
				t.Errorf("%d again: %d rows, of which %d are as in the file", again, rows, keys)
			}
		}
	})
}
