package load_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
)

// postgresSubjects runs f for what can be loaded into PostgreSQL, which alone has
// triggers and deferred constraints, and which holds for. The table is made.
func postgresSubjects(t *testing.T, which func(subject) bool, f func(t *testing.T, url string, sub subject)) {
	t.Helper()
	srv := loadertest.PostgreSQLServer(t)
	list := subjects(srv)
	if !loadertest.Chaos {
		list = few(list)
	}
	for _, sub := range list {
		if !which(sub) {
			continue
		}
		t.Run(sub.String(), func(t *testing.T) {
			loadertest.CheckNoLeaks(t)
			url := srv.NewDatabase(t)
			loadertest.Exec(t, url, sub.ddl)
			f(t, url, sub)
		})
	}
}

// withTriggers leaves out files by statement, which a table with triggers refuses.
func withTriggers(sub subject) bool {
	return sub.kind != "file" || sub.CommitMode != commit.Statement
}

// exec executes one statement with parameters.
func exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatal(err)
	}
}

// TestDuplicateAtCommit loads rows of which one has what a foreign row has in a unique
// index that is checked late: the server takes every row and refuses COMMIT.
func TestDuplicateAtCommit(t *testing.T) {
	const n, bad, foreign = 2000, 777, -1
	// An account has no column but its key that is known and distinct.
	known := func(s subject) bool { return s.kind != "accounts" && inChunks(s) }
	postgresSubjects(t, known, func(t *testing.T, url string, sub subject) {
		var column, place string
		var value any
		switch sub.kind {
		case "points":
			c := rows.NewChunk(dataset.PointSource{}.Columns())
			if err := (dataset.PointSource{Seed: 11, Keys: dataset.KeyLayout{Rows: n}}).Fill(c, chunker.RowSpan(bad, 1)); err != nil {
				t.Fatal(err)
			}
			column, value, place = "x", c.Col(1).Floats[0], "rows 700 to 799"
		default:
			column, value, place = "s", fmt.Sprintf("a\n%d", bad), "x.csv"
		}
		loadertest.Exec(t, url, fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT late UNIQUE (%s) DEFERRABLE INITIALLY DEFERRED", sub.table, column))
		statement := fmt.Sprintf("INSERT INTO %s (id, %s) VALUES (%d, $1)", sub.table, column, foreign)
		if sub.kind == "points" {
			statement = fmt.Sprintf("INSERT INTO points (id, x, y, z) VALUES (%d, $1, 0, 0)", foreign)
		}
		exec(t, url, statement, value)
		x := sub.start(t, url, n)
		_, err := x.wait()
		if err == nil || !strings.Contains(err.Error(), place) || !strings.Contains(err.Error(), "23505") {
			t.Errorf("got %v, want the duplicate with its place, %s", err, place)
		}
		// None of the refused chunk is in, and whatever is in is whole chunks.
		chunkOf := "id / 100"
		if sub.kind == "points" {
			chunkOf = fmt.Sprintf("(id - %d) / 100", x.Dataset.Keys().First)
		}
		if n := loadertest.Value[int64](t, url, fmt.Sprintf("SELECT count(*) FROM %s WHERE id <> %d AND %s = 7", sub.table, foreign, chunkOf)); n != 0 {
			t.Errorf("%d rows of the refused chunk are in", n)
		}
		if n := loadertest.Value[int64](t, url, fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s WHERE id <> %d GROUP BY %s HAVING count(*) <> 100) p", sub.table, foreign, chunkOf)); n != 0 {
			t.Errorf("%d chunks are in by parts", n)
		}
		// The foreign row goes, and the load can end.
		loadertest.Exec(t, url, fmt.Sprintf("DELETE FROM %s WHERE id = %d", sub.table, foreign))
		x.Close()
		resume(t, url, x.Load, sub.Settings)
		sub.exact(t, url, x.Load, n)
	})
}

// refuseAtCommit makes every period-th row have its COMMIT refused with 40001, by a
// trigger that is deferred. A sequence is not rolled back, so that the same chunk may
// pass when it is sent again; a period of 1 refuses all.
func refuseAtCommit(t testing.TB, url, table string, period int) {
	t.Helper()
	loadertest.Exec(t, url, "CREATE SEQUENCE refusals",
		fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('refusals') %% %d = 0 THEN
				RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
			END IF;
			RETURN NULL; END $$`, period),
		fmt.Sprintf("CREATE CONSTRAINT TRIGGER late AFTER INSERT ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()", table))
}

// TestRefusedAtCommit has the server refuse COMMIT with 40001: for one chunk in about
// three, and, as the control, for all.
func TestRefusedAtCommit(t *testing.T) {
	postgresSubjects(t, withTriggers, func(t *testing.T, url string, sub subject) {
		refuseAtCommit(t, url, sub.table, 271)
		x := sub.start(t, url, 3000)
		if res := x.mustEnd(t); res.Retries == 0 {
			t.Error("no retry was counted")
		}
		sub.exact(t, url, x.Load, 3000)
		x.Close()

		loadertest.Exec(t, url, "DROP TRIGGER late ON "+sub.table, "DROP FUNCTION refuse", "DROP SEQUENCE refusals", "TRUNCATE "+sub.table)
		refuseAtCommit(t, url, sub.table, 1)
		sub.RetryFor = 200 * time.Millisecond
		x = sub.start(t, url, 3000)
		if _, err := x.wait(); !errors.Is(err, loader.ErrGaveUp) || !strings.Contains(err.Error(), "40001") {
			t.Errorf("got %v, want to give up with 40001", err)
		}
		if n := sub.count(t, url); n != 0 {
			t.Errorf("%d rows are in, whose COMMIT was refused", n)
		}
	})
}
