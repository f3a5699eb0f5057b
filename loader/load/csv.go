package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/loader/commit"
	"bulkload/loader/rows"
	"bulkload/loader/server"
	"bulkload/loader/source"
)

// CSV is the kind of rows that are read from files.
const CSV What = "csv"

// A Files request says what files hold and where it goes; see Request.CSV. Its zero
// values are guessed from the files and the table.
type Files struct {
	Names []string      // as source.Expand gives them
	Input *source.Input // opens them
	// Delimiter, Quote and Escape are as in chunker.Dialect; a zero Delimiter is
	// guessed. NoQuote says that nothing is quoted.
	Delimiter, Quote, Escape byte
	NoQuote                  bool
	Null                     string
	Encoding                 string // zero is UTF-8, or what a byte order mark says
	Header                   Header
	Skip                     int // lines in front of the header
	// Columns names the fields of a record, in order; nil takes the header, or
	// the table's columns in order.
	Columns []string
	// Map gives a field's name the column it goes to; an empty one drops it.
	Map map[string]string
	// Set are columns that are computed in SQL from the fields.
	Set      []commit.Assignment
	Conflict commit.Conflict
	// MaxErrors bounds the records that become no row. Zero tolerates none.
	MaxErrors Tolerance
	// MaxRecordBytes bounds one record; zero is source.DefaultMaxRecordBytes.
	MaxRecordBytes int
	// CreateTable makes a missing table, of types that fit the first records.
	// Key is then its primary key.
	CreateTable bool
	Key         []string
}

// A Header says whether files begin with the names of their fields.
type Header string

// The headers; an empty one is HeaderAuto.
const (
	HeaderAuto Header = "auto"
	HeaderYes  Header = "yes"
	HeaderNo   Header = "no"
)

// A Tolerance bounds the rejects of a load: a number of records, or a share of them.
type Tolerance struct {
	Records int64   `json:"records,omitempty"`
	Percent float64 `json:"percent,omitempty"`
}

func (t Tolerance) none() bool { return t.Records == 0 && t.Percent == 0 }

// String returns N or N%.
func (t Tolerance) String() string {
	if t.Percent > 0 {
		return fmt.Sprintf("%g%%", t.Percent)
	}
	return fmt.Sprint(t.Records)
}

// csvSpec is what the registry keeps of a load of files.
type csvSpec struct {
	Files      []source.File       `json:"files"`
	Dialect    chunker.Dialect     `json:"dialect"`
	Width      int                 `json:"width"` // fields of a record
	Fields     []csvField          `json:"fields"`
	Set        []commit.Assignment `json:"set,omitempty"`
	Conflict   commit.Conflict     `json:"conflict,omitempty"`
	MaxErrors  Tolerance           `json:"max_errors,omitzero"`
	MaxRecord  int                 `json:"max_record"`
	Header     string              `json:"header,omitempty"`   // its text, for files of rejects
	RowBytes   int64               `json:"row_bytes"`          // mean of the first records, in the file
	Longest    int64               `json:"longest,omitempty"`  // bytes of the longest of them
	Elements   int64               `json:"elements,omitempty"` // most commas in a field of theirs, and one
	HeaderKind Header              `json:"-"`
	names      []string            // of the fields
	sample     [][]chunker.Field
}

// A csvField is a field that is used.
type csvField struct {
	Field  int    `json:"field"`
	Name   string `json:"name"`             // of the column, or of a field that Set uses
	Column bool   `json:"column,omitempty"` // goes into the column of its name
}

