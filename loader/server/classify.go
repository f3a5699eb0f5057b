package server

import (
	"context"
	"errors"
	"strings"

	"bulkload/loader/failure"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Class says what an error of the database means for what was sent.
type Class int

// The classes of error, from facts measured on CockroachDB and PostgreSQL; the
// table test of Classify lists the codes.
const (
	// Permanent: repeating it would fail again. 42xxx, 0Axxx and whatever has
	// a definite SQLSTATE that is not listed below.
	Permanent Class = iota
	// Retry: definitely not applied, and the same again may succeed.
	Retry
	// Uncertain: it may have been applied. Errors without a SQLSTATE
	// (transport, deadline), 08xxx, 40003, and sessions that the server ended.
	Uncertain
	// TooLarge: definitely not applied, and the same again would fail; half of
	// it may succeed.
	TooLarge
	// Duplicate: 23505, a key that is there already. Also the answer to rows
	// that were applied before, by a statement whose reply was lost.
	Duplicate
	// Data: the rows are at fault. 22xxx and 23xxx but 23505.
	Data
	// Refused: log-in, certificate, privilege or database. 28xxx, 3D000, 42501.
	Refused
)

// SQLSTATEs that package pgerrcode does not have.
const (
	// Uncategorized is CockroachDB's for errors without one of their own.
	Uncategorized      = "XXUUU"
	transactionTimeout = "25P04" // PostgreSQL 17 and later
	clusterRestarting  = "CR000" // CockroachDB: the statement is to be sent again
)

// String returns the class in words.
func (c Class) String() string {
	return [...]string{"permanent", "retry", "uncertain", "too large", "duplicate", "data", "refused"}[c]
}

// Classify says what err, returned by pgx, means. nil is not an error and must not
// be passed. It decides by SQLSTATE; by text only where CockroachDB gives none of
// its own.
//
// Note: pgconn.SafeToRetry is not asked. pgx 5.9 to 5.12 answer true for a COMMIT
// whose reply was lost.
func Classify(err error) Class {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		var pooled *PooledError
		if errors.As(err, &pooled) {
			return Refused
		}
		var tls interface{ CertificateError() bool }
		if isCertificate(err) || errors.As(err, &tls) {
			return Refused
		}
		var connect *pgconn.ConnectError
		if errors.As(err, &connect) {
			return Retry // nothing was sent
		}
		return Uncertain
	}
	code := pg.Code
	switch {
	case tooLargeText(pg.Message), code == pgerrcode.ConfigurationLimitExceeded, code == pgerrcode.ProgramLimitExceeded,
		code == pgerrcode.ProtocolViolation && strings.Contains(pg.Message, "message size"):
		return TooLarge
	case code == pgerrcode.StatementCompletionUnknown, strings.HasPrefix(code, "08"),
		code == pgerrcode.AdminShutdown, code == pgerrcode.CrashShutdown,
		code == pgerrcode.IdleInTransactionSessionTimeout, code == transactionTimeout, code == pgerrcode.IdleSessionTimeout:
		return Uncertain
	case code == pgerrcode.SerializationFailure, code == pgerrcode.DeadlockDetected, code == clusterRestarting,
		code == pgerrcode.CannotConnectNow, code == pgerrcode.TooManyConnections,
		code == pgerrcode.DiskFull, code == pgerrcode.OutOfMemory, code == pgerrcode.InsufficientResources,
		code == pgerrcode.LockNotAvailable, code == pgerrcode.QueryCanceled, Throttled(err):
		return Retry
	case code == pgerrcode.UniqueViolation:
		return Duplicate
	case strings.HasPrefix(code, "22"), strings.HasPrefix(code, "23"):
		return Data
	case strings.HasPrefix(code, "28"), code == pgerrcode.InvalidCatalogName, code == pgerrcode.InsufficientPrivilege:
		return Refused
	case code == Uncategorized && strings.Contains(pg.Message, "result is ambiguous"):
		return Uncertain
	}
	return Permanent
}

// Throttled reports whether CockroachDB refused a transaction for its licence: without a
// valid one a server from 24.3 on lets five be open at once. Other features that need a
// licence are refused with the same SQLSTATE, which only the text tells apart.
func Throttled(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "XXC02" && strings.Contains(pg.Message, "concurrently open transactions")
}

// tooLargeText knows the messages for which CockroachDB has no SQLSTATE of its own:
// the refresh spans of 2.0 to 19.1, the commit deadline, and the raft command.
func tooLargeText(msg string) bool {
	return strings.Contains(msg, "transaction is too large") ||
		strings.Contains(msg, "RETRY_COMMIT_DEADLINE_EXCEEDED") ||
		strings.Contains(msg, "command is too large")
}

// Code returns the SQLSTATE of err, or "" where it has none.
func Code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// Stopped reports whether err comes from ctx having ended, and not from a deadline
// that the loader set for one attempt.
func Stopped(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil
}

// KindOf returns the kind of an error of the database that nothing else has given one.
func KindOf(err error) failure.Kind {
	switch class := Classify(err); {
	case class == Data, class == Duplicate:
		return failure.Data
	case class == Refused, strings.HasPrefix(Code(err), "42"), IsReadOnly(err):
		return failure.Target
	}
	return failure.GaveUp
}

// IsReadOnly reports whether err is a server's refusal to write in a session that only reads:
// that of a standby, or one of default_transaction_read_only.
func IsReadOnly(err error) bool { return Code(err) == pgerrcode.ReadOnlySQLTransaction }
