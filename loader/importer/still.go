package importer

import (
	"context"
	"fmt"
	"time"
)

// stillAfter is how long a job may make no progress until the user is told.
const stillAfter = 30 * time.Second

// rateSetting bounds what each node of CockroachDB writes for jobs like IMPORT. Its
// default is a terabyte a second.
const rateSetting = "kv.bulk_io_write.max_rate"

// A stillness tells the user once that a job makes no progress, and of the setting that may
// be the reason.
type stillness struct {
	runner *Runner
	job    int64
	since  time.Time // of the last poll with progress, or with a job that was not running
	at     int64     // positions
	part   float64
	told   bool // the user was told
}

// polled compares a poll of the job with the last one.
func (s *stillness) polled(ctx context.Context, j Job, at int64) {
	if j.Status != Running || at != s.at || j.Fraction != s.part {
		s.at, s.part, s.since = at, j.Fraction, time.Now()
		return
	}
	if s.told || time.Since(s.since) < s.runner.stillAfter() {
		return
	}
	s.told = true
	text := fmt.Sprintf("job %d has made no progress for %s", s.job, time.Since(s.since).Round(time.Second))
	var rate string
	if err := s.runner.db.QueryRow(ctx, "SHOW CLUSTER SETTING "+rateSetting).Scan(&rate); err == nil {
		text += fmt.Sprintf("; %s, which limits each node's writes for the job, is %s", rateSetting, rate)
	} else {
		text += fmt.Sprintf("; an administrator can check whether %s slows it", rateSetting)
	}
	s.runner.Note(text)
}

func (r *Runner) stillAfter() time.Duration {
	if r.Options.StillAfter > 0 {
		return r.Options.StillAfter
	}
	return stillAfter
}
