package dataset_test

import (
	"slices"
	"testing"

	"bulkload/chunker"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
)

type filler interface {
	Columns() []rows.Column
	Fill(*rows.Chunk, chunker.Span) error
}

// row is one generated row with its number, for comparing.
type row struct {
	number int64
	ints   [2]int64
	floats [3]float64
}

// cut fills all of [0,n) in chunks of size rows and returns the rows by number.
func cut(t *testing.T, s filler, n, size int64) []row {
	t.Helper()
	c := rows.NewChunk(s.Columns())
	var got []row
	for first := int64(0); first < n; first += size {
		if err := s.Fill(c, chunker.RowSpan(first, min(size, n-first))); err != nil {
			t.Fatal(err)
		}
		for i := range c.Len() {
			r := row{number: c.Row(i)}
			ints, floats := r.ints[:0], r.floats[:0]
			for k := range c.Width() {
				if v := c.Col(k); v.Kind == rows.Int {
					ints = append(ints, v.Ints[i])
				} else {
					floats = append(floats, v.Floats[i])
				}
			}
			got = append(got, r)
		}
	}
	slices.SortFunc(got, func(a, b row) int { return int(a.number - b.number) })
	return got
}

func TestAnyChunkSizeGivesTheSameRows(t *testing.T) {
	const n = 5000
	for name, s := range map[string]filler{
		"points in order":  dataset.PointSource{Seed: 7, Keys: dataset.KeyLayout{Base: 1 << 41, Rows: n}},
		"points in blocks": dataset.PointSource{Seed: 7, Keys: dataset.KeyLayout{Base: 1 << 41, Rows: n, Block: 512}},
		"accounts":         dataset.AccountSource{Seed: 7, Rows: n},
	} {
		want := cut(t, s, n, n)
		for _, size := range []int64{1, 7, 512, 1000, 4999} {
			if got := cut(t, s, n, size); !slices.Equal(got, want) {
				t.Errorf("%s: chunks of %d give other rows than one chunk of %d", name, size, n)
			}
		}
	}
}

func TestPointsAreUniformInTheCube(t *testing.T) {
	const n = 100_000
	var sum [3]float64
	for _, r := range cut(t, dataset.PointSource{Seed: 1, Keys: dataset.KeyLayout{Rows: n}}, n, n) {
		for i, v := range r.floats {
			if v < 0 || v >= 1024 {
				t.Fatalf("row %d: coordinate %v is outside [0,1024)", r.number, v)
			}
			sum[i] += v
		}
	}
	for i, s := range sum {
		// The mean of n uniform values strays by 1024/sqrt(12 n), here 0.93.
		if mean := s / n; mean < 507 || mean > 517 {
			t.Errorf("mean of coordinate %d is %.1f, want about 512", i, mean)
		}
	}
}

func TestKeysAreDistinctAndWithinTheLayoutsRange(t *testing.T) {
	for _, l := range []dataset.KeyLayout{
		{Base: dataset.MinKeyBase, Rows: 1},
		{Base: dataset.MinKeyBase, Rows: 1000, Block: 1 << 17},
		{Base: dataset.MinKeyBase, Rows: 1000, Block: 64},
		{Base: dataset.MinKeyBase, Rows: 1024, Block: 64},
		{Base: dataset.MinKeyBase, Rows: 1025, Block: 64},
	} {
		seen := map[int64]bool{}
		for i := range l.Rows {
			k := l.Key(i)
			if r := l.Range(); k < r.First || k >= r.End {
				t.Errorf("%+v: key %d of row %d is outside %v", l, k, i, r)
			}
			if seen[k] {
				t.Errorf("%+v: key %d twice", l, k)
			}
			seen[k] = true
		}
	}
}

func TestAccountIDsAreDistinctAndSorted(t *testing.T) {
	const n = 200_000
	a := dataset.AccountSource{Seed: 3, Rows: n}
	c := rows.NewChunk(a.Columns())
	seen := make(map[int64]bool, n)
	for first := int64(0); first < n; first += 1000 {
		if err := a.Fill(c, chunker.RowSpan(first, 1000)); err != nil {
			t.Fatal(err)
		}
		ids := c.Col(0).Ints
		if !slices.IsSorted(ids) {
			t.Fatalf("ids of the chunk at row %d are not ascending", first)
		}
		for i, id := range ids {
			if id < 0 || id >= dataset.AccountIDs || seen[id] {
				t.Fatalf("row %d: id %d is out of range or drawn twice", c.Row(i), id)
			}
			if id != a.ID(c.Row(i)) {
				t.Fatalf("row %d has id %d, and ID says %d", c.Row(i), id, a.ID(c.Row(i)))
			}
			if b := c.Col(1).Ints[i]; b < 0 || b >= dataset.AccountBalances {
				t.Fatalf("row %d: balance %d is out of range", c.Row(i), b)
			}
			seen[id] = true
		}
	}
	for i := range int64(1000) {
		id, err := a.Redraw(i, 1)
		if err != nil || seen[id] {
			t.Fatalf("redrawn id %d of row %d is another row's first id, or %v", id, i, err)
		}
	}
	if _, err := (dataset.AccountSource{Rows: dataset.AccountIDs}).Redraw(0, 1); err == nil {
		t.Error("a load of every id has none left to draw again, and Redraw gives one")
	}
}

// TestAccountIDsOfEverySize samples loads up to one of every id.
func TestAccountIDsOfEverySize(t *testing.T) {
	for _, n := range []int64{1, 2, 100, 1 << 16, 1<<16 + 1, 100_000, 499_999_999, dataset.AccountIDs - 1, dataset.AccountIDs} {
		a := dataset.AccountSource{Seed: 5, Rows: n}
		seen := map[int64]int64{}
		low, high := int64(dataset.AccountIDs), int64(0)
		for i := range min(n, 3000) {
			// The first and last rows, and some between.
			row := i
			switch {
			case i%3 == 1 && n > 3000:
				row = n - 1 - i
			case i%3 == 2 && n > 3000:
				row = n / 3000 * i
			}
			id := a.ID(row)
			if before, ok := seen[id]; id < 0 || id >= dataset.AccountIDs || ok && before != row {
				t.Fatalf("%d rows: row %d has id %d, as row %d", n, row, id, before)
			}
			seen[id] = row
			low, high = min(low, id), max(high, id)
			if again, err := a.Redraw(row, 1); err == nil {
				if before, ok := seen[again]; ok {
					t.Fatalf("%d rows: row %d is given id %d again, which is row %d's", n, row, again, before)
				}
			} else if n < dataset.AccountIDs/2 {
				t.Fatalf("%d rows: row %d: %v", n, row, err)
			}
		}
		if n >= 100 && (low > dataset.AccountIDs/20 || high < dataset.AccountIDs/20*19) {
			t.Errorf("%d rows: ids from %d to %d, want them over the whole range", n, low, high)
		}
	}
}

func BenchmarkPoints(b *testing.B) {
	p := dataset.PointSource{Seed: 1, Keys: dataset.KeyLayout{Rows: 1 << 30, Block: dataset.KeyBlockRows}}
	c := rows.NewChunk(p.Columns())
	for b.Loop() {
		p.Fill(c, chunker.RowSpan(0, 2000))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/row")
}

func BenchmarkAccounts(b *testing.B) {
	a := dataset.AccountSource{Seed: 1, Rows: 1 << 29}
	c := rows.NewChunk(a.Columns())
	for b.Loop() {
		a.Fill(c, chunker.RowSpan(0, 2000))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2000, "ns/row")
}
