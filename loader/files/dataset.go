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
	"bulkload/loader/failure"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// spec is the part of a load's record that describes its files.
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
	RowBytes  int64               `json:"row_bytes"`          // mean size of the first records, in the file
	Longest   int64               `json:"longest,omitempty"`  // bytes of the longest of them
	Elements  int64               `json:"elements,omitempty"` // most commas in one of their fields, plus one
	// Began is the time at which the load began, as commit.Stamp returns it.
	Began string `json:"began,omitempty"`
	// Rules is the version of the rules for reading the files; see csv.Dialect.Rules.
	Rules     int    `json:"rules,omitempty"`
	Guard     Guard  `json:"guard,omitzero"`
	Tail      bool   `json:"tail,omitempty"`
	ShortRows bool   `json:"short_rows,omitempty"`
	Expected  []Form `json:"expected,omitempty"` // see CSV.Expected

	header  Header   // of the files; HeaderAuto: the table still has to decide
	names   []string // of the fields
	made    []string // columns of the table that --create-table makes; nil: the table exists
	sample  [][]csv.Field
	sampled string    // the file of the sample
	tied    []reading // readings among which the table may choose
	guessed bool      // the delimiter is a guess
	told    []string  // the guesses, as messages
}

// A mappedField is a field that the load uses.
type mappedField struct {
	Field  int    `json:"field"`
	Name   string `json:"name"`             // name of the column, or of a field used by Set
	Column bool   `json:"column,omitempty"` // goes into the column of its name
}

// A Dataset is the dataset.Dataset of files.
type Dataset struct {
	Request

	input  *Input
	info   server.Info
	note   func(string)
	tell   func(string) // reports a guess that affects values
	table  *server.Table
	choice dataset.Choice
	// limit counts the rejects; nil: the first reject fails the load.
	limit  *tolerance
	spec   *spec
	source *CSV
	// reading saves the source's settings while Reread is on.
	reading struct{ tolerate, raw bool }
}

var _ dataset.Dataset = (*Dataset)(nil)

// facts are those of files as a dataset.
var facts = dataset.Facts{Kind: "csv", Database: "files", Unit: "bytes", Noun: "bytes", Texts: true, BoundedMemory: true}

// Kind opens recorded loads of files.
var Kind = dataset.Kind{Facts: facts, Open: reopen}

func init() { dataset.Register(Kind) }

// New returns the dataset of a new load of files.
func New(r Request) *Dataset { return &Dataset{Request: r, input: r.Input} }

// Fresh implements dataset.Dataset.
func (d *Dataset) Fresh() dataset.Dataset { return New(d.Request) }

// specRecord is the files' part of a load's record.
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

// begin copies the fields of an opening.
func (d *Dataset) begin(o *dataset.Opening) {
	d.info, d.note, d.tell = o.Info, o.Note, o.Guess
	if in, ok := o.Input.(*Input); ok && in != nil {
		d.input = in
	}
}

// Inspect implements dataset.Dataset: it inspects compression, dialect, header and first
// records.
func (d *Dataset) Inspect(ctx context.Context, o *dataset.Opening) error {
	d.begin(o)
	reading, done := loader.WithStop(ctx, o.Stop)
	defer done()
	var err error
	d.spec, err = d.inspect(reading, &d.Request)
	return beforeRows(err)
}

