package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Reason returns one line that says why a database call failed: the server's message with its
// SQLSTATE, or the network error. It contains neither the connection string nor the error's
// Detail, which may quote a row.
func Reason(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Sprintf("%s (SQLSTATE %s)", oneLine(pg.Message), pg.Code)
	}
	var command *PasswordError
	if errors.As(err, &command) {
		return command.Error()
	}
	var (
		unknown  x509.UnknownAuthorityError
		host     x509.HostnameError
		invalid  x509.CertificateInvalidError
		dns      *net.DNSError
		remote   *net.OpError
		header   tls.RecordHeaderError
		pathErr  *os.PathError
		deadline = errors.Is(err, context.DeadlineExceeded)
	)
	switch {
	case errors.As(err, &unknown):
		return "the server's certificate is signed by an authority that is not in sslrootcert"
	case errors.As(err, &host):
		return "the server's certificate is not for this host name"
	case errors.As(err, &invalid):
		if invalid.Reason == x509.Expired {
			return "the server's certificate has expired, or is not valid yet"
		}
		return "the server's certificate is not valid: " + oneLine(invalid.Error())
	case isAlert(err) && errors.As(err, &remote):
		return "the server does not accept the client's certificate or TLS: " + oneLine(strings.TrimPrefix(remote.Err.Error(), "tls: "))
	case errors.As(err, &header):
		return "the server does not answer in TLS"
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "the server has no TLS, but sslmode requires it"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: no server listens there"
	case errors.Is(err, syscall.ENOENT) && errors.As(err, &pathErr):
		return "no such file: " + pathErr.Path
	case errors.Is(err, syscall.ENOENT):
		return "no server socket there"
	case errors.As(err, &dns):
		return "the host name cannot be resolved"
	case deadline:
		return "no answer before the deadline"
	}
	// The innermost error is the network's own. The outer layers of pgx add user, database and
	// address, which the caller prints already.
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return oneLine(err.Error())
		}
		err = next
	}
}

// Message returns the server's message in one line without its SQLSTATE. For other errors it
// returns Reason.
func Message(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return oneLine(pg.Message)
	}
	return Reason(err)
}

func isCertificate(err error) bool {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
	)
	return errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) || errors.As(err, &verify)
}

// isAlert reports whether the server ended the TLS connection with an alert.
func isAlert(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" // crypto/tls wraps every alert so
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
