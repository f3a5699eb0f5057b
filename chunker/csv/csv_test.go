package csv_test

import (
	"bytes"
	stdcsv "encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"bulkload/chunker/csv"
)

var (
	comma = csv.Dialect{Delimiter: ',', Quote: '"'}
	cr    = csv.Dialect{Delimiter: ',', Quote: '"', CR: true}
)

// records cuts text with buffers of the given size, as a reader of a file would.
func records(t testing.TB, d csv.Dialect, text string, size int) (list []string, rest string) {
	t.Helper()
	at, end := 0, min(size, len(text))
	for at < len(text) {
		s := csv.Scanner{Dialect: d, Buf: []byte(text[at:end]), EOF: end == len(text)}
		if !s.Skip(1, math.MaxInt) {
			if end == len(text) {
				return list, text[at:]
			}
			end++
			continue
		}
		list = append(list, text[at:at+s.At])
		at += s.At
		end = max(end, min(at+size, len(text)))
	}
	return list, ""
}

func TestScan(t *testing.T) {
	backslash := csv.Dialect{Delimiter: ',', Quote: '"', Escape: '\\'}
	none := csv.Dialect{Delimiter: '\t'}
	for _, c := range []struct {
		d    csv.Dialect
		text string
		want []string
		rest string
	}{
		{comma, "", nil, ""},
		{comma, "a,b\n", []string{"a,b\n"}, ""},
		{comma, "a,b", []string{"a,b"}, ""},
		{comma, "a\r\nb\rc\nd", []string{"a\r\n", "b\rc\n", "d"}, ""},
		{cr, "a\r\nb\rc\nd", []string{"a\r\n", "b\r", "c\n", "d"}, ""},
		{comma, "\n\n", []string{"\n", "\n"}, ""},
		{cr, "\r\r\n\n", []string{"\r", "\r\n", "\n"}, ""},
		{comma, "a\r\r\n\r", []string{"a\r\r\n", "\r"}, ""},
		{comma, "\"a\nb\",c\nd\n", []string{"\"a\nb\",c\n", "d\n"}, ""},
		{cr, "\"a\r\nb\r\",c\rd\n", []string{"\"a\r\nb\r\",c\r", "d\n"}, ""},
		{comma, `"a""` + "\n" + `",b` + "\n", []string{`"a""` + "\n" + `",b` + "\n"}, ""},
		{comma, `a"b` + "\n" + `c"d` + "\ne\n", []string{`a"b` + "\n", `c"d` + "\n", "e\n"}, ""},
		{comma, `a, "b` + "\n" + `"c"d` + "\n\"e\n\"\n", []string{`a, "b` + "\n", `"c"d` + "\n", "\"e\n\"\n"}, ""},
		{comma, "\"a\nb\"c,\"d\ne\"\nf", []string{"\"a\nb\"c,\"d\ne\"\n", "f"}, ""},
		{comma, "a\n\"b\nc\n", []string{"a\n"}, "\"b\nc\n"},
		{comma, `"a`, nil, `"a`},
		{backslash, `"a\"` + "\n" + `b",c` + "\nd", []string{`"a\"` + "\n" + `b",c` + "\n", "d"}, ""},
		{backslash, `"a\\",b` + "\n\"c\"\n", []string{`"a\\",b` + "\n", "\"c\"\n"}, ""},
		{backslash, `"a\`, nil, `"a\`},
		{none, "\"a\n\"b\n", []string{"\"a\n", "\"b\n"}, ""},
	} {
		for _, size := range []int{1, 2, 3, 1000} {
			got, rest := records(t, c.d, c.text, size)
			if !slices.Equal(got, c.want) || rest != c.rest {
				t.Errorf("records of %q by %d bytes: %q and %q, want %q and %q", c.text, size, got, rest, c.want, c.rest)
			}
		}
	}
}

func TestScanBounds(t *testing.T) {
	text := []byte(strings.Repeat("ab,\"c\nd\"\n", 10))
	for _, c := range []struct {
		rows        int64
		size        int
		at          int
		found, line int64
	}{{3, math.MaxInt, 27, 3, 6}, {100, 10, 18, 2, 4}, {100, 9, 9, 1, 2}, {100, 0, 9, 1, 2}, {100, math.MaxInt, 90, 10, 20}} {
		s := csv.Scanner{Dialect: comma, Buf: text, EOF: true}
		if !s.Skip(c.rows, c.size) || s.At != c.at || s.Rows != c.found || s.Lines != c.line {
			t.Errorf("%d rows, %d bytes: at %d, %d rows, %d lines; want %+v", c.rows, c.size, s.At, s.Rows, s.Lines, c)
		}
	}
	plain := []byte(strings.Repeat("abcdefg\n", 2000))
	for _, rows := range []int64{1, 2, 511, 512, 513, 1999, 2000} {
		s := csv.Scanner{Dialect: comma, Buf: plain, EOF: true}
		if s.Skip(rows, math.MaxInt); s.Rows != rows || s.At != int(rows)*8 || s.Lines != rows {
			t.Errorf("%d rows: %d rows, at %d", rows, s.Rows, s.At)
		}
	}
	for _, size := range []int{1, 8, 9, 4095, 4096, 4097, 15999, 16000} {
		s := csv.Scanner{Dialect: comma, Buf: plain, EOF: true}
		if s.Skip(math.MaxInt64, size); s.At < size || s.At >= size+8 || s.Rows != int64(s.At)/8 {
			t.Errorf("%d bytes: %d rows, at %d", size, s.Rows, s.At)
		}
	}
}

// show writes fields so that NULL and the empty text differ.
func show(list []csv.Field) string {
	var b strings.Builder
	for _, f := range list {
		if f.Null {
			b.WriteString("NULL|")
		} else {
			fmt.Fprintf(&b, "%q|", f.Text)
		}
	}
	return b.String()
}

func TestFields(t *testing.T) {
	for _, c := range []struct {
		d            csv.Dialect
		record, want string
	}{
		{comma, "a,b\n", `"a"|"b"|`},
		{comma, "\n", `NULL|`},
		{comma, ",\r\n", `NULL|NULL|`},
		{comma, `,"",x` + "\r", `NULL|""|"x"|`},
		{comma, `"a,b","c""d","e` + "\r\n" + `f"` + "\n", `"a,b"|"c\"d"|"e\r\nf"|`},
		{comma, `a"b,c"d, "e",37°36'37.8"`, `"a\"b"|"c\"d"|" \"e\""|"37°36'37.8\""|`},
		{comma, `{"a":1,"b"`, `"{\"a\":1"|"b"|`},
		{comma, `""""`, `"\""|`},
		{comma, `"a",`, `"a"|NULL|`},
		{comma, ` "a" ,b `, `" \"a\" "|"b "|`},
		{csv.Dialect{Delimiter: ';', Quote: '\'', Escape: '\\', Null: `\N`}, `\N;'\N';'a\'b\\c\d';x`, `NULL|"\\N"|"a'b\\c\\d"|"x"|`},
		{csv.Dialect{Delimiter: '\t', Null: "-"}, "-\t\"\t\t", `NULL|"\""|""|""|`},
	} {
		got, _, err := c.d.Fields([]byte(c.record), nil, nil)
		if err != nil || show(got) != c.want {
			t.Errorf("fields of %q: %s, %v; want %s", c.record, show(got), err, c.want)
		}
	}
	for record, want := range map[string]error{
		`"a`: csv.ErrUnclosed, `a,"b""`: csv.ErrUnclosed, `"`: csv.ErrUnclosed,
		`"a"b,c`: csv.ErrBehind, `"a" ,b`: csv.ErrBehind, `x,"a""b"c"`: csv.ErrBehind,
	} {
		if got, _, err := comma.Fields([]byte(record), nil, nil); !errors.Is(err, want) {
			t.Errorf("fields of %q: %s, %v; want %v", record, show(got), err, want)
		}
	}
}

// byteByByte returns where the records of text end and the lines up to there, by the
// definition: a quote opens at the beginning of a field, and an end of line outside quotes
// ends a record.
func byteByByte(d csv.Dialect, text string) (ends []int, lines []int64) {
	escape := d.Escape
	if escape == 0 {
		escape = d.Quote
	}
	open, begins, line, at := false, true, int64(0), 0
	for i := 0; i < len(text); i++ {
		b, next := text[i], byte(0)
		if i+1 < len(text) {
			next = text[i+1]
		}
		switch {
		case open && b == escape && i+1 < len(text) && (next == escape || next == d.Quote):
			i++
		case open && b == d.Quote:
			open = false
		case !open && begins && d.Quote != 0 && b == d.Quote:
			open, begins = true, false
		case b == '\n' || d.CR && b == '\r' && next != '\n':
			if line++; !open {
				at, begins = i+1, true
				ends, lines = append(ends, at), append(lines, line)
			}
		case !open:
			begins = b == d.Delimiter
		}
	}
	if at < len(text) && !open {
		ends, lines = append(ends, len(text)), append(lines, line+1)
	}
	return ends, lines
}

// FuzzScan holds that the scanner finds what a look at each byte finds, whatever the
// bounds of rows and bytes, and wherever the buffer ends; that each record closes its
// quotes, and that what is left at the end does not; and that a record with a quote that
// others read otherwise is told.
func FuzzScan(f *testing.F) {
	for _, s := range []string{"a,b\nc,d\n", "\"a\r\nb\"\rc", "a\"b\nc\"\n\"", "\r\n\r\r\n", "\"a\"\"b\"\n,\n", "a,b\"c\nd\",\"e\n\"\n", "\"a\"b\n\"c\"\r,\"\"\r\n"} {
		f.Add(s, byte(','), byte('"'), byte('"'), false, 3)
		f.Add(s, byte(','), byte('"'), byte('"'), true, 3)
		f.Add(s, byte(';'), byte('\''), byte('\\'), false, 1)
		f.Add(s, byte(';'), byte('\''), byte('\\'), true, 1)
		f.Add(strings.Repeat(s, 40)+"\""+s, byte(','), byte('"'), byte(0), false, 70)
		f.Add(strings.Repeat(s, 40)+"\""+s, byte(','), byte('"'), byte(0), true, 70)
		f.Add("a\n\"\n"+strings.Repeat("a", 200), byte(','), byte('"'), byte(0), false, 2)
		f.Add("a\n\"\n"+strings.Repeat("a", 200), byte(','), byte('"'), byte(0), true, 2)
		f.Add(strings.Repeat("a", 60)+s+strings.Repeat("b", 59)+s, byte(','), byte('"'), byte(0), false, 61)
		f.Add(strings.Repeat("a", 60)+s+strings.Repeat("b", 59)+s, byte(','), byte('"'), byte(0), true, 61)
	}
	f.Fuzz(func(t *testing.T, text string, delimiter, quote, escape byte, cr bool, size int) {
		d := csv.Dialect{Delimiter: delimiter, Quote: quote, Escape: escape, CR: cr}
		if d.Check() != nil || size < 1 || len(text) > 10_000 {
			t.Skip()
		}
		if text != "" && len(text) < 200 {
			// Longer than what the scanner looks at at once.
			text += strings.Repeat(text, 200/len(text))
		}
		ends, lines := byteByByte(d, text)
		for _, bounds := range [][2]int{{1, math.MaxInt}, {size, math.MaxInt}, {math.MaxInt, size}, {math.MaxInt, math.MaxInt}} {
			s := csv.Scanner{Dialect: d, Buf: []byte(text), EOF: true}
			n, at := 0, 0
			for n < len(ends) {
				// What is to be found from at on, within the bounds.
				most := len(ends) - n
				if most > bounds[0] {
					most = bounds[0]
				}
				want := 1
				for want < most && ends[n+want-1]-at < bounds[1] {
					want++
				}
				n += want
				if !s.Skip(s.Rows+int64(min(bounds[0], len(text)+1)), min(at+min(bounds[1], len(text)), len(text)+1)) || s.Rows != int64(n) || s.At != ends[n-1] || s.Lines != lines[n-1] {
					t.Fatalf("%q by %d: %d rows and %d lines up to %d, want %d, %d, %d", text, bounds, s.Rows, s.Lines, s.At, n, lines[n-1], ends[n-1])
				}
				at = s.At
			}
			if s.Skip(math.MaxInt64, math.MaxInt) {
				t.Fatalf("%q by %d: another record up to %d", text, bounds, s.At)
			}
		}
		parts, rest := records(t, d, text, size)
		at := 0
		for i, r := range parts {
			if at += len(r); i >= len(ends) || at != ends[i] {
				t.Fatalf("%q by buffers of %d bytes: record %d is %q", text, size, i, r)
			}
			fields, _, err := d.Fields([]byte(r), nil, nil)
			if err != nil && !errors.Is(err, csv.ErrBehind) {
				t.Fatalf("record %q: %v", r, err)
			}
			s := csv.Scanner{Dialect: d, Buf: []byte(text), EOF: true}
			s.Skip(math.MaxInt64, math.MaxInt)
			if !s.Stray && (err != nil || quoteWithin(d, r, fields)) {
				t.Fatalf("%q: nothing is said of the quotes in %q", text, r)
			}
		}
		if at+len(rest) != len(text) || len(parts) != len(ends) {
			t.Fatalf("%q: %d records and %q, want %d records", text, len(parts), rest, len(ends))
		}
		if rest != "" {
			if _, _, err := d.Fields([]byte(rest), nil, nil); err == nil {
				t.Fatalf("rest %q has closed quotes", rest)
			}
		}
	})
}

// quoteWithin reports whether a field of a record holds a quote and is not quoted.
func quoteWithin(d csv.Dialect, record string, fields []csv.Field) bool {
	if d.Quote == 0 {
		return false
	}
	for i, f := range fields {
		if bytes.IndexByte(f.Text, d.Quote) <= 0 {
			continue
		}
		// What stands behind the delimiters in front of it.
		plain := csv.Dialect{Delimiter: d.Delimiter}
		if rest, _, _ := plain.Fields([]byte(record), nil, nil); len(rest) == len(fields) && bytes.Equal(rest[i].Text, f.Text) {
			return true
		}
	}
	return false
}

// csvTexts are files of three kinds, made alike.
func csvTexts() map[string][]byte {
	var plain, quoted, wide bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&plain, "%d,%d,2019-03-%02d,%d.%02d,name%d\n", i, i*7919, i%28+1, i%1000, i%100, i)
		fmt.Fprintf(&quoted, "\"%d\",\"item %d, \"\"best\"\"\",\"line one\nline two\",\"%d\"\r\n", i, i, i%13)
		fmt.Fprintf(&wide, "%d", i)
		for k := range 40 {
			fmt.Fprintf(&wide, ",%d", i*k)
		}
		wide.WriteByte('\n')
	}
	return map[string][]byte{"plain": plain.Bytes(), "quoted": quoted.Bytes(), "wide": wide.Bytes()}
}

func BenchmarkScan(b *testing.B) {
	for name, text := range csvTexts() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				s := csv.Scanner{Dialect: comma, Buf: text, EOF: true}
				for s.Skip(s.Rows+1000, math.MaxInt) {
				}
			}
		})
	}
}

func BenchmarkFields(b *testing.B) {
	for name, text := range csvTexts() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			var list []csv.Field
			var buf []byte
			for b.Loop() {
				s := csv.Scanner{Dialect: comma, Buf: text, EOF: true}
				for at := 0; s.Skip(s.Rows+1, math.MaxInt); at = s.At {
					list, buf, _ = comma.Fields(text[at:s.At], list[:0], buf[:0])
				}
			}
		})
	}
}

// BenchmarkEncodingCSV is what Scan is compared with.
func BenchmarkEncodingCSV(b *testing.B) {
	for name, text := range csvTexts() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				r := stdcsv.NewReader(bytes.NewReader(text))
				r.ReuseRecord = true
				for {
					if _, err := r.Read(); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
