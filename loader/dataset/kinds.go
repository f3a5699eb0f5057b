package dataset

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
)

// A Kind is a kind of rows, and opens recorded datasets of it.
type Kind struct {
	Facts
	// Open returns the dataset of a record, from the JSON of Dataset.Record and the positions
	// of the load.
	Open func(record json.RawMessage, positions int64) (Dataset, error)
}

// kinds are all kinds of rows. Package files registers its own.
var (
	kindsMu sync.Mutex
	kinds   = []Kind{
		{NewPoints(0, 0).Facts(), openPoints},
		{NewAccounts(0, 0).Facts(), openAccounts},
	}
)

// Register adds a kind of rows: loads of it can then be resumed and verified. It panics where
// the name is taken.
func Register(k Kind) {
	kindsMu.Lock()
	defer kindsMu.Unlock()
	if slices.ContainsFunc(kinds, func(x Kind) bool { return x.Kind == k.Kind }) {
		panic("dataset: kind " + k.Kind + " is registered already")
	}
	kinds = append(kinds, k)
}

// Kinds returns all kinds of rows.
func Kinds() []Kind {
	kindsMu.Lock()
	defer kindsMu.Unlock()
	return slices.Clone(kinds)
}

// Open returns the dataset of a record.
func Open(kind string, record json.RawMessage, positions int64) (Dataset, error) {
	for _, k := range Kinds() {
		if k.Kind == kind {
			return k.Open(record, positions)
		}
	}
	return nil, fmt.Errorf("this version of loader cannot load %s", kind)
}
