package csv_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"bulkload/chunker/csv"
)

var copied = csv.Dialect{Delimiter: '\t', Null: `\N`, Text: true}

func TestScanText(t *testing.T) {
	cr := copied
	cr.CR = true
	for _, c := range []struct {
		d    csv.Dialect
		text string
		want []string
		rest string
	}{
		{copied, "", nil, ""},
		{copied, "a\tb\nc\n", []string{"a\tb\n", "c\n"}, ""},
		{copied, "a\"\n\"b\n", []string{"a\"\n", "\"b\n"}, ""},
		{copied, "a\\\nb\nc", []string{"a\\\nb\n", "c"}, ""},
		{copied, "a\\\\\nb\n", []string{"a\\\\\n", "b\n"}, ""},
		{copied, "a\\\r\nb\r\nc\r\n", []string{"a\\\r\nb\r\n", "c\r\n"}, ""},
		{copied, "a\rb\nc\\", []string{"a\rb\n", "c\\"}, ""},
		{cr, "a\\\rb\rc\r", []string{"a\\\rb\r", "c\r"}, ""},
	} {
		for _, size := range []int{1, 2, 3, 1000} {
			got, rest := records(t, c.d, c.text, size)
			if !slices.Equal(got, c.want) || rest != c.rest {
				t.Errorf("records of %q by %d bytes: %q and %q, want %q and %q", c.text, size, got, rest, c.want, c.rest)
			}
		}
	}
}

// TestScanTextBounds compares bounds of rows and bytes in texts longer than what is scanned in
// one step.
func TestScanTextBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var ends []int
		var b strings.Builder
		for range 3000 {
			b.WriteString([]string{"abcdefg", "x", `\\`, "\\\n", "\\\t", "\r"}[min(r.IntN(400), 5)])
			if r.IntN(3) == 0 {
				b.WriteString("\t\n")
				ends = append(ends, b.Len())
			}
		}
		b.WriteString("end")
		ends = append(ends, b.Len())
		s := csv.Scanner{Dialect: copied, Buf: []byte(b.String()), EOF: true}
		for n := 0; n < len(ends); {
			rows, size := int64(1+r.IntN(900)), s.At+1+r.IntN(6000)
			if !s.Skip(s.Rows+rows, size) || int(s.Rows) <= n || s.At != ends[s.Rows-1] || s.Rows-int64(n) > rows {
				t.Fatalf("%d records up to %d, from %d on", s.Rows, s.At, n)
			}
			if s.At < size && s.Rows-int64(n) < rows && s.At < b.Len() {
				t.Fatalf("stopped at %d of %d bytes, and %d of %d rows", s.At, size, s.Rows-int64(n), rows)
			}
			n = int(s.Rows)
		}
		if want := int64(strings.Count(b.String(), "\n") + 1); s.Lines != want {
			t.Fatalf("%d lines, want %d", s.Lines, want)
		}
		if s.Skip(math.MaxInt64, math.MaxInt) {
			t.Fatal("a record behind the last")
		}
	}
}

func TestTextFields(t *testing.T) {
	pipe := csv.Dialect{Delimiter: '|', Null: "NULL", Text: true}
	for _, c := range []struct {
		d            csv.Dialect
		record, want string
	}{
		{copied, "a\tb\n", `"a"|"b"|`},
		{copied, "\n", `""|`},
		{copied, "\\N\t\\\\N\tN\r\n", `NULL|"\\N"|"N"|`},
		{copied, "\"a\t,\t'\n", `"\"a"|","|"'"|`},
		{copied, `a\tb\nc\rd\be\ff\vg\\h\qi`, `"a\tb\nc\rd\be\ff\vg\\hqi"|`},
		{copied, `\101\x42\x4\b\1019\x414\xg`, `"AB\x04\bA9A4xg"|`},
		{copied, "a\\\tb\tc\\\nd\n", `"a\tb"|"c\nd"|`},
		{copied, "a\\\r\nb\r\n", `"a\r\nb"|`},
		{copied, "a\\\\\tb\n", `"a\\"|"b"|`},
		{pipe, `a\|b|NULL|\NULL|`, `"a|b"|NULL|"NULL"|""|`},
	} {
		got, _, err := c.d.Fields([]byte(c.record), nil, nil)
		if err != nil || show(got) != c.want {
			t.Errorf("fields of %q: %s, %v; want %s", c.record, show(got), err, c.want)
		}
	}
	for record, want := range map[string]error{"\\.\n": csv.ErrMark, `\.`: csv.ErrMark, `a\`: csv.ErrEscape, "a\\\tb\\": csv.ErrEscape} {
		if got, _, err := copied.Fields([]byte(record), nil, nil); !errors.Is(err, want) {
			t.Errorf("fields of %q: %s, %v; want %v", record, show(got), err, want)
		}
	}
}

func TestUnmarked(t *testing.T) {
	for text, want := range map[string]string{
		"a\n\\.\n": "a\n", "a\r\n\\.\r\n\r\n": "a\r\n", "\\.": "", "a\n\n\\.\n": "a\n\n", "a\n": "a\n", "": "",
		"a\\.\n": "a\\.\n", "a\\\n\\.\n": "a\\\n\\.\n", "a\n\\.\nb\n": "a\n\\.\nb\n", "a\n\\\\.\n": "a\n\\\\.\n",
	} {
		if got := copied.Unmarked([]byte(text)); string(got) != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := comma.Unmarked([]byte("a\n\\.\n")); string(got) != "a\n\\.\n" {
		t.Errorf("CSV: got %q", got)
	}
}
