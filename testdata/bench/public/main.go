// Command public loads files with --create-table and no other flag, and compares each cell of
// the tables with its own reading of the files: numbers as exact decimals with their signs and
// zeros, times as instants, everything else byte for byte.
//
//	go run ./testdata/bench/public --url 'postgres://postgres@localhost:5432/postgres?sslmode=disable' DIRECTORY…
//
// It loads each .csv and .tsv below the directories. It ends with 1 if a cell differs.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	url    = flag.String("url", "", "PostgreSQL to load into; tables are called public_run")
	binary = flag.String("loader", "", "the command; empty builds it")
	list   = flag.Bool("list", false, "name the files that were not loaded, and why")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if err := run(context.Background(), flag.Args()); err != nil {
		log.Fatal(err)
	}
}

// A tally counts files by outcome, and their cells.
type tally struct{ files, empty, loaded, named, unnamed, changed, cells int }

func run(ctx context.Context, directories []string) error {
	if *binary == "" {
		dir, err := os.MkdirTemp("", "loader")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		*binary = filepath.Join(dir, "loader")
		if out, err := exec.Command("go", "build", "-o", *binary, "./cmd/loader").CombinedOutput(); err != nil {
			return fmt.Errorf("build: %w: %s", err, out)
		}
	}
	conn, err := pgx.Connect(ctx, *url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SET timezone = 'UTC'"); err != nil {
		return err
	}
	var all tally
	for _, dir := range directories {
		var t tally
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			ext := strings.ToLower(filepath.Ext(path))
			if err != nil || !e.Type().IsRegular() || ext != ".csv" && ext != ".tsv" {
				return err
			}
			return t.file(ctx, conn, path)
		})
		if err != nil {
			return err
		}
		t.print(filepath.Base(dir))
		all = tally{all.files + t.files, all.empty + t.empty, all.loaded + t.loaded, all.named + t.named, all.unnamed + t.unnamed, all.changed + t.changed, all.cells + t.cells}
	}
	if all.print("all"); all.changed > 0 {
		os.Exit(1)
	}
	return nil
}

func (t *tally) print(name string) {
	fmt.Printf("%s: %d files and %d without a byte, %d loaded (%.1f %%), %d not, with a flag named, %d not, with none; %d cells compared, %d files with a cell that is another\n",
		name, t.files, t.empty, t.loaded, 100*float64(t.loaded)/float64(max(t.files, 1)), t.named, t.unnamed, t.cells, t.changed)
}

// file loads one file and compares its table.
func (t *tally) file(ctx context.Context, conn *pgx.Conn, path string) error {
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.empty++ // no table can be made of it
		return err
	}
	t.files++
	if _, err := conn.Exec(ctx, "DROP TABLE IF EXISTS public_run"); err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, *binary, "csv", path, "--table", "public_run", "--create-table", "--no-registry", "--url", *url)
	cmd.Stdout, cmd.Stderr = &out, &out
	if cmd.Run() != nil {
		why := out.String()
		if i := strings.Index(why, "loader: "); i >= 0 {
			why = strings.TrimSpace(why[i:])
		}
		if t.named++; !strings.Contains(why, "--") {
			t.named--
			t.unnamed++
		}
		if *list {
			fmt.Printf("%s: %s\n", path, why)
		}
		return nil
	}
	t.loaded++
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	said := out.String()
	if regexp.MustCompile(`is utf-16`).MatchString(said) {
		return nil // this program's reader reads only UTF-8
	}
	records, err := read(text, delimiterOf(path, text))
	if err != nil {
		fmt.Printf("%s: loaded, and the reader says: %v\n", path, err)
		t.changed++
		return nil
	}
	if strings.Contains(said, "note: header row detected") {
		records = records[1:]
	}
	what, cells, err := differ(ctx, conn, records)
	t.cells += cells
	if what != "" {
		t.changed++
		fmt.Printf("%s: %s\n", path, what)
	}
	return err
}

// delimiterOf finds the delimiter: the one that gives all records the same number of fields, the
// most. Where none does it is the most frequent one of the first line.
func delimiterOf(path string, text []byte) byte {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	line = regexp.MustCompile(`"[^"]*"`).ReplaceAll(line, nil)
	best, most := byte(','), bytes.Count(line, []byte(","))
	if strings.HasSuffix(strings.ToLower(path), ".tsv") {
		return '\t'
	}
	for _, c := range []byte("\t;|") {
		if n := bytes.Count(line, []byte{c}); n > most {
			best, most = c, n
		}
	}
	width := 1
	for _, c := range []byte(",\t;|") {
		records, err := read(text, c)
		if err != nil || len(records) == 0 || len(records[0]) <= width ||
			slices.ContainsFunc(records, func(r []cell) bool { return len(r) != len(records[0]) }) {
			continue
		}
		best, width = c, len(records[0])
	}
	return best
}

// differ compares the rows of the table with records, as multisets. It returns the first
// difference in words.
func differ(ctx context.Context, conn *pgx.Conn, records [][]cell) (string, int, error) {
	rows, err := conn.Query(ctx, "SELECT * FROM public_run", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", 0, err
	}
	defer rows.Close()
	var types []string
	for _, f := range rows.FieldDescriptions() {
		t, _ := conn.TypeMap().TypeForOID(f.DataTypeOID)
		types = append(types, t.Name)
	}
	var got, want []string
	for rows.Next() {
		var b strings.Builder
		for i, raw := range rows.RawValues() {
			if raw == nil {
				b.WriteString("NULL|")
				continue
			}
			fmt.Fprintf(&b, "%q|", value(types[i], string(raw), false))
		}
		got = append(got, b.String())
	}
	if err := rows.Err(); err != nil {
		return "", 0, err
	}
	for _, r := range records {
		if len(r) == len(types)+1 && r[len(types)].null {
			r = r[:len(types)]
		}
		var b strings.Builder
		for i, c := range r {
			switch {
			case c.null:
				b.WriteString("NULL|")
			case i < len(types):
				fmt.Fprintf(&b, "%q|", value(types[i], c.text, true))
			default:
				fmt.Fprintf(&b, "%q|", c.text)
			}
		}
		want = append(want, b.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if slices.Equal(got, want) {
		return "", len(got) * len(types), nil
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			g, w := "nothing", "nothing"
			if i < len(got) {
				g = got[i]
			}
			if i < len(want) {
				w = want[i]
			}
			return fmt.Sprintf("the table has %.300s, and the file %.300s (%d and %d rows)", g, w, len(got), len(want)), len(got) * len(types), nil
		}
	}
	return "", 0, nil
}

var written = regexp.MustCompile(`^-?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]+)?$`)

// value returns a value in a normal form, for values of the file and of the server alike. A
// notation that no server writes stays unchanged, so that it differs.
func value(typ, text string, file bool) string {
	switch typ {
	case "int8", "numeric":
		r, ok := new(big.Rat).SetString(text)
		if !ok || file && (!written.MatchString(text) || r.Sign() == 0 && text[0] == '-') {
			return "as written: " + text
		}
		return r.RatString()
	case "bool":
		if file {
			return strings.ToLower(text)
		}
		return map[string]string{"t": "true", "f": "false"}[text]
	case "timestamp", "timestamptz":
		for _, form := range []string{"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04Z07:00", "2006-01-02 15:04Z07", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04"} {
			if at, err := time.Parse(form, strings.Replace(text, "T", " ", 1)); err == nil {
				return at.UTC().String()
			}
		}
		return "as written: " + text
	}
	return text
}
