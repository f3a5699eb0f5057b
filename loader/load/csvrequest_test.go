package load_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// TestRequestStaysAsItWas opens loads twice from one request, as a connection that breaks
// meanwhile makes them be: the second time the same is guessed, and said.
func TestRequestStaysAsItWas(t *testing.T) {
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		loadertest.Exec(t, url, "CREATE TABLE there (id INT8, name TEXT, note TEXT)")
		path := write(t, "x.csv", "id,name\n1,a\n2,b\n")
		for _, name := range []string{"missing", "there"} {
			req := fileRequest(name, path)
			filesOf(req).CreateTable = true
			if name == "there" {
				filesOf(req).Set = []commit.Assignment{{Column: "NOTE", Expr: "('x')"}}
			}
			before := *filesOf(req)
			before.Set = slices.Clone(before.Set)
			var notes [2][]string
			for i := range notes {
				p, err := load.NewPreview(context.Background(), loadertest.Open(t, url), req, "")
				if err != nil {
					t.Fatal(err)
				}
				notes[i] = p.Notes
			}
			if !slices.Contains(notes[0], "header row detected (override with --header yes or no)") || !slices.Equal(notes[0], notes[1]) {
				t.Errorf("%s: the first time it says %q, the second %q", name, notes[0], notes[1])
			}
			if !reflect.DeepEqual(*filesOf(req), before) {
				t.Errorf("%s: the request became %+v, from %+v", name, *filesOf(req), before)
			}
		}
	})
}
