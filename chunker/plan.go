package chunker

import "fmt"

// A Unit is what a Limit counts.
type Unit int

// The units of a Limit.
const (
	Rows         Unit = iota // rows of one chunk
	KVs                      // key-value pairs that a chunk writes
	IntentBytes              // bytes of key in kv.transaction.max_intents_bytes' sense
	MessageBytes             // bytes of the protocol message that carries the chunk
	Parameters               // bind parameters of the statement; an array is one
	WriteBytes               // bytes of keys and values that a chunk writes, about
)

// String returns the unit in words.
func (u Unit) String() string {
	return [...]string{"rows", "key-value pairs", "intent bytes", "message bytes", "parameters", "bytes written"}[u]
}

// A Limit is one bound on a chunk, with where it comes from.
type Limit struct {
	Unit   Unit
	Max    int64  // the most a chunk may hold, inclusive; zero is no limit
	Name   string // the setting or rule, as its documentation calls it
	Origin string // where the value was found: "read from the server", "default of 21.1", "wire protocol"
	Soft   bool   // a larger chunk works but costs; an explicit wish is honoured
	Cost   string // what exceeding it costs or causes, for the note
}

// Limits are all bounds that hold for one chunk. Nil is no limit.
type Limits []Limit

// A Cost is what rows add to a chunk. Generated rows and fixed-size keys have an
// exact cost; where text is involved it is an upper bound.
type Cost struct {
	KVs          int64 // key-value pairs of one row
	IntentBytes  int64 // bytes of key of one row over all indexes, with the per-span overhead
	MessageBytes int64 // bytes of one row in the message
	Parameters   int64 // bind parameters of one row; zero where columns are sent as arrays
	// IntentPerByte and MessagePerByte are added for each byte of the row's
	// record, where the size of a row depends on its text.
	IntentPerByte, MessagePerByte int64
	// ValueCopies is the number of secondary indexes that store columns too.
	ValueCopies int64
	// KVsPerByte is added to KVs for each byte of the record: zero but for
	// inverted indexes, where every element of a value is a key.
	KVsPerByte int64
	// FixedMessageBytes is what the message holds besides the rows,
	// FixedParameters the parameters of a statement that takes each column as an
	// array.
	FixedMessageBytes, FixedParameters int64
	Exact                              bool // the intent bytes are exact, not a bound
	// Guess says that the intent bytes are not even a bound: an index holds an
	// expression, or a type that is not known.
	Guess bool
}

// per returns what one row, of a record of recordBytes bytes, takes of a limit.
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
		// The values are as long as in the message, which is a bound for
		// text and within a byte or two a column for the rest.
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

// Use returns how much of a limit's unit a chunk of rows rows takes, each of a
// record of recordBytes bytes (zero for generated rows).
func (c Cost) Use(u Unit, rows, recordBytes int64) int64 {
	return c.fixed(u) + rows*c.per(u, recordBytes)
}

// A Plan says how many rows go into one chunk, and why.
type Plan struct {
	Rows         int64  // rows of the load
	RowsPerChunk int64  // rows per chunk
	Chunks       int64  // number of chunks: ceil(Rows / RowsPerChunk)
	LimitedBy    *Limit // the limit that decided RowsPerChunk; nil when the wish did
	Notes        []string
	Limits       Limits
	Cost         Cost
}

// DefaultRowsPerChunk is the rows of a chunk where nothing else decides. Measured
// on CockroachDB 21.1 the rate is flat from 2 000 rows to the one-phase limit, and
// smaller chunks are retried more cheaply.
const DefaultRowsPerChunk = 2000

// MakePlan returns the plan for rows rows. wish is the number of rows per chunk
// that the user asked for; zero takes preferred (or DefaultRowsPerChunk where
// preferred is zero too) and keeps below every limit, advice included. A wish is
// clamped by limits that are not advice, and each time that happens, or an advice
// is passed over, a note says so. recordBytes is the typical size of a row's
// record, zero for generated rows.
//
// The error says that a single row does not fit a limit.
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
	// Soft limits come last: what it says is about the size that the other limits leave.
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

// inUnit says what rows rows per chunk are, or would be, in a limit's unit.
func inUnit(verb string, rows, use int64, u Unit) string {
	if u == Rows {
		return fmt.Sprintf("chunks %s %d rows", map[string]string{"are": "hold", "would be": "would hold"}[verb], rows)
	}
	return fmt.Sprintf("%d rows per chunk %s %d %s", rows, verb, use, u)
}

// Except returns the limits but the one of that name.
func (l Limits) Except(name string) Limits {
	var rest Limits
	for _, x := range l {
		if x.Name != name {
			rest = append(rest, x)
		}
	}
	return rest
}
