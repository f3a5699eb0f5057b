package load_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// repeats returns n records, and the first of them again behind them.
func repeats(n, again int) string {
	var b strings.Builder
	for i := range n + again {
		fmt.Fprintf(&b, "%d,%d\n", i%n, 7*(i%n))
	}
	return b.String()
}

// statementMethods are the methods of the statement mode.
func statementMethods(s loadertest.Server) []commit.Method {
	if s.Product == server.CockroachDB {
		return []commit.Method{commit.Insert}
	}
	return []commit.Method{commit.Insert, commit.Copy}
}

// byStatement returns a request for table kv by the statement way.
func byStatement(t testing.TB, text string, via commit.Method, chunk int64) load.Request {
	req := fileRequest("kv", write(t, "x.csv", text))
	req.CommitMode, req.Method, req.Chunk, req.Workers, filesOf(req).Columns = commit.Statement, via, chunk, 1, []string{"k", "v"}
	return req
}

// checkDuplicate fails the test unless err names the key and the record.
func checkDuplicate(t testing.TB, what string, err error, key, place string) {
	t.Helper()
	var dup *commit.DuplicateError
	var row *commit.RowError
	if !errors.As(err, &dup) || dup.Key != key || !errors.As(err, &row) || row.Place.String() != place {
		t.Errorf("%s: got %v, want the duplicate %s at %s", what, err, key, place)
	}
}

// TestRepeatedRecords has records again with the same content, in another chunk, in the
// same, in one of their own, and by many: none is taken for one that is in.
func TestRepeatedRecords(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		for _, via := range statementMethods(s) {
			for _, x := range []struct {
				n, again int
				chunk    int64
				place    string
				why      string
			}{
				// A chunk that one statement has brought before is settled at the end.
				{350, 50, 50, "x.csv:351", "the record at x.csv:1 has the same key"},
				{20, 1, 1, "x.csv:21", "the record at x.csv:1 has the same key"},
				{100, 100, 100, "x.csv:101", "the record at x.csv:1 has the same key"},
				{350, 50, 100, "x.csv:351", "a row with the same content exists"},
				{350, 50, 30, "x.csv:351", "a row with the same content exists"},
				{350, 50, 1000, "x.csv:351", "an earlier record has the same key"},
			} {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
				l := newLoad(t, url, byStatement(t, repeats(x.n, x.again), via, x.chunk))
				res, err := l.Run(context.Background())
				what := fmt.Sprintf("%d and %d by %s in chunks of %d", x.n, x.again, via, x.chunk)
				checkDuplicate(t, what, err, "k=0", x.place)
				if err != nil && !strings.Contains(err.Error(), x.why) {
					t.Errorf("%s: got %v, want it to say that %s", what, err, x.why)
				}
				if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM kv"); n > int64(x.n) || res.Rows > int64(x.n+x.again) {
					t.Errorf("%s: %d rows, %+v", what, n, res)
				}
				// Whoever asks again hears the same.
				again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Chunk: 77, Input: files.NewInput(nil)})
				if err != nil {
					t.Fatal(err)
				}
				_, err = again.Run(context.Background())
				var dup *commit.DuplicateError
				if !errors.As(err, &dup) {
					t.Errorf("%s, resumed: got %v, want the duplicate", what, err)
				}
				if state := loadertest.Value[string](t, url, "SELECT state FROM loader.loads WHERE id = $1", l.ID); state != "loading" {
					t.Errorf("%s: the load is %s", what, state)
				}
				again.Close()
			}
		}
	})
}

