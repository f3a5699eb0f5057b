package files

import (
	"context"

	"github.com/jackc/pgx/v5"

	"bulkload/chunker/keysize"
	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// Create implements dataset.Dataset.
func (d *Dataset) Create(ctx context.Context, product server.Product, name pgx.Identifier) (string, *server.Table, error) {
	if !d.CreateTable {
		return "", nil, dataset.Refuse("--create-table creates it with types that fit the file")
	}
	d.info.Product = product
	create, columns, err := d.createDDL(ctx, d.info.Product, name)
	if err != nil {
		return "", nil, err
	}
	t := &server.Table{Name: name, Kind: "r", Columns: columns, Primary: d.Key, Empty: true}
	if len(t.Primary) > 0 {
		t.Indexes = []server.TableIndex{{Name: "primary", Primary: true, Unique: true, Columns: t.Primary}}
	}
	if d.info.Product != server.CockroachDB {
		return create, t, nil
	}
	index := keysize.Index{ID: 1, Name: "primary", Primary: true}
	for _, k := range t.Primary {
		col := t.Column(k)
		index.Columns = append(index.Columns, keysize.ColumnOf(k, col.Type))
	}
	if len(t.Primary) == 0 {
		index.Columns = []keysize.KeyColumn{keysize.ColumnOf("rowid", "bigint")}
	}
	t.Keys = keysize.Schema{Indexes: []keysize.Index{index}}
	return create, t, nil
}

// sampleRows is the number of records that a preview shows.
const sampleRows = 5

// Reading implements dataset.Dataset.
func (d *Dataset) Reading() *dataset.Reading {
	c := d.spec
	show := func(b byte) string {
		if b == 0 {
			return ""
		}
		return string(rune(b))
	}
	v := &dataset.Reading{
		Delimiter: show(c.Dialect.Delimiter), Quote: show(c.Dialect.Quote), Escape: show(c.Dialect.Escape), Null: c.Dialect.Null,
		Header: c.Header != "", RowBytes: c.RowBytes,
	}
	for i := range c.Files {
		v.Names = append(v.Names, c.Files[i].Name)
		if c.Files[i].Bytes < 0 || v.Bytes < 0 {
			v.Bytes = -1
		} else {
			v.Bytes += c.Files[i].Bytes
		}
	}
	for i, name := range c.names {
		field := dataset.ReadField{Field: name}
		for _, x := range c.Fields {
			if x.Field == i && x.Column {
				field.Column = x.Name
				field.Type = d.table.Column(x.Name).Type
			}
		}
		v.Fields = append(v.Fields, field)
	}
	for _, a := range c.Set {
		v.Fields = append(v.Fields, dataset.ReadField{Column: a.Column, Type: d.table.Column(a.Column).Type, Expr: a.Expr})
	}
	for _, r := range c.sample[:min(sampleRows, len(c.sample))] {
		record := make([]*string, len(r))
		for i := range r {
			if !r[i].Null {
				text := string(r[i].Text)
				record[i] = &text
			}
		}
		v.Sample = append(v.Sample, record)
	}
	return v
}