// inspect looks at the files: form, dialect, header, sample.
func (l *Load) inspect(ctx context.Context, f *Files) (*csvSpec, error) {
	c := &csvSpec{Set: f.Set, Conflict: f.Conflict, MaxErrors: f.MaxErrors, MaxRecord: f.MaxRecordBytes, HeaderKind: f.Header}
	if c.MaxRecord == 0 {
		c.MaxRecord = source.DefaultMaxRecordBytes
	}
	var err error
	if c.Files, err = f.Input.Inspect(ctx, f.Names, f.Encoding); err != nil {
		return nil, err
	}
	c.Dialect = chunker.Dialect{Delimiter: f.Delimiter, Quote: f.Quote, Escape: f.Escape, Null: f.Null}
	if c.Dialect.Quote == 0 && !f.NoQuote {
		c.Dialect.Quote = '"'
	}
	// The first file that has a record decides for all.
	guessed := f.Delimiter == 0
	for i := range c.Files {
		file := &c.Files[i]
		var list [][]chunker.Field
		delimiter := c.Dialect.Delimiter
		head, whole, err := c.head(ctx, f, file, func(head []byte, whole bool) (bool, error) {
			file.Data = source.Skipped(head, f.Skip)
			if !source.Valid(head, whole) && f.MaxErrors.none() {
				return false, &source.FileError{Name: file.Name, Err: errors.New("is not UTF-8; name its encoding, for example --encoding latin1")}
			}
			body := head[file.Data:]
			if c.Dialect.Delimiter = delimiter; delimiter == 0 && len(body) > 0 {
				c.Dialect.Delimiter = source.Sniff(body, whole, c.Dialect)
			}
			if c.sample != nil || len(body) == 0 {
				return true, nil
			}
			if err := c.Dialect.Check(); err != nil {
				return false, &TableError{err.Error()}
			}
			list = source.Records(body, whole, c.Dialect, sampleRecords)
			return len(list) > 0, nil
		})
		if err != nil {
			return nil, err
		}
		body := head[file.Data:]
		if c.sample != nil || len(body) == 0 {
			continue
		}
		if len(list) == 0 {
			return nil, &source.FileError{Name: file.Name, Err: fmt.Errorf("no record ends within its first %d bytes: a quote is not closed, or --quote, --delimiter, --encoding or --max-record-bytes is another", len(head))}
		}
		c.sample = list
		c.RowBytes = max(recordBytes(body, whole, c.Dialect), 1)
		c.Longest, c.Elements = longest(list)
	}
	if c.Dialect.Delimiter == 0 {
		c.Dialect.Delimiter = ','
	}
	if err := c.Dialect.Check(); err != nil {
		return nil, &TableError{err.Error()}
	}
	if guessed && len(c.sample) > 0 {
		l.Notes = append(l.Notes, fmt.Sprintf("delimiter %q (guessed; --delimiter names another)", c.Dialect.Delimiter))
	}
	for _, file := range c.Files {
		if what := strings.TrimSpace(file.Form + " " + file.Encoding); what != "" {
			l.Notes = append(l.Notes, fmt.Sprintf("%s is %s (by its content)", file.Base(), what))
		}
		switch {
		case file.Name == source.Stdin:
			l.Notes = append(l.Notes, "standard input cannot be read twice: this load cannot be resumed after a stop")
		case file.Once:
			l.Notes = append(l.Notes, fmt.Sprintf("the query of %s may hold what gives access and is not kept: this load cannot be resumed after a stop", file.Base()))
		}
	}
	return c, nil
}

// head returns the beginning of a file, more of it as long as it is not enough: up to
// the most bytes that a record has.
func (c *csvSpec) head(ctx context.Context, f *Files, file *source.File, enough func(head []byte, whole bool) (bool, error)) (head []byte, whole bool, err error) {
	for most := source.HeadBytes; ; most = c.MaxRecord + source.HeadBytes {
		if head, whole, err = f.Input.Head(ctx, file, most); err != nil {
			return nil, false, err
		}
		if ok, err := enough(head, whole); ok || err != nil || whole || most > source.HeadBytes {
			return head, whole, err
		}
	}
}

// sampleRecords is the number of records that are looked at before a load.
const sampleRecords = 1000

// recordBytes returns the mean length of the records at the beginning of a file.
func recordBytes(body []byte, whole bool, d chunker.Dialect) int64 {
	s := chunker.Scanner{Dialect: d, Buf: body, EOF: whole}
	if !s.Skip(math.MaxInt64, math.MaxInt) {
		return int64(len(body))
	}
	return int64(s.At) / s.Rows
}

// longest returns the bytes of the longest record, and the most elements that a field
// may have as an array or a JSON document.
func longest(records [][]chunker.Field) (most, elements int64) {
	for _, r := range records {
		var n int64
		for _, f := range r {
			n += int64(len(f.Text)) + 1
			elements = max(elements, int64(bytes.Count(f.Text, []byte{','}))+1)
		}
		most = max(most, n)
	}
	return most, elements
}

// prepareCSV finds or makes the table and decides which field goes to which column.
func (l *Load) prepareCSV(ctx context.Context, f *Files, name pgx.Identifier) error {
	c, err := l.inspect(ctx, f)
	if err != nil {
		return err
	}
	l.Table, err = server.Describe(ctx, l.pool, l.srv.Info, name)
	if f.CreateTable && isNoTable(err) {
		if err := l.createFor(ctx, c, f, name); err != nil {
			return err
		}
		l.Table, err = server.Describe(ctx, l.pool, l.srv.Info, name)
	}
	if err != nil {
		if isNoTable(err) {
			return &TableError{fmt.Sprintf("%v; --create-table makes it, of types that fit the file", err)}
		}
		return asTableError(err)
	}
	if err := c.mapFields(ctx, l, f); err != nil {
		return err
	}
	l.spec.CSV = c
	return l.useCSV(ctx, c)
}

