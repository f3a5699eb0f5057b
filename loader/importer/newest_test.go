package importer_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/importer"
	"bulkload/loader/importer/serve"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// eachCockroach runs a test on the CockroachDB of the tests, and on the newest.
func eachCockroach(t *testing.T, test func(t *testing.T, srv loadertest.Server)) {
	t.Helper()
	t.Run("usual", func(t *testing.T) { test(t, loadertest.CockroachServer(t)) })
	t.Run("newest", func(t *testing.T) { test(t, loadertest.NewestCockroachServer(t)) })
}

// refused is what Refuses says of a table.
func refused(t *testing.T, conn *pgx.Conn, table string) string {
	t.Helper()
	ctx := context.Background()
	info, err := server.ReadInfo(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	d, err := server.Describe(ctx, conn, info, pgx.Identifier{"public", table})
	if err != nil {
		t.Fatal(err)
	}
	why, err := importer.Refuses(ctx, conn, info, d)
	if err != nil {
		t.Fatal(err)
	}
	return why
}

// TestProbeIsAsked has the server read from the loader before there is a job, by the
// statement that its version has for that.
func TestProbeIsAsked(t *testing.T) {
	eachCockroach(t, func(t *testing.T, srv loadertest.Server) {
		s, err := serve.Listen("", "", "", "", serve.NewSecret())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := importer.Probe(context.Background(), s, loadertest.Connect(t, srv.NewDatabase(t))); err != nil {
			t.Error(err)
		}
	})
}

// TestAnswerIsReadByNames reads answers to IMPORT INTO of several versions: columns are
// added, moved, and NULL.
func TestAnswerIsReadByNames(t *testing.T) {
	conn := loadertest.Connect(t, loadertest.CockroachServer(t).NewDatabase(t))
	for _, x := range []struct {
		columns string
		fails   bool
	}{
		{"7 AS job_id, 'succeeded' AS status, 1.0 AS fraction_completed, 10 AS rows, 0 AS index_entries, 9 AS bytes", false},
		{"7 AS job_id, 'succeeded' AS status, 1.0 AS fraction_completed, 10 AS rows", false},
		{"7 AS job_id, 'succeeded' AS status, NULL AS fraction_completed, NULL AS inspect_job_id, 10 AS rows, NULL AS index_entries, NULL AS bytes, 'x' AS more", false},
		{"7 AS job_id, 10 AS entries", true},
	} {
		found, err := conn.Query(context.Background(), "SELECT "+x.columns, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		var a importer.Answer
		for found.Next() {
			err = a.Scan(found)
		}
		found.Close()
		if (err != nil) != x.fails || !x.fails && (a.Job != 7 || a.Rows != 10) {
			t.Errorf("%s: got %+v, %v", x.columns, a, err)
		}
	}
}

// TestTablesThatImportRefuses names what IMPORT does not take before anything is sent.
func TestTablesThatImportRefuses(t *testing.T) {
	srv := loadertest.NewestCockroachServer(t)
	db := srv.NewDatabase(t)
	loadertest.Exec(t, db,
		"CREATE TABLE plain (id INT8 PRIMARY KEY)",
		"CREATE TABLE vectors (id INT8 PRIMARY KEY, e VECTOR(3), VECTOR INDEX by_e (e))",
		"CREATE TABLE secured (id INT8 PRIMARY KEY)", "ALTER TABLE secured ENABLE ROW LEVEL SECURITY",
		"CREATE TABLE sent (id INT8 PRIMARY KEY)", "CREATE TABLE with_a_long_name_that_makes_the_description_of_its_job_a_long_one (id INT8 PRIMARY KEY)")
	other := srv.NewDatabase(t)
	loadertest.Exec(t, other, "CREATE TABLE got (id INT8 PRIMARY KEY)", "CREATE TABLE plain (id INT8 PRIMARY KEY)")
	user, as := srv.NewUser(t, db)
	loadertest.Exec(t, db, "ALTER TABLE secured OWNER TO "+user)

	name := func(url string) string { return strings.Trim(mustParse(t, url).Path, "/") }
	loadertest.Exec(t, db, "SET CLUSTER SETTING kv.rangefeed.enabled = true")
	loadertest.Exec(t, db, fmt.Sprintf("CREATE EXTERNAL CONNECTION itself AS %s", server.QuoteLiteral(db)))
	loadertest.Exec(t, db, fmt.Sprintf("CREATE LOGICAL REPLICATION STREAM FROM TABLE %s.public.sent ON 'external://itself' INTO TABLE %s.public.got", name(db), name(other)))
	loadertest.Exec(t, db, "CREATE CHANGEFEED FOR TABLE plain, with_a_long_name_that_makes_the_description_of_its_job_a_long_one INTO 'null://'")
	t.Cleanup(func() {
		// Jobs may begin late, and a producer waits long for its reader: it counts that all of
		// them are told to end.
		const live = "SELECT job_id FROM [SHOW JOBS] WHERE job_type IN ('LOGICAL REPLICATION', 'CHANGEFEED', 'REPLICATION STREAM PRODUCER') AND status IN ('pending', 'running', 'paused')"
		loadertest.Eventually(t, "the jobs' end", func() bool {
			loadertest.Exec(t, db, "CANCEL JOBS ("+live+")")
			return loadertest.Value[int64](t, db, "SELECT count(*) FROM ("+live+")") == 0
		})
		loadertest.Exec(t, db, "DROP EXTERNAL CONNECTION itself")
	})

	admin, owner, there := loadertest.Connect(t, db), loadertest.Connect(t, as), loadertest.Connect(t, other)
	for _, x := range []struct {
		conn        *pgx.Conn
		table, want string
	}{
		{admin, "vectors", "vector index"},
		{admin, "secured", ""},
		{owner, "secured", "row-level security"},
		{admin, "sent", "logical replication"},
		{there, "got", "logical replication"},
		{admin, "plain", "changefeed"},
		{admin, "with_a_long_name_that_makes_the_description_of_its_job_a_long_one", "changefeed"},
	} {
		got := refused(t, x.conn, x.table)
		if x.want == "" && got != "" || !strings.Contains(got, x.want) {
			t.Errorf("%s: got %q, want %q in it", x.table, got, x.want)
		}
		if strings.Contains(got, "\n") {
			t.Errorf("%s: %q is more than one line", x.table, got)
		}
	}
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestNodesThatCannotBeCounted is a server that refuses its internal tables, as 26.1 does by
// default.
func TestNodesThatCannotBeCounted(t *testing.T) {
	url := loadertest.NewestCockroachServer(t).NewDatabase(t)
	conn := loadertest.Connect(t, url+"&options=-c%20allow_unsafe_internals%3Doff")
	if n, ok := importer.Nodes(context.Background(), conn); ok {
		t.Errorf("got %d nodes where they cannot be counted", n)
	}
	conn = loadertest.Connect(t, url) // later: a plan that was once allowed is kept
	if n, ok := importer.Nodes(context.Background(), conn); n != 1 || !ok {
		t.Errorf("got %d nodes, %t; want 1, which can be counted", n, ok)
	}
}
