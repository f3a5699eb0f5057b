package files_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader/files"
	"bulkload/loader/rows"
)

// BenchmarkHash measures what the recorded hash of a chunk costs beside the reading and the
// parsing of the chunk: the two are timed in turns over the same chunks.
func BenchmarkHash(b *testing.B) {
	var text strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&text, "%d,customer %d,2024-03-%02d,%d.%02d,\"some words, in quotes\"\n", i, i*7, i%28+1, i%1000, i%100)
	}
	name := filepath.Join(b.TempDir(), "x.csv")
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	in := files.NewInput(strings.NewReader(""))
	list, err := in.Inspect(b.Context(), []string{name}, "")
	if err != nil {
		b.Fatal(err)
	}
	s := &files.CSV{Files: list, Dialect: csv.Dialect{Delimiter: ',', Quote: '"'}, Width: 5, Input: in}
	for i := range 5 {
		s.Cols, s.Fields = append(s.Cols, rows.Column{Name: fmt.Sprint(i), Kind: rows.Text}), append(s.Fields, i)
	}
	defer s.Close()
	c := rows.NewChunk(s.Cols)
	var filling, hashing time.Duration
	for b.Loop() {
		spans := s.Cut(chunker.Range{End: s.Positions()})
		for {
			span, err := spans.Next(1000)
			if err != nil {
				break
			}
			start := time.Now()
			if err := s.Fill(c, span); err != nil {
				b.Fatal(err)
			}
			filled := time.Now()
			if c.Origin.(rows.Hasher).Hash() == "" {
				b.Fatal("no hash")
			}
			filling, hashing = filling+filled.Sub(start), hashing+time.Since(filled)
		}
	}
	bytes := float64(b.N) * float64(text.Len())
	b.ReportMetric(bytes/hashing.Seconds()/1e6, "MB/s-hash")
	b.ReportMetric(bytes/filling.Seconds()/1e6, "MB/s-fill")
	b.ReportMetric(100*hashing.Seconds()/(hashing+filling).Seconds(), "%-of-both")
}
