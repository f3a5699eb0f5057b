package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// with returns a URL with more parameters.
func with(t testing.TB, address string, params ...string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	q := u.Query()
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String()
}

// TestSessionOfALoadIsThatOfItsBeginning begins a load under settings that give times and
// dates a meaning, goes on with it under others, and verifies it under others again.
func TestSessionOfALoadIsThatOfItsBeginning(t *testing.T) {
	const n = 2000
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		if s.Cockroach {
			loadertest.Slow(t)
		}
		// Each has a meaning under both. CockroachDB 21.1 knows one style of dates.
		var text strings.Builder
		text.WriteString("id,at,day,span\n")
		for i := range n {
			day := fmt.Sprintf("%02d/%02d/2024", i%12+1, i/12%12+1)
			if s.Cockroach {
				day = fmt.Sprintf("2024-%02d-%02d", i/12%12+1, i%12+1)
			}
			fmt.Fprintf(&text, "%d,2024-01-%02d 12:%02d:00,%s,-1 2:03:04\n", i, i%28+1, i%60, day)
		}
		begun := []string{"timezone", "Europe/Berlin"}
		resumed := []string{"timezone", "UTC"}
		verified := []string{"timezone", "America/New_York"}
		span := "-93784"
		if !s.Cockroach {
			begun = append(begun, "options", "-c app.tenant=seven -c intervalstyle=sql_standard", "datestyle", "SQL, DMY")
			resumed = append(resumed, "options", "-c app.tenant=eight -c intervalstyle=postgres", "datestyle", "ISO, MDY")
		} else {
			span = "-79016"
		}
		for _, set := range []load.Settings{{CommitMode: commit.Transaction}, {CommitMode: commit.Transaction, Method: commit.Insert}, {CommitMode: commit.Statement, Method: commit.Insert}} {
			t.Run(name(set), func(t *testing.T) {
				url := s.NewDatabase(t)
				loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY, at TIMESTAMPTZ, day DATE, span INTERVAL, tenant TEXT)")
				req := fileRequest("t", write(t, "t.csv", text.String()))
				req.Settings = set
				if !s.Cockroach && set.Method == commit.Insert && set.CommitMode == commit.Transaction {
					filesOf(req).Set = []commit.Assignment{{Column: "tenant", Expr: "current_setting('app.tenant')"}}
				}
				stop := make(chan struct{})
				chunks := 0
				req.Chunk, req.Workers, req.Stop = 100, 2, stop
				req.Observe = func(loader.Event) {
					if chunks++; chunks == 5 {
						close(stop)
					}
				}
				proxy := loadertest.NewProxy(t, with(t, url, begun...))
				l := newLoad(t, proxy.URL(), req)
				ctx, kill := context.WithCancel(context.Background())
				defer kill()
				if set.CommitMode == commit.Statement {
					// A statement whose reply is lost is looked up under the other settings.
					fault := &loadertest.Fault{When: loadertest.Match{SQL: `^INSERT INTO .*"t"`, Kind: loadertest.MsgStatement}, Nth: 3, Times: 1, Do: loadertest.SwallowReply}
					proxy.Add(fault)
					go func() { <-fault.Done(); kill() }()
				}
				if res, err := l.Run(ctx); !errors.Is(err, loader.ErrStopped) && ctx.Err() == nil {
					t.Fatalf("%d rows, %v; want a part, and ErrStopped", res.Rows, err)
				}
				l.Close()
				again, err := load.Resume(context.Background(), loadertest.Open(t, with(t, url, resumed...)), l.ID, load.Settings{Chunk: 77, Method: set.Method, Input: files.NewInput(nil)})
				if err != nil {
					t.Fatal(err)
				}
				defer again.Close()
				if res, err := again.Run(context.Background()); err != nil || set.CommitMode == commit.Statement && res.LookUps == 0 {
					t.Fatalf("%d look-ups, %v", res.LookUps, err)
				}
				wrong := loadertest.Value[int](t, url, fmt.Sprintf(`SELECT count(*) FROM (SELECT id AS i, t.* FROM t) AS t WHERE
					at <> ('2024-01-' || (i %% 28 + 1)::INT8::TEXT || ' 11:' || (i %% 60)::TEXT || ':00+00')::TIMESTAMPTZ
					OR extract(month FROM day) <> i %s 12 %% 12 + 1 OR extract(day FROM day) <> i %% 12 + 1 OR extract(epoch FROM span)::INT8 <> %s OR tenant <> 'seven'`, div(s), span))
				if there := loadertest.Value[int](t, url, "SELECT count(*) FROM t"); there != n || wrong > 0 {
					t.Errorf("%d rows, want %d; %d of them mean something else than at the beginning", there, n, wrong)
				}
				third, err := load.Resume(context.Background(), loadertest.Open(t, with(t, url, verified...)), l.ID, load.Settings{Input: files.NewInput(nil)})
				if err != nil {
					t.Fatal(err)
				}
				defer third.Close()
				if got, err := third.Verify(context.Background(), nil); err != nil || !got.OK() || got.Same != n {
					t.Errorf("verify: %+v, %v", got, err)
				}
			})
		}
	})
}

