package anytable

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// A planner makes the rules of a table's columns. Unique keys come first: their columns cannot be
// chosen freely. Foreign keys follow, then all others.
type planner struct {
	*catalogue
	rows    int64
	seed    uint64
	nulls   float64 // share of NULLs in columns that allow them
	cond    *conditions
	fields  []*field
	checked []uniqueKey
	// parents are the tables to which foreign keys point.
	parents []parent
	refs    []*parents
	// loaded returns the records of loads into a table; see dataset.Opening.Loaded.
	loaded func(context.Context, pgx.Identifier) ([]json.RawMessage, error)
	// earlier is the foreign key whose rows point to earlier ones; empty: there is none.
	earlier string
	values  []Value // what the user asks for
	// notes are what the user should know before the first row.
	notes []string
}

// A uniqueKey is a unique key whose columns have rules.
type uniqueKey struct {
	server.TableIndex
	fields []*field
}

// newPlanner returns a planner without rules. It refuses columns that must have a value and for
// which loader knows none.
func newPlanner(c *catalogue, rows int64, seed uint64, nulls float64) (*planner, error) {
	p := &planner{catalogue: c, rows: rows, seed: seed, nulls: nulls, cond: newConditions()}
	for _, x := range c.table.Columns {
		if x.NotNull || slices.Contains(c.table.Primary, x.Name) {
			p.cond.of(x.Name).notNull = true
		}
	}
	for _, k := range append(slices.Clone(c.checks), c.partitionChecks()...) {
		p.cond.add(k.expr, k.column)
	}
	if p.cond.contradict() {
		return nil, dataset.Refuse("table %s: no value can meet its CHECK constraints", c.table.Display())
	}
	for i := range c.table.Columns {
		x := &c.table.Columns[i]
		if x.Generated || x.Hidden || x.Always && c.info.Product == server.CockroachDB {
			continue // the server's
		}
		own := *x // the description belongs to others, and does not change
		own.NotNull = p.cond.of(x.Name).notNull
		f := newField(&own, c.info.Product, c.labels[x.Name], p.cond.of(x.Name))
		for _, typ := range c.referring[x.Name] {
			f.fit(newField(&server.Column{Type: typ}, c.info.Product, nil, nil))
		}
		if f.class() == ofUnknown && len(f.labels) == 0 {
			if f.NotNull && !x.Default {
				return nil, dataset.Refuse("table %s: column %s, %s, is NOT NULL without a default, and loader cannot make values of its type", c.table.Display(), x.Name, x.Type)
			}
			p.notes = append(p.notes, fmt.Sprintf("column %s gets its default, or NULL: loader cannot make values of type %s", x.Name, x.Type))
			continue
		}
		p.fields = append(p.fields, f)
	}
	if len(p.fields) == 0 {
		return nil, dataset.Refuse("table %s has no column that loader can fill", c.table.Display())
	}
	return p, nil
}

// partitionChecks returns the condition of a partition: rows of a partitioned table all go to its
// first one, unless there is one for all others.
func (c *catalogue) partitionChecks() []check {
	if len(c.ranges) == 0 {
		return nil
	}
	return []check{{name: "the bounds of its partition", expr: c.ranges[0]}}
}

func (p *planner) tableName() string { return p.table.Name[len(p.table.Name)-1] }

