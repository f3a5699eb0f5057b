package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"bulkload/loader/server"
)

//go:embed page.html
var pageText string

var page = template.Must(template.Must(chartTemplate.Clone()).New("page").Parse(pageText))

// WriteHTML writes the whole report, with the chart, as a self-contained page.
func (r *Report) WriteHTML(w io.Writer) error {
	type row struct {
		Chunk, Workers, Via, Commit, Indexes, Rate, Bounds, P50, P99, Retries, CPU, Runs, Intents, Condensed string
		Current, Use                                                                                         bool
	}
	data := struct {
		*Report
		Wide      *chart
		Narrow    *chart
		Colors    struct{ Light, Dark template.CSS }
		Title     string
		Counts    string
		When      string
		Cockroach bool
		List      []row
	}{
		Report: r, Title: r.title(), Counts: r.counts(), When: r.Begun.Format(time.RFC1123), Cockroach: r.product == server.CockroachDB,
		Wide: r.chart(wide, false), Narrow: r.chart(narrow, false),
	}
	for _, t := range tints() {
		data.Colors.Light += template.CSS(fmt.Sprintf("--%s:%s;", t.name, t.light))
		data.Colors.Dark += template.CSS(fmt.Sprintf("--%s:%s;", t.name, t.dark))
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		x := row{
			Chunk: "–", Workers: "–", Via: string(c.Method), Commit: orDash(string(c.CommitMode)), Indexes: string(c.Indexes), Rate: "not measured",
			P50: "–", P99: "–", Intents: "–", Condensed: "–", Runs: fmt.Sprint(len(c.Runs)), Current: c.Current, Use: c.Setting == r.Advice.Use,
		}
		if c.Chunk > 0 {
			x.Chunk, x.Workers = thousands(fmt.Sprint(c.Chunk)), fmt.Sprint(c.Workers)
		}
		if len(c.Runs) > 0 {
			x.Rate, x.Bounds = grouped(c.Rate.Center), strings.Trim(c.Rate.bounds(), "[]")
			x.Retries, x.CPU = fmt.Sprint(c.Retries), fmt.Sprintf("%.2f", 1e6*c.CPU.Center)
			if c.Chunk > 0 {
				x.P50, x.P99 = millis(c.P50.Center), millis(c.P99.Center)
			}
		}
		if l := c.limit(server.IntentSetting); l != nil {
			x.Intents = fmt.Sprintf("%s (%s)", thousands(fmt.Sprint(l.Uses)), percent(l.Share))
		}
		if c.Condensed >= 0 {
			x.Condensed = "no"
			if c.Condensed > 0 {
				x.Condensed = fmt.Sprintf("%d ×", c.Condensed)
			}
		}
		data.List = append(data.List, x)
	}
	return page.Execute(w, data)
}
