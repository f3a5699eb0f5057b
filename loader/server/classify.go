package server

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"bulkload/loader/failure"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Class is the meaning of a database error for the statement that was sent.
type Class int

// The classes of errors. They follow from measurements on CockroachDB and PostgreSQL; the
// table test of Classify lists the codes.
const (
	// Permanent: the same statement would fail again. 42xxx, 0Axxx and every SQLSTATE not
	// listed below.
	Permanent Class = iota
	// Retry: definitely not applied; the same statement may succeed later.
	Retry
	// Uncertain: the statement may have been applied. Errors without a SQLSTATE (transport,
	// deadline), 08xxx, 40003, sessions that the server ended, and nodes of CockroachDB that are
	// gone.
	Uncertain
	// TooLarge: definitely not applied. The same statement would fail again; half of it may
	// succeed.
	TooLarge
	// Duplicate: 23505, the key already exists. Rows applied earlier by a statement whose
	// reply was lost also give this error.
	Duplicate
	// Data: the rows are at fault. 22xxx, and 23xxx except 23505.
	Data
	// Refused: log-in, certificate, privilege or database. 28xxx, 3D000, 42501.
	Refused
)

// SQLSTATEs missing from package pgerrcode.
const (
	// Uncategorized is CockroachDB's code for errors without a SQLSTATE of their own.
	Uncategorized      = "XXUUU"
	transactionTimeout = "25P04" // PostgreSQL 17 and later
	clusterRestarting  = "CR000" // CockroachDB: the client should send the statement again
	rangeUnavailable   = "58C00" // CockroachDB: too few replicas of a range can be reached
	internalConnection = "58C01" // CockroachDB: a connection between two nodes broke
)

// String returns the class in words.
func (c Class) String() string {
	return [...]string{"permanent", "retry", "uncertain", "too large", "duplicate", "data", "refused"}[c]
}

// Classify returns the class of err, an error returned by pgx. err must not be nil. It decides
// by SQLSTATE, and by text only where CockroachDB has no SQLSTATE of its own.
//
// Note: Classify does not use pgconn.SafeToRetry. pgx 5.9 to 5.12 return true for a COMMIT
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
	case code == pgerrcode.InvalidPassword && commandRefused(err):
		return Retry
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
		code == pgerrcode.LockNotAvailable, code == pgerrcode.InFailedSQLTransaction, code == pgerrcode.QueryCanceled, Throttled(err), isLostSavepoint(pg), isBeingDropped(pg):
		return Retry
	case code == pgerrcode.UniqueViolation:
		return Duplicate
	case strings.HasPrefix(code, "22"), strings.HasPrefix(code, "23"):
		return Data
	case strings.HasPrefix(code, "28"), code == pgerrcode.InvalidCatalogName, code == pgerrcode.InsufficientPrivilege:
		return Refused
	case code == rangeUnavailable, code == internalConnection, code == Uncategorized && nodeGone.MatchString(pg.Message):
		return Uncertain
	}
	return Permanent
}

// Throttled reports whether CockroachDB refused a transaction because of its licence. From
// 24.3 on, a server without a valid licence allows five open transactions at a time. Other
// features that need a licence fail with the same SQLSTATE, so the text decides.
func Throttled(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "XXC02" && strings.Contains(pg.Message, "concurrently open transactions")
}

// isLostSavepoint reports whether CockroachDB read at a point of the transaction that a rollback
// to a savepoint had taken back. CockroachDB 26.1 does so now and then while bad rows are
// isolated, and the next attempt passes.
func isLostSavepoint(pg *pgconn.PgError) bool {
	return pg.Code == pgerrcode.InternalError && strings.Contains(pg.Message, "sequence number is ignored")
}

// isBeingDropped reports whether a statement met a table or database that is being dropped.
// Queries of CockroachDB 21.1's catalogue meet those of others too. Soon after, it is gone: the next
// attempt passes, or says that it does not exist.
func isBeingDropped(pg *pgconn.PgError) bool {
	return pg.Code == Uncategorized && strings.HasSuffix(pg.Message, "descriptor is being dropped")
}

// nodeGone finds what CockroachDB says without a SQLSTATE when its node, or another that the
// statement needs, is stopping or cannot be reached. CockroachDB 26.1 gives its own failed read as
// the reason when a session is ended while idle, and 21.1 at times the canceled context of what it
// was doing when one is ended ("aborted before proposing: context canceled").
var nodeGone = regexp.MustCompile(`result is ambiguous|^read tcp |(^|: )(stopping|stopped|context canceled)$|node unavailable|` +
	`rpc error: code = (Unavailable|Canceled)|failed to connect to n\d|replica unavailable`)

// tooLargeText reports whether msg is one of the CockroachDB messages without a SQLSTATE of
// their own: the refresh spans of 2.0 to 19.1, the commit deadline, and the raft command.
func tooLargeText(msg string) bool {
	return strings.Contains(msg, "transaction is too large") ||
		strings.Contains(msg, "RETRY_COMMIT_DEADLINE_EXCEEDED") ||
		strings.Contains(msg, "command is too large")
}

// Code returns the SQLSTATE of err, or "" if it has none.
func Code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// Stopped reports whether err occurred because ctx ended, as opposed to a deadline that the
// loader set for one attempt.
func Stopped(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil
}

// KindOf returns the failure kind of a database error that carries no kind of its own.
func KindOf(err error) failure.Kind {
	switch class := Classify(err); {
	case class == Data, class == Duplicate:
		return failure.Data
	case class == Refused, strings.HasPrefix(Code(err), "42"), IsReadOnly(err):
		return failure.Target
	}
	return failure.GaveUp
}

// ErrorKind returns the kind that err carries, or else that of the database error in it.
// failure.None: it has neither.
func ErrorKind(err error) failure.Kind {
	var pg *pgconn.PgError
	switch kind := failure.Of(err); {
	case kind != failure.None:
		return kind
	case errors.As(err, &pg):
		return KindOf(err)
	}
	return failure.None
}

// IsReadOnly reports whether the server refused a write because the session is read-only: on a
// standby, or by default_transaction_read_only.
func IsReadOnly(err error) bool { return Code(err) == pgerrcode.ReadOnlySQLTransaction }
