package chunker_test

import (
	"strings"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
)

func TestPlanAroundEachLimit(t *testing.T) {
	cost := chunker.Cost{KVs: 2, IntentBytes: 16, MessageBytes: 40, FixedMessageBytes: 1000}
	kvs := chunker.Limit{Unit: chunker.KVs, Max: 9999, Name: "one phase", Soft: true, Cost: "half the rate"}
	intents := chunker.Limit{Unit: chunker.IntentBytes, Max: 16*4000 + 15, Name: "intents", Origin: "read"}
	message := chunker.Limit{Unit: chunker.MessageBytes, Max: 1000 + 40*3000, Name: "message", Origin: "default"}
	for _, test := range []struct {
		name            string
		wish, preferred int64
		limits          chunker.Limits
		want            int64
		binds           string
		note            string // part of the only note; empty is no note
	}{
		{"nothing binds", 0, 0, nil, chunker.DefaultRowsPerChunk, "", ""},
		{"the preferred size", 0, 700, chunker.Limits{kvs}, 700, "", ""},
		{"advice binds what nobody asked for", 0, 20000, chunker.Limits{kvs}, 4999, "one phase", ""},
		{"the last wish within advice", 4999, 0, chunker.Limits{kvs}, 4999, "", ""},
		{"a wish above advice is honoured with a note", 5000, 0, chunker.Limits{kvs}, 5000, "", "half the rate"},
		{"the last wish within intents", 4000, 0, chunker.Limits{intents}, 4000, "", ""},
		{"a wish above intents is clamped with a note", 4001, 0, chunker.Limits{intents}, 4000, "intents", "intents allows"},
		{"the last wish within the message", 3000, 0, chunker.Limits{message}, 3000, "", ""},
		{"a wish above the message is clamped", 3001, 0, chunker.Limits{message}, 3000, "message", "message allows"},
		{"the smallest of several binds", 0, 20000, chunker.Limits{kvs, intents, message}, 3000, "message", ""},
		{"what is clamped below advice needs none", 20000, 0, chunker.Limits{kvs, intents}, 4000, "intents", "intents allows"},
		{"zero is no limit", 0, 20000, chunker.Limits{{Unit: chunker.Rows}}, 20000, "", ""},
	} {
		p, err := chunker.MakePlan(100_000, test.wish, test.preferred, 0, cost, test.limits)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if p.RowsPerChunk != test.want {
			t.Errorf("%s: got %d rows per chunk, want %d", test.name, p.RowsPerChunk, test.want)
		}
		if want := (100_000 + test.want - 1) / test.want; p.Chunks != want {
			t.Errorf("%s: got %d chunks, want %d", test.name, p.Chunks, want)
		}
		binds := ""
		if p.LimitedBy != nil {
			binds = p.LimitedBy.Name
		}
		if binds != test.binds {
			t.Errorf("%s: got limit %q as the one that binds, want %q", test.name, binds, test.binds)
		}
		if notes := strings.Join(p.Notes, "\n"); test.note == "" && notes != "" || !strings.Contains(notes, test.note) || strings.Contains(notes, "\n") {
			t.Errorf("%s: got notes %q, want %q in them", test.name, notes, test.note)
		}
	}
}

func TestPlanRefusesARowOverALimit(t *testing.T) {
	_, err := chunker.MakePlan(10, 0, 0, 0, chunker.Cost{MessageBytes: 100}, chunker.Limits{{Unit: chunker.MessageBytes, Max: 99, Name: "message", Origin: "default"}})
	if err == nil || !strings.Contains(err.Error(), "one row") {
		t.Errorf("got %v, want an error about one row", err)
	}
}

func TestIntKeySizes(t *testing.T) {
	for v, want := range map[int64]int64{
		0: 1, 109: 1, 110: 2, 255: 2, 256: 3, 1<<16 - 1: 3, 1 << 16: 4, 1<<40 - 1: 6, 1 << 40: 7, 1<<53 - 1: 8, 1<<63 - 1: 9,
		-1: 2, -255: 2, -256: 3, -1 << 63: 9,
	} {
		if got := keysize.IntKeyBytes(v); got != want {
			t.Errorf("IntKeyBytes(%d) is %d, want %d", v, got, want)
		}
	}
}

// TestCostOfTheMeasuredTable is the table of the measurement: with 8 bytes a row,
// 32 767 rows stay below the 262 144 bytes from which the server condenses.
func TestCostOfTheMeasuredTable(t *testing.T) {
	s := keysize.Schema{TableID: 88, Indexes: []keysize.Index{{
		ID: 1, Primary: true, Columns: []keysize.KeyColumn{{Name: "id", Kind: keysize.KeyInt}},
	}}}
	cost := s.Cost(keysize.RowInfo{Major: 21, Minor: 1, Ints: map[string]keysize.IntRange{"id": {First: 1 << 24, Last: 1<<32 - 1}}})
	if cost.IntentBytes != 8 || cost.KVs != 1 || !cost.Exact {
		t.Fatalf("got %+v, want 8 bytes exactly and 1 pair", cost)
	}
	p, err := chunker.MakePlan(1_000_000, 1_000_000, 0, 0, cost, chunker.Limits{{Unit: chunker.IntentBytes, Max: 262_144 - 1, Name: "intents"}})
	if err != nil || p.RowsPerChunk != 32_767 {
		t.Errorf("got %d rows per chunk, %v; want 32767", p.RowsPerChunk, err)
	}
}
