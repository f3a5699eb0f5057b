package chunker_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"bulkload/chunker"
)

func TestRangesMeltTogether(t *testing.T) {
	for _, test := range []struct {
		name string
		add  []chunker.Range
		want string
	}{
		{"nothing", nil, ""},
		{"an empty range", []chunker.Range{{5, 5}}, ""},
		{"apart", []chunker.Range{{10, 20}, {0, 5}}, "0-5,10-20"},
		{"touching", []chunker.Range{{0, 5}, {5, 10}}, "0-10"},
		{"touching from below", []chunker.Range{{5, 10}, {0, 5}}, "0-10"},
		{"closing a gap", []chunker.Range{{0, 5}, {10, 15}, {5, 10}}, "0-15"},
		{"over several", []chunker.Range{{0, 2}, {4, 6}, {8, 9}, {1, 20}}, "0-20"},
		{"inside", []chunker.Range{{0, 20}, {5, 6}}, "0-20"},
	} {
		var s chunker.Ranges
		for _, r := range test.add {
			s.Add(r)
		}
		if got := s.String(); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		back, err := chunker.ParseRanges(test.want)
		if err != nil || back.String() != test.want {
			t.Errorf("%s: %q is read back as %q, %v", test.name, test.want, back.String(), err)
		}
	}
}

// TestRangesAgainstASetOfNumbers compares with the plainest implementation.
func TestRangesAgainstASetOfNumbers(t *testing.T) {
	const size = 60
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var s chunker.Ranges
		var in [size]bool
		for range 12 {
			a := rng.Int64N(size)
			b := a + rng.Int64N(size-a+1)
			s.Add(chunker.Range{First: a, End: b})
			for i := a; i < b; i++ {
				in[i] = true
			}
		}
		var got [size]bool
		last := int64(-1)
		for _, r := range s.All() {
			if r.First <= last || r.Len() <= 0 {
				t.Fatalf("seed %d: ranges %s are not apart and ascending", seed, s.String())
			}
			last = r.End
			for i := r.First; i < r.End; i++ {
				got[i] = true
			}
		}
		if got != in {
			t.Fatalf("seed %d: got %s, which is another set", seed, s.String())
		}
		a := rng.Int64N(size)
		b := a + rng.Int64N(size-a)
		missing := int64(0)
		for i := a; i < b; i++ {
			if !in[i] {
				missing++
			}
		}
		gaps := s.Gaps(chunker.Range{First: a, End: b})
		var sum int64
		for _, g := range gaps {
			sum += g.Len()
			if slices.Contains(in[g.First:g.End], true) {
				t.Fatalf("seed %d: gap %v holds a position of %s", seed, g, s.String())
			}
		}
		if sum != missing {
			t.Fatalf("seed %d: gaps of [%d,%d) in %s have %d positions, want %d", seed, a, b, s.String(), sum, missing)
		}
		if covers := s.Covers(chunker.Range{First: a, End: b}); covers != (missing == 0) {
			t.Fatalf("seed %d: Covers([%d,%d)) is %v with %d missing", seed, a, b, covers, missing)
		}
	}
}

func TestParseRangesRefusesNonsense(t *testing.T) {
	for _, text := range []string{"x", "1", "1-", "-5-3", "5-3", "1-2;3-4", "1-2,", "9999999999999999999-9999999999999999999"} {
		if s, err := chunker.ParseRanges(text); err == nil {
			t.Errorf("%q is read as %q", text, s.String())
		}
	}
}

// FuzzParseRanges holds that what parses is written as it was understood.
func FuzzParseRanges(f *testing.F) {
	for _, text := range []string{"", "0-5", "0-5,7-9", "5-0", "0-5,3-9", "x", "-1-4", "9223372036854775806-9223372036854775807"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := chunker.ParseRanges(text)
		if err != nil {
			return
		}
		again, err := chunker.ParseRanges(r.String())
		if err != nil || again.String() != r.String() || again.Len() != r.Len() || r.Len() < 0 {
			t.Errorf("%q is %s of %d, and then %s of %d, %v", text, r.String(), r.Len(), again.String(), again.Len(), err)
		}
	})
}
