package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bulkload/chunker"
	"bulkload/chunker/csv"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A Request says what files hold and where it goes. Its zero values are guessed from the
// files and the table.
type Request struct {
	Names []string // as Expand gives them
	Input *Input   // opens them
	// Delimiter, Quote and Escape are as in csv.Dialect; a zero Delimiter is
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
	// MaxRecordBytes bounds one record; zero is DefaultMaxRecordBytes.
	MaxRecordBytes int
	// ShortRows takes records that end early for ones whose last fields are NULL.
	ShortRows bool
	// CreateTable makes a missing table, of types that give each value of the files back as
	// it is. Key is then its primary key; Types are the types of columns where others are
	// wanted, and Text makes all others TEXT.
	CreateTable bool
	Key         []string
	Types       map[string]string
	Text        bool
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

// spec is what the record keeps of a load of files.
type spec struct {
	Files     []File              `json:"files"`
	Dialect   csv.Dialect         `json:"dialect"`
	Width     int                 `json:"width"` // fields of a record
	Fields    []mappedField       `json:"fields"`
	Set       []commit.Assignment `json:"set,omitempty"`
	Conflict  commit.Conflict     `json:"conflict,omitempty"`
	MaxErrors Tolerance           `json:"max_errors,omitzero"`
	MaxRecord int                 `json:"max_record"`
	Header    string              `json:"header,omitempty"`   // its text, for files of rejects
	RowBytes  int64               `json:"row_bytes"`          // mean of the first records, in the file
	Longest   int64               `json:"longest,omitempty"`  // bytes of the longest of them
	Elements  int64               `json:"elements,omitempty"` // most commas in a field of theirs, and one
	// Began is when the load began, as commit.Stamp gives it.
	Began string `json:"began,omitempty"`
	// Rules is the number of the rules by which the files are read; see csv.Rules.
	Rules     int    `json:"rules,omitempty"`
	Guard     Guard  `json:"guard,omitzero"`
	Tail      bool   `json:"tail,omitempty"`
	ShortRows bool   `json:"short_rows,omitempty"`
	Expected  []Form `json:"expected,omitempty"` // see CSV.Expected

	header  Header   // that files have; HeaderAuto is still to be seen by the table
	names   []string // of the fields
	made    []string // columns that --create-table makes of the fields; nil: there is a table
	sample  [][]csv.Field
	sampled string    // the file that sample is from
	tied    []reading // of which the table may choose one
	guessed bool      // the delimiter
	told    []string  // what was guessed
}

// A mappedField is a field that is used.
type mappedField struct {
	Field  int    `json:"field"`
	Name   string `json:"name"`             // of the column, or of a field that Set uses
	Column bool   `json:"column,omitempty"` // goes into the column of its name
}

// A Dataset is what files hold, as a dataset.Dataset.
type Dataset struct {
	Request

	input  *Input
	info   server.Info
	note   func(string)
	tell   func(string) // a guess that a value depends on
	table  *server.Table
	choice dataset.Choice
	// limit counts the rejects; nil: none are tolerated.
	limit  *tolerance
	spec   *spec
	source *CSV
	// reading is how the source reads when Reread does not ask for something else.
	reading struct{ tolerate, raw bool }
}

var _ dataset.Dataset = (*Dataset)(nil)

// facts are those of files.
var facts = dataset.Facts{Kind: "csv", Database: "files", Unit: "bytes", Noun: "bytes", Texts: true, BoundedMemory: true}

// Kind opens recorded loads of files.
var Kind = dataset.Kind{Facts: facts, Open: reopen}

func init() { dataset.Register(Kind) }

// New returns the dataset of new files.
func New(r Request) *Dataset { return &Dataset{Request: r, input: r.Input} }

// Fresh implements dataset.Dataset.
func (d *Dataset) Fresh() dataset.Dataset { return New(d.Request) }

// specRecord is the part of a load's record that is the files'.
type specRecord struct {
	CSV *spec `json:"csv"`
}

func reopen(record json.RawMessage, _ int64) (dataset.Dataset, error) {
	var r specRecord
	if err := json.Unmarshal(record, &r); err != nil {
		return nil, err
	}
	if r.CSV == nil {
		return nil, errors.New("its record names no files")
	}
	return &Dataset{spec: r.CSV}, nil
}

// Facts implements dataset.Dataset.
func (d *Dataset) Facts() dataset.Facts { return facts }

// Record implements dataset.Dataset.
func (d *Dataset) Record() (json.RawMessage, error) { return json.Marshal(specRecord{d.spec}) }

// begin takes over what an opening gives.
func (d *Dataset) begin(o *dataset.Opening) {
	d.info, d.note, d.tell = o.Info, o.Note, o.Guess
	if in, ok := o.Input.(*Input); ok && in != nil {
		d.input = in
	}
}

// Inspect implements dataset.Dataset: it looks at form, dialect, header and first records.
func (d *Dataset) Inspect(ctx context.Context, o *dataset.Opening) error {
	d.begin(o)
	reading, done := loader.WithStop(ctx, o.Stop)
	defer done()
	var err error
	d.spec, err = d.inspect(reading, &d.Request)
	return beforeRows(err)
}

// Reopen implements dataset.Dataset. Its error wraps ErrChanged or ErrOnce where the files
// are others now.
func (d *Dataset) Reopen(ctx context.Context, o *dataset.Opening) error {
	d.begin(o)
	if d.input == nil {
		return errors.New("no Input to open its files with")
	}
	if m := d.input.MaxErrors; m != nil {
		d.spec.MaxErrors = *m
	}
	if n := d.input.MaxRecordBytes; n > 0 {
		d.spec.MaxRecord = n
	}
	reading, done := loader.WithStop(ctx, o.Stop)
	defer done()
	if d.spec.Rules != csv.Rules {
		return &dataset.ResumeError{Reason: fmt.Sprintf("load %s was begun under rules of reading CSV of number %d, and these are number %d: the same file may have other records now; finish it with the version that began it, or loads cancel %s", o.Resumed, max(d.spec.Rules, 1), csv.Rules, o.Resumed)}
	}
	for i := range d.spec.Files {
		f := &d.spec.Files[i]
		if err := d.input.Same(reading, f, o.AnyTime); err != nil {
			return err
		}
		if o.AnyTime {
			if err := d.input.Touch(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// Fit implements dataset.Dataset: it decides which field goes to which column, and for a
// resumed load finds the columns again.
func (d *Dataset) Fit(ctx context.Context, o *dataset.Opening) error {
	d.table = o.Table
	if o.Resumed == "" {
		reading, done := loader.WithStop(ctx, o.Stop)
		defer done()
		if err := d.spec.mapFields(reading, d, &d.Request); err != nil {
			return beforeRows(err)
		}
	}
	return d.open()
}

// beforeRows says that a load was stopped before it had begun.
func beforeRows(err error) error {
	if errors.Is(err, loader.ErrStopped) {
		return fmt.Errorf("%w before the first row; nothing was loaded", err)
	}
	return err
}

// open makes the source.
func (d *Dataset) open() error {
	c := d.spec
	d.source = &CSV{
		Files: c.Files, Dialect: c.Dialect, Width: c.Width, MaxRecordBytes: c.MaxRecord, Tolerate: !c.MaxErrors.none(),
		Tail: c.Tail, ShortRows: c.ShortRows, Expected: c.Expected, Guard: c.Guard,
		Input: d.input,
	}
	for _, field := range c.Fields {
		col := rows.Column{Name: field.Name, Kind: rows.Text, Type: "TEXT"}
		// A table without columns is one that an earlier run's job has offline.
		if field.Column && len(d.table.Columns) > 0 {
			has := d.table.Column(field.Name)
			if has == nil {
				return dataset.Refuse("table %s has no column %s any more", d.table.Display(), field.Name)
			}
			col.Type, col.Stored = castType(has, d.info.Product), storedAs(has, d.info.Product)
			col.Collation = has.Collation
		}
		d.source.Cols = append(d.source.Cols, col)
		d.source.Fields = append(d.source.Fields, field.Field)
	}
	return nil
}

// Reserve implements dataset.Dataset: the files have the keys that they have.
func (d *Dataset) Reserve(context.Context, *dataset.Opening) error { return nil }

// Size implements dataset.Dataset.
func (d *Dataset) Size() dataset.Size {
	if d.spec == nil {
		return dataset.Size{} // not known before Inspect
	}
	s := dataset.Size{Positions: (&CSV{Files: d.spec.Files}).Positions(), Rows: d.spec.estimate()}
	s.Endless = s.Rows == 0
	s.Once = slices.ContainsFunc(d.spec.Files, func(f File) bool { return f.Once })
	return s
}

// Title implements dataset.Dataset: it names the files, and their bytes where these are known.
func (d *Dataset) Title() string {
	list := d.spec.Files
	var bytes int64
	known := true
	for i := range list {
		known = known && list[i].Bytes >= 0
		bytes += list[i].Bytes
	}
	name := list[0].Base()
	if len(list) > 1 {
		name = fmt.Sprintf("%d files", len(list))
	}
	if !known {
		return name
	}
	return fmt.Sprintf("%s, %d bytes", name, bytes)
}

// Source implements dataset.Dataset. Chunks are raw where the server takes the text as it is.
func (d *Dataset) Source() loader.Source { return d.source }

// Keys implements dataset.Dataset: rows of others may have keys between those of the files.
func (d *Dataset) Keys() chunker.Range { return chunker.Range{} }

// Bounds of a claim on the bytes of files: finding where it may end costs reading it once
// more.
const (
	maxLeaseBytes = 64 << 20
	minLeaseBytes = 4 << 20
)

// Leases implements dataset.Dataset.
func (d *Dataset) Leases() dataset.Leases {
	return dataset.Leases{Min: minLeaseBytes, Max: maxLeaseBytes, Fit: d.source.Fit}
}

// Raw implements dataset.Dataset.
func (d *Dataset) Raw(on bool) { d.source.Raw = on }

// Reread implements dataset.Dataset: what cannot be parsed is among the rejects.
func (d *Dataset) Reread(on bool) {
	if on {
		d.reading.tolerate, d.reading.raw = d.source.Tolerate, d.source.Raw
		d.source.Tolerate, d.source.Raw = true, false
		return
	}
	d.source.Tolerate, d.source.Raw = d.reading.tolerate, d.reading.raw
}

// Observe implements dataset.Dataset.
func (d *Dataset) Observe(e loader.Event) {
	if d.limit != nil {
		d.limit.observe(e)
	}
}

// Offline implements dataset.Dataset.
func (d *Dataset) Offline() error { return errors.New("files are not written again") }

// Interrupt implements dataset.Dataset.
func (d *Dataset) Interrupt(cause error) {
	if d.source != nil {
		d.source.Interrupt(cause)
	}
}

// Close implements dataset.Dataset.
func (d *Dataset) Close() {
	if d.source != nil {
		d.source.Close()
	}
}

// Verification implements dataset.Dataset. What --set computed a column from may be gone.
func (d *Dataset) Verification() dataset.Verification {
	how := dataset.Verification{Records: true, Keyless: d.keys() == nil}
	for _, a := range d.spec.Set {
		how.Computed = append(how.Computed, a.Column)
	}
	return how
}

// Rejects implements dataset.Dataset: rejects are named after the first file, and begin with
// its header.
func (d *Dataset) Rejects() (name, header string) {
	name, _, _ = strings.Cut(d.spec.Files[0].Base(), ".")
	return name, d.spec.Header
}

// outcomeJSON is what JSON shows of a finished load of files.
type outcomeJSON struct {
	Files     int   `json:"files"`
	Bytes     int64 `json:"bytes_this_run"`
	Conflicts int64 `json:"conflicts_this_run"`
	Rejected  int64 `json:"rejected"`
	// Guesses are those about how the files are read.
	Guesses []string `json:"guesses,omitempty"`
}

// Outcome implements dataset.Dataset.
func (d *Dataset) Outcome(t *server.Table, r loader.Result, rejected int64) dataset.Outcome {
	bytes := r.Positions
	if d.Size().Endless {
		bytes = 0 // of streams it is not known
	}
	o := dataset.Outcome{
		JSON:  outcomeJSON{len(d.spec.Files), bytes, int64(r.Conflicts), rejected, d.spec.told},
		Title: "rows of " + d.Title(),
		Query: fmt.Sprintf("SELECT * FROM %s LIMIT 5", t.Name.Sanitize()),
	}
	if r.Conflicts > 0 || d.spec.Conflict != "" {
		did := map[commit.Conflict]string{commit.SkipRow: "were passed over", commit.UpdateRow: "took the place of an older row"}[d.spec.Conflict]
		o.Lines = append(o.Lines, fmt.Sprintf("%d of them %s: their key was there", r.Conflicts, did))
	}
	if rejected > 0 {
		o.Lines = append(o.Lines, fmt.Sprintf("%d records were rejected", rejected))
	}
	return o
}
