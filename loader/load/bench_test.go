package load_test

import (
	"context"
	"testing"

	"bulkload/loader/dataset"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// BenchmarkPoints loads points by each way, 200 000 a round.
func BenchmarkPoints(b *testing.B) {
	const n = 200_000
	for name, server := range map[string]func(testing.TB) loadertest.Server{
		"PostgreSQL": loadertest.PostgreSQLServer, "CockroachDB": loadertest.CockroachServer,
	} {
		b.Run(name, func(b *testing.B) {
			s := server(b)
			for _, set := range ways(s) {
				b.Run(string(set.CommitMode)+"-"+string(set.Method), func(b *testing.B) {
					url := s.NewDatabase(b)
					var rate float64
					for b.Loop() {
						l := newLoad(b, url, load.Request{Dataset: dataset.NewPoints(n, 0), Settings: set})
						res, err := l.Run(context.Background())
						if err != nil {
							b.Fatal(err)
						}
						rate += res.RowsPerSecond()
						l.Close()
					}
					b.ReportMetric(rate/float64(b.N), "rows/s")
				})
			}
		})
	}
}
