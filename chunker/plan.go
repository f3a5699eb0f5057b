package chunker

import "fmt"

// A Unit is the quantity that a Limit bounds.
type Unit int

// The units of a Limit.
const (
	Rows         Unit = iota // rows of one chunk
	KVs                      // key-value pairs that a chunk writes
	IntentBytes              // bytes of key, as kv.transaction.max_intents_bytes counts them
	MessageBytes             // bytes of the protocol message that carries the chunk
	Parameters               // bind parameters of the statement; an array counts as one
	WriteBytes               // bytes of keys and values that a chunk writes, approximately
)

// String returns the unit in words.
func (u Unit) String() string {
	return [...]string{"rows", "key-value pairs", "intent bytes", "message bytes", "parameters", "bytes written"}[u]
}

// A Limit is one bound on a chunk, with its origin.
type Limit struct {
	Unit   Unit
	Max    int64  // maximum for one chunk, inclusive; zero means no limit
	Name   string // the setting or rule, as its documentation names it
	Origin string // source of the value: "read from the server", "default of 21.1", "wire protocol"
	Soft   bool   // a larger chunk works at a cost; an explicit wish overrides the limit
	Cost   string // the consequence of exceeding it, for the note
}

// Limits are all bounds on one chunk. Nil means no limit.
type Limits []Limit

// A Cost is the amount that rows add to a chunk. It is exact for generated rows and fixed-size
// keys, and an upper bound if text is involved.
type Cost struct {
	KVs          int64 // key-value pairs of one row
	IntentBytes  int64 // key bytes of one row over all indexes, with the per-span overhead
	MessageBytes int64 // bytes of one row in the message
	Parameters   int64 // bind parameters of one row; zero if columns are sent as arrays
	// IntentPerByte and MessagePerByte are added for each byte of the row's record, if the size
	// of a row depends on its text.
	IntentPerByte, MessagePerByte int64
	// ValueCopies is the number of secondary indexes with stored columns.
	ValueCopies int64
	// KVsPerByte is added to KVs for each byte of the record. It is zero without inverted
	// indexes, which have a key for every element of a value.
	KVsPerByte int64
	// FixedMessageBytes is the message size without rows. FixedParameters is the number of
	// parameters of a statement that takes each column as an array.
	FixedMessageBytes, FixedParameters int64
	Exact                              bool // the intent bytes are exact, not a bound
	// Guess says that the intent bytes are not even a bound: an index contains an expression,
	// or a column of unknown type.
	Guess bool
}

// per returns the amount of unit u in one row with a record of recordBytes bytes.
func (c Cost) per(u Unit, recordBytes int64) int64 {
	switch u {
	case Rows:
		return 1
	case KVs:
		return c.KVs + c.KVsPerByte*recordBytes
	case IntentBytes:
		return c.IntentBytes + c.IntentPerByte*recordBytes
	case MessageBytes:
		return c.MessageBytes + c.MessagePerByte*recordBytes
	case Parameters:
		return c.Parameters
	case WriteBytes:
		// Values are about as long as in the message: at most for text, within a byte or two
		// per column for the rest.
		return c.per(IntentBytes, recordBytes) + (1+c.ValueCopies)*c.per(MessageBytes, recordBytes)
	}
	return 0
}

func (c Cost) fixed(u Unit) int64 {
	switch u {
	case MessageBytes:
		return c.FixedMessageBytes
	case Parameters:
		return c.FixedParameters
	}
	return 0
}

// Use returns the amount of unit u in a chunk of rows rows, each with a record of recordBytes
// bytes (zero for generated rows).
func (c Cost) Use(u Unit, rows, recordBytes int64) int64 {
	return c.fixed(u) + rows*c.per(u, recordBytes)
}

// A Plan gives the number of rows per chunk, and the reason.
type Plan struct {
	Rows         int64  // rows of the load
	RowsPerChunk int64  // rows per chunk
	Chunks       int64  // number of chunks: ceil(Rows / RowsPerChunk)
	LimitedBy    *Limit // the limit that decided RowsPerChunk; nil if no limit did
	Notes        []string
	Limits       Limits
	Cost         Cost
}

// DefaultRowsPerChunk is the number of rows per chunk if nothing else decides. Measured on
// CockroachDB 21.1, the rate is flat from 2 000 rows to the one-phase limit, and retries of
// smaller chunks are cheaper. On 26.1 chunks of 1 000 and of 5 000 rows were no faster.
const DefaultRowsPerChunk = 2000

// MakePlan returns the plan for rows rows. wish is the user's number of rows per chunk. A wish
// is reduced to the limits that are not soft. A note reports each reduction, and each soft
// limit that the wish exceeds. If wish is zero, the plan uses preferred (DefaultRowsPerChunk if
// that is zero too), reduced to all limits, soft ones included. recordBytes is the typical size
// of a row's record, zero for generated rows.
//
// The error says that a single row exceeds a limit that is not soft.
func MakePlan(rows, wish, preferred, recordBytes int64, cost Cost, limits Limits) (Plan, error) {
	p := Plan{Rows: rows, Limits: limits, Cost: cost}
	asked := wish > 0
	size := wish
	if !asked {
		size = preferred
		if size <= 0 {
			size = DefaultRowsPerChunk
		}
	}
	// Soft limits come last: their notes refer to the size after the other limits.
	for _, soft := range []bool{false, true} {
		for i := range limits {
			l := &limits[i]
			per := cost.per(l.Unit, recordBytes)
			if l.Max <= 0 || per <= 0 || l.Soft != soft {
				continue
			}
			fits := (l.Max - cost.fixed(l.Unit)) / per
			if fits < 1 && !l.Soft {
				return Plan{}, fmt.Errorf("one row takes %d %s, more than %s allows (%d, %s)", cost.Use(l.Unit, 1, recordBytes), l.Unit, l.Name, l.Max, l.Origin)
			}
			fits = max(fits, 1)
			if size <= fits {
				continue
			}
			use := cost.Use(l.Unit, size, recordBytes)
			if l.Soft && asked {
				note := fmt.Sprintf("%s, above %s (%d)", inUnit("are", size, use, l.Unit), l.Name, l.Max)
				if l.Cost != "" {
					note += ": " + l.Cost
				}
				p.Notes = append(p.Notes, fmt.Sprintf("%s; %d rows stay below it", note, fits))
				continue
			}
			if asked {
				p.Notes = append(p.Notes, fmt.Sprintf("%s; %s allows %d (%s), so chunks hold %d rows", inUnit("would be", size, use, l.Unit), l.Name, l.Max, l.Origin, fits))
			}
			size, p.LimitedBy = fits, l
		}
	}
	p.RowsPerChunk = size
	if size > 0 {
		p.Chunks = (rows + size - 1) / size
	}
	return p, nil
}

// inUnit expresses the size of a chunk in a limit's unit, as the start of a note.
func inUnit(verb string, rows, use int64, u Unit) string {
	if u == Rows {
		return fmt.Sprintf("chunks %s %d rows", map[string]string{"are": "hold", "would be": "would hold"}[verb], rows)
	}
	return fmt.Sprintf("%d rows per chunk %s %d %s", rows, verb, use, u)
}

// Except returns the limits without those of the given name.
func (l Limits) Except(name string) Limits {
	var rest Limits
	for _, x := range l {
		if x.Name != name {
			rest = append(rest, x)
		}
	}
	return rest
}
