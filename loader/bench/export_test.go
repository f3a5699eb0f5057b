package bench

import "bulkload/loader/server"

// Finish makes a report of cells with runs, as Run does.
func Finish(r *Report, p server.Product, auto Setting) *Report {
	r.product, r.auto = p, auto
	for i := range r.Cells {
		r.Cells[i].summarize()
	}
	r.advise()
	return r
}

// Tints returns the colours of the chart on light and on dark paper, as #rrggbb by their
// names in CSS.
func Tints() map[string][2]string {
	m := map[string][2]string{}
	for _, t := range tints() {
		m[t.name] = [2]string{t.light, t.dark}
	}
	return m
}
