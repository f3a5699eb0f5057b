package load_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// squares is a kind of rows of this test's own: row i is i and i², whatever the seed.
type squares struct{ dataset.Generated }

func newSquares(n int64) *squares {
	return &squares{dataset.Generated{
		Kind: "squares", Database: "numbers", Rows: n, RowBytes: 20,
		Columns: []rows.Column{{Name: "id", Kind: rows.Int}, {Name: "square", Kind: rows.Int}},
		DDL: map[server.Product]string{
			server.PostgreSQL:  "id BIGINT PRIMARY KEY, square BIGINT NOT NULL",
			server.CockroachDB: "id INT PRIMARY KEY, square INT NOT NULL",
		},
	}}
}

func (s *squares) Fresh() dataset.Dataset { return newSquares(s.Rows) }
func (s *squares) Source() loader.Source  { return squareSource{s.Columns} }

type squareSource struct{ columns []rows.Column }

func (s squareSource) Columns() []rows.Column { return s.columns }

func (s squareSource) Fill(c *rows.Chunk, span chunker.Span) error {
	c.Reset(span, int(span.Count))
	for i := range c.Len() {
		n := span.First + int64(i)
		c.Col(0).Ints[i], c.Col(1).Ints[i] = n, n*n
	}
	return nil
}

var registerSquares = sync.OnceFunc(func() {
	dataset.Register(dataset.Kind{Facts: newSquares(0).Facts(), Open: func(_ json.RawMessage, n int64) (dataset.Dataset, error) { return newSquares(n), nil }})
})

// TestAKindOfItsOwn loads a kind of rows that no other file knows: it is planned, loaded,
// stopped, resumed, verified, and known by its table, its keys and its positions.
func TestAKindOfItsOwn(t *testing.T) {
	registerSquares()
	ctx := context.Background()
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		const n = 5000
		url := s.NewDatabase(t)
		p, err := load.NewPreview(ctx, loadertest.Open(t, url), load.Request{Dataset: newSquares(n)}, "")
		if err != nil || p.Kind != "squares" || p.Rows != n || p.Create == "" {
			t.Fatalf("the plan is %+v, %v", p, err)
		}
		stop := make(chan struct{})
		var once sync.Once
		first := newLoad(t, url, load.Request{Dataset: newSquares(n), Settings: load.Settings{
			Chunk: 100, Workers: 1, Stop: stop, Observe: func(loader.Event) { once.Do(func() { close(stop) }) },
		}})
		if _, err := first.Run(ctx); err == nil {
			t.Fatal("the load was not stopped")
		}
		again, err := load.Resume(ctx, loadertest.Open(t, url), first.ID, load.Settings{Chunk: 333})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if _, err := again.Run(ctx); err != nil {
			t.Fatal(err)
		}
		got, err := again.Verify(ctx, nil)
		if err != nil || !got.OK() || got.Rows != n {
			t.Errorf("verified %+v, %v; want %d rows", got, err, n)
		}
		sum := loadertest.Value[int64](t, url, "SELECT sum(square)::INT8 FROM squares WHERE square = id * id")
		if want := int64(n-1) * n * (2*n - 1) / 6; sum != want {
			t.Errorf("the squares have the sum %d, want %d", sum, want)
		}
	})
}
