package importer

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// stillAfter is how long a job may make no progress until the user is told.
const stillAfter = 30 * time.Second

// rateSetting bounds what each node of CockroachDB writes for jobs like IMPORT. Its
// default is a terabyte a second.
const rateSetting = "kv.bulk_io_write.max_rate"

// settingTimeout is how long the setting is waited for: a server that writes no more may not
// answer either.
const settingTimeout = 5 * time.Second

// A stillness tells the user once that a job makes no progress, and of the setting that may
// be the reason.
type stillness struct {
	runner *Runner
	job    int64

	mu    sync.Mutex
	since time.Time // of the last poll with progress, or with a job that was not running
	at    int64     // positions
	part  float64
	waits bool // the job was not running at the last poll
}

// polled compares a poll of the job with the last one.
func (s *stillness) polled(j Job, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = j.Status != Running
	if s.waits || at != s.at || j.Fraction != s.part {
		s.at, s.part, s.since = at, j.Fraction, time.Now()
	}
}

// still returns how long the job has made no progress. Polls without an answer are none.
func (s *stillness) still() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits {
		return 0
	}
	return time.Since(s.since)
}

// watch tells the user, until ctx ends. It does not rely on answered polls: CockroachDB 26.1 may
// answer none for half a minute while the rate holds up the job.
func (s *stillness) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	still := s.still()
	for ; still < s.runner.stillAfter(); still = s.still() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	text := fmt.Sprintf("job %d has made no progress for %s", s.job, still.Round(time.Second))
	asking, done := context.WithTimeout(ctx, settingTimeout)
	defer done()
	var rate string
	if err := s.runner.db.QueryRow(asking, "SHOW CLUSTER SETTING "+rateSetting).Scan(&rate); err == nil {
		text += fmt.Sprintf("; %s, which limits each node's writes for the job, is %s", rateSetting, rate)
	} else {
		text += fmt.Sprintf("; an administrator can check whether %s slows it", rateSetting)
	}
	if ctx.Err() == nil {
		s.runner.Note(text)
	}
}

func (r *Runner) stillAfter() time.Duration {
	if r.Options.StillAfter > 0 {
		return r.Options.StillAfter
	}
	return stillAfter
}
