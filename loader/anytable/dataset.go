// Package anytable generates rows for any table. It reads the columns, types and constraints of
// a live table, and makes a rule for each column. A rule computes a value of the load's seed and
// the row's number alone, so that rows are the same in any chunk, on any worker and machine. Keys
// are different in each row and lie where no other rows are. The package writes no row that
// stays: it tries the first rows in a transaction that is rolled back.
//
// Begin with New and Dataset; a planner makes the rules (planner.go), and a builder compiles them
// into functions (form.go, rule.go).
package anytable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker"
	"bulkload/chunker/keysize"
	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/rows"
	"bulkload/loader/server"
)

// A Request says which rows to make.
type Request struct {
	Rows int64 // at least 1
	Seed uint64
	// Nulls is the share of NULLs in columns that allow them and belong to no key, from 0 to 1.
	Nulls float64
	// Values replace the rules of single columns.
	Values []Value
}

// A Dataset is the dataset.Dataset of rows for any table.
type Dataset struct {
	Request

	info   server.Info
	table  *server.Table
	choice dataset.Choice
	plan   *planner   // nil of a recorded load
	gen    *generator // nil before Fit
	src    *source
	began  string // of the load, for look-ups
	// longest is the length of the longest of the first rows, as text.
	longest int64
}

var (
	_ dataset.Dataset = (*Dataset)(nil)
	_ dataset.Checker = (*Dataset)(nil)
	_ dataset.Ruler   = (*Dataset)(nil)
)

// Facts are those of rows for any table.
var Facts = dataset.Facts{Kind: "rows", Database: dataset.PointsDatabase, Unit: "rows", Noun: "rows", Texts: true}

func init() { dataset.Register(dataset.Kind{Facts: Facts, Open: reopen}) }

// New returns the rows of a new load.
func New(r Request) *Dataset { return &Dataset{Request: r} }

// Fresh implements dataset.Dataset.
func (d *Dataset) Fresh() dataset.Dataset { return New(d.Request) }

// A record is the part of a load's record that is the rows'.
type record struct {
	Generator *generator `json:"generator"`
	// Began is the time at which the load began, as dataset.Began returns it.
	Began string `json:"began,omitempty"`
}

func reopen(text json.RawMessage, positions int64) (dataset.Dataset, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if r.Generator == nil {
		return nil, errors.New("its record has no rules for rows")
	}
	return &Dataset{Request: Request{Rows: positions, Seed: r.Generator.Seed}, gen: r.Generator, began: r.Began}, nil
}

// Record implements dataset.Dataset.
func (d *Dataset) Record() (json.RawMessage, error) { return json.Marshal(record{d.gen, d.began}) }

// Facts implements dataset.Dataset.
func (d *Dataset) Facts() dataset.Facts { return Facts }

// Size implements dataset.Dataset.
func (d *Dataset) Size() dataset.Size { return dataset.Size{Positions: d.Rows, Rows: d.Rows} }

// Title implements dataset.Dataset.
func (d *Dataset) Title() string { return fmt.Sprintf("%d rows, seed %d", d.Rows, d.Seed) }

// Inspect implements dataset.Dataset.
func (d *Dataset) Inspect(_ context.Context, o *dataset.Opening) error {
	if d.Rows < 1 {
		return fmt.Errorf("a load has at least 1 row, not %d", d.Rows)
	}
	d.info = o.Info
	return nil
}

// Reopen implements dataset.Dataset: the rules of a record give the same rows, if they are made
// of the same words.
func (d *Dataset) Reopen(_ context.Context, o *dataset.Opening) error {
	d.info = o.Info
	if d.gen.Lists != listsVersion {
		return &dataset.ResumeError{Reason: fmt.Sprintf("another version of loader began load %s, with other word lists: its rows cannot be made again; resume it with that version, or run loader loads cancel %s", o.Resumed, o.Resumed)}
	}
	return nil
}

// Create implements dataset.Dataset: no table is created.
func (d *Dataset) Create(context.Context, server.Product, pgx.Identifier) (string, *server.Table, error) {
	return "", nil, dataset.Refuse("loader rows needs an existing table")
}