// TestRepeatedRecordsInDoubt loses the connection around the statement that brings records
// for the second time, which the look-up finds in the table, or the reply to the one that
// brings them first. TestLoadsInDoubtAreSettled does it to records that stand in the input
// once.
func TestRepeatedRecordsInDoubt(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for _, via := range statementMethods(s) {
			for _, x := range []struct {
				what  string
				fault *loadertest.Fault
			}{
				{"the repetition is cut", &loadertest.Fault{Nth: 4, Do: loadertest.Cut, Reset: true, Times: 1}},
				{"the reply to the first is lost", &loadertest.Fault{Nth: 1, Do: loadertest.SwallowReply, Times: 1}},
			} {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
				proxy := loadertest.NewProxy(t, url)
				req := byStatement(t, repeats(150, 50), via, 50)
				l := newLoad(t, proxy.URL(), req)
				x.fault.When = rowsInto(s, via)
				proxy.Add(x.fault)
				res, err := l.Run(context.Background())
				if !x.fault.Fired() || res.LookUps == 0 {
					t.Errorf("%s by %s: happened %d times, %+v", x.what, via, x.fault.Count(), res)
				}
				checkDuplicate(t, x.what+" by "+string(via), err, "k=0", "x.csv:151")
			}
		}
	})
}

// rowsInto matches the statement that brings rows into kv.
func rowsInto(s loadertest.Server, via commit.Method) loadertest.Match {
	if via == commit.Copy {
		return loadertest.Match{SQL: `^COPY .*kv`, Kind: loadertest.MsgStatement}
	}
	return loadertest.Match{SQL: `^INSERT INTO .*kv`, Kind: loadertest.MsgStatement}
}

func TestLoadsInDoubtAreSettled(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		for _, via := range statementMethods(s) {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
			proxy := loadertest.NewProxy(t, url)
			l := newLoad(t, proxy.URL(), byStatement(t, repeats(500, 0), via, 50))
			proxy.Add(&loadertest.Fault{When: rowsInto(s, via), Nth: 2, Do: loadertest.SwallowReply, Times: 3})
			res, err := l.Run(context.Background())
			if err != nil || res.LookedUp.Len() == 0 || res.Rows != 500 {
				t.Errorf("by %s: %+v, %v, want it looked up", via, res, err)
			}
			checkSettled(t, url, l)
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.doubts"); n != 0 {
				t.Errorf("by %s: %d doubts are left", via, n)
			}
		}
	})
}

// TestSettledByAnotherRunMeanwhile has another run settle a load's last ranges while the end of
// a run reads the registry: its record as it was before, the ranges as they are after. The load
// is complete.
func TestSettledByAnotherRunMeanwhile(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		ctx := context.Background()
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, kvDDL)
		other, err := pgx.Connect(ctx, withName(t, url))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close(ctx)
		exec := func(statement string, args ...any) {
			if _, err := other.Exec(ctx, statement, args...); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
		proxy := loadertest.NewProxy(t, url)
		l := newLoad(t, proxy.URL(), byStatement(t, repeats(500, 0), commit.Insert, 50))
		loadertest.Exec(t, url, fmt.Sprintf("INSERT INTO loader.doubts (load, lo, hi, looked) VALUES ('%s', 0, 50, true)", l.ID))
		// The end reads the record, the indexes and the ranges in this order, and the read of the
		// ranges waits for other. A claim reads ranges too, but no indexes.
		end := false
		fault := &loadertest.Fault{Do: loadertest.Delay, When: loadertest.Match{Kind: loadertest.MsgStatement, Func: func(m *loadertest.Message) bool {
			if strings.Contains(m.SQL, "loader.indexes") {
				end = true
			}
			if !end || !strings.HasPrefix(m.SQL, "SELECT lo, hi FROM loader.doubts") {
				return false
			}
			end = false
			exec("BEGIN")
			if !s.Cockroach {
				exec("LOCK TABLE loader.doubts IN ACCESS EXCLUSIVE MODE")
			}
			exec("DELETE FROM loader.doubts WHERE load = $1", l.ID)
			return true
		}}}
		proxy.Add(fault)
		ended := make(chan error, 1)
		go func() {
			_, err := l.Run(ctx)
			ended <- err
		}()
		waits := `SELECT count(*) > 0 FROM pg_locks WHERE relation = 'loader.doubts'::REGCLASS AND NOT granted`
		if s.Cockroach {
			waits = `SELECT count(*) > 0 FROM [SHOW CLUSTER QUERIES] WHERE query LIKE 'SELECT lo, hi FROM%doubts%' AND phase = 'executing'`
		}
		loadertest.Eventually(t, "the read of the ranges to wait", func() bool {
			return fault.Fired() && loadertest.Value[bool](t, url, waits)
		})
		exec("UPDATE loader.loads SET state = 'done', finished_at = now() WHERE id = $1", l.ID)
		exec("COMMIT")
		if err := <-ended; err != nil {
			t.Errorf("got %v, want a load that is complete", err)
		}
		checkSettled(t, url, l)
	})
}

