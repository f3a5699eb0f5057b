package main

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader"
	"bulkload/loader/bank"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/registry"
	"bulkload/loader/server"
)

// TestExitCodes holds what each end of a load means to a script.
func TestExitCodes(t *testing.T) {
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "x"} }
	chunk := func(err error) error { return fmt.Errorf("rows 700 to 799: %w", err) }
	for _, test := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("anything else"), exitFault},
		{&usageError{"x"}, exitUsage},
		{server.ErrURL, exitUsage},
		{chunk(&commit.DuplicateError{Err: pg("23505")}), exitData},
		{chunk(&commit.RefusedError{Err: pg("22003")}), exitData},
		{chunk(&commit.RefusedError{Err: pg("42501")}), exitTarget},
		{&server.ConnectError{Err: io.EOF}, exitTarget},
		{&server.ConnectError{Err: pg("28P01")}, exitTarget},
		{chunk(fmt.Errorf("%w after 5m: %w", loader.ErrGaveUp, &commit.RefusedError{Err: pg("40001")})), exitStopped},
		{chunk(fmt.Errorf("%w after 5m: %w", loader.ErrGaveUp, io.EOF)), exitStopped},
		{loader.ErrStopped, exitStopped},
		{fmt.Errorf("%w: nothing was under way", loader.ErrStalled), exitStopped},
		{chunk(loader.ErrUnconfirmed), exitUnconfirmed},
		{errors.Join(loader.ErrUnconfirmed, loader.ErrGaveUp), exitUnconfirmed},
		{fmt.Errorf("%w: %w: x", loader.ErrUnconfirmed, load.ErrTable), exitUnconfirmed},
		{fmt.Errorf("%w: %s: %w", load.ErrTable, "t", registry.ErrEmptied), exitUnconfirmed},
		{fmt.Errorf("%w: x", load.ErrTable), exitRefused},
		{bank.ErrMoney, exitUnconfirmed},
		{loader.ErrLost, exitRefused},
		{registry.ErrNoLoad, exitRefused},
		{&registry.SchemaError{Reason: "of a newer loader"}, exitTarget},
		{fmt.Errorf("upgrade: %w", &registry.SchemaError{Err: pg("42501")}), exitTarget},
		{fmt.Errorf("lease rows: %w", &registry.FenceError{Sessions: 1, Err: pg("42501")}), exitStopped},
		{errRejected, exitRejected},
	} {
		if got := (&program{}).code(test.err); got != test.want {
			t.Errorf("%v: exit code %d, want %d", test.err, got, test.want)
		}
	}
}
