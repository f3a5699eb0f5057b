package keysize_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
)

// grow builds a key as the server does, by append, from a slice of the capacity that the server
// begins with, and returns its capacity. A family other than 0 grows from a copy.
func grow(prefix, columns, family int, appends ...[]byte) int64 {
	key := make([]byte, prefix, 2*prefix+2*columns)
	for _, b := range appends {
		key = append(key, b...)
	}
	if family > 0 {
		key = key[:len(key):len(key)]
		key = append(key, byte(family))
	}
	return int64(cap(append(key, 0)))
}

// zeroes returns what is appended for bytes: a marker, the bytes up to each zero, its two, the
// rest, and the terminator.
func zeroes(data []byte) (list [][]byte) {
	list = append(list, make([]byte, 1))
	for {
		run, rest, found := bytes.Cut(data, []byte{0})
		list = append(list, run)
		if !found {
			return append(list, make([]byte, 2))
		}
		list, data = append(list, make([]byte, 2)), rest
	}
}

// TestBoundsOfGrowingKeys builds keys of text, of UUIDs and of addresses with Go's own append, in
// tables of few and of many columns: none has more than the bound.
func TestBoundsOfGrowingKeys(t *testing.T) {
	const overhead = 48
	r := rand.New(rand.NewPCG(1, 2))
	info := keysize.RowInfo{Major: 26, Minor: 1}
	for _, columns := range []int{1, 2, 10, 13, 60, 130, 300} {
		s := keysize.Schema{TenantID: 1, TableID: 110, Columns: columns, Indexes: []keysize.Index{{ID: 1, Primary: true}}}
		cost := func(kinds ...string) chunker.Cost {
			s.Indexes[0].Columns = nil
			for i, kind := range kinds {
				c := keysize.ColumnOf(fmt.Sprint("c", i), kind)
				c.Nullable = false
				s.Indexes[0].Columns = append(s.Indexes[0].Columns, c)
			}
			return s.Cost(info)
		}
		s.Families = []keysize.Family{{ID: 0, Columns: []string{"c0"}}, {ID: 7, Columns: []string{"x"}, NotNull: true}}
		two := cost("STRING")
		s.Families = nil
		one := cost("STRING")
		for length := range 400 {
			text := zeroes([]byte(strings.Repeat("x", length)))
			first, other := grow(3, columns, 0, text...), grow(3, columns, 7, text...)
			if got := one.Use(chunker.IntentBytes, 1, int64(length)); got < overhead+first {
				t.Errorf("text of %d bytes in %d columns: got a bound of %d, less than %d", length, columns, got, overhead+first)
			}
			if got := two.Use(chunker.IntentBytes, 1, int64(length)); got < 2*overhead+first+other {
				t.Errorf("text of %d bytes in %d columns and two families: got a bound of %d, less than %d", length, columns, got, 2*overhead+first+other)
			}
		}
		for kind, width := range map[string]int{"UUID": 16, "INET": 18} {
			for n := 1; n <= 2; n++ {
				bound := cost([]string{kind, kind}[:n]...).IntentBytes
				var most int64
				for range 1500 {
					var list [][]byte
					for range n {
						value := make([]byte, width)
						zeros := r.IntN(9)
						for i := range value {
							if r.IntN(8) >= zeros || kind == "INET" && i == 0 {
								value[i] = 1
							}
						}
						list = append(list, zeroes(value)...)
					}
					most = max(most, overhead+grow(3, columns, 0, list...))
				}
				if bound != most {
					t.Errorf("%d columns of %s of %d: got a bound of %d, want the %d of the largest keys", n, kind, columns, bound, most)
				}
			}
		}
	}
}