// Fit implements dataset.Dataset: it makes the rules of a new load.
func (d *Dataset) Fit(ctx context.Context, o *dataset.Opening) error {
	d.table = o.Table
	if d.table.Kind == "v" {
		return dataset.Refuse("%s is a view; loader rows fills tables", d.table.Display())
	}
	if d.gen == nil {
		c, err := readCatalogue(ctx, o.DB, o.Info, o.Table)
		if err != nil {
			return err
		}
		if d.plan, err = newPlanner(c, d.Rows, d.Seed, d.Nulls); err != nil {
			return err
		}
		d.plan.values, d.plan.loaded = d.Values, o.Loaded
		if d.gen, err = d.plan.plan(ctx, o.DB); err != nil {
			return err
		}
		for _, n := range d.plan.notes {
			o.Note(n)
		}
		if len(o.Table.OnInsert) > 0 {
			o.Note(fmt.Sprintf("%s has triggers (%v); rows that they change are reported by loads verify", o.Table.Display(), o.Table.OnInsert))
		}
	}
	return d.open()
}

// open makes the source of the rules.
func (d *Dataset) open() error {
	var err error
	if d.src, err = newSource(d.gen, d.table, d.info.Product); err != nil {
		return err
	}
	c := rows.NewChunk(d.src.Columns())
	if err := d.src.Fill(c, chunker.RowSpan(0, min(d.Rows, sampleRows))); err != nil {
		return err
	}
	d.longest = 0
	for i := range c.Len() {
		n := int64(0)
		for k := range c.Width() {
			text, _ := c.Col(k).Text(i)
			n += int64(len(text))
		}
		d.longest = max(d.longest, n)
	}
	return nil
}

// sampleRows is the number of rows that are computed, and tried, before a load begins.
const sampleRows = 200

// keys returns the columns of the primary key; nil: the server makes a part of it.
func (d *Dataset) keys() []string {
	for _, k := range d.table.Primary {
		if r := d.gen.rule(k); r == nil || r.SQL != "" {
			return nil
		}
	}
	return d.table.Primary
}

// columns returns the names of the columns whose values are computed here.
func (d *Dataset) columns() (list []string) {
	for _, c := range d.src.Columns() {
		list = append(list, c.Name)
	}
	return list
}

// Planned implements dataset.Dataset.
func (d *Dataset) Planned(chunker.Plan, int64, int) {}

// RowInfo implements dataset.Dataset.
func (d *Dataset) RowInfo() keysize.RowInfo {
	g := keysize.RowInfo{Major: d.info.Major, Minor: d.info.Minor, MaxRecordBytes: 2 * d.longest, MaxElements: 16}
	for _, c := range d.table.Columns {
		if d.gen.rule(c.Name) == nil {
			g.Absent = append(g.Absent, c.Name)
		}
	}
	return g
}

// Cost implements dataset.Dataset: length and text of each value.
func (d *Dataset) Cost(cost chunker.Cost) chunker.Cost {
	n := int64(len(d.src.Columns()))
	cost.MessageBytes, cost.MessagePerByte, cost.FixedParameters = 4*n, 1, n
	if d.choice.Method == commit.Copy {
		cost.MessagePerByte, cost.FixedParameters = 2, 0 // each byte may be escaped
	}
	cost.FixedMessageBytes = commit.FixedMessageBytes
	return cost
}

// RecordBytes implements dataset.Dataset: the longest of the first rows.
func (d *Dataset) RecordBytes() int64 { return d.longest }

// chunkBytes bounds the texts of a chunk where no limit is near: memory is the chunks of all
// workers.
const chunkBytes = 4 << 20

// ChunkRows implements dataset.Dataset.
func (d *Dataset) ChunkRows() int64 {
	return max(min(dataset.DefaultChunkRows(d.info), chunkBytes/max(d.longest, 1)), 1)
}

// Reading implements dataset.Dataset: no file is read.
func (d *Dataset) Reading() *dataset.Reading { return nil }

// Rules implements dataset.Ruler. The places of keys are drawn when a load begins.
func (d *Dataset) Rules(n int64) ([]dataset.ColumnRule, error) {
	c, err := d.src.first(min(n, d.Rows))
	if err != nil {
		return nil, err
	}
	var list []dataset.ColumnRule
	i := 0 // of the column in the chunk
	for _, r := range d.gen.Rules {
		x := dataset.ColumnRule{Column: r.Column, Type: d.table.Column(r.Column).Type, Rule: r.Why, Nulls: r.Nulls}
		for row := 0; r.SQL == "" && row < c.Len(); row++ {
			var value *string
			if text, ok := c.Col(i).Text(row); ok {
				s := string(text)
				value = &s
			}
			x.Sample = append(x.Sample, value)
		}
		if r.SQL == "" {
			i++
		}
		list = append(list, x)
	}
	return list, nil
}

// Ordered implements dataset.Dataset: a row is there before those that point to it.
func (d *Dataset) Ordered() string {
	if d.gen == nil || d.gen.InOrder == "" {
		return ""
	}
	return fmt.Sprintf("foreign key %s refers to earlier rows, which must be committed first; --value COLUMN=null avoids that", d.gen.InOrder)
}

