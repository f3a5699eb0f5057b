package bench

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"bulkload/loader/dataset"
	"bulkload/loader/server"
)

// WriteText writes a table of the cells, a bar chart of at most width columns, and the advice.
func (r *Report) WriteText(w io.Writer, width int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s a run, %s; %s\n\n", thousands(fmt.Sprint(r.Rows)), r.unit(), r.Server, r.counts())
	r.table(&b)
	b.WriteByte('\n')
	r.bars(&b, width)
	b.WriteByte('\n')
	for _, l := range r.Advice.Lines {
		b.WriteString(l + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// unit returns the noun for the rows.
func (r *Report) unit() string {
	for _, k := range dataset.Kinds() {
		if k.Kind == r.Kind && k.Unit == "rows" {
			return k.Noun
		}
	}
	return "rows of " + strings.ToUpper(r.Kind)
}

// counts describes the number of runs per cell and the confidence intervals.
func (r *Report) counts() string {
	minRuns, maxRuns := math.MaxInt, 0
	confidence := 1.0
	for _, c := range r.Cells {
		if c.Error != "" {
			continue
		}
		minRuns, maxRuns = min(minRuns, len(c.Runs)), max(maxRuns, len(c.Runs))
		confidence = min(confidence, c.Rate.Confidence)
	}
	runs := fmt.Sprint(maxRuns)
	if minRuns < maxRuns {
		runs = fmt.Sprintf("%d to %d", minRuns, maxRuns)
	}
	text := fmt.Sprintf("median of %s interleaved runs", runs)
	if confidence > 0 {
		text += fmt.Sprintf(", in brackets its %.0f %% confidence interval", math.Floor(100*confidence))
	}
	if r.Ended != "" {
		text += "; " + r.Ended
	}
	return text
}

// table writes one line per cell.
func (r *Report) table(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	cockroach := r.product == server.CockroachDB
	fmt.Fprint(w, "CHUNK\tWORKERS\tVIA\tCOMMIT\tINDEXES\tROWS/S\t[LOW TO HIGH]\tP50 MS\tP99 MS\tRETRIES\tCPU S/M ROWS\tRUNS\t")
	if cockroach {
		fmt.Fprint(w, "INTENT BYTES\tOF LIMIT\tCONDENSED\t")
	}
	fmt.Fprintln(w)
	for i := range r.Cells {
		c := &r.Cells[i]
		chunk, workers := "-", "-"
		if c.Chunk > 0 {
			chunk, workers = fmt.Sprint(c.Chunk), fmt.Sprint(c.Workers)
		}
		if c.Current {
			chunk = "* " + chunk
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t", chunk, workers, c.Method, orDash(string(c.CommitMode)), c.Indexes)
		if len(c.Runs) == 0 {
			fmt.Fprint(w, "not measured\t\t\t\t\t\t0\t")
		} else {
			p50, p99 := "-", "-"
			if c.Chunk > 0 {
				p50, p99 = millis(c.P50.Center), millis(c.P99.Center)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%.2f\t%d\t", grouped(c.Rate.Center), c.Rate.bounds(), p50, p99, c.Retries, 1e6*c.CPU.Center, len(c.Runs))
		}
		if cockroach {
			uses, share, condensed := "-", "-", "-"
			if len(c.Runs) > 0 {
				condensed = "not readable" // 26.1 refuses access to its metrics by default
			}
			if l := c.limit(server.IntentSetting); l != nil {
				uses, share = fmt.Sprint(l.Uses), percent(l.Share)
			}
			if c.Condensed >= 0 {
				condensed = "no"
				if c.Condensed > 0 {
					condensed = fmt.Sprintf("%d ×", c.Condensed)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t", uses, share, condensed)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	if r.current() != nil {
		b.WriteString("* is the setting that a load of this table uses now\n")
	}
	for _, c := range r.Cells {
		if c.Error != "" {
			fmt.Fprintf(b, "%s: %s\n", c.Setting, c.Error)
		}
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// millis formats seconds as milliseconds.
func millis(s float64) string {
	if s >= 0.1 {
		return thousands(fmt.Sprintf("%.0f", 1000*s))
	}
	return fmt.Sprintf("%.1f", 1000*s)
}

// percent formats a fraction as a percentage.
func percent(x float64) string {
	if x < 0.1 {
		return fmt.Sprintf("%.1f %%", 100*x)
	}
	return fmt.Sprintf("%.0f %%", 100*x)
}

// bounds formats the bounds of an interval.
func (i Interval) bounds() string {
	if i.Confidence == 0 {
		return ""
	}
	return fmt.Sprintf("[%s to %s]", grouped(i.Lo), grouped(i.Hi))
}

// eighths are the partial blocks at the end of a bar.
var eighths = []string{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"}

// bars draws the rates line by line, with one bar per cell. A limit is drawn between the bars
// that it separates.
func (r *Report) bars(b *strings.Builder, width int) {
	var maxRate float64
	for _, c := range r.measured() {
		maxRate = max(maxRate, c.Rate.Center)
	}
	if maxRate == 0 {
		return
	}
	const label, number = 9, 12 // columns before and behind a bar
	room := float64(max(min(width, 120)-label-number, 10))
	bar := func(name string, x float64) {
		n := int(math.Round(8 * room * x / maxRate))
		fmt.Fprintf(b, "%*s %s%s %s\n", label-1, name, strings.Repeat("█", n/8), eighths[n%8], grouped(x))
	}
	for _, line := range r.lines() {
		fmt.Fprintf(b, "%s, rows/s by rows per chunk\n", line[0].Name())
		marks := r.marks()
		for _, c := range line {
			for len(marks) > 0 && marks[0].Rows < c.Chunk {
				if applies(c, marks[0]) {
					fmt.Fprintf(b, "%*s ┄┄ %s: %s rows\n", label-1, "", marks[0].Name, thousands(fmt.Sprint(marks[0].Rows)))
				}
				marks = marks[1:]
			}
			bar(fmt.Sprint(c.Chunk), c.Rate.Center)
		}
	}
	for _, c := range r.measured() {
		if c.Chunk == 0 {
			fmt.Fprintf(b, "%s, rows/s\n", c.Name())
			bar("", c.Rate.Center)
		}
	}
}

// applies reports whether a limit applies to the cell.
func applies(c *Cell, m LimitMark) bool {
	l := c.limit(m.Name)
	return l != nil && l.MaxRows == m.Rows
}
