package load_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// surroundings are what a load meets beside the faults of a network. Whatever they are, the
// table holds the same rows in the end: those of the file, under the settings that the load
// began with.
type surroundings struct {
	kind         string // of the table
	ddl          string
	set          load.Settings
	conflict     commit.Conflict
	repeated     bool
	begun, later setting // of the sessions that begin the load, and that go on with it
	end          string  // of the first run
	between      string  // what happens before the second
}

// A setting is what gives the texts of a file a meaning.
type setting struct{ zone, dates string } // no dates: CockroachDB 21.1 knows one style

func (s surroundings) String() string {
	return fmt.Sprintf("a %s table, %s, conflict %q, repeated %t, begun with %v and resumed with %v, %s, then %s",
		s.kind, name(s.set), s.conflict, s.repeated, s.begun, s.later, s.end, s.between)
}

// draw draws surroundings. All but the session's settings and the ends are PostgreSQL's.
func drawSurroundings(rng *rand.Rand, srv loadertest.Server) surroundings {
	const columns = "id INT8%s, at TIMESTAMPTZ, day DATE, s TEXT%s"
	one := func(list ...string) string { return list[rng.IntN(len(list))] }
	s := surroundings{kind: one("keyed", "keyless"), end: one("stopped", "killed", "silent"), between: one("nothing", "another user")}
	zones := []string{"Europe/Berlin", "UTC", "America/New_York", "Asia/Kolkata"}
	s.begun.zone, s.later.zone = one(zones...), one(zones...)
	if !srv.Cockroach {
		s.kind = one("keyed", "keyless", "unlogged", "partitioned", "collated")
		s.between = one("nothing", "another user", "VACUUM FULL", "another table", "another encoding")
		s.begun.dates, s.later.dates = one("ISO, MDY", "SQL, DMY"), one("ISO, MDY", "SQL, DMY")
	}
	table := "CREATE TABLE points ("
	switch s.kind {
	case "keyless":
		s.ddl = table + fmt.Sprintf(columns, "", "") + ")"
	case "unlogged":
		s.ddl = "CREATE UNLOGGED TABLE points (" + fmt.Sprintf(columns, " PRIMARY KEY", "") + ")"
	case "partitioned":
		s.ddl = table + fmt.Sprintf(columns, " PRIMARY KEY", "") + ") PARTITION BY HASH (id); " +
			"CREATE TABLE points_0 PARTITION OF points FOR VALUES WITH (MODULUS 2, REMAINDER 0); " +
			"CREATE TABLE points_1 PARTITION OF points FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
		if s.between == "VACUUM FULL" {
			s.between = "nothing"
		}
	case "collated":
		s.ddl = "CREATE COLLATION IF NOT EXISTS anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); " +
			table + fmt.Sprintf(columns, "", " COLLATE anycase PRIMARY KEY") + ")"
	default:
		s.ddl = table + fmt.Sprintf(columns, " PRIMARY KEY", "") + ")"
	}
	s.set = load.Settings{CommitMode: commit.Transaction, Method: commit.Method(one("insert", "copy")), Chunk: 20 + rng.Int64N(200), Workers: 1 + rng.IntN(3), RetryFor: time.Minute}
	switch keyed := s.kind != "keyless"; {
	case keyed && s.kind != "collated" && rng.IntN(2) == 0:
		s.set.CommitMode = commit.Statement
		if srv.Cockroach {
			s.set.Method = commit.Insert
		}
	case keyed && rng.IntN(2) == 0:
		s.conflict, s.set.Method, s.repeated = commit.Conflict(one("skip", "update")), commit.Insert, true
	case !keyed:
		s.repeated = rng.IntN(2) == 0
	}
	return s
}

// file returns the text of the load's file, and the rows that it means.
func (s surroundings) file(t *testing.T, n int) (text string, want []string) {
	t.Helper()
	zone, err := time.LoadLocation(s.begun.zone)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	rows := map[int]string{}
	record := func(i, version int) {
		month, day := i%12+1, i/12%12+1
		at := time.Date(2024, time.Month(month), day, 12, i%60, 0, 0, zone)
		date := time.Date(2024, time.Month(month), day, 0, 0, 0, 0, time.UTC)
		written := date.Format(map[string]string{"": time.DateOnly, "ISO, MDY": "01/02/2006", "SQL, DMY": "02/01/2006"}[s.begun.dates])
		// The version shows in the time: a key that repeats with other content.
		at = at.Add(time.Duration(version) * time.Hour)
		fmt.Fprintf(&b, "%d,%s,%s,\"é\n%d\"\n", i, at.Format("2006-01-02 15:04:05"), written, i)
		row := fmt.Sprintf("%q|%q|%q|%q|", fmt.Sprint(i), fmt.Sprint(at.Unix()), date.Format(time.DateOnly), fmt.Sprintf("é\n%d", i))
		if _, there := rows[i]; s.conflict == "" {
			want = append(want, row)
		} else if !there || s.conflict == commit.UpdateRow {
			rows[i] = row
		}
	}
	for i := range n {
		record(i, 0)
		if s.repeated && i%3 == 0 {
			record(i/2, i%7)
		}
	}
	for _, row := range rows {
		want = append(want, row)
	}
	slices.Sort(want)
	return b.String(), want
}

