package rows

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"bulkload/chunker"
)

// checkFloat holds that the text of f gives f back.
func checkFloat(t *testing.T, f float64) {
	t.Helper()
	text := string(appendFloat(nil, f))
	if got, err := strconv.ParseFloat(text, 64); err != nil || math.Float64bits(got) != math.Float64bits(f) {
		t.Fatalf("%s gives %v, want %v (%x): %v", text, got, f, math.Float64bits(f), err)
	}
}

// TestFloatTextGivesTheSameBits takes numbers of every size, and those at the borders
// between two sizes, where the distance to the next number changes.
func TestFloatTextGivesTheSameBits(t *testing.T) {
	for e := -4; e <= 12; e++ {
		at := math.Ldexp(1, e)
		for _, f := range []float64{at, math.Nextafter(at, 0), math.Nextafter(at, math.Inf(1)), -at} {
			checkFloat(t, f)
		}
		for range 20_000 {
			checkFloat(t, math.Ldexp(1+rand.Float64(), e))
		}
	}
	for _, f := range []float64{0, math.Copysign(0, -1), 1.5, 100.1, 511.99999999999994, 1023.9999999999999, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		checkFloat(t, f)
	}
	if got := string(appendFloat(nil, 1.5)) + string(appendFloat(nil, 7)); got != "1.57" {
		t.Errorf("got %s", got)
	}
}

func FuzzFloatText(f *testing.F) {
	f.Add(uint64(0x4080000000000001))
	f.Fuzz(func(t *testing.T, b uint64) {
		if x := math.Float64frombits(b); x == x && !math.IsInf(x, 0) {
			checkFloat(t, x)
		}
		checkFloat(t, math.Float64frombits(b>>12|0x3ff<<52)) // within [1,2)
		checkFloat(t, math.Float64frombits(b&(1<<52-1)|(0x3ff+b>>60%10)<<52))
	})
}

func TestCopyText(t *testing.T) {
	c := NewChunk([]Column{{Name: "a", Kind: Int}, {Name: "b", Kind: Text}, {Name: "c", Kind: Float}})
	c.Reset(chunker.RowSpan(0, 2), 2)
	c.Col(0).Ints[0], c.Col(0).Ints[1] = -1, 7
	c.Col(1).AppendText([]byte("tab\tend\nback\\r\rx"))
	c.Col(1).AppendNull()
	c.Col(2).Floats[0], c.Col(2).Floats[1] = 2.25, 1e300
	want := "-1\ttab\\tend\\nback\\\\r\\rx\t2.25\n7\t\\N\t1e+300\n"
	if got := string(c.AppendCopyText(nil, '\t')); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkFloatText(b *testing.B) {
	var list [1024]float64
	for i := range list {
		list[i] = 1024 * rand.Float64()
	}
	buf := make([]byte, 0, 32)
	for _, x := range []struct {
		name string
		f    func([]byte, float64) []byte
	}{
		{"exact", appendFloat},
		{"shortest", func(b []byte, f float64) []byte { return strconv.AppendFloat(b, f, 'g', -1, 64) }},
	} {
		b.Run(x.name, func(b *testing.B) {
			for i := range b.N {
				x.f(buf, list[i%len(list)])
			}
		})
	}
}

func TestCSVTextIsQuotedWhereItHasToBe(t *testing.T) {
	c := NewChunk([]Column{{Name: "t", Kind: Text}, {Name: "n", Kind: Int}})
	texts := []string{"plain", "", "a,b", `say "x"`, "two\nlines", " blank", `\.`, "NULL"}
	c.Reset(chunker.RowSpan(0, int64(len(texts)+1)), len(texts)+1)
	for _, text := range texts {
		c.Col(0).AppendText([]byte(text))
	}
	c.Col(0).AppendNull()
	got, want := string(c.AppendCSV(nil)), "plain,0\n\"\",0\n\"a,b\",0\n\"say \"\"x\"\"\",0\n\"two\nlines\",0\n\" blank\",0\n\"\\.\",0\nNULL,0\n,0\n"
	if got != want {
		t.Errorf("the CSV is %q, want %q", got, want)
	}
}
