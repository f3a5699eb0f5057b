package main

import (
	"bufio"
	stdcsv "encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker/csv"
)

// makeFiles writes the file to load, and sample.csv with the data set once. With text it also
// writes the same records in the text format of COPY.
func makeFiles(dir string, text bool) (fileSet, error) {
	set := fileSet{csv: filepath.Join(dir, "load.csv"), text: filepath.Join(dir, "load.txt")}
	data, err := os.ReadFile(filepath.Join("testdata", "csv", *file))
	if err != nil {
		return set, err
	}
	d := csv.Dialect{Delimiter: ',', Quote: '"'}
	body := d.LineLen(data)
	header, err := stdcsv.NewReader(strings.NewReader(string(data[:body]))).Read()
	if err != nil {
		return set, err
	}
	head := string(data[:body])
	if *key {
		header = append([]string{"record"}, header...)
		head = "record," + head
	}
	var records [][]byte
	for s := (csv.Scanner{Dialect: d, Buf: data, At: body, EOF: true}); ; {
		at := s.At
		if !s.Skip(s.Rows+1, len(data)) {
			break
		}
		records = append(records, data[at:s.At])
	}
	for _, name := range header {
		if !plain.MatchString(name) {
			name = pgx.Identifier{name}.Sanitize()
		}
		set.columns = append(set.columns, name)
	}
	outs := []*out{}
	for _, o := range []struct {
		path string
		text bool
		once bool
	}{{filepath.Join(dir, "sample.csv"), false, true}, {set.csv, false, false}, {set.text, true, false}} {
		if o.text && !text {
			continue
		}
		f, err := os.Create(o.path)
		if err != nil {
			return set, err
		}
		defer f.Close()
		x := &out{Writer: bufio.NewWriterSize(f, 1<<20), text: o.text, once: o.once}
		if !o.text {
			x.WriteString(head)
		}
		outs = append(outs, x)
	}
	written := int64(len(head))
	for written < *size {
		for _, r := range records {
			if written >= *size && set.rows >= int64(len(records)) {
				break
			}
			for _, o := range outs {
				if o.once && set.rows >= int64(len(records)) {
					continue
				}
				if err := o.record(set.rows, r, d); err != nil {
					return set, err
				}
			}
			set.rows++
			written += int64(len(r))
			if *key {
				written += int64(len(strconv.FormatInt(set.rows, 10)) + 1)
			}
		}
	}
	for _, o := range outs {
		if err := o.Flush(); err != nil {
			return set, err
		}
	}
	return set, nil
}

// plain matches names that never need quotes.
var plain = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// out is an output file.
type out struct {
	*bufio.Writer
	text, once bool
	fields     []csv.Field
	buf        []byte
}

// record writes record i.
func (o *out) record(i int64, r []byte, d csv.Dialect) error {
	if *key {
		o.WriteString(strconv.FormatInt(i, 10))
		o.WriteByte(map[bool]byte{false: ',', true: '\t'}[o.text])
	}
	if !o.text {
		_, err := o.Write(r)
		return err
	}
	var err error
	o.fields, o.buf, err = d.Fields(r, o.fields[:0], o.buf[:0])
	if err != nil {
		return err
	}
	for k, f := range o.fields {
		if k > 0 {
			o.WriteByte('\t')
		}
		if f.Null {
			o.WriteString(`\N`)
		} else {
			escaped.WriteString(o, string(f.Text))
		}
	}
	return o.WriteByte('\n')
}

var escaped = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