// useCSV makes the source of a load of files, new or resumed.
func (l *Load) useCSV(ctx context.Context, c *csvSpec) error {
	l.csv = &source.CSV{
		Files: c.Files, Dialect: c.Dialect, Width: c.Width, MaxRecordBytes: c.MaxRecord, Tolerate: !c.MaxErrors.none(),
		Input: l.input, Context: context.WithoutCancel(ctx),
	}
	for _, field := range c.Fields {
		col := rows.Column{Name: field.Name, Kind: rows.Text, Type: "TEXT"}
		if field.Column {
			has := l.Table.Column(field.Name)
			if has == nil {
				return &TableError{fmt.Sprintf("table %s has no column %s any more", l.Table.Display(), field.Name)}
			}
			col.Type = castType(has, l.srv.Product)
		}
		l.csv.Cols = append(l.csv.Cols, col)
		l.csv.Fields = append(l.csv.Fields, field.Field)
	}
	l.Positions = l.csv.Positions()
	l.Rows = c.estimate()
	return nil
}

// estimate returns about how many rows plain files hold; zero is unknown.
func (c *csvSpec) estimate() int64 {
	var n int64
	for i := range c.Files {
		if c.Files[i].Stream {
			return 0
		}
		n += c.Files[i].Size - c.Files[i].Data
	}
	return (n + c.RowBytes - 1) / max(c.RowBytes, 1)
}

// castType returns the type to which SQL casts the text of a column: its own without
// length or precision. A cast to those would cut what the column refuses, and COPY
// would not.
func castType(c *server.Column, p server.Product) string {
	t := c.Type
	if p == server.CockroachDB {
		t = c.SQLType
	}
	for {
		open := strings.IndexByte(t, '(')
		if open < 0 {
			break
		}
		n := strings.IndexByte(t[open:], ')')
		if n < 0 {
			break
		}
		t = t[:open] + t[open+n+1:]
	}
	// Without a length these two mean one of 1.
	switch base, array := strings.TrimSuffix(t, "[]"), strings.HasSuffix(t, "[]"); strings.ToLower(base) {
	case "bit":
		t = "varbit"
		if array {
			t += "[]"
		}
	case "character", "char":
		t = "pg_catalog.bpchar"
		if p == server.CockroachDB {
			t = "STRING"
		}
		if array {
			t += "[]"
		}
	}
	return t
}

// storeCSV returns the assignments of a load of files; nil where each field goes into
// the column of its name.
func (l *Load) storeCSV() []commit.Assignment {
	c := l.spec.CSV
	if len(c.Set) == 0 {
		return nil
	}
	var list []commit.Assignment
	for _, f := range c.Fields {
		if f.Column {
			list = append(list, commit.Assignment{Column: f.Name, Expr: "csv." + pgx.Identifier{f.Name}.Sanitize()})
		}
	}
	return append(list, c.Set...)
}

// keysCSV returns the primary key where the files bring all of it.
func (l *Load) keysCSV() []string {
	for _, k := range l.Table.Primary {
		if !slices.ContainsFunc(l.spec.CSV.Fields, func(f csvField) bool { return f.Column && f.Name == k }) {
			return nil
		}
	}
	return l.Table.Primary
}

// chooseCSV is choose for files.
func (l *Load) chooseCSV(s Settings) error {
	c := l.spec.CSV
	name := l.Table.Display()
	if l.Way == "" {
		l.Way = commit.Transaction
	}
	if l.Via == "" {
		l.Via = commit.Insert
		if l.srv.Product == server.PostgreSQL && c.Set == nil && c.Conflict == "" {
			l.Via = commit.Copy
		}
	}
	if bad := l.unescaped(); bad != nil && l.Via == commit.Copy {
		return &TableError{fmt.Sprintf("--via copy cannot carry column %s: CockroachDB's COPY does not undo the escapes of %s; use --via insert", bad.Name, bad.SQLType)}
	}
	switch {
	case l.Via == commit.Copy && (c.Set != nil || c.Conflict != ""):
		return &TableError{"--via copy can neither compute columns (--set) nor pass over rows (--on-conflict); use --via insert"}
	case c.Conflict != "" && l.keysCSV() == nil:
		return &TableError{fmt.Sprintf("--on-conflict %s needs the whole primary key of %s in the file", c.Conflict, name)}
	case l.Way != commit.Statement:
	case l.keysCSV() == nil:
		return &TableError{fmt.Sprintf("--commit statement needs the whole primary key of %s in the file: (%s)", name, strings.Join(l.Table.Primary, ", "))}
	case c.Conflict != "" || !c.MaxErrors.none():
		return &TableError{"--on-conflict and --max-errors need --commit transaction"}
	case l.Table.Deferrable:
		return &TableError{fmt.Sprintf("the primary key of %s is deferrable; use --commit transaction", name)}
	}
	if len(c.Set) > 0 {
		if err := l.checkStatement(s); err != nil {
			return err
		}
	}
	return l.plan(s.Chunk)
}