func (p *planner) field(name string) *field {
	for _, f := range p.fields {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// unique returns the unique keys: the primary key first, then those of few columns. Exclusion
// constraints are among them: rows whose columns all differ exclude no other.
func (p *planner) unique() []server.TableIndex {
	var list []server.TableIndex
	for _, x := range p.table.Indexes {
		if x.Unique {
			list = append(list, x)
		}
	}
	for name, columns := range p.excluded {
		x := server.TableIndex{Name: name}
		for _, c := range columns {
			if c != "" {
				x.Columns = append(x.Columns, c)
			}
		}
		x.Exprs = make([]string, len(x.Columns))
		// A range of its own excludes no other: it goes first.
		slices.SortStableFunc(x.Columns, func(a, b string) int { return rangeFirst(p.field(a)) - rangeFirst(p.field(b)) })
		list = append(list, x)
	}
	slices.SortStableFunc(list, func(a, b server.TableIndex) int {
		switch {
		case a.Primary != b.Primary:
			if a.Primary {
				return -1
			}
			return 1
		case len(a.Columns) != len(b.Columns):
			return len(a.Columns) - len(b.Columns)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

func rangeFirst(f *field) int {
	if f != nil && strings.HasSuffix(f.base, "range") {
		return 0
	}
	return 1
}

// mentions reports whether an SQL expression names a column.
func mentions(expr, column string) bool {
	return regexp.MustCompile(`(?:^|[^A-Za-z0-9_$])"?` + regexp.QuoteMeta(column) + `"?(?:[^A-Za-z0-9_$]|$)`).MatchString(expr)
}

// plan makes all rules.
func (p *planner) plan(ctx context.Context, db server.Querier) (*generator, error) {
	for _, step := range []func() error{
		p.asked,
		func() error { return p.readParents(ctx, db) },
		p.keys,
		p.references,
		p.others,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	g := &generator{Table: p.table.Display(), Seed: p.seed, Rows: p.rows, Parents: p.parents, Lists: listsVersion, InOrder: p.earlier}
	for _, f := range p.fields {
		if f.rule != nil {
			g.Rules = append(g.Rules, *f.rule)
		}
	}
	if !slices.ContainsFunc(g.Rules, func(r rule) bool { return r.SQL == "" }) {
		return nil, dataset.Contradict("--value computes all columns of %s in SQL; leave at least one column to loader", p.table.Display())
	}
	return g, nil
}

// others makes the rules of columns that belong to no key.
func (p *planner) others() error {
	for _, f := range p.fields {
		if f.rule != nil || f.key != nil {
			continue
		}
		if f.null {
			f.left = true // CHECK allows only NULL
			continue
		}
		if err := p.ordinary(f); err != nil {
			return err
		}
	}
	return p.order()
}

// nullable sets the share of NULLs of a field.
func (p *planner) nullable(f *field) {
	if !f.NotNull && f.rule != nil {
		f.rule.Nulls = p.nulls
	}
}

// order makes pairs of columns obey an order: the upper one is the lower one and something more.
func (p *planner) order() error {
	done := map[string]bool{}
	for _, x := range p.cond.pairs {
		low, high := p.field(x.low), p.field(x.high)
		if low == nil || high == nil || low.rule == nil || high.rule == nil || done[x.high] || low.class() != high.class() {
			continue // the trial tells
		}
		if low.rule.Form.Kind != high.rule.Form.Kind || low.rule.Form.Scale != high.rule.Form.Scale || high.rule.Pick.Kind != uniformly && high.rule.Pick.Kind != skewed {
			continue
		}
		done[x.high] = true
		width := max(low.rule.Pick.N, 1)
		step := max(low.rule.Form.Step, 1)
		_, top, _, given := high.bounds()
		// The lower one leaves room for the upper one.
		room := uint64(0)
		if given {
			if top <= low.rule.Form.Min {
				continue
			}
			room = uint64(top-low.rule.Form.Min)/uint64(step) + 1
			if room < 2 {
				continue
			}
			width = max(min(width, room/2), 1)
			low.rule.Pick.N = width
		}
		more := max(width/4, 1)
		if room > 0 {
			more = min(more, room-width)
		}
		// A NULL in the lower column counts as its first value.
		high.rule.Form = low.rule.Form
		high.rule.Pick = pick{Kind: above, N: max(more, 1), Of: x.low}
		if x.strict {
			high.rule.Pick.Plus = 1
		}
		high.rule.Why = "not before " + x.low
	}
	return nil
}
