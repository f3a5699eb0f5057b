package loadertest

import (
	"context"

	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// startServer starts a server. Those of CockroachDB let answers pass; see letAnswersPass.
func startServer(ctx context.Context, o localdb.Options) (*localdb.DB, error) {
	db, err := localdb.Start(ctx, o)
	if err != nil || db.Product != server.CockroachDB {
		return db, err
	}
	if err := letAnswersPass(ctx, db.TCP); err != nil {
		db.Stop(ctx)
		return nil, err
	}
	return db, nil
}

// letAnswersPass turns off the queues in which CockroachDB's answers to SQL wait for a processor.
// A server from 24.1 on that was not built with CockroachDB's own Go begins with 100 000 tokens for
// them and gets no others. It stands still when these are used up, after some minutes of tests.
func letAnswersPass(ctx context.Context, url string) error {
	c, err := connectKit(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for _, queue := range []string{"sql_kv_response", "sql_sql_response"} {
		if err := setIfKnown(ctx, c, "admission."+queue+".enabled = false"); err != nil {
			return err
		}
	}
	return nil
}