// div is the division of whole numbers.
func div(s loadertest.Server) string {
	if s.Cockroach {
		return "//"
	}
	return "/"
}

// TestLoadWithoutItsSession goes on with a load that a version recorded which did not know
// of settings, and is told so; and refuses one whose settings the server does not take.
func TestLoadWithoutItsSession(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE t (id INT8 PRIMARY KEY)")
		l := newLoad(t, url, fileRequest("t", write(t, "t.csv", "id\n1\n2\n")))
		record := func(session map[string]string) {
			t.Helper()
			var spec map[string]any
			if err := json.Unmarshal([]byte(loadertest.Value[string](t, url, "SELECT spec FROM loader.loads WHERE id = $1", l.ID)), &spec); err != nil {
				t.Fatal(err)
			}
			if delete(spec, "session"); session != nil {
				spec["session"] = session
			}
			text, err := json.Marshal(spec)
			if err != nil {
				t.Fatal(err)
			}
			loadertest.Exec(t, url, fmt.Sprintf("UPDATE loader.loads SET spec = '%s' WHERE id = '%s'", text, l.ID))
		}
		record(map[string]string{"timezone": "Middle/Earth"})
		_, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
		var refused *server.SettingsError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "Middle/Earth") {
			t.Errorf("got %v, want the time zone refused", err)
		}
		record(nil)
		again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if !strings.Contains(strings.Join(again.Notes, "\n"), "did not record its session settings") {
			t.Errorf("got notes %q", again.Notes)
		}
		if res, err := again.Run(context.Background()); err != nil || res.Rows != 2 {
			t.Errorf("%d rows, %v", res.Rows, err)
		}
	})
}

// latin1 makes a database of another encoding and returns its URL, for a role that has
// another encoding set.
func latin1(t *testing.T, s loadertest.Server) string {
	t.Helper()
	at, err := url.Parse(s.NewDatabase(t)) // a name that nobody has
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	name := strings.TrimPrefix(at.Path, "/") + "l"
	at.Path = "/" + name
	loadertest.Exec(t, s.URL(), "CREATE DATABASE "+name+" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
		"CREATE ROLE "+name+" SUPERUSER LOGIN PASSWORD 'p'", "ALTER ROLE "+name+" SET client_encoding = 'LATIN1'")
	t.Cleanup(func() {
		loadertest.Exec(t, s.URL(), "DROP DATABASE "+name+" WITH (FORCE)", "DROP ROLE "+name)
	})
	at.User = url.UserPassword(name, "p")
	return at.String()
}

// TestTextArrivesInAnyEncoding loads texts into a database of another encoding, for a user
// with another encoding.
func TestTextArrivesInAnyEncoding(t *testing.T) {
	s := loadertest.PostgreSQLServer(t)
	url := latin1(t, s)
	good := write(t, "good.csv", "id,v\n1,é\n2,naïve\n")
	bad := write(t, "bad.csv", "id,v\n1,é\n2,5 €\n3,ü\n")
	for _, set := range ways(s) {
		t.Run(name(set), func(t *testing.T) {
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS t", "CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)")
			req := fileRequest("t", good)
			req.Settings = set
			l := newLoad(t, url, req)
			if res, err := l.Run(context.Background()); err != nil || res.Rows != 2 {
				t.Fatalf("%d rows, %v", res.Rows, err)
			}
			if got := loadertest.Value[string](t, url, "SELECT string_agg(encode(v::BYTEA, 'hex'), ' ' ORDER BY id) FROM t"); got != "e9 6e61ef7665" {
				t.Errorf("the texts arrived as %s", got)
			}
			again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if got, err := again.Verify(context.Background(), nil); err != nil || !got.OK() {
				t.Errorf("verify: %+v, %v", got, err)
			}
			// A character that the database's encoding lacks.
			loadertest.Exec(t, url, "TRUNCATE t")
			req = fileRequest("t", bad)
			req.Settings = set
			_, err = newLoad(t, url, req).Run(context.Background())
			var row *commit.RowError
			if !errors.As(err, &row) || row.Line != 3 || server.Code(err) != "22P05" {
				t.Errorf("got %v, want 22P05 at line 3", err)
			}
			if got := loadertest.Value[int](t, url, "SELECT count(*) FROM t"); got != 0 {
				t.Errorf("%d rows are in", got)
			}
		})
	}
}
