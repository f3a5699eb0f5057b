package keysize_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
)

// A recordedPlan is a schema as a live CockroachDB described it, and what the server
// said of its keys; see TestProof in loader/server, which writes them down.
type recordedPlan struct {
	Name        string
	Server      string
	Schema      keysize.Schema
	RowInfo     keysize.RowInfo
	RecordBytes int64
	Bytes, KVs  int64
	Exact       bool
	Budget      int64
	Rows        int64
	Limits      chunker.Limits
}

// TestPlansRecordedFromAServer plans the schemas that were proved on a live cluster:
// where every row has one size, the plan ends on the very row on which the server
// began to condense; elsewhere never behind it.
func TestPlansRecordedFromAServer(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "plans", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded plans: %v", err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list []recordedPlan
		if err := json.Unmarshal(b, &list); err != nil {
			t.Fatal(err)
		}
		if len(list) < 20 {
			t.Errorf("%s has %d schemas, want at least 20", file, len(list))
		}
		exact := 0
		for _, p := range list {
			cost := p.Schema.Cost(p.RowInfo)
			bytes, kvs := cost.Use(chunker.IntentBytes, 1, p.RecordBytes), cost.Use(chunker.KVs, 1, p.RecordBytes)
			plan, err := chunker.MakePlan(1e6, 1e6, 0, p.RecordBytes, cost, chunker.Limits{{Unit: chunker.IntentBytes, Max: p.Budget - 1, Name: "intents"}})
			if err != nil {
				t.Errorf("%s: %v", p.Name, err)
				continue
			}
			if cost.Exact != p.Exact {
				t.Errorf("%s: exact is %v, recorded %v", p.Name, cost.Exact, p.Exact)
			}
			if p.Exact {
				exact++
				if bytes != p.Bytes || kvs != p.KVs || plan.RowsPerChunk != p.Rows {
					t.Errorf("%s: got %d bytes in %d pairs, chunks of %d rows; %s had %d in %d, and condensed behind %d rows", p.Name, bytes, kvs, plan.RowsPerChunk, p.Server, p.Bytes, p.KVs, p.Rows)
				}
			} else if bytes < p.Bytes || kvs < p.KVs || plan.RowsPerChunk > p.Rows {
				t.Errorf("%s: got at most %d bytes in %d pairs, chunks of %d rows; %s had %d in %d, and condensed behind %d rows", p.Name, bytes, kvs, plan.RowsPerChunk, p.Server, p.Bytes, p.KVs, p.Rows)
			}
			// With the limits as they were read, chunks are not larger than what
			// commits in one phase, and the plan says what binds.
			plan, err = chunker.MakePlan(1e6, 0, 20_000, p.RecordBytes, cost, p.Limits)
			if err != nil || plan.LimitedBy == nil || plan.RowsPerChunk >= 10_000 {
				t.Errorf("%s: got chunks of %d rows, bound by %v, %v", p.Name, plan.RowsPerChunk, plan.LimitedBy, err)
			}
		}
		if exact < 10 {
			t.Errorf("%s: only %d schemas are exact", file, exact)
		}
	}
}
