package loader_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/dataset"
	"bulkload/loader/rows"
)

// served is a Committer of a server that has room for some chunks at once, each of
// which takes a random time that may grow during the load.
type served struct {
	room chan struct{}
	mu   sync.Mutex // guards took
	took func() time.Duration
}

func (s *served) Commit(context.Context, *rows.Chunk) (loader.Outcome, error) {
	s.room <- struct{}{}
	s.mu.Lock()
	took := s.took()
	s.mu.Unlock()
	time.Sleep(took)
	<-s.room
	return loader.Outcome{}, nil
}

// settle runs a load, in a bubble of synctest, where it takes no time.
func settle(t *testing.T, room, begin, most int, length time.Duration, took func() time.Duration) (loader.Result, []string) {
	t.Helper()
	var res loader.Result
	var notes []string
	synctest.Test(t, func(t *testing.T) {
		// As many rows as the server takes in that time.
		const size = 10
		n := int64(length/(10*time.Millisecond)) * int64(min(room, most)) * size
		job := &loader.Job{
			Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: n}}, Committer: &served{room: make(chan struct{}, room), took: took}, Positions: n,
			Plan: chunker.Plan{RowsPerChunk: size}, Workers: begin, MaxWorkers: most,
			Observe: func(e loader.Event) {
				if e.Note != "" {
					notes = append(notes, e.Note)
				}
			},
		}
		var err error
		if res, err = job.Run(context.Background()); err != nil || res.Rows != n {
			t.Fatalf("got %d rows, %v; want %d", res.Rows, err, n)
		}
	})
	return res, notes
}

func TestWorkersAreTriedWhileTheyHelp(t *testing.T) {
	for _, test := range []struct{ room, begin, most, want int }{
		{1, 2, 16, 2}, {2, 2, 16, 2}, {4, 2, 16, 4}, {4, 4, 16, 4}, {6, 2, 16, 8}, {8, 4, 16, 8}, {100, 4, 16, 16}, {100, 4, 4, 4}, {100, 4, 0, 4}, {100, 3, 7, 7},
	} {
		res, notes := settle(t, test.room, test.begin, test.most, time.Minute, func() time.Duration { return 5*time.Millisecond + rand.N(10*time.Millisecond) })
		if res.Workers != test.want {
			t.Errorf("room for %d, from %d up to %d: got %d workers, want %d: %q", test.room, test.begin, test.most, res.Workers, test.want, notes)
		}
		if tries := test.most > test.begin; tries != (len(notes) > 0 && strings.HasPrefix(notes[len(notes)-1], "settled on")) {
			t.Errorf("room for %d, from %d up to %d: got notes %q", test.room, test.begin, test.most, notes)
		}
	}
}

// TestWorkersAreNotTakenForADrift has the rate rise and fall all the time, whatever the
// workers do.
func TestWorkersAreNotTakenForADrift(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		start := time.Time{}
		level, target := 1.0, 1.0
		res, notes := settle(t, 2, 2, 16, time.Minute, func() time.Duration {
			if start.IsZero() {
				start = time.Now()
			}
			if rng.IntN(300) == 0 {
				target = 0.6 + 0.8*rng.Float64()
			}
			level += (target - level) / 200
			return time.Duration(level * float64(10*time.Millisecond))
		})
		if res.Workers != 2 {
			t.Errorf("seed %d: got %d workers: %q", seed, res.Workers, notes)
		}
	}
}

func TestShortLoadsTryNothing(t *testing.T) {
	res, notes := settle(t, 100, 2, 16, time.Second, func() time.Duration { return 10 * time.Millisecond })
	if res.Workers != 2 || len(notes) > 0 {
		t.Errorf("got %d workers and %q", res.Workers, notes)
	}
}

// distant is a Committer behind a network: a chunk waits for that, and then for its turn at a
// server, or a link, that takes one chunk at a time.
type distant struct {
	waits, takes time.Duration
	turn         chan struct{}
}

func (d *distant) Commit(context.Context, *rows.Chunk) (loader.Outcome, error) {
	time.Sleep(d.waits)
	d.turn <- struct{}{}
	time.Sleep(d.takes)
	<-d.turn
	return loader.Outcome{}, nil
}

// TestWorkersFillTheNetwork has chunks that mostly wait for the network: workers become more at
// once, until the server or the link is full, and only where the wait was measured.
func TestWorkersFillTheNetwork(t *testing.T) {
	for _, test := range []struct {
		waits, takes, known time.Duration
		chunks              int64
		want                int
		within              time.Duration
	}{
		{100 * time.Millisecond, 5 * time.Millisecond, 100 * time.Millisecond, 400, 16, 3500 * time.Millisecond},
		{100 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond, 80, 8, time.Hour},
		{100 * time.Millisecond, 5 * time.Millisecond, 0, 20, 2, time.Hour}, // too short for a trial
		{100 * time.Millisecond, 150 * time.Millisecond, 100 * time.Millisecond, 20, 2, time.Hour},
		{10 * time.Millisecond, 200 * time.Millisecond, 10 * time.Millisecond, 20, 2, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			const size = 10
			n := test.chunks * size
			job := &loader.Job{
				Source: dataset.PointSource{Keys: dataset.KeyLayout{Rows: n}}, Positions: n,
				Committer: &distant{test.waits, test.takes, make(chan struct{}, 1)},
				Plan:      chunker.Plan{RowsPerChunk: size}, Workers: 2, MaxWorkers: 16, Waits: test.known,
			}
			res, err := job.Run(context.Background())
			if err != nil || res.Rows != job.Positions {
				t.Fatalf("got %d rows, %v", res.Rows, err)
			}
			if res.Workers != test.want || res.Elapsed > test.within {
				t.Errorf("%+v: got %d workers and %s", test, res.Workers, res.Elapsed)
			}
		})
	}
}
