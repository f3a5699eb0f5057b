package loader_test

import (
	"context"
	"fmt"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
)

// printer is the simplest Committer: it says what it was given. commit.Committer is
// the one that writes to a database.
type printer struct{}

func (printer) Commit(_ context.Context, c *rows.Chunk) (loader.Outcome, error) {
	fmt.Println("rows", c.Span, "from", c.Col(0).Ints[0])
	return loader.Outcome{}, nil
}

// A Job joins a Source and a Committer.
func ExampleJob() {
	job := &loader.Job{
		Source:    dataset.PointSource{Seed: 7, Keys: dataset.KeyLayout{Base: 1 << 41, Rows: 2500}},
		Committer: printer{},
		Positions: 2500,
		Plan:      chunker.Plan{RowsPerChunk: 1000},
		Workers:   1,
	}
	result, err := job.Run(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Rows, "rows in", result.Chunks, "chunks")
	// Output:
	// rows [0,1000) from 2199023255552
	// rows [1000,2000) from 2199023256552
	// rows [2000,2500) from 2199023257552
	// 2500 rows in 3 chunks
}
