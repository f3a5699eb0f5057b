package load_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/dataset"
	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
)

// A content is what a table should hold: the values of its columns, of which the first
// is the key, by key and in any order.
type content struct {
	columns []string
	rows    iter.Seq2[int64, []any]
}

// join is the content of both.
func (c content) join(d content) content {
	return content{c.columns, func(yield func(int64, []any) bool) {
		for _, some := range []iter.Seq2[int64, []any]{c.rows, d.rows} {
			for key, values := range some {
				if !yield(key, values) {
					return
				}
			}
		}
	}}
}

// checkLoad is the standard check of a complete load, of which each suite makes use. It
// fails the test unless
//   - the table holds just the rows that are wanted, each once, compared by the kit with
//     what the seed or the file gives;
//   - the loader's own comparison, where there is a key to compare by, says the same of
//     the n rows of this load;
//   - the registry has the load as done, without a gap, and no claim or ledger row;
//   - a further run writes nothing, as it says and as the server does.
func checkLoad(t testing.TB, url string, l *load.Load, n int64, want content) {
	t.Helper()
	checkEnd(t, url, l, want)
	again, err := load.Resume(context.Background(), loadertest.Open(t, url), l.ID, load.Settings{Input: files.NewInput(nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	got, err := again.Verify(context.Background(), nil)
	var keyless *load.TableError
	switch {
	case !slices.Contains(l.Table.Primary, want.columns[0]) && errors.As(err, &keyless): // CockroachDB makes a key of its own
	case err != nil:
		t.Fatal(err)
	case !got.OK() || got.Rows != n:
		t.Errorf("the table is not exact: %+v, want %d rows", got, n)
	}
	was := lastWrite(t, url, l.Table.Name)
	res, err := again.Run(context.Background())
	if err != nil || res.Rows != 0 {
		t.Errorf("a further run of a complete load: %d rows, %v; want none", res.Rows, err)
	}
	if now := lastWrite(t, url, l.Table.Name); now != was {
		t.Errorf("a further run of a complete load wrote to the table: %s, and %s before", now, was)
	}
}

// checkEnd is what checkLoad asks the server alone, without the loader: for tests that
// check after each of some hundred loads.
func checkEnd(t testing.TB, url string, l *load.Load, want content) {
	t.Helper()
	loadertest.CheckTable(t, url, loadertest.Table{Name: l.Table.Name, Key: want.columns[0], Columns: want.columns[1:]}, want.rows)
	checkSettled(t, url, l)
}

// lastWrite returns the number of rows and of the newest transaction that wrote one of
// those that are there: it changes with every write but the deletion of a row for which
// another comes.
func lastWrite(t testing.TB, url string, table pgx.Identifier) string {
	t.Helper()
	newest := "max(xmin::TEXT::INT8)"
	if loadertest.Value[bool](t, url, "SELECT version() LIKE 'Cockroach%'") {
		newest = "max(crdb_internal_mvcc_timestamp)"
	}
	return loadertest.Value[string](t, url, fmt.Sprintf("SELECT concat(count(*)::TEXT, ' rows, the last written by ', (%s)::TEXT) FROM %s", newest, table.Sanitize()))
}

// checkSettled fails the test unless the registry has the load as done, without a gap,
// and nothing else is left there of a load that is under way.
func checkSettled(t testing.TB, url string, l *load.Load) {
	t.Helper()
	state := loadertest.Value[string](t, url, "SELECT concat(state, ' ', done) FROM loader.loads WHERE id = $1", l.ID)
	var all chunker.Ranges
	all.Add(chunker.Range{End: l.Dataset.Size().Positions})
	if want := "done " + all.String(); state != want {
		t.Errorf("the registry has the load as %q, want %q", state, want)
	}
	left := loadertest.Value[string](t, url, "SELECT concat((SELECT count(*) FROM loader.claims)::TEXT, ' claims and ', (SELECT count(*) FROM loader.ledger)::TEXT, ' ledger rows')")
	if want := "0 claims and 0 ledger rows"; left != want {
		t.Errorf("a complete load has left %s", left)
	}
}

// checkExact is checkLoad of generated rows, and of those of others in the same table,
// which are complete too. Together they are total rows.
func checkExact(t testing.TB, url string, l *load.Load, total int64, others ...*load.Load) {
	t.Helper()
	want, n := generatedBy(t, url, l), l.Dataset.Size().Rows
	for _, o := range others {
		want, n = want.join(generatedBy(t, url, o)), n+o.Dataset.Size().Rows
	}
	if n != total {
		t.Errorf("the loads have %d rows in all, want %d", n, total)
	}
	if _, ok := l.Dataset.(*dataset.Accounts); ok && len(others) == 0 {
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM loader.moved WHERE load = $1", l.ID); n > 0 {
			t.Errorf("%d accounts have other ids than the seed gives, and no row of others is there", n)
		}
	}
	checkLoad(t, url, l, l.Dataset.Size().Rows, want)
}

// generatedBy returns the rows of a load of generated rows: what package source makes of
// its seed, whatever the load itself did.
func generatedBy(t testing.TB, url string, l *load.Load) content {
	t.Helper()
	if a, ok := l.Dataset.(*dataset.Accounts); ok {
		return accountsBy(t, url, dataset.AccountSource{Seed: a.Seed, Rows: a.Rows}, l.ID)
	}
	keys := l.Dataset.Source().(dataset.PointSource).Keys
	if keys.Range() != l.Dataset.Keys() {
		t.Fatalf("the load writes the keys %v, and says %v", keys.Range(), l.Dataset.Keys())
	}
	return content{[]string{"id", "x", "y", "z"}, func(yield func(int64, []any) bool) {
		src := dataset.PointSource{Seed: l.Dataset.(*dataset.Points).Seed, Keys: dataset.KeyLayout{Base: l.Dataset.Keys().First, Rows: l.Dataset.Size().Rows, Block: keys.Block}}
		c := rows.NewChunk(src.Columns())
		if err := src.Fill(c, chunker.RowSpan(0, l.Dataset.Size().Rows)); err != nil {
			t.Fatal(err)
		}
		for i, key := range c.Col(0).Ints {
			if !yield(key, []any{c.Col(1).Floats[i], c.Col(2).Floats[i], c.Col(3).Floats[i]}) {
				return
			}
		}
	}}
}

// mostDraws is how often an id is drawn for an account before it is free, at most: in
// these tests few are taken.
const mostDraws = 20

// accountsBy returns the accounts of a load. Those that found their id taken have one
// that the source draws next, and the registry has it.
func accountsBy(t testing.TB, url string, src dataset.AccountSource, id string) content {
	t.Helper()
	moved := loadertest.Value[map[int64]int64](t, url, "SELECT COALESCE(json_object_agg(row_number::TEXT, id), '{}') FROM loader.moved WHERE load = $1", id)
	for row, key := range moved {
		drawn := false
		for n := 1; n < mostDraws && !drawn; n++ {
			next, err := src.Redraw(row, n)
			if err != nil {
				t.Fatal(err)
			}
			drawn = next == key
		}
		if !drawn {
			t.Errorf("account %d has id %d, which its seed does not draw", row, key)
		}
	}
	return content{[]string{"id", "balance"}, func(yield func(int64, []any) bool) {
		for row := range src.Rows {
			key, ok := moved[row]
			if !ok {
				key = src.ID(row)
			}
			if !yield(key, []any{src.Balance(row)}) {
				return
			}
		}
	}}
}
