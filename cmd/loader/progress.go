package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"bulkload/chunker"
	"bulkload/loader"
)

// A reporter shows the progress of a load: a bar on a terminal, otherwise a line every few
// seconds, nothing with --quiet.
type reporter struct {
	p     *program
	total int64
	unit  string

	mu      sync.Mutex
	done    int64
	before  int64 // the part of done from earlier runs; not in the rate
	retries int
	start   time.Time
	bar     *progressbar.ProgressBar
	ticker  *time.Ticker
	over    chan struct{}
}

// lineEvery is the interval of progress lines without a terminal.
const lineEvery = 5 * time.Second

// report starts a reporter of total rows, with done of them already loaded. A negative total is
// unknown.
func (p *program) report(total, done int64, unit string) *reporter {
	r := &reporter{p: p, total: total, unit: unit, done: done, before: done, start: time.Now(), over: make(chan struct{})}
	switch {
	case p.quiet:
	case isTerminal(p.stderr.File) && !p.echo:
		r.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.stderr.File),
			progressbar.OptionSetDescription(unit),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString(unit),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionFullWidth(),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionUseANSICodes(os.Getenv("NO_COLOR") == ""),
		)
		r.bar.Add64(done)
	default:
		r.ticker = time.NewTicker(lineEvery)
		go r.lines()
	}
	return r
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// observe implements loader.Job's Observe.
func (r *reporter) observe(e loader.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Note != "" {
		r.print(e.Note)
		for _, x := range e.Gone {
			if r.total >= 0 {
				r.done -= min(x.Len(), r.done)
			}
		}
		if r.bar != nil && len(e.Gone) > 0 {
			r.bar.Set64(r.done)
		}
		return
	}
	n := e.Span.Count
	if r.total < 0 {
		n = e.Span.Rows
	}
	r.done += n
	if e.Outcome.AlreadyCommitted {
		r.before += n
	}
	r.retries += e.Outcome.Retries
	if r.bar != nil {
		if r.retries > 0 {
			r.bar.Describe(fmt.Sprintf("%s, %d retries", r.unit, r.retries))
		}
		r.bar.Add64(n)
	}
}

// set sets the finished amount, for work without events.
func (r *reporter) set(done int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = max(done, r.done)
	if r.bar != nil {
		r.bar.Set64(r.done)
	}
}

// note writes a line beside the progress. Commits call it from within a retried attempt.
func (r *reporter) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.print(text)
}

func (r *reporter) print(text string) {
	if r.bar != nil {
		r.bar.Clear()
	}
	r.p.note("%s", text)
}

// lines writes the plain lines.
func (r *reporter) lines() {
	for {
		select {
		case <-r.over:
			return
		case <-r.ticker.C:
		}
		r.mu.Lock()
		elapsed := time.Since(r.start)
		rate := float64(r.done-r.before) / elapsed.Seconds()
		left := "?"
		if rate > 0 {
			left = (time.Duration(float64(r.total-r.done) / rate * float64(time.Second))).Round(time.Second).String()
		}
		if r.total < 0 {
			r.p.note("%d %s, %.0f/s, %d retries", r.done, r.unit, rate, r.retries)
			r.mu.Unlock()
			continue
		}
		if r.before > 0 && rate == 0 {
			r.p.note("%3d%%  %d of %d %s, %d retries", 100*r.done/max(r.total, 1), r.done, r.total, r.unit, r.retries)
			r.mu.Unlock()
			continue
		}
		r.p.note("%3d%%  %d of %d %s, %.0f/s, %s left, %d retries", 100*r.done/max(r.total, 1), r.done, r.total, r.unit, rate, left, r.retries)
		r.mu.Unlock()
	}
}

// end removes the bar or stops the lines.
func (r *reporter) end() {
	if r.bar != nil {
		r.bar.Finish()
		r.bar.Clear()
	}
	if r.ticker != nil {
		r.ticker.Stop()
		close(r.over)
	}
}

// add reports n more finished rows, after some retries.
func (r *reporter) add(n int64, retries int) {
	r.observe(loader.Event{Span: chunker.RowSpan(0, n), Outcome: loader.Outcome{Retries: retries}})
}
