package bench

import (
	"fmt"
	"math"

	"golang.org/x/perf/benchmath"

	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// An Advice recommends one of the measured settings.
type Advice struct {
	// Use is the recommended setting, and Best the fastest one measured. Among the cells that
	// are not significantly slower than Best, and at most 5 % slower, Use is the current one,
	// else the one with the fewest rows in flight. Both exclude IMPORT and deferred indexes,
	// unless nothing else was measured: these need an empty table, or one that nobody uses
	// meanwhile.
	Use  Setting `json:"use"`
	Best Setting `json:"best"`
	// Keep means that loads of the table already use the setting Use.
	Keep bool `json:"keep"`
	// Gain is the rate of Use divided by the rate of the current setting; zero means unknown.
	// P is the probability that such a difference occurs by chance.
	Gain float64 `json:"gain"`
	P    float64 `json:"p"`
	// Lines holds the advice as text.
	Lines []string `json:"lines"`
}

// slower is the fraction of the best rate that a recommended setting must reach.
const slower = 0.95

// significant is the p-value below which a difference counts as real.
const significant = 0.05

// plain reports whether a setting suits any table.
func (s Setting) plain() bool { return s.Method != Import && s.Indexes != load.DeferIndexes }

// inFlight returns the rows in flight at once under a setting.
func (s Setting) inFlight() int64 { return s.Chunk * int64(s.Workers) }

// fastest returns the fastest cell among those that accept selects, or nil.
func (r *Report) fastest(accept func(Setting) bool) *Cell {
	var best *Cell
	for _, c := range r.measured() {
		if accept(c.Setting) && (best == nil || c.Rate.Center > best.Rate.Center) {
			best = c
		}
	}
	return best
}

// differ returns the p-value of the difference between the rates of two cells.
func differ(a, b *Cell) float64 {
	return benchmath.AssumeNothing.Compare(sample(a.rates()), sample(b.rates())).P
}

// current returns the cell of the current setting, or nil if it was not measured.
func (r *Report) current() *Cell {
	for _, c := range r.measured() {
		if c.Current {
			return c
		}
	}
	return nil
}

// advise computes the advice.
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

// headline recommends the setting in one line.
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

// flags returns the flags of a load with a setting. It omits the commit mode if that is the
// default of a load.
func (r *Report) flags(s Setting) string {
	if s.CommitMode == r.auto.CommitMode {
		s.CommitMode = ""
	}
	return s.String()
}

// asides returns the other findings, one line each.
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
	// 2. Faster methods with requirements.
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

// step returns the cells on either side of the one-phase limit, preferably on the line of use;
// nil if there are none.
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

// ratio formats a ratio with about two significant digits.
func ratio(x float64) string {
	if x >= 10 {
		return fmt.Sprintf("%.0f", x)
	}
	if x < 1 {
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.1f", x)
}

// grouped formats a number with three significant digits and blanks between thousands.
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