// Reopen implements dataset.Dataset. Its error wraps ErrChanged or ErrOnce if the files are no
// longer the recorded ones.
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
	if rules := d.spec.Dialect.Rules(); d.spec.Rules != rules {
		return &dataset.ResumeError{Reason: fmt.Sprintf("another version of loader began load %s (CSV rules %d; this version has %d), and may find other records in the file; resume it with that version, or run loader loads cancel %s", o.Resumed, max(d.spec.Rules, 1), rules, o.Resumed)}
	}
	for i := range d.spec.Files {
		f := &d.spec.Files[i]
		if err := d.input.Same(reading, f, o.AnyTime); err != nil {
			return err
		}
		if o.AnyTime {
			if err := d.input.touch(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// Fit implements dataset.Dataset: it maps fields to columns. For a resumed load it finds the
// recorded columns again.
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

// beforeRows returns the error of a load that ended before its first row, and has no record.
func beforeRows(err error) error {
	if errors.Is(err, loader.ErrHung) {
		return failure.With(failure.Data, err)
	}
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
		// A table without columns is offline, by the job of an earlier run.
		if field.Column && len(d.table.Columns) > 0 {
			has := d.table.Column(field.Name)
			if has == nil {
				return dataset.Refuse("table %s no longer has column %s", d.table.Display(), field.Name)
			}
			col = dataset.TextColumn(has, d.info.Product)
		}
		d.source.Cols = append(d.source.Cols, col)
		d.source.Fields = append(d.source.Fields, field.Field)
	}
	return nil
}

// Reserve implements dataset.Dataset. It does nothing: the files bring their own keys.
func (d *Dataset) Reserve(context.Context, *dataset.Opening) error { return nil }

// Size implements dataset.Dataset.
func (d *Dataset) Size() dataset.Size {
	if d.spec == nil {
		return dataset.Size{} // unknown before Inspect
	}
	s := dataset.Size{Positions: (&CSV{Files: d.spec.Files}).Positions(), Rows: d.spec.estimate()}
	s.Endless = s.Rows == 0
	s.Once = slices.ContainsFunc(d.spec.Files, func(f File) bool { return f.Once })
	return s
}

// Title implements dataset.Dataset: it names the files and, if known, their bytes.
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
	return fmt.Sprintf("%s (%d bytes)", name, bytes)
}

// Source implements dataset.Dataset. Chunks are raw where the server takes the text unparsed.
func (d *Dataset) Source() loader.Source { return d.source }

// Keys implements dataset.Dataset. It is empty: other rows may have keys between those of the
// files.
func (d *Dataset) Keys() chunker.Range { return chunker.Range{} }

// Bounds of a lease on the bytes of files: finding its end costs one more read of it.
const (
	maxLeaseBytes = 64 << 20
	minLeaseBytes = 4 << 20
)

// Leases implements dataset.Dataset.
func (d *Dataset) Leases() dataset.Leases {
	return dataset.Leases{Min: minLeaseBytes, Max: maxLeaseBytes, Fit: d.source.Fit, Ahead: d.source.Ahead}
}

// Raw implements dataset.Dataset.
func (d *Dataset) Raw(on bool) { d.source.Raw = on }

// Reread implements dataset.Dataset: while it is on, records that do not parse are rejects.
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
func (d *Dataset) Offline() error {
	return errors.New("--out writes generated rows, not rows of files")
}

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

// Verification implements dataset.Dataset. The inputs of a column computed with --set may no
// longer exist.
func (d *Dataset) Verification() dataset.Verification {
	how := dataset.Verification{Records: true, Keyless: d.keys() == nil}
	for _, a := range d.spec.Set {
		how.Computed = append(how.Computed, a.Column)
	}
	return how
}

// Rejects implements dataset.Dataset: the rejects' name is that of the first file, and their
// header is its header.
func (d *Dataset) Rejects() (name, header string) {
	name, _, _ = strings.Cut(d.spec.Files[0].Base(), ".")
	return name, d.spec.Header
}

// outcomeJSON is the JSON form of a finished load of files.
type outcomeJSON struct {
	Files     int   `json:"files"`
	Bytes     int64 `json:"bytes_this_run"`
	Conflicts int64 `json:"conflicts_this_run"`
	Rejected  int64 `json:"rejected"`
	// Guesses are the guesses about reading the files.
	Guesses []string `json:"guesses,omitempty"`
}

// Outcome implements dataset.Dataset.
func (d *Dataset) Outcome(t *server.Table, r loader.Result, rejected int64) dataset.Outcome {
	bytes := r.Positions
	if d.Size().Endless {
		bytes = 0 // unknown for streams
	}
	o := dataset.Outcome{
		JSON:  outcomeJSON{len(d.spec.Files), bytes, int64(r.Conflicts), rejected, d.spec.told},
		Title: "rows of " + d.Title(),
		Query: fmt.Sprintf("SELECT * FROM %s LIMIT 5", t.Name.Sanitize()),
	}
	if r.Conflicts > 0 || d.spec.Conflict != "" {
		did := map[commit.Conflict]string{commit.SkipRow: "were skipped", commit.UpdateRow: "replaced an existing row"}[d.spec.Conflict]
		o.Lines = append(o.Lines, fmt.Sprintf("%d of them %s: the primary key existed", r.Conflicts, did))
	}
	if rejected > 0 {
		o.Lines = append(o.Lines, fmt.Sprintf("%d records were set aside as rejects", rejected))
	}
	return o
}