// TestEarlierRowsAreOfOthers loads a file into a table that has its rows: those of a chunk
// whose reply is lost are not taken for the load's either.
func TestEarlierRowsAreOfOthers(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, kvDDL, "INSERT INTO kv SELECT i, 7 * i FROM generate_series(0, 99) AS g (i)")
		loadertest.Eventually(t, "the server's clock to go on", func() bool {
			return s.Product != server.CockroachDB ||
				loadertest.Value[bool](t, url, "SELECT max(crdb_internal_mvcc_timestamp) < cluster_logical_timestamp() - 1100000000 FROM kv")
		})
		for _, via := range statementMethods(s) {
			proxy := loadertest.NewProxy(t, url)
			l := newLoad(t, proxy.URL(), byStatement(t, repeats(100, 0), via, 50))
			fault := &loadertest.Fault{When: rowsInto(s, via), Do: loadertest.Cut, Reset: true, Times: 1}
			proxy.Add(fault)
			_, err := l.Run(context.Background())
			if !fault.Fired() {
				t.Error("no connection was cut")
			}
			checkDuplicate(t, "by "+string(via), err, "k=0", "x.csv:1")
		}
	})
}

// TestKilledLoadsWithRepeatedRecords stops a run without a word after each of its first
// chunks, as a kill does, and goes on with other chunks: the repetition is found whatever
// the dead run has sent.
func TestKilledLoadsWithRepeatedRecords(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		url := s.NewDatabase(t)
		for _, again := range []int{0, 50} {
			for nth := 1; nth <= 8; nth += 2 {
				loadertest.Exec(t, url, "DROP TABLE IF EXISTS kv", kvDDL)
				proxy := loadertest.NewProxy(t, url)
				l := newLoad(t, proxy.URL(), byStatement(t, repeats(350, again), commit.Insert, 50))
				ctx, kill := context.WithCancel(context.Background())
				fault := &loadertest.Fault{When: rowsInto(s, commit.Insert), Nth: nth, Do: loadertest.SwallowReply, Times: 1}
				proxy.Add(fault)
				ended := make(chan struct{})
				go func() { defer close(ended); l.Run(ctx) }()
				loadertest.Eventually(t, "the reply to be lost, or the end", func() bool {
					select {
					case <-ended:
						return true
					default:
						return fault.Fired()
					}
				})
				kill()
				<-ended
				l.Close()
				srv := loadertest.Open(t, url)
				next, err := load.Resume(context.Background(), srv, l.ID, load.Settings{Chunk: 30, Input: files.NewInput(nil)})
				if err != nil {
					t.Fatal(err)
				}
				_, err = next.Run(context.Background())
				next.Close()
				var dup *commit.DuplicateError
				if again == 0 && err != nil || again > 0 && !errors.As(err, &dup) {
					t.Errorf("%d again, killed after statement %d: %v", again, nth, err)
				}
				if got := table(t, url, "SELECT count(*)::TEXT FROM kv"); again == 0 && !slices.Equal(got, []string{`"350"|`}) {
					t.Errorf("killed after statement %d: rows %v", nth, got)
				}
			}
		}
	})
}

// TestStatementsOfStandardInput refuses what cannot be read once more.
func TestStatementsOfStandardInput(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, kvDDL)
		req := byStatement(t, "", commit.Insert, 50)
		filesOf(req).Names, filesOf(req).Input = []string{files.Stdin}, files.NewInput(strings.NewReader("1,2\n"))
		_, err := load.New(context.Background(), loadertest.Open(t, url), req)
		var table *load.TableError
		if !errors.As(err, &table) || !strings.Contains(err.Error(), "standard input") || !strings.Contains(err.Error(), "use --commit transaction") {
			t.Errorf("got %v, want it refused", err)
		}
	})
}
