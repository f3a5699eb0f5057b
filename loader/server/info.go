package server

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"bulkload/loader/failure"

	"github.com/jackc/pgx/v5"
)

// A Product is a database product that the loader supports.
type Product int

// The supported products.
const (
	PostgreSQL Product = iota
	CockroachDB
)

// String returns the product's name.
func (p Product) String() string {
	return [...]string{"PostgreSQL", "CockroachDB"}[p]
}

// Info is the product and version that a server reports.
type Info struct {
	Product             Product
	Version             string // as the server prints it, without leading v: "21.1.5", "15.18"
	Major, Minor, Patch int    // PostgreSQL 15.18 is 15, 18, 0
	OSS                 bool   // a CockroachDB build without the licensed packages: no IMPORT
	// Pooling says whether connections go through a connection pooler, and how it passes on the
	// server's sessions. Open finds out; ReadInfo does not.
	Pooling Pooling
}

// Pooled reports whether connections go through a pooler: sessions may serve other clients
// before, after and between the loader's transactions.
func (i Info) Pooled() bool { return i.Pooling != Direct }

// AtLeast reports whether the server has version major.minor.patch or newer.
func (i Info) AtLeast(major, minor, patch int) bool {
	if i.Major != major {
		return i.Major > major
	}
	if i.Minor != minor {
		return i.Minor > minor
	}
	return i.Patch >= patch
}

// String returns product and version: "CockroachDB 21.1.5".
func (i Info) String() string { return i.Product.String() + " " + i.Version }

var (
	cockroachVersion = regexp.MustCompile(`^CockroachDB (\S+) v((\d+)\.(\d+)\.(\d+)\S*)`)
	postgresVersion  = regexp.MustCompile(`^PostgreSQL ((\d+)(?:\.(\d+))?\S*)`)
)

// otherServers begin their version() with PostgreSQL and do otherwise. The texts are from their
// documentation; none of them was run.
var otherServers = []struct {
	name string
	text *regexp.Regexp
	why  string
}{
	// Its setting yb_default_copy_from_rows_per_transaction is 20 000 rows.
	{"YugabyteDB", regexp.MustCompile(`^PostgreSQL \S*-YB-`), "its COPY commits the rows in parts"},
	{"Amazon Redshift", regexp.MustCompile(`(?i)^PostgreSQL .*\bRedshift\b`), "its primary keys are not enforced"},
	{"RisingWave", regexp.MustCompile(`(?i)^PostgreSQL \S*-RisingWave-`), "its transactions do not write"},
	{"QuestDB", regexp.MustCompile(`(?i)^PostgreSQL .*\bQuestDB\b`), "its primary keys are not enforced"},
}

// ReadInfo reads the server's version(). It returns an error for other products that speak the
// protocol.
func ReadInfo(ctx context.Context, conn *pgx.Conn) (Info, error) {
	info, _, err := readInfo(ctx, conn)
	return info, err
}

// readInfo also returns the process id of the session's backend (meaningful on PostgreSQL).
func readInfo(ctx context.Context, conn Querier) (info Info, pid uint32, err error) {
	var text string
	var process int64
	if err := conn.QueryRow(ctx, "SELECT version(), pg_backend_pid()::INT8").Scan(&text, &process); err != nil {
		return Info{}, 0, err
	}
	info, err = ParseInfo(text)
	return info, uint32(process), err
}

// ParseInfo parses the text returned by version().
func ParseInfo(text string) (Info, error) {
	if m := cockroachVersion.FindStringSubmatch(text); m != nil {
		return Info{
			Product: CockroachDB, Version: m[2], OSS: m[1] == "OSS",
			Major: number(m[3]), Minor: number(m[4]), Patch: number(m[5]),
		}, nil
	}
	for _, o := range otherServers {
		if o.text.MatchString(text) {
			return Info{}, failure.With(failure.Target, fmt.Errorf("the server is %s, which is not PostgreSQL although version() says so: %s; load into it with its own tools", o.name, o.why))
		}
	}
	if m := postgresVersion.FindStringSubmatch(text); m != nil {
		return Info{Product: PostgreSQL, Version: m[1], Major: number(m[2]), Minor: number(m[3])}, nil
	}
	return Info{}, fmt.Errorf("the server is neither CockroachDB nor PostgreSQL: version() returns %.60q", text)
}

// number converts a match of \d+; a group that did not match is 0.
func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}
