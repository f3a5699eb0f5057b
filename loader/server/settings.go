package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"bulkload/loader/failure"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// startSettings are sent in the start-up message of every connection. Poolers keep these for
// each client, and they make every statement arrive as written. The loader always sends UTF-8,
// whatever the encoding of the file.
var startSettings = map[string]string{"client_encoding": "UTF8", "standard_conforming_strings": "on"}

// fixedSettings are the same in every session of a pool, whatever the server, database, role
// and connection string set. They control how values are printed as text and parsed from it.
var fixedSettings = map[string]string{
	"bytea_output": "hex",
	// 3 prints the shortest exact text of a float on CockroachDB and from PostgreSQL 12 on,
	// and an exact one before.
	"extra_float_digits":    "3",
	"quote_all_identifiers": "off",
	"array_nulls":           "on",
	"xmloption":             "content",
	// CockroachDB from 22.2 on: makes COPY outside a transaction atomic.
	"copy_from_atomic_enabled": "on",
	// CockroachDB from 24.3 on, and by default from 25.2 on: would commit a transaction in front
	// of TRUNCATE and other changes of a definition.
	"autocommit_before_ddl": "off",
}

// chosenSettings determine the meaning of texts and are the user's choice. All sessions of a
// load copy them from its first session. CockroachDB's settings that enable others come first.
var chosenSettings = []string{
	"datestyle_enabled", "intervalstyle_enabled",
	"datestyle", "intervalstyle", "timezone", "timezone_abbreviations",
	"lc_monetary", "lc_numeric", "lc_time", "default_text_search_config",
	"xmlbinary", "transform_null_equals", "search_path", "default_int_size",
	"session_replication_role", // whether triggers fire
}

// setEnvironment adds the settings that libpq reads from the environment and pgx does not.
func setEnvironment(cfg *pgx.ConnConfig) {
	for variable, name := range map[string]string{"PGDATESTYLE": "datestyle", "PGTZ": "timezone", "PGGEQO": "geqo"} {
		value := os.Getenv(variable)
		if value == "" {
			continue
		}
		if _, said := runtimeParam(cfg, name); strings.EqualFold(value, "default") {
			if variable == "PGTZ" && said == value {
				delete(cfg.RuntimeParams, name) // libpq: the server's default
			}
		} else if said == "" {
			cfg.RuntimeParams[name] = value
		}
	}
}

// runtimeParam finds a start-up setting by its lower-case name and returns its spelling and
// value.
func runtimeParam(cfg *pgx.ConnConfig, name string) (spelled, value string) {
	for k, v := range cfg.RuntimeParams {
		if strings.EqualFold(k, name) {
			return k, v
		}
	}
	return "", ""
}

// setStart sets a start-up setting, replacing it in any spelling.
func setStart(cfg *pgx.ConnConfig, name, value string) {
	if spelled, _ := runtimeParam(cfg, name); spelled != "" {
		delete(cfg.RuntimeParams, spelled)
	}
	cfg.RuntimeParams[name] = value
}

