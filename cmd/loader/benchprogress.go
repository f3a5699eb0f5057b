package main

import (
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"bulkload/loader/bench"
)

// A gridReporter shows the progress of a benchmark: a bar on a terminal, otherwise a line every
// few seconds, nothing with --quiet.
type gridReporter struct {
	p    *program
	bar  *progressbar.ProgressBar
	said time.Time
}

// grid starts a reporter. Its methods are called by one goroutine at a time.
func (p *program) grid() *gridReporter { return &gridReporter{p: p} }

// observe implements bench.Bench's Observe.
func (r *gridReporter) observe(at bench.Progress) {
	what := at.Setting.Name()
	if at.Setting.Chunk > 0 {
		what = fmt.Sprintf("chunks of %d, %s", at.Setting.Chunk, what)
	}
	if at.Warm {
		what = "warm up: " + what
	}
	left := ""
	if at.Left > 0 {
		left = ", " + at.Left.Round(time.Second).String() + " left"
	}
	switch {
	case r.p.quiet:
	case isTerminal(r.p.stderr.File) && !r.p.echo:
		if r.bar == nil {
			r.bar = progressbar.NewOptions(at.Total,
				progressbar.OptionSetWriter(r.p.stderr.File),
				progressbar.OptionShowCount(),
				progressbar.OptionSetPredictTime(false), // the runs differ in length; at.Left has the estimate
				progressbar.OptionFullWidth(),
				progressbar.OptionClearOnFinish(),
				progressbar.OptionUseANSICodes(os.Getenv("NO_COLOR") == ""),
			)
		}
		r.bar.Describe(what + left)
		r.bar.Set(at.Done)
	case time.Since(r.said) >= lineEvery || at.Done == 0:
		r.said = time.Now()
		r.p.note("%3d%%  run %d of %d%s: %s", 100*at.Done/max(at.Total, 1), at.Done+1, at.Total, left, what)
	}
}

// note writes a line beside the bar.
func (r *gridReporter) note(text string) {
	if r.bar != nil {
		r.bar.Clear()
	}
	r.p.note("%s", text)
}

// end removes the bar.
func (r *gridReporter) end() {
	if r.bar != nil {
		r.bar.Finish()
		r.bar.Clear()
	}
}
