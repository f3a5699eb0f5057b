package localdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"bulkload/loader/server"
)

// Crash kills a temporary server, like a power failure. Restart starts it again with the same
// data and addresses. It is for tests.
func (db *DB) Crash() error {
	if !db.temporary {
		return errors.New("only temporary servers are crashed")
	}
	return db.process.kill()
}

// Halt stops a temporary server like an administrator: PostgreSQL with a fast shutdown, which
// ends every session with 57P01, CockroachDB with a drain. Restart starts it again. It is for
// tests.
func (db *DB) Halt(ctx context.Context) error {
	if !db.temporary {
		return errors.New("only temporary servers are halted")
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := db.process.halt(db.Product == server.PostgreSQL); err != nil {
		return err
	}
	select {
	case <-db.process.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop %s: %w", db.Binary, ctx.Err())
	}
}

// Running reports whether the process of a temporary server is alive. It is for tests.
func (db *DB) Running() bool {
	select {
	case <-db.process.ended:
		return false
	default:
		return true
	}
}

// Restart starts a temporary server again after Crash or Halt. It is for tests.
func (db *DB) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	start := db.startCockroach
	if db.Product == server.PostgreSQL {
		start = db.startPostgres
	}
	for {
		before, _ := os.ReadFile(db.log())
		p, err := start(ctx)
		if err == nil {
			db.process = p
			return nil
		}
		// The backends of a killed postmaster notice its death one by one and write to the
		// same log, so its last line may be theirs.
		after, _ := os.ReadFile(db.log())
		if !bytes.Contains(bytes.TrimPrefix(after, before), []byte("shared memory block")) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
