package server

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// In a mistyped connection string, a part of the password may end up as host, database or
// path, and those are printed. The checks here refuse such strings without quoting them.

// escapes explains how to write special characters in a URL.
const escapes = "in user, password and values write @ as %40, : %3A, / %2F, ? %3F, # %23, & %26, ; %3B, % %25"

// pairsHelp explains how to write key=value pairs.
const pairsHelp = "separate pairs by blanks, and quote a value that has characters other than letters, digits, dots, dashes and slashes: host=h password='…'"

var (
	// keyName matches the name of a setting.
	keyName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
	// hostName matches a host name or an address; see also isHost.
	hostName = regexp.MustCompile(`^[\pL\pN._:%-]*$`)
	// nextPair matches a key=value pair inside a value.
	nextPair = regexp.MustCompile(`[;&?,|\s]\s*[A-Za-z_]\w*\s*=`)
)

// opaque lists the settings whose values are never printed, or may look like pairs.
var opaque = []string{"password", "sslpassword", "options", "application_name", "fallback_application_name"}

// checkString refuses a connection string in which one part may have been read as another.
func checkString(text string) error {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || strings.ContainsAny(scheme, "= \t") {
		return checkPairs(text)
	}
	authority, query := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, query = rest[:i], rest[i:]
	}
	refuse := func(why string) error { return fmt.Errorf("%w: %s; %s", ErrURL, why, escapes) }
	switch {
	case strings.Count(authority, "@") > 1:
		return refuse("there are several @ before the host")
	case strings.Contains(query, "@"):
		return refuse("there is an @ after the host")
	case strings.Contains(rest, "#"):
		return refuse("it contains a #")
	case strings.Count(query, "?") > 1:
		return refuse("there are several ?")
	case strings.Contains(query, ";"):
		return refuse("there is a ; after the host; parameters are separated by &")
	}
	path, parameters, _ := strings.Cut(query, "?")
	if strings.Contains(path, "&") {
		return refuse("there is an & before the ? of the parameters")
	}
	if parameters == "" {
		return nil
	}
	for pair := range strings.SplitSeq(parameters, "&") {
		key, value, ok := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(value)
		switch {
		case !ok || !keyName.MatchString(key):
			return refuse("a parameter after the ? is not NAME=VALUE")
		case err != nil:
			return refuse("the value of a parameter cannot be parsed")
		case !slices.Contains(opaque, key) && nextPair.MatchString(plain):
			return refuse("the value of a parameter holds another parameter")
		}
	}
	return nil
}

// checkPairs is checkString for key=value pairs.
func checkPairs(text string) error {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		key, rest, ok := strings.Cut(text, "=")
		if key = strings.TrimSpace(key); !ok || !keyName.MatchString(key) {
			return fmt.Errorf("%w: it is not a list of key=value pairs; %s", ErrURL, pairsHelp)
		}
		var value string
		value, text = cutValue(strings.TrimLeft(rest, " \t\r\n"))
		if !slices.Contains(opaque, key) && nextPair.MatchString(value) {
			return fmt.Errorf("%w: the value of a pair holds another pair; %s", ErrURL, pairsHelp)
		}
	}
	return nil
}

// environment lists the variables whose values are printed.
var environment = []string{"PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGSSLCERT", "PGSSLKEY", "PGSSLROOTCERT"}

// checkEnvironment is checkString for libpq's variables.
func checkEnvironment() error {
	for _, name := range environment {
		if nextPair.MatchString(os.Getenv(name)) {
			return fmt.Errorf("%w: the value of %s contains another pair", ErrURL, name)
		}
	}
	return nil
}

// checkParsed refuses a host, user or database that pgx parsed but that cannot be one.
func checkParsed(cfg *pgx.ConnConfig) error {
	for _, h := range hostsOf(cfg) {
		if !isHost(h.name) {
			return fmt.Errorf("%w: the host has characters that are not allowed in names and addresses; %s; PGHOST and host= take only the host", ErrURL, escapes)
		}
	}
	for what, value := range map[string]string{"user": cfg.User, "database": cfg.Database} {
		if nextPair.MatchString(value) {
			return fmt.Errorf("%w: the name of the %s holds another setting; %s; %s", ErrURL, what, escapes, pairsHelp)
		}
	}
	return nil
}

func isHost(name string) bool {
	if strings.HasPrefix(name, "@") || filepath.IsAbs(name) {
		if _, err := os.Stat(name); err == nil {
			return true
		}
		return !strings.ContainsAny(name, ";&?=,\"'`|<>\\")
	}
	return hostName.MatchString(name)
}

// unknownSetting hides the name of a setting that the server does not know: the name may be a
// part of a password with blanks.
func unknownSetting(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != pgerrcode.UndefinedObject {
		return err
	}
	hidden := *pg
	hidden.Message = "the server does not know a setting of the connection string; quote a password with blanks, or percent-encode it in a URL"
	return &hidden
}
