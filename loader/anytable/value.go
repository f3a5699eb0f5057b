package anytable

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"bulkload/loader/dataset"
)

// A Value says how the values of one column are made, in place of the rule that the column would
// have.
type Value struct {
	Column string
	spec   spec
}

// A spec is the text of a Value: NAME(ARGUMENTS).
type spec struct{ name, args string }

// specs are the rules that a user can ask for.
const specs = "null, const(TEXT), list(A,B:WEIGHT,…), uniform(LOW,HIGH), normal(LOW,HIGH), zipf(LOW,HIGH), sequence(START,STEP), pattern(TEXT) or sql(EXPRESSION)"

// ParseValue reads COLUMN=RULE. The error is one line that names the rules.
func ParseValue(text string) (Value, error) {
	column, rule, ok := strings.Cut(text, "=")
	column, rule = strings.TrimSpace(column), strings.TrimSpace(rule)
	name, args, open := strings.Cut(rule, "(")
	args, closed := strings.CutSuffix(args, ")")
	v := Value{column, spec{strings.ToLower(strings.TrimSpace(name)), args}}
	fault := func() (Value, error) {
		return v, fmt.Errorf("takes COLUMN=RULE with one of %s, not %q", specs, text)
	}
	if !ok || column == "" || open != closed || open == (v.spec.name == "null") {
		return fault()
	}
	switch v.spec.name {
	case "null", "const":
	case "sql":
		if strings.TrimSpace(args) == "" {
			return fault()
		}
	case "list":
		if _, _, err := v.spec.list(); err != nil {
			return v, fmt.Errorf("%s: %w", column, err)
		}
	case "uniform", "normal", "zipf":
		if len(v.spec.parts()) != 2 {
			return fault()
		}
	case "sequence":
		if n := len(v.spec.parts()); n > 2 {
			return fault()
		}
	case "pattern":
		if _, err := parsePattern(args); err != nil {
			return v, fmt.Errorf("%s: %w", column, err)
		}
	default:
		return fault()
	}
	return v, nil
}

// computed reports whether the server computes the values.
func (v Value) computed() bool { return v.spec.name == "sql" }

func (s spec) parts() []string {
	list := strings.Split(s.args, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// list returns the values of a list, and their cumulative weights; nil: all have the same.
func (s spec) list() (values []string, weights []uint64, err error) {
	sum, weighted := uint64(0), false
	for _, part := range s.parts() {
		weight := uint64(1)
		if at := strings.LastIndexByte(part, ':'); at >= 0 {
			n, err := strconv.ParseUint(part[at+1:], 10, 32)
			if err != nil || n == 0 {
				return nil, nil, fmt.Errorf("the weight of %q is not a whole number above 0", part)
			}
			part, weight, weighted = part[:at], n, true
		}
		sum += weight
		values, weights = append(values, part), append(weights, sum)
	}
	if !weighted {
		weights = nil
	}
	return values, weights, nil
}

// asked makes the rules that the user asked for.
func (p *planner) asked() error {
	for _, v := range p.values {
		f := p.field(v.Column)
		switch {
		case f == nil:
			return dataset.Contradict("--value %s=…: table %s has no such column that loader can fill", v.Column, p.table.Display())
		case f.rule != nil:
			return dataset.Contradict("--value sets column %s twice", v.Column)
		}
		if v.computed() {
			f.rule, f.alone = &rule{Column: f.Name, SQL: v.spec.args, Why: "--value sql: " + v.spec.args}, true
			continue
		}
		r := &rule{Column: f.Name, Group: f.Name, Pick: pick{Kind: uniformly, N: 1}, Why: "--value " + v.spec.name}
		if err := p.ask(f, r, v.spec); err != nil {
			return dataset.Contradict("--value %s=%s(%s): %v", v.Column, v.spec.name, v.spec.args, err)
		}
		f.rule = r
	}
	return nil
}

// ask completes a rule by a spec. The error is the end of a sentence.
func (p *planner) ask(f *field, r *rule, s spec) error {
	switch s.name {
	case "null":
		if f.NotNull {
			return fmt.Errorf("the column is NOT NULL")
		}
		r.Nulls, r.Form = 1, form{Kind: asList, List: []string{""}}
	case "const":
		r.Form = form{Kind: asList, List: []string{s.args}}
	case "list":
		values, weights, err := s.list()
		if err != nil {
			return err
		}
		r.Form, r.Pick.N = form{Kind: asList, List: values}, uint64(len(values))
		if weights != nil {
			r.Pick = pick{Kind: weighted, Weights: weights}
		}
	case "pattern":
		r.Form = form{Kind: asPattern, Pattern: s.args, Width: codeWidth(uint64(p.rows)), Max: f.length}
		if r.Pick.N = 0; strings.Contains(s.args, "{n}") {
			r.Pick, f.alone = pick{Kind: byRow}, true
		}
	case "sequence":
		parts := s.parts()
		start, err := f.units(parts[0], true)
		if err != nil {
			return err
		}
		r.Form, r.Pick, f.alone = f.unit(), pick{Kind: byRow}, true
		if r.Form.Min, r.Form.Step = start, 1; len(parts) == 2 {
			if r.Form.Step, err = strconv.ParseInt(parts[1], 10, 64); err != nil || r.Form.Step == 0 {
				return fmt.Errorf("%q is not a step", parts[1])
			}
		}
		low, high, _, _ := f.bounds()
		if end := float64(start) + float64(r.Form.Step)*float64(p.rows-1); start < low || start > high || end < float64(low) || end > float64(high) {
			return fmt.Errorf("%d values of it do not fit %s", p.rows, f.Type)
		}
	default:
		parts := s.parts()
		low, err := f.units(parts[0], true)
		if err != nil {
			return err
		}
		high, err := f.units(parts[1], false)
		if err != nil {
			return err
		}
		first, last, _, _ := f.bounds()
		if low > high || low < first || high > last {
			return fmt.Errorf("type %s and the CHECK constraints allow no such range", f.Type)
		}
		r.Form = f.unit()
		r.Form.Min, r.Pick.N = low, uint64(high-low)+1
		switch s.name {
		case "zipf":
			r.Pick.Kind = skewed
		case "normal":
			n := min(r.Pick.N, math.MaxInt64>>20)
			r.Pick.Kind, r.Pick.Mean, r.Pick.SD = normally, int64(n/2), max(int64(n/6), 1)
			r.Pick.N = n
		}
	}
	return nil
}
