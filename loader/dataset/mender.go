package dataset

import (
	"context"
	"encoding/json"

	"bulkload/chunker"
)

// A Committed is a chunk that is in, with what tells the bytes that it was read from.
type Committed struct {
	chunker.Range
	Hash    string
	Records int64
	// Open says that the range may be committed in part: only a look-up tells.
	Open bool
	// Shift is by how much what lies in the chunk has moved; see Mender.
	Shift int64
}

// A Mender is a Dataset that can go on with another input than the recorded one, which Reopen
// has refused.
type Mender interface {
	// Mend finds the chunks that are in, which come in their order, in the input as it is now,
	// and takes that for its own. It returns where they stand. The error names the first that
	// is not there unchanged.
	Mend(ctx context.Context, o *Opening, in []Committed) ([]Committed, error)
}

// A Reader is a Dataset that can tell whether a recorded load reads the same input.
type Reader interface {
	// Reads returns the name of an input that both read.
	Reads(record json.RawMessage) (name string, yes bool)
}
