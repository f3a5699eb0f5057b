package main

import (
	"encoding/json"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// TestListOfManyLoads: a thousand loads are listed by as many statements as a few, and with
// what is in of each: on record, in a lease, and in the ledger.
func TestListOfManyLoads(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := registered(t, s)
		list := func() (said string, all []loadJSON) {
			cmd := command(url, "loads", "list", "--format", "json", "--echo")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err == nil {
				err = json.Unmarshal(out, &all)
			}
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, stderr.String())
			}
			return stderr.String(), all
		}
		few, _ := list()
		loadertest.Exec(t, url, `INSERT INTO loader.loads (id, what, target, state, positions, done, spec)
				SELECT 'l' || g::TEXT, 'points', 't', 'loading', 100, '0-10', '{}' FROM generate_series(1, 1000) AS g`,
			`INSERT INTO loader.claims (load, lo, hi, run, done) VALUES ('l7', 10, 50, 'r', '10-30')`,
			`INSERT INTO loader.ledger (load, lo, hi) VALUES ('l7', 30, 32), ('l7', 40, 41)`)
		many, all := list()
		if a, b := strings.Count(few, "\n"), strings.Count(many, "\n"); a == 0 || b != a || len(all) != 1001 {
			t.Errorf("%d statements list one load, and %d statements %d loads: %s", a, b, len(all), many)
		}
		for _, l := range all {
			want := map[bool]int64{false: 10, true: 33}[l.ID == "l7"]
			if l.ID[0] == 'l' && l.Table == "t" && l.In != want {
				t.Errorf("%s has %d rows in, want %d", l.ID, l.In, want)
			}
		}
	})
}
