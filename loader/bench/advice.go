package bench

import (
	"fmt"
	"math"

	"golang.org/x/perf/benchmath"

	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// An Advice is what to use, of what was measured.
type Advice struct {
	// Use is the setting to use, and Best the fastest that was measured: among the
	// cells that are no slower for all that can be told, and by no more than 5 %, Use
	// has the fewest rows in flight. Neither is IMPORT, nor defers indexes, unless
	// nothing else was measured: those ask for an empty table, or one that nobody
	// uses meanwhile.
	Use  Setting `json:"use"`
	Best Setting `json:"best"`
	// Keep says that Use is the setting that a load of the table has now.
	Keep bool `json:"keep"`
	// Gain is the rate of Use divided by that of the present setting; zero is unknown.
	// P is the probability of such a difference by chance.
	Gain float64 `json:"gain"`
	P    float64 `json:"p"`
	// Lines say it to people.
	Lines []string `json:"lines"`
}

// slower is the share of the best rate that a setting must have to be advised.
const slower = 0.95

// significant is the probability by chance below which a difference is believed.
const significant = 0.05

// plain reports whether a setting is as good for any table.
func (s Setting) plain() bool { return s.Method != Import && s.Indexes != load.DeferIndexes }

// inFlight returns the rows that a setting has under way at once.
func (s Setting) inFlight() int64 { return s.Chunk * int64(s.Workers) }

// fastest returns the cell with the highest rate among those that are accepted.
func (r *Report) fastest(accept func(Setting) bool) *Cell {
	var best *Cell
	for _, c := range r.measured() {
		if accept(c.Setting) && (best == nil || c.Rate.Center > best.Rate.Center) {
			best = c
		}
	}
	return best
}

// differ returns the probability that the rates of two cells differ so by chance.
func differ(a, b *Cell) float64 {
	return benchmath.AssumeNothing.Compare(sample(a.rates()), sample(b.rates())).P
}

// current returns the cell of the present setting, if it was measured.
func (r *Report) current() *Cell {
	for _, c := range r.measured() {
		if c.Current {
			return c
		}
	}
	return nil
}

// advise fills in the advice.
func (r *Report) advise() {
	accept := Setting.plain
	best := r.fastest(accept)
	if best == nil {
		accept = func(Setting) bool { return true }
		best = r.fastest(accept)
	}
	use := best
	for _, c := range r.measured() {
		if !accept(c.Setting) || c.Rate.Center < slower*best.Rate.Center || c != best && differ(c, best) < significant {
			continue
		}
		switch {
		case c.Current:
			use = c
		case use.Current:
		case c.inFlight() < use.inFlight(), c.inFlight() == use.inFlight() && c.Rate.Center > use.Rate.Center:
			use = c
		}
	}
	a := &r.Advice
	*a = Advice{Use: use.Setting, Best: best.Setting, Keep: use.Current, P: 1}
	if now := r.current(); now != nil && now.Rate.Center > 0 {
		a.Gain = use.Rate.Center / now.Rate.Center
		if now != use {
			a.P = differ(now, use)
		}
	}
	a.Lines = append([]string{r.headline(use)}, r.asides(use)...)
}

// headline says what to use.
func (r *Report) headline(use *Cell) string {
	flags := r.flags(use.Setting)
	now := r.current()
	switch {
	case now == nil:
		return fmt.Sprintf("use %s: %s rows/s", flags, grouped(use.Rate.Center))
	case use.Current && r.Advice.Best == use.Setting:
		return fmt.Sprintf("keep the current setting, %s: nothing measured is faster", flags)
	case use.Current:
		return fmt.Sprintf("keep the current setting, %s: nothing measured is significantly faster", flags)
	case r.Advice.P >= significant:
		runs := "one run does"
		if n := len(use.Runs); n > 1 {
			runs = fmt.Sprintf("%d runs do", n)
		}
		return fmt.Sprintf("use %s: %s × your current setting (%s), though %s not prove it (p = %.2f)", flags, ratio(r.Advice.Gain), r.flags(now.Setting), runs, r.Advice.P)
	}
	return fmt.Sprintf("use %s: %s × your current setting (%s)", flags, ratio(r.Advice.Gain), r.flags(now.Setting))
}

// flags returns the flags of a load with a setting, without the way to commit where a
// load takes that by itself.
func (r *Report) flags(s Setting) string {
	if s.CommitMode == r.auto.CommitMode {
		s.CommitMode = ""
	}
	return s.String()
}

// asides says what else was found.
func (r *Report) asides(use *Cell) []string {
	var list []string
	// 1. The step at the one-phase limit.
	if below, above := r.step(use); below != nil {
		was := fmt.Sprintf("are as fast as %d (p = %.2f)", below.Chunk, differ(below, above))
		if x := above.Rate.Center / below.Rate.Center; differ(below, above) < significant || math.Abs(1-x) > 1-slower {
			was = fmt.Sprintf("have %s × the rate of %d", ratio(x), below.Chunk)
		}
		list = append(list, fmt.Sprintf("above %d rows the server needs two phases to commit a chunk: %d rows %s (%s)", above.limit(server.OnePhase).MaxRows, above.Chunk, was, above.Name()))
	}
	// 2. What is faster, and asks for more.
	for _, special := range []struct {
		is   func(Setting) bool
		what string
	}{
		{func(s Setting) bool { return s.Method == Import }, "IMPORT, which takes the table offline meanwhile"},
		{func(s Setting) bool { return s.Method != Import && s.Indexes == load.DeferIndexes }, "deferring the indexes, for an empty table"},
	} {
		c := r.fastest(special.is)
		if c == nil || c.Rate.Center <= use.Rate.Center {
			continue
		}
		list = append(list, fmt.Sprintf("%s: %s × that, %s rows/s (%s)", special.what, ratio(c.Rate.Center/use.Rate.Center), grouped(c.Rate.Center), r.flags(c.Setting)))
	}
	// 3. Condensing.
	for _, c := range r.measured() {
		if c.Condensed > 0 {
			list = append(list, fmt.Sprintf("the server condensed the intents of %d transactions during the runs of %s", c.Condensed, r.flags(c.Setting)))
		}
	}
	return list
}

// step returns the cells on both sides of the one-phase limit: of the line of use, else
// of another; nil where there are none.
func (r *Report) step(use *Cell) (below, above *Cell) {
	for _, line := range r.lines() {
		for i := 1; i < len(line); i++ {
			l := line[i].limit(server.OnePhase)
			if l == nil || line[i].CommitMode != commit.Statement || !(line[i-1].Chunk <= l.MaxRows && l.MaxRows < line[i].Chunk) {
				continue
			}
			if below == nil || line[i].line() == use.line() {
				below, above = line[i-1], line[i]
			}
		}
	}
	return below, above
}

// ratio prints a ratio with two digits that count.
func ratio(x float64) string {
	if x >= 10 {
		return fmt.Sprintf("%.0f", x)
	}
	if x < 1 {
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.1f", x)
}

// grouped prints a number with three digits that count and blanks between thousands.
func grouped(x float64) string {
	if x <= 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return "0"
	}
	unit := math.Pow(10, math.Floor(math.Log10(x))-2)
	digits := fmt.Sprintf("%.0f", math.Round(x/unit)*unit)
	return thousands(digits)
}

// thousands puts blanks between groups of three digits.
func thousands(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}