// customSettings returns the names of the settings with a dot in their name that the user set:
// triggers and expressions may read them.
func (c *Config) customSettings() []string {
	var names []string
	add := func(name string) {
		if strings.Contains(name, ".") {
			names = append(names, strings.ToLower(name))
		}
	}
	for name := range c.pgx.RuntimeParams {
		add(name)
	}
	_, options := runtimeParam(c.pgx, "options")
	for name := range optionSettings(options) {
		add(name)
	}
	for name := range c.local {
		add(name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// optionSettings returns the settings of the start-up option "options": -c NAME=VALUE, -cNAME=VALUE
// or --NAME=VALUE. A backslash stands before a blank or a backslash of a value.
func optionSettings(options string) map[string]string {
	found := map[string]string{}
	var words []string
	var word strings.Builder
	for escaped := false; options != ""; {
		r, n := utf8.DecodeRuneInString(options)
		options = options[n:]
		switch {
		case r == '\\' && !escaped:
			escaped = true
			continue
		case unicode.IsSpace(r) && !escaped:
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteRune(r)
		}
		escaped = false
	}
	words = append(words, word.String())
	for i, word := range words {
		word = strings.TrimPrefix(word, "--")
		if rest, ok := strings.CutPrefix(word, "-c"); ok {
			word = rest
			if rest == "" && i+1 < len(words) {
				word = words[i+1]
			}
		}
		if name, value, ok := strings.Cut(word, "="); ok {
			found[strings.ToLower(name)] = value
		}
	}
	return found
}

// refusedParameter returns the start-up setting that a pooler refuses, or "". pgbouncer has no
// SQLSTATE of its own for that.
func refusedParameter(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != pgerrcode.ProtocolViolation {
		return ""
	}
	_, name, ok := strings.Cut(pg.Message, "unsupported startup parameter")
	if !ok {
		return ""
	}
	if strings.HasPrefix(name, " in options") {
		return "options"
	}
	return strings.TrimPrefix(name, ": ")
}

// withLocal returns a copy of c that makes a start-up setting in each transaction, or nil if c
// does not make it.
func (c *Config) withLocal(name string) *Config {
	spelled, value := runtimeParam(c.pgx, name)
	if spelled == "" {
		return nil
	}
	cfg := c.pgx.Copy()
	delete(cfg.RuntimeParams, spelled)
	other := c.with(cfg)
	other.local = maps.Clone(c.local)
	if other.local == nil {
		other.local = map[string]string{}
	}
	if strings.EqualFold(name, "options") {
		maps.Copy(other.local, optionSettings(value))
	} else {
		other.local[strings.ToLower(name)] = value
	}
	return other
}

// A SettingsError reports that the server refuses a required session setting.
type SettingsError struct{ Err error }

// ErrorKind implements failure.Kinded.
func (e *SettingsError) ErrorKind() failure.Kind { return failure.Refused }

func (e *SettingsError) Error() string {
	return "the session cannot restore the settings that the load began with: " + Reason(e.Err)
}

func (e *SettingsError) Unwrap() error { return e.Err }

// asked holds the value of a session's setting before and after settle.
type asked struct{ was, is string }

// settle sets the settings in want that the server knows, and returns them and those named in
// read. more is another query, or ""; settle returns its rows as text. Both are sent as one
// message, which saves a round trip.
func (s *Server) settle(ctx context.Context, conn *pgx.Conn, want map[string]string, read []string, more string) (map[string]asked, [][][]byte, error) {
	sql := s.settingsQuery(conn, want, read)
	if more != "" {
		sql += "; " + more
	}
	answers, err := simpleQuery(ctx, conn, sql)
	if err != nil {
		return nil, nil, err
	}
	if len(answers) == 0 {
		return nil, nil, errors.New("the server did not answer")
	}
	found := map[string]asked{}
	for _, row := range answers[0] {
		if row[2] != nil {
			found[string(row[0])] = asked{string(row[1]), string(row[2])}
		}
		conn.PgConn().CustomData()[sessionKey] = string(row[3])
	}
	answer := [][][]byte(nil)
	if len(answers) > 1 {
		answer = answers[1]
	}
	return found, answer, nil
}

// settingsQuery returns the query of settle. Its rows are the name of a setting, its value before
// and after, and the id of the session.
func (s *Server) settingsQuery(conn *pgx.Conn, want map[string]string, read []string) string {
	var values []string
	for _, name := range read {
		if _, ok := want[name]; !ok {
			values = append(values, "("+quote(name)+", NULL)")
		}
	}
	for _, name := range inOrder(want) {
		values = append(values, "("+quote(name)+", "+settingValue(name, want[name])+")")
	}
	// If a pooler shares the session, the settings are local to the query. CockroachDB rejects
	// the names of some PostgreSQL settings.
	session, now, local := "current_setting('session_id', true)", "CASE WHEN p.name IS NOT NULL OR s.n LIKE '%.%' THEN current_setting(s.n, true) END", "false"
	from := " LEFT JOIN pg_catalog.pg_settings AS p ON p.name = s.n"
	change := "s.v <> " + now
	if s.Product == PostgreSQL {
		session, now, from = "pg_backend_pid()::TEXT", "current_setting(s.n, true)", ""
		change, local = differs(now), fmt.Sprintf("pg_backend_pid() <> %d", conn.PgConn().PID())
	}
	return fmt.Sprintf(`SELECT s.n, %[1]s, CASE WHEN %[6]s THEN set_config(s.n, s.v, %[2]s) ELSE %[1]s END, %[3]s FROM (VALUES %[4]s) AS s (n, v)%[5]s`,
		now, local, session, strings.Join(values, ", "), from, change)
}

// simpleQuery sends statements in one message, and returns the rows of each as text.
func simpleQuery(ctx context.Context, conn *pgx.Conn, sql string) (answers [][][][]byte, err error) {
	trace, done := traced(ctx, conn, sql)
	results := conn.PgConn().Exec(trace, sql)
	for results.NextResult() {
		var rows [][][]byte
		r := results.ResultReader()
		for r.NextRow() {
			row := make([][]byte, len(r.Values()))
			for i, v := range r.Values() {
				row[i] = slices.Clone(v)
			}
			rows = append(rows, row)
		}
		if _, err := r.Close(); err != nil {
			break // Close returns the error
		}
		answers = append(answers, rows)
	}
	err = results.Close()
	done(err)
	return answers, err
}

// settled returns the settings for later transactions: those in want and in shared, as far as
// the server knows them.
func settled(found map[string]asked, want, shared map[string]string) map[string]string {
	values := map[string]string{}
	for _, list := range []map[string]string{want, shared} {
		for name := range list {
			if v, ok := found[name]; ok {
				values[name] = v.is
			}
		}
	}
	return values
}

// inOrder returns the names of settings in the order in which to set them.
func inOrder(want map[string]string) []string {
	names := slices.Sorted(maps.Keys(want))
	slices.SortStableFunc(names, func(a, b string) int { return placeOf(a) - placeOf(b) })
	return names
}

func placeOf(name string) int {
	if i := slices.Index(chosenSettings, name); i >= 0 {
		return i
	}
	return len(chosenSettings)
}

// refusedSetting reports whether err means that the server refused the value of a setting.
func refusedSetting(err error) bool {
	switch Code(err) {
	case pgerrcode.InvalidParameterValue, pgerrcode.InvalidTextRepresentation, pgerrcode.InsufficientPrivilege, pgerrcode.UndefinedObject,
		pgerrcode.InvalidName, pgerrcode.FeatureNotSupported, pgerrcode.CantChangeRuntimeParam, pgerrcode.ObjectNotInPrerequisiteState:
		return true
	}
	return false
}

// quote returns s as an SQL literal for standard_conforming_strings = on.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// traced reports a query to the connection's tracer: pgx does not report raw queries.
func traced(ctx context.Context, conn *pgx.Conn, sql string) (context.Context, func(error)) {
	t := conn.Config().Tracer
	if t == nil {
		return ctx, func(error) {}
	}
	ctx = t.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: sql})
	return ctx, func(err error) {
		t.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{CommandTag: pgconn.CommandTag{}, Err: err})
	}
}
