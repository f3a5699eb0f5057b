package server

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"bulkload/loader/failure"

	"github.com/jackc/pgx/v5"
)

// A Config holds the address of a server and the log-in. Parse makes one. It holds the
// password: print its Target, never the Config itself.
type Config struct {
	pgx    *pgx.ConnConfig
	cert   bool // a client certificate is configured
	spoken bool // the connection string itself holds the password
	// connected is the host in use if the string names several; zero before Open.
	connected host
	// local are settings of the string that a pooler refuses at the start of a session: each
	// transaction makes them.
	local map[string]string
	// pooled: the host is a pooler's.
	pooled bool
	// priority is the quality of service of all transactions; empty is the server's default.
	priority Priority
}

// A Priority is the admission priority of transactions on a busy CockroachDB, implicit ones and
// COPY included: its setting default_transaction_quality_of_service, from 22.1 on.
type Priority string

// The priorities.
const (
	Background Priority = "background"
	Regular    Priority = "regular"
	Critical   Priority = "critical"
)

// WithPriority returns a copy for whose sessions' transactions the priority holds. Pool refuses a
// server that has none.
func (c *Config) WithPriority(p Priority) *Config {
	other := c.with(c.pgx)
	other.priority = p
	return other
}

// A PriorityError reports a server that has no priorities.
type PriorityError struct{ Info Info }

// ErrorKind implements failure.Kinded.
func (e *PriorityError) ErrorKind() failure.Kind { return failure.Target }

func (e *PriorityError) Error() string {
	return fmt.Sprintf("--priority needs CockroachDB 22.1 or newer, but this is %s; leave it out", e.Info)
}

// priorityOf is the setting of a Priority.
const priorityOf = "default_transaction_quality_of_service"

// ErrURL is wrapped by the errors of Parse: the user's URL is at fault, not the server.
var ErrURL = failure.New(failure.Usage, "bad URL")

// Parse reads a connection string: a postgres://, postgresql:// or cockroachdb:// URL, or
// key=value pairs. libpq's environment variables, service file and passfile supply missing
// settings. The word "env" alone means DATABASE_URL, or else the PG* variables.
//
// A remote host needs an sslmode that decides about encryption: pgx alone would fall back to
// plaintext silently. Errors wrap ErrURL and quote nothing of the string but the scheme, since
// any other part may hold the password. A *KeyError holds the path of the key.
func Parse(text string) (*Config, error) { return ParseWithCerts(text, "") }

// ParseWithCerts is Parse with a certificate directory as made by "cockroach cert". For
// settings that the string does not make, it uses ca.crt, client.USER.crt and client.USER.key
// of that directory, if present, and sslmode=verify-full. An empty certsDir means no
// directory.
func ParseWithCerts(text, certsDir string) (*Config, error) {
	if text == "env" {
		text = os.Getenv("DATABASE_URL")
		if text == "" && os.Getenv("PGHOST") == "" && os.Getenv("PGSERVICE") == "" {
			return nil, fmt.Errorf("%w: --url env, but neither DATABASE_URL nor PGHOST is set", ErrURL)
		}
	}
	if rest, ok := strings.CutPrefix(text, "cockroachdb://"); ok {
		text = "postgresql://" + rest
	}
	if err := checkForm(text); err != nil {
		return nil, err
	}
	if err := checkString(text); err != nil {
		return nil, err
	}
	if err := checkEnvironment(); err != nil {
		return nil, err
	}
	text, err := addCerts(text, certsDir)
	if err != nil {
		return nil, err
	}
	if err := checkFiles(text); err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", ErrURL, parseProblem(text, err))
	}
	if err := checkParsed(cfg); err != nil {
		return nil, err
	}
	// A connection that only waits detects a dead peer within a minute. The system's default
	// is some hours.
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	cfg.DialFunc = dialer.DialContext
	reportLoginFailure(&cfg.Config)
	setEnvironment(cfg)
	for name, value := range startSettings {
		setStart(cfg, name, value)
	}
	// Statements that send rows are prepared once per connection, unless the string asks for no
	// prepared statements; see RepeatedMode. All of pgx's other modes ask for that.
	if cfg.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement {
		cfg.StatementCacheCapacity = 0
	}
	cfg.DefaultQueryExecMode = RepeatedMode(cfg)
	cfg.DescriptionCacheCapacity = max(cfg.DescriptionCacheCapacity, descriptions)
	if host := mayFallBack(cfg); host != "" {
		why := "the URL has no sslmode"
		if mode := effective(text, "sslmode", "PGSSLMODE"); mode != "" {
			why = "sslmode=" + mode + " may fall back to plaintext"
		}
		return nil, fmt.Errorf("%w: %s is not on this machine, and %s; add sslmode=verify-full&sslrootcert=FILE, or sslmode=disable to send everything unencrypted", ErrURL, visible(host), why)
	}
	return &Config{pgx: cfg, cert: effective(text, "sslcert", "PGSSLCERT") != "", spoken: holdsPassword(text)}, nil
}

