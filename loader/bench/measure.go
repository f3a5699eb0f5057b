package bench

import (
	"context"
	"fmt"
	"time"

	"bulkload/loader"
	"bulkload/loader/latency"
	"bulkload/loader/load"
	"bulkload/loader/server"
)

// A Measure holds the results of one run.
type Measure struct {
	Rows    int64         `json:"rows"`
	Elapsed time.Duration `json:"elapsed_ns"` // of the whole Run, including claims and rebuilding of indexes
	Chunks  int64         `json:"chunks"`
	P50     time.Duration `json:"chunk_p50_ns"`
	P99     time.Duration `json:"chunk_p99_ns"`
	Retries int64         `json:"retries"`
	LookUps int64         `json:"looked_up"`
	Halved  int64         `json:"halved"`
	CPU     time.Duration `json:"client_cpu_ns"` // user and system time of this process
	// Condensed and OnePhase are the increases of CockroachDB's metrics
	// txn.condensed_intent_spans and txn.commits1PC on the node of the measurement's
	// connection. They include all other activity of the node. -1 means unknown.
	Condensed int64 `json:"condensed"`
	OnePhase  int64 `json:"one_phase_commits"`

	times latency.Histogram // of the chunks
}

// Rate returns the rows per second; 0 if Elapsed is 0.
func (m Measure) Rate() float64 {
	if m.Elapsed <= 0 {
		return 0
	}
	return float64(m.Rows) / m.Elapsed.Seconds()
}

// run makes one run of a setting: a new table, a normal load, and a clean-up.
func (r *bench) run(ctx context.Context, s Setting, warm bool) (Measure, error) {
	r.tell(s, warm)
	begun := time.Now()
	// 1. The table.
	table, err := r.scratch.make(ctx)
	defer r.scratch.drop(ctx, table)
	if err != nil {
		return Measure{}, err
	}
	// 2. The load.
	var m Measure
	req := r.request(table, s)
	req.Stop = r.stop
	req.Observe = func(e loader.Event) {
		if e.Note == "" {
			m.times.Add(e.Elapsed)
		}
	}
	l, err := load.New(ctx, r.Server, req)
	if err != nil {
		return m, err
	}
	if r.Loading != nil {
		r.Loading(l)
	}
	before, cpu := r.metrics(ctx), processCPU()
	start := time.Now()
	res, err := l.Run(ctx)
	m.Elapsed, m.CPU = time.Since(start), processCPU()-cpu
	after := r.metrics(ctx)
	l.Close()
	// 3. The clean-up.
	if forgetErr := r.scratch.forget(ctx, l.ID); forgetErr != nil {
		r.note(fmt.Sprintf("the record of load %s could not be removed: %s", l.ID, server.Reason(forgetErr)))
	}
	if err != nil {
		return m, err
	}
	m.Rows, m.Chunks, m.Retries, m.LookUps, m.Halved = res.Rows, res.Chunks, res.Retries, res.LookUps, res.Halved
	m.P50, m.P99 = m.times.Quantile(.5), m.times.Quantile(.99)
	m.Condensed, m.OnePhase = before.until(after, condensedMetric), before.until(after, onePhaseMetric)
	r.took[s] = time.Since(begun)
	return m, nil
}

// Metrics of a CockroachDB node.
const (
	condensedMetric = "txn.condensed_intent_spans"
	onePhaseMetric  = "txn.commits1PC"
)

// counters holds values of metrics; nil if they cannot be read.
type counters map[string]float64

func (r *bench) metrics(ctx context.Context) counters {
	if r.Server.Product != server.CockroachDB {
		return nil
	}
	found, err := r.scratch.pool.Query(ctx, `SELECT name, value FROM crdb_internal.node_metrics WHERE name IN ($1, $2)`, condensedMetric, onePhaseMetric)
	if err != nil {
		return nil
	}
	defer found.Close()
	c := counters{}
	for found.Next() {
		var name string
		var value float64
		if found.Scan(&name, &value) != nil {
			return nil
		}
		c[name] = value
	}
	if found.Err() != nil {
		return nil
	}
	return c
}

// until returns the increase of a metric; -1 if unknown.
func (c counters) until(later counters, name string) int64 {
	from, ok := c[name]
	to, ok2 := later[name]
	if !ok || !ok2 {
		return -1
	}
	return int64(to - from)
}