// undefinedTable is the SQLSTATE of a table that is not there.
const undefinedTable = "42P01"

// checkStatement has the server look at the statement that computes columns, before the
// first row.
func (l *Load) checkStatement(s Settings) error {
	ctx, cancel := context.WithTimeout(context.Background(), server.ConnectTimeout)
	defer cancel()
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().Prepare(ctx, "", commit.Compose(l.optionsCSV(s), l.srv.Product), nil)
	if err == nil || server.Code(err) == undefinedTable {
		return nil // for a plan, the table is still to be made
	}
	switch server.Classify(err) {
	case server.Permanent, server.Data:
		return &TableError{"--set: " + server.Reason(err)}
	}
	return nil // what else there may be, the load meets
}

// unescaped returns a column whose values may hold a backslash or a tab that COPY would
// change. Seen on 21.1.5: COPY undoes the escapes of its text format for strings, bytes,
// UUIDs and times only, so that "\n" in a JSONB arrives as "\\n".
func (l *Load) unescaped() *server.Column {
	if l.srv.Product != server.CockroachDB {
		return nil
	}
	for _, f := range l.spec.CSV.Fields {
		c := l.Table.Column(f.Name)
		if !f.Column {
			continue
		}
		base, _, _ := strings.Cut(c.SQLType, "(")
		switch t := strings.ToUpper(base); {
		case strings.HasSuffix(c.SQLType, "]"), strings.Contains(t, "COLLATE"), t == "JSONB", c.Labels > 0,
			t == "GEOMETRY", t == "GEOGRAPHY", t == "TSVECTOR", t == "TSQUERY":
			return c
		}
	}
	return nil
}

// costCSV is what a row of the files adds to a chunk.
func (l *Load) costCSV(cost chunker.Cost) chunker.Cost {
	cost.MessageBytes = 4 * int64(len(l.csv.Cols))
	cost.MessagePerByte = 1
	cost.FixedParameters = int64(len(l.csv.Cols))
	if l.Via == commit.Copy {
		cost.MessagePerByte, cost.FixedParameters = 2, 0 // each byte may be escaped
	}
	cost.FixedMessageBytes = fixedMessageBytes
	return cost
}

// Bytes of a chunk whose text goes to PostgreSQL as it is: measured on 15, larger ones
// spare commits, and more than these gain nothing. They end one record beyond this, and
// are as large as a record may be at most: what is larger is parsed, to see whether a
// record is. Where bad rows are searched for, and where text is parsed,
// source.DefaultSpanBytes is better.
const rawSpanBytes = source.DefaultMaxRecordBytes - 128<<10

// takesRaw reports whether chunks will go to the server as they are in the files, and
// whole: with no row to be searched for.
func (l *Load) takesRaw() bool {
	c := l.spec.CSV
	return l.srv.Product == server.PostgreSQL && l.Via == commit.Copy && c.Dialect.Quote != 0 && c.wholeRecords() && c.MaxErrors.none()
}

// preferredCSV returns the bytes of a chunk where no limit is near: fewer for files that
// would not give each worker some.
func (l *Load) preferredCSV() int64 {
	if !l.takesRaw() || l.Rows == 0 {
		return source.DefaultSpanBytes
	}
	const chunksEach = 4
	return min(max(l.Positions/(chunksEach*leastWorkers), source.DefaultSpanBytes), rawSpanBytes)
}

// fitSpans bounds the bytes of a span, so that every limit holds whatever the length of
// its records: the plan's rows are for those at the beginning of the files.
func (l *Load) fitSpans() {
	size := l.preferredCSV()
	for _, limit := range l.Plan.Limits {
		perByte := l.Plan.Cost.Use(limit.Unit, 1, 1) - l.Plan.Cost.Use(limit.Unit, 1, 0)
		if limit.Max <= 0 || perByte <= 0 {
			continue
		}
		left := limit.Max - l.Plan.Cost.Use(limit.Unit, max(l.Plan.RowsPerChunk, l.mostRows()), 0)
		size = min(size, max(left/perByte, 1))
	}
	l.csv.SpanBytes, l.csv.SpanRows = int(size), l.Plan.RowsPerChunk
}