// descriptions is the number of statements whose types a connection remembers: that of pgx.
const descriptions = 512

// holdsPassword reports whether a connection string names a password.
func holdsPassword(text string) bool {
	if u, err := url.Parse(text); err == nil && strings.Contains(text, "://") {
		if _, ok := u.User.Password(); ok {
			return true
		}
	}
	return setting(text, "password") != ""
}

// checkForm finds the faults of a string that can be reported without parsing it, so that no
// error needs to quote it.
func checkForm(text string) error {
	scheme, _, ok := strings.Cut(text, "://")
	switch {
	case !ok && text != "" && !strings.Contains(text, "="):
		return fmt.Errorf("%w: neither a URL (postgres://user@host:port/database) nor key=value pairs", ErrURL)
	case ok && !strings.ContainsAny(scheme, "= \t") && scheme != "postgres" && scheme != "postgresql":
		if strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-") != "" || len(scheme) > 20 {
			scheme = "this"
		}
		return fmt.Errorf("%w: unknown scheme %s; use postgres://, postgresql:// or cockroachdb://", ErrURL, scheme)
	}
	return nil
}

// parseProblem describes the fault of a connection string without quoting it.
func parseProblem(text string, err error) string {
	// In these cases pgx names the faulty setting before the cause and never prints its value.
	// Any other message may carry parts of the string.
	msg := err.Error()
	for _, known := range []struct{ in, out string }{
		{"sslmode is invalid", "sslmode must be disable, allow, prefer, require, verify-ca or verify-full"},
		{"invalid port", "the port is not a number from 1 to 65535"},
		{"unable to add CA to cert pool", "sslrootcert holds no PEM certificate"},
		{"unable to read CA file", "sslrootcert cannot be read"},
		{"both \"sslcert\" and \"sslkey\" are required", "sslcert and sslkey must be used together"},
		{"unable to load cert", "sslcert and sslkey cannot be read, or do not belong together"},
		{"unable to read sslkey", "sslkey cannot be read"},
		{"failed to decode sslkey", "sslkey is not a PEM key"},
		{"decrypt", "sslkey cannot be decrypted with sslpassword"},
		{"invalid connect_timeout", "connect_timeout is not a number of seconds"},
	} {
		if strings.Contains(msg, known.in) {
			return known.out
		}
	}
	if strings.Contains(text, "://") {
		if _, urlErr := url.Parse(text); urlErr != nil {
			return "it is not a valid URL; percent-encode special characters in user and password (@ is %40, / is %2F, % is %25)"
		}
	}
	return "it cannot be parsed; write postgres://user@host:port/database?sslmode=… or key=value pairs, and quote values with blanks"
}

// Database returns the database that the string names, or "" if it names none.
func (c *Config) Database() string { return c.pgx.Database }

// with returns a copy of c with other pgx settings.
func (c *Config) with(settings *pgx.ConnConfig) *Config {
	copied := *c
	copied.pgx = settings
	return &copied
}

// WithDatabase returns a copy that connects to another database.
func (c *Config) WithDatabase(name string) *Config {
	copied := c.pgx.Copy()
	copied.Database = name
	return c.with(copied)
}

// WithTracer returns a copy whose connections report each statement to t.
func (c *Config) WithTracer(t pgx.QueryTracer) *Config {
	copied := c.pgx.Copy()
	copied.Tracer = t
	return c.with(copied)
}

// HasPassword reports whether a password for the log-in is known, from any source.
func (c *Config) HasPassword() bool { return c.pgx.Password != "" }

// PasswordInString reports whether the connection string itself holds the password, as opposed
// to the environment or a passfile.
func (c *Config) PasswordInString() bool { return c.spoken }

// WithPassword returns a copy that logs in with another password.
func (c *Config) WithPassword(password string) *Config {
	copied := c.pgx.Copy()
	copied.Password = password
	return c.with(copied)
}

// User returns the user name of the log-in.
func (c *Config) User() string { return c.pgx.User }

// Host returns host and port for printing: "db1:26257", or the directory of a Unix socket. If
// the string names several hosts, it is the one that Open connected to.
func (c *Config) Host() string { return c.host().String() }

// Local reports whether the address is on this machine: a Unix socket or a loopback address. A
// loopback address may also be the end of a tunnel.
func (c *Config) Local() bool {
	name := c.host().name
	return filepath.IsAbs(name) || name == "localhost" || net.ParseIP(name).IsLoopback()
}

// URLOf returns a URL of the same server for another user and database, without password and
// certificates.
func (c *Config) URLOf(user, database string) string {
	u := url.URL{Scheme: "postgresql", User: url.User(user), Host: c.Host(), Path: "/" + database}
	q := url.Values{}
	if h := c.host(); filepath.IsAbs(h.name) {
		u.Host = ""
		q.Set("host", h.name)
		q.Set("port", fmt.Sprint(h.port))
	} else if c.pgx.TLSConfig == nil {
		q.Set("sslmode", "disable")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// visible replaces the control characters in a part of a connection string: its text is not
// trusted.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
