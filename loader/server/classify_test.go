package server_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"bulkload/loader/server"
)

func TestClassify(t *testing.T) {
	said := func(code, message string) error { return &pgconn.PgError{Code: code, Message: message} }
	for _, test := range []struct {
		want server.Class
		errs []error
	}{
		{server.Uncertain, []error{
			io.ErrUnexpectedEOF, syscall.ECONNRESET, context.DeadlineExceeded, errors.New("conn closed"), &net.OpError{Op: "read", Err: syscall.EPIPE},
			said("40003", "result is ambiguous"), said("08006", ""), said("08003", ""), said("57P01", ""), said("57P02", ""), said("25P03", ""), said("25P04", ""), said("57P05", ""),
			said("XXUUU", "result is ambiguous (error=…)"), said("XXUUU", "read tcp 127.0.0.1:26257->127.0.0.1:5000: i/o timeout"),
			said("XXUUU", "aborted before proposing: context canceled"), said("XXUUU", "context canceled"),
			said("XXUUU", "kv/kvserver/intentresolver/intent_resolver.go:892: stopping"), said("XXUUU", "node unavailable; try another peer"), said("XXUUU", "rpc error: code = Unavailable desc = transport is closing"), said("XXUUU", "failed to connect to n2 at 10.0.0.2:26257: initial connection heartbeat failed"),
			said("58C00", "key range id:44 is unavailable"), said("58C01", "inbox communication error: rpc error: code = Canceled desc = context canceled"),
		}},
		{server.Retry, []error{
			said("40001", "restart transaction"), said("40P01", ""), said("CR000", ""), said("XX000", "internal error: read sequence number 2 but sequence number is ignored [{2 2}] after savepoint rollback"), said("XXUUU", "descriptor is being dropped"), said("25P02", "current transaction is aborted"), said("57P03", ""), said("53300", ""), said("53100", ""), said("53200", ""), said("55P03", ""), said("57014", ""),
		}},
		{server.TooLarge, []error{
			said("53400", ""), said("54000", ""), said("08P01", "message size 17 MiB bigger than maximum allowed message size 16 MiB"),
			said("XXUUU", "transaction is too large to complete; try splitting into pieces"), said("XXUUU", "command is too large: 68157440 bytes"), said("40001", "RETRY_COMMIT_DEADLINE_EXCEEDED"),
		}},
		{server.Duplicate, []error{said("23505", "")}},
		{server.Data, []error{said("22003", ""), said("22P02", ""), said("22021", ""), said("23502", ""), said("23503", ""), said("23514", "")}},
		{server.Refused, []error{said("28P01", ""), said("28000", ""), said("3D000", ""), said("42501", ""), x509.UnknownAuthorityError{}}},
		{server.Permanent, []error{said("42P01", ""), said("42703", ""), said("0A000", ""), said("XXUUU", "internal error"), said("42P01", "descriptor is being dropped"), said("XXUUU", "rpc error: code = Unknown desc = no such file"), said("XXUUU", "context canceled by the loader of files")}},
	} {
		for _, err := range test.errs {
			for _, err := range []error{err, fmt.Errorf("copy: %w", err)} {
				if got := server.Classify(err); got != test.want {
					t.Errorf("%v (SQLSTATE %q) is %v, want %v", err, server.Code(err), got, test.want)
				}
			}
		}
	}
}
