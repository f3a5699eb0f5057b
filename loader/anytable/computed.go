package anytable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// spotRows is the number of a parent's rows that are computed, and looked for in the table, before
// a load takes the parent's keys as computed.
const spotRows = 100

// computedParent returns the generator of a parent's rows: of the largest load that filled the
// parent, is done, has all of its rows there, and whose keys fit the fields. Nil: there is none,
// and a sample of keys has to be read.
func (p *planner) computedParent(ctx context.Context, db server.Querier, k foreignKey, fields []*field) (*generator, error) {
	if p.loaded == nil {
		return nil, nil
	}
	specs, err := p.loaded(ctx, k.table)
	if err != nil {
		return nil, err
	}
	var best *generator
	var spots [][]string
	for _, text := range specs {
		var r record
		if json.Unmarshal(text, &r) != nil || r.Generator == nil || r.Generator.Lists != listsVersion || best != nil && r.Generator.Rows <= best.Rows {
			continue
		}
		g := r.Generator.only(k.references)
		if g == nil {
			continue
		}
		if list, ok := g.spots(k.references); ok && fit(list, fields) {
			best, spots = g, list
		}
	}
	if best == nil {
		return nil, nil
	}
	there, err := best.there(ctx, db, k, spots)
	if code := server.Code(err); code == pgerrcode.QueryCanceled {
		return nil, nil // too many rows to count within the time of an attempt
	}
	if err != nil || !there {
		return nil, err
	}
	return best, nil
}

// only returns a generator of some columns that are never NULL, the same as those of g. Nil: a
// column may be NULL, or is not computed.
func (g *generator) only(columns []string) *generator {
	o := &generator{Table: g.Table, Seed: g.Seed, Rows: g.Rows, Lists: g.Lists}
	places := map[int]int{} // of parents in o
	for list := slices.Clone(columns); len(list) > 0; list = list[1:] {
		if o.rule(list[0]) != nil {
			continue
		}
		of := g.rule(list[0])
		if of == nil || of.SQL != "" {
			return nil
		}
		r := *of
		if r.Nulls > 0 && slices.Contains(columns, r.Column) || r.Pick.Kind == earlier && r.Pick.Of == "" {
			return nil
		}
		if r.Pick.Kind == above {
			list = append(list, r.Pick.Of)
		}
		if r.Form.Kind == asParent {
			parent := g.Parents[r.Form.Parent]
			at, ok := places[r.Form.Parent]
			if !ok {
				at = len(o.Parents)
				places[r.Form.Parent] = at
				o.Parents = append(o.Parents, parent)
			}
			if r.Form.Parent = at; parent.Self {
				list = append(list, r.Form.Column)
			}
		}
		o.Rules = append(o.Rules, r)
	}
	return o
}

// spots computes columns of rows that lie far apart, column by column. False: one is NULL, or
// cannot be computed.
func (g *generator) spots(columns []string) ([][]string, bool) {
	b := &builder{generator: g, built: map[string]*column{}}
	list := make([][]string, len(columns))
	for i, name := range columns {
		c, err := b.column(g.rule(name))
		if err != nil {
			return nil, false
		}
		n := min(g.Rows, spotRows)
		for at := range n {
			row := at
			if n > 1 {
				row = int64(dataset.Below(uint64(at)<<32/uint64(n-1)<<32, uint64(g.Rows)))
			}
			if at == n-1 {
				row = g.Rows - 1
			}
			text, null := c.AppendValue(nil, row)
			if null {
				return nil, false
			}
			list[i] = append(list[i], string(text))
		}
	}
	return list, true
}

// fit reports whether all values fit the fields, as far as it can be said without the server.
func fit(values [][]string, fields []*field) bool {
	for i, f := range fields {
		low, high, _, _ := f.bounds()
		for _, v := range values[i] {
			switch f.class() {
			case ofInts:
				if n, err := f.units(v, true); err != nil || n < low || n > high || strings.Contains(v, ".") {
					return false
				}
			case ofTexts:
				if n := utf8.RuneCountInString(v); f.length > 0 && n > f.length || n < f.minLen {
					return false
				}
			}
			if f.in != nil && !slices.Contains(f.in, v) || slices.Contains(f.not, v) {
				return false
			}
		}
	}
	return true
}

// there reports whether a parent has all rows of a generator: as many rows as were loaded, where
// they lie if keys are in order, and each of the computed ones among them.
func (g *generator) there(ctx context.Context, db server.Querier, k foreignKey, spots [][]string) (bool, error) {
	among := ""
	if r := g.rule(k.references[0]); r.Pick.N < 2 && (r.Pick.Kind == byRow || r.Pick.Kind == byBlock) && r.Form.Kind == asNumber && r.Form.Step >= 0 {
		b := &builder{generator: g, built: map[string]*column{}}
		c, err := b.column(r)
		if err != nil {
			return false, nil
		}
		end := uint64(g.Rows)
		if r.Pick.Kind == byBlock {
			layout := dataset.KeyLayout{Rows: g.Rows, Block: r.Pick.Block}
			end = uint64(layout.Range().Len())
		}
		name := pgx.Identifier{r.Column}.Sanitize()
		among = fmt.Sprintf(" WHERE %s BETWEEN %s AND %s", name, server.QuoteLiteral(string(c.make(nil, 0, 0))), server.QuoteLiteral(string(c.make(nil, end-1, 0))))
	}
	var alike []string
	for i := range spots[0] {
		var equal []string
		for at, name := range k.references {
			equal = append(equal, pgx.Identifier{name}.Sanitize()+" = "+server.QuoteLiteral(spots[at][i]))
		}
		alike = append(alike, "("+strings.Join(equal, " AND ")+")")
	}
	var all, some int64
	err := errors.Join(
		db.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s%s", k.table.Sanitize(), among)).Scan(&all),
		db.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s", k.table.Sanitize(), strings.Join(alike, " OR "))).Scan(&some))
	if err != nil {
		return false, err
	}
	return all >= g.Rows && some == int64(len(spots[0])), nil
}
