package anytable

import (
	"slices"
	"strconv"
	"strings"
)

// limits are what conditions demand of the values of one column.
type limits struct {
	low, high *bound
	in        []string // nil: any value
	not       []string
	minLen    int
	maxLen    int // zero is any
	notNull   bool
	null      bool // only NULL
}

// A bound is a smallest or largest value.
type bound struct {
	text   string
	strict bool // the value itself is excluded
}

// conditions are what conditions demand of a row.
type conditions struct {
	columns map[string]*limits
	// pairs are columns of which one must not be smaller than another.
	pairs []pair
}

// A pair says that the value of low is at most that of high.
type pair struct {
	low, high string
	strict    bool
}

func newConditions() *conditions { return &conditions{columns: map[string]*limits{}} }

func (c *conditions) of(column string) *limits {
	if c.columns[column] == nil {
		c.columns[column] = &limits{}
	}
	return c.columns[column]
}

func (c *conditions) clone() *conditions {
	n := newConditions()
	n.pairs = slices.Clone(c.pairs)
	for k, v := range c.columns {
		l := *v
		l.in, l.not = slices.Clone(v.in), slices.Clone(v.not)
		n.columns[k] = &l
	}
	return n
}

// add adds what an SQL condition demands, as far as it is known. It reports whether that is all of
// it.
func (c *conditions) add(expr, value string) bool {
	n, ok := parseCondition(expr, value)
	if n == nil {
		return false
	}
	return c.apply(n) && ok
}

// apply adds the demands of a node. False: the node demands more.
func (c *conditions) apply(n *node) bool {
	switch n.op {
	case "and":
		ok := true
		for _, a := range n.args {
			ok = c.apply(a) && ok
		}
		return ok
	case "or":
		return c.applyOr(n)
	case "column":
		return c.restrict(n.text, []string{"true"})
	case "true":
		return true
	case "not":
		if a := n.args[0]; a.op == "column" {
			return c.restrict(a.text, []string{"false"})
		}
		return false
	case "is null":
		if a := n.args[0]; a.op == "column" {
			c.of(a.text).null = true
			return true
		}
		return false
	case "is not null":
		if a := n.args[0]; a.op == "column" {
			c.of(a.text).notNull = true
			return true
		}
		return false
	case "in":
		if a := n.args[0]; a.op == "column" {
			var list []string
			for _, v := range n.args[1:] {
				if v.op != "literal" {
					return false
				}
				list = append(list, v.text)
			}
			return c.restrict(a.text, list)
		}
		return false
	case "=", "<>", "<", "<=", ">", ">=":
		return c.compare(n.op, n.args[0], n.args[1])
	}
	return false
}

// restrict allows only the values of a list.
func (c *conditions) restrict(column string, list []string) bool {
	l := c.of(column)
	if l.in == nil {
		l.in = list
	} else {
		l.in = slices.DeleteFunc(slices.Clone(l.in), func(v string) bool { return !slices.Contains(list, v) })
	}
	return true
}

var flipped = map[string]string{"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

func (c *conditions) compare(op string, a, b *node) bool {
	if a.op == "literal" && b.op != "literal" {
		a, b, op = b, a, flipped[op]
	}
	switch {
	case a.op == "column" && b.op == "column":
		switch op {
		case "<", "<=":
			c.pairs = append(c.pairs, pair{a.text, b.text, op == "<"})
			return true
		case ">", ">=":
			c.pairs = append(c.pairs, pair{b.text, a.text, op == ">"})
			return true
		}
		return false
	case b.op != "literal":
		return false
	case a.op == "column":
		l := c.of(a.text)
		switch op {
		case "=":
			return c.restrict(a.text, []string{b.text})
		case "<>":
			if l.not = append(l.not, b.text); b.text == "" {
				l.minLen = max(l.minLen, 1)
			}
		case "<", "<=":
			l.high = tighter(l.high, &bound{b.text, op == "<"}, -1)
		case ">", ">=":
			l.low = tighter(l.low, &bound{b.text, op == ">"}, 1)
		}
		return true
	case a.op == "length":
		n, err := strconv.Atoi(b.text)
		if err != nil || a.args[0].op != "column" {
			return false
		}
		l := c.of(a.args[0].text)
		switch op {
		case "=":
			l.minLen, l.maxLen = n, n
		case "<>":
			if n == 0 {
				l.minLen = max(l.minLen, 1)
			}
			return n == 0
		case "<", "<=":
			if op == "<" {
				n--
			}
			if l.maxLen == 0 || n < l.maxLen {
				l.maxLen = n
			}
		default:
			if op == ">" {
				n++
			}
			l.minLen = max(l.minLen, n)
		}
		return true
	}
	return false
}

// tighter returns the tighter of two bounds; sign is 1 for lower bounds.
func tighter(a, b *bound, sign int) *bound {
	if a == nil {
		return b
	}
	x, errX := strconv.ParseFloat(a.text, 64)
	y, errY := strconv.ParseFloat(b.text, 64)
	var d int
	switch {
	case errX == nil && errY == nil && x != y:
		if d = 1; x < y {
			d = -1
		}
	case errX != nil || errY != nil:
		d = strings.Compare(a.text, b.text) // times in ISO form
	}
	if d == 0 {
		if b.strict {
			return b
		}
		return a
	}
	if d*sign > 0 {
		return a
	}
	return b
}

// applyOr takes one alternative of several. Lists of values of one column are joined.
func (c *conditions) applyOr(n *node) bool {
	column, list := "", []string(nil)
	joined := true
	for _, a := range n.args {
		if a.op == "is null" {
			continue
		}
		name, values := a.values()
		if name == "" || column != "" && name != column {
			joined = false
			break
		}
		column, list = name, append(list, values...)
	}
	if joined && column != "" {
		return c.restrict(column, list)
	}
	for _, nulls := range []bool{false, true} {
		for _, a := range n.args {
			if (a.op == "is null") != nulls {
				continue
			}
			tried := c.clone()
			if tried.apply(a) && !tried.contradict() {
				*c = *tried
				return true
			}
		}
	}
	return false
}

// contradict reports whether no value can meet the demands on a column.
func (c *conditions) contradict() bool {
	for _, l := range c.columns {
		if l.in != nil && len(l.in) == 0 || l.null && l.notNull {
			return true
		}
	}
	return false
}

// values returns the column and the values of an equation or a list.
func (n *node) values() (column string, values []string) {
	if n.op != "=" && n.op != "in" || n.args[0].op != "column" {
		return "", nil
	}
	for _, v := range n.args[1:] {
		if v.op != "literal" {
			return "", nil
		}
		values = append(values, v.text)
	}
	return n.args[0].text, values
}