// at returns the URL with a setting.
func (s setting) at(t *testing.T, address string) string {
	if s.dates == "" {
		return with(t, address, "timezone", s.zone)
	}
	return with(t, address, "timezone", s.zone, "datestyle", s.dates)
}

// TestTheSameRowsInAnySurroundings loads files into tables of several kinds, under settings
// that change midway, with records that repeat, and goes on as another user, behind a run
// that wakes, or with a table that is another by now: which is refused.
func TestTheSameRowsInAnySurroundings(t *testing.T) {
	rng := rand.New(rand.NewPCG(randomSeed(t), 5))
	rounds := 3
	if loadertest.Chaos {
		rounds = 60
	}
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		if srv.Cockroach && !loadertest.Chaos {
			rounds = 1
		}
		url := srv.NewDatabase(t)
		user, as := srv.NewUser(t, url)
		grant := "ALTER USER " + user + " SUPERUSER"
		if srv.Cockroach {
			grant = "GRANT admin TO " + user
		}
		loadertest.Exec(t, url, grant)
		refused := 0
		for round := range rounds {
			s := drawSurroundings(rng, srv)
			clearTables(t, url)
			loadertest.Exec(t, url, "DROP TABLE IF EXISTS points", s.ddl)
			ok := s.load(t, url, as, rng)
			if t.Failed() {
				t.Fatalf("round %d: %s", round, s)
			}
			if !ok {
				refused++
			}
		}
		t.Logf("%d of %d rounds were refused, as they had to be", refused, rounds)
	})
}

// load makes one load; false: it was refused, as it had to be.
func (s surroundings) load(t *testing.T, url, as string, rng *rand.Rand) bool {
	const n = 1200
	text, want := s.file(t, n)
	proxy := loadertest.NewProxy(t, s.begun.at(t, url))
	defer proxy.Close()
	req := fileRequest("points", write(t, "x.csv", text))
	req.Settings, filesOf(req).Columns, filesOf(req).Conflict = s.set, []string{"id", "at", "day", "s"}, s.conflict
	// The first run ends, or falls silent, somewhere in its chunks.
	stop, seen, last := make(chan struct{}), 0, 1+rng.IntN(4)
	req.Stop = stop
	req.Observe = func(e loader.Event) {
		if seen++; s.end == "stopped" && seen == last {
			close(stop)
		}
	}
	l := newLoad(t, proxy.URL(), req)
	fault := &loadertest.Fault{When: chunkEnds(), Nth: last, Do: loadertest.BlackHoleAll}
	if s.set.CommitMode == commit.Statement {
		fault.When = loadertest.Match{SQL: rowsOf, Kind: loadertest.MsgStatement}
	}
	if s.end != "stopped" {
		proxy.Add(fault)
	}
	ctx, kill := context.WithCancel(context.Background())
	defer kill()
	done := make(chan error, 1)
	go func() { _, err := l.Run(ctx); done <- err }()
	var err error
	select {
	case err = <-done:
		done <- err
		if err != nil && !errors.Is(err, loader.ErrStopped) {
			t.Error(err)
			return true
		}
	case <-fault.Done():
		if s.end == "killed" {
			kill()
			proxy.CloseAll()
			<-done
			done <- nil
		}
	}
	if s.end != "silent" {
		l.Close()
	}
	// It goes on, in other surroundings.
	address := url
	switch s.between {
	case "another user":
		address = as
	case "VACUUM FULL":
		if s.end != "silent" { // whose transaction is in the way
			loadertest.Exec(t, url, "VACUUM FULL points")
		}
	case "another encoding":
		address = with(t, url, "options", "-c client_encoding=LATIN1")
	case "another table":
		if s.end == "silent" {
			break
		}
		loadertest.Exec(t, url, "DROP TABLE points", s.ddl)
		_, err := goOn(t, s.later.at(t, address), l, s.again(rng))
		checkRefused(t, err, "is not the table that the load began with")
		return false
	}
	loadertest.Exec(t, url, "UPDATE loader.claims SET beat = now() - INTERVAL '1 hour'")
	if _, err := goOn(t, s.later.at(t, address), l, s.again(rng)); err != nil {
		t.Error(err)
	}
	proxy.Heal() // the silent one wakes
	if err := <-done; err != nil && s.end == "silent" && !errors.Is(err, loader.ErrLost) {
		t.Logf("the run that woke: %v", err)
	}
	got := table(t, with(t, url, "timezone", "UTC", "application_name", "loadertest"),
		"SELECT id::TEXT, extract(epoch FROM at)::INT8::TEXT, day::TEXT, s::TEXT FROM points")
	if !slices.Equal(got, want) {
		t.Errorf("%d rows, want %d; the first that differ: %s", len(got), len(want), firstDifference(got, want))
	}
	checkSettled(t, url, l)
	l.Close()
	return true
}

// again returns the settings of the run that goes on.
func (s surroundings) again(rng *rand.Rand) load.Settings {
	return load.Settings{Chunk: 20 + rng.Int64N(200), Workers: 1 + rng.IntN(3), Method: s.set.Method}
}

func firstDifference(got, want []string) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("%s and %s", got[i], want[i])
		}
	}
	return "none but the number"
}
