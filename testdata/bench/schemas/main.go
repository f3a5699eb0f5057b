// Command schemas fills every table of databases with generated rows, all tables of a database in
// one command, and then looks for rows that break a foreign key.
//
//	go run ./testdata/bench/schemas --n 100 URL…
//
// Each URL names a database with the schema to fill, on CockroachDB or PostgreSQL. Its tables are
// emptied first. A table that cannot be filled is named with the reason, and the others are filled
// without it. The command ends with 1 if a table is not filled or a key is broken.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	n      = flag.Int("n", 100, "rows of each table; fewer where its keys hold fewer")
	seed   = flag.Int("seed", 1, "seed of the rows")
	binary = flag.String("loader", "", "the command; empty builds it")
	detail = flag.Bool("v", false, "print the command's messages")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if *binary == "" {
		dir, err := os.MkdirTemp("", "loader")
		if err != nil {
			log.Fatal(err)
		}
		defer os.RemoveAll(dir)
		*binary = filepath.Join(dir, "loader")
		if out, err := exec.Command("go", "build", "-o", *binary, "./cmd/loader").CombinedOutput(); err != nil {
			log.Fatalf("build: %v: %s", err, out)
		}
	}
	whole := true
	for _, url := range flag.Args() {
		s := schema{url: url}
		if err := s.fill(context.Background()); err != nil {
			log.Fatalf("%v", err)
		}
		fmt.Printf("%s: %d of %d tables filled, %d rows, %d foreign keys hold, %.1f s\n", s.name, s.filled, len(s.tables), s.rows, s.keys-len(s.broken), s.took.Seconds())
		for _, line := range append(s.left, s.broken...) {
			whole = false
			fmt.Println("  " + line)
		}
	}
	if !whole {
		os.Exit(1)
	}
}

// A schema is a database, and what became of it.
type schema struct {
	url, name    string
	tables       []string
	filled, keys int
	rows         int64
	took         time.Duration
	left, broken []string // messages of tables that are not filled, and of keys that do not hold
}

// tablesQuery names the tables that hold rows: no partitions, which their table fills.
const tablesQuery = `SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension', 'loader') AND n.nspname NOT LIKE 'pg_toast%' %s ORDER BY 1`

func (s *schema) fill(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	version, product := "", ""
	if err := conn.QueryRow(ctx, "SELECT current_database(), version()").Scan(&s.name, &version); err != nil {
		return err
	}
	if product = "AND NOT c.relispartition"; strings.HasPrefix(version, "CockroachDB") {
		product = ""
	}
	found, err := conn.Query(ctx, strings.Replace(tablesQuery, "%s", product, 1))
	if err == nil {
		s.tables, err = pgx.CollectRows(found, pgx.RowTo[string])
	}
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "DROP SCHEMA IF EXISTS loader CASCADE"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "TRUNCATE "+strings.Join(s.tables, ", ")+" CASCADE"); err != nil {
		return err
	}
	begun := time.Now()
	s.load(ctx)
	s.took = time.Since(begun)
	for _, t := range s.tables {
		var n int64
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM "+t).Scan(&n); err != nil {
			return err
		}
		if s.rows += n; n > 0 {
			s.filled++
		}
	}
	return s.check(ctx, conn)
}

var (
	holds = regexp.MustCompile(`has (\d+) different values`)
)

// load fills all tables by one command. Where a table is refused, the rest goes by another one.
func (s *schema) load(ctx context.Context) {
	rows := map[string]int{}
	for left := slices.Clone(s.tables); len(left) > 0; {
		var list []string
		for _, t := range left {
			if rows[t] == 0 {
				rows[t] = *n
			}
			list = append(list, t+"="+strconv.Itoa(rows[t]))
		}
		out, err := exec.CommandContext(ctx, *binary, "rows", "--url", s.url, "--seed", strconv.Itoa(*seed), "--table", strings.Join(list, ",")).CombinedOutput()
		if *detail {
			os.Stderr.Write(out)
		}
		if err == nil {
			return
		}
		// What was begun last is the one that failed; those in the line behind it are left.
		text, rest := strings.TrimSpace(string(out)), []string{}
		at := ""
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if after, ok := strings.CutPrefix(line, "not begun: "); ok {
				rest = strings.Split(after, ", ")
			}
			if strings.HasPrefix(line, "loader: ") {
				text = line
			}
		}
		for _, t := range left {
			if strings.Contains(text, strings.ReplaceAll(t, `"`, "")) && !slices.Contains(rest, t) {
				at = t
			}
		}
		if m := holds.FindStringSubmatch(text); m != nil && at != "" {
			if most, _ := strconv.Atoi(m[1]); most > 0 && most < rows[at] {
				rows[at], left = most, append([]string{at}, rest...)
				continue
			}
		}
		s.left = append(s.left, text)
		left = rest
	}
}

// check counts the rows that break a foreign key.
func (s *schema) check(ctx context.Context, conn *pgx.Conn) error {
	found, err := conn.Query(ctx, `SELECT k.conname::TEXT, quote_ident(n.nspname) || '.' || quote_ident(c.relname), quote_ident(pn.nspname) || '.' || quote_ident(p.relname),
			(SELECT array_agg(quote_ident(a.attname) ORDER BY i) FROM generate_series(1, 32) i JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[i]),
			(SELECT array_agg(quote_ident(a.attname) ORDER BY i) FROM generate_series(1, 32) i JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = k.confkey[i])
		FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace WHERE k.contype = 'f'`)
	if err != nil {
		return err
	}
	type key struct {
		name, table, parent string
		from, to            []string
	}
	list, err := pgx.CollectRows(found, func(r pgx.CollectableRow) (k key, err error) {
		err = r.Scan(&k.name, &k.table, &k.parent, &k.from, &k.to)
		return k, err
	})
	if err != nil {
		return err
	}
	for _, k := range list {
		var same, given []string
		for i := range k.from {
			same, given = append(same, "p."+k.to[i]+" = c."+k.from[i]), append(given, "c."+k.from[i]+" IS NOT NULL")
		}
		var broken int64
		err := conn.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM %s c WHERE %s AND NOT EXISTS (SELECT 1 FROM %s p WHERE %s)", k.table, strings.Join(given, " AND "), k.parent, strings.Join(same, " AND "))).Scan(&broken)
		if err != nil {
			return fmt.Errorf("foreign key %s of %s: %w", k.name, k.table, err)
		}
		if s.keys++; broken > 0 {
			s.broken = append(s.broken, fmt.Sprintf("foreign key %s of %s: %d rows have no parent", k.name, k.table, broken))
		}
	}
	return nil
}
