package chunker_test

import (
	"fmt"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
)

// A checkpoint is a set of ranges, so that a load can go on with another chunk size.
func ExampleRanges() {
	var in chunker.Ranges
	in.Add(chunker.Range{First: 0, End: 1000})
	in.Add(chunker.Range{First: 3000, End: 4000})
	in.Add(chunker.Range{First: 1000, End: 2000})
	fmt.Println(in.String())
	fmt.Println(in.Gaps(chunker.Range{First: 0, End: 5000}))
	// Output:
	// 0-2000,3000-4000
	// [{2000 3000} {4000 5000}]
}

// How many rows fit one transaction is a question of the bytes of their keys.
func ExampleMakePlan() {
	table := keysize.Schema{TableID: 53, Indexes: []keysize.Index{
		{ID: 1, Primary: true, Columns: []keysize.KeyColumn{keysize.ColumnOf("id", "uuid")}},
		{ID: 2, Columns: []keysize.KeyColumn{keysize.ColumnOf("at", "timestamptz")}},
	}}
	limits := chunker.Limits{
		{Unit: chunker.IntentBytes, Max: 262_143, Name: "kv.transaction.max_intents_bytes", Origin: "default of 21.1"},
	}
	plan, err := chunker.MakePlan(1_000_000, 100_000, 0, 0, table.Cost(keysize.RowInfo{Major: 21, Minor: 1}), limits)
	if err != nil {
		panic(err)
	}
	fmt.Println(plan.RowsPerChunk, "rows in each of", plan.Chunks, "chunks, by", plan.LimitedBy.Name)
	// Output:
	// 2945 rows in each of 340 chunks, by kv.transaction.max_intents_bytes
}