// Options implements dataset.Dataset. PostgreSQL lets a column that is GENERATED ALWAYS AS
// IDENTITY be given.
func (d *Dataset) Options() commit.Options {
	return commit.Options{
		Columns: d.src.Columns(), Keys: d.keys(), Store: d.gen.store(), Began: d.began, TextCopy: true,
		Overriding: slices.ContainsFunc(d.table.Columns, func(c server.Column) bool { return c.Always && d.gen.rule(c.Name) != nil }),
	}
}

// store returns the assignments of all columns; nil if the server computes none.
func (g *generator) store() []commit.Assignment {
	if !slices.ContainsFunc(g.Rules, func(r rule) bool { return r.SQL != "" }) {
		return nil
	}
	var list []commit.Assignment
	for _, r := range g.Rules {
		expr := r.SQL
		if expr == "" {
			expr = "csv." + pgx.Identifier{r.Column}.Sanitize()
		}
		list = append(list, commit.Assignment{Column: r.Column, Expr: expr})
	}
	return list
}

// Import implements dataset.Dataset: keys are different, and only an empty table shows that all
// rows are there.
func (d *Dataset) Import() dataset.Import {
	m := dataset.Import{
		Format: virtual.PGCopy, Exact: true, OwnKeys: len(d.keys()) > 0, RowBytes: max(d.longest, 1), OnlyAsked: true,
		IntoRows: "beside which the rows of IMPORT cannot be counted",
	}
	m.Refused = dataset.NotImported(d.table, d.columns())
	if d.gen.store() != nil {
		m.Refused = fmt.Sprintf(dataset.NotByImport, byExpression)
	}
	return m
}

// Verification implements dataset.Dataset: rows are compared as texts, by the server.
func (d *Dataset) Verification() dataset.Verification {
	how := dataset.Verification{Records: true, Keyless: len(d.keys()) == 0}
	for _, r := range d.gen.Rules {
		if r.SQL != "" {
			how.Computed = append(how.Computed, r.Column)
		}
	}
	return how
}

// Keys implements dataset.Dataset: rows of others may lie between those of the load.
func (d *Dataset) Keys() chunker.Range { return chunker.Range{} }

// maxLease is the maximum of rows of a lease.
const maxLease = 1 << 20

// Leases implements dataset.Dataset.
func (d *Dataset) Leases() dataset.Leases { return dataset.Leases{Max: maxLease} }

// Offline implements dataset.Dataset: the rules and keys were made when the load was opened.
func (d *Dataset) Offline() error {
	if d.src == nil {
		return errors.New("the rules of the rows are not made yet")
	}
	return d.CheckFile()
}

// CheckFile returns a *dataset.TableError if rows of the request cannot be written to files.
func (d *Dataset) CheckFile() error {
	if slices.ContainsFunc(d.Values, Value.computed) {
		return dataset.Contradict("--out cannot be used with %s: no server computes the expression", byExpression)
	}
	return nil
}

// Source implements dataset.Dataset.
func (d *Dataset) Source() loader.Source { return d.src }

// Raw implements dataset.Dataset: the rows have no raw text.
func (d *Dataset) Raw(bool) {}

// Reread implements dataset.Dataset: the rows are always the same.
func (d *Dataset) Reread(bool) {}

// Begin implements dataset.Dataset: no row can be rejected.
func (d *Dataset) Begin(context.Context, func(context.Context) (rejected, read int64, err error)) error {
	return nil
}

// Observe implements dataset.Dataset.
func (d *Dataset) Observe(loader.Event) {}

// Rejects implements dataset.Dataset: there are none.
func (d *Dataset) Rejects() (name, header string) { return Facts.Kind, "" }

// Interrupt implements dataset.Dataset: nothing is read.
func (d *Dataset) Interrupt(error) {}

// Close implements dataset.Dataset.
func (d *Dataset) Close() {}

// outcomeJSON is the JSON form of a finished load.
type outcomeJSON struct {
	Rows int64  `json:"rows"`
	Seed string `json:"seed"`
}

// Outcome implements dataset.Dataset.
func (d *Dataset) Outcome(t *server.Table, _ loader.Result, _ int64) dataset.Outcome {
	return dataset.Outcome{
		JSON:   outcomeJSON{d.Rows, strconv.FormatUint(d.Seed, 10)},
		Origin: fmt.Sprintf("seed %d", d.Seed),
		Title:  "rows",
		Query:  fmt.Sprintf("SELECT * FROM %s LIMIT 5", t.Name.Sanitize()),
	}
}
