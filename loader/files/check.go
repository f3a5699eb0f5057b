package files

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkload/chunker/csv"
	"bulkload/loader/commit"
	"bulkload/loader/dataset"
)

// Contradictions that Choose and Begin find again, in a load that is resumed.
const (
	copyIsPlain       = "--via copy can neither compute columns (--set) nor skip or update rows (--on-conflict); use --via insert"
	needsTransaction  = "--on-conflict and --max-errors need --commit transaction"
	rejectsNeedRecord = "--max-errors stores bad records in the registry and cannot be used with --no-registry"
	readAgain         = "may have to read its input again, which standard input does not allow"
	computed          = "cannot tell which rows are loaded: columns computed by --set cannot be compared"
)

var _ dataset.Checker = (*Dataset)(nil)

// Check implements dataset.Checker.
func (d *Dataset) Check(asked dataset.Asked) (list []string) {
	f := &d.Request
	say := func(wrong bool, format string, args ...any) {
		if wrong {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	stdin := slices.Contains(f.Names, Stdin)
	say(asked.Method == commit.Copy && (len(f.Set) > 0 || f.Conflict != ""), copyIsPlain)
	if asked.Mode == commit.Statement {
		say(f.Conflict != "" || !f.MaxErrors.none(), needsTransaction)
		say(stdin, "--commit statement %s; use --commit transaction", readAgain)
		say(len(f.Set) > 0, "--commit statement %s; use --commit transaction", computed)
	}
	say(asked.NoRegistry && !f.MaxErrors.none(), rejectsNeedRecord)
	if asked.Import {
		for _, why := range notByImport(f.Set, f.Conflict, f.MaxErrors, stdin) {
			say(true, "--via import: %s", why)
		}
	}
	say(!f.CreateTable && (len(f.Types) > 0 || f.Text), "--types needs --create-table: an existing table has its types")
	say(!f.CreateTable && len(f.Key) > 0, "--key needs --create-table: an existing table has its key")
	if f.Encoding != "" {
		_, err := encodingOf(f.Encoding)
		say(err != nil, "%v", err)
	}
	dialect := csv.Dialect{Delimiter: f.Delimiter, Quote: f.Quote, Escape: f.Escape, Null: f.Null}
	if dialect.Delimiter == 0 {
		dialect.Delimiter = 1 // it is guessed, and is none of the others
	}
	if dialect.Quote == 0 && !f.NoQuote {
		dialect.Quote = '"'
	}
	if err := dialect.Check(); err != nil {
		say(true, "%v", err)
	}
	for flag, names := range map[string][]string{"--columns": f.Columns, "--key": f.Key} {
		for i, n := range names {
			say(slices.Contains(names[:i], n), "%s names %s twice", flag, quoteIf(n))
		}
	}
	fields := map[string]string{} // column → the field that --map gives it
	for _, name := range slices.Sorted(maps.Keys(f.Map)) {
		to := f.Map[name]
		say(f.Columns != nil && !slices.Contains(f.Columns, name), "--map names field %s, but --columns has %s", quoteIf(name), strings.Join(f.Columns, ", "))
		if to == "" {
			continue
		}
		other, twice := fields[to]
		say(twice, "--map sets column %s twice, from fields %s and %s", quoteIf(to), quoteIf(other), quoteIf(name))
		fields[to] = name
	}
	for i, a := range f.Set {
		say(slices.ContainsFunc(f.Set[:i], func(b commit.Assignment) bool { return b.Column == a.Column }), "--set sets column %s twice", quoteIf(a.Column))
		field, mapped := fields[a.Column]
		say(mapped && !usedIn(f.Set, field), "column %s is set twice, by --map %s=%s and by --set", quoteIf(a.Column), quoteIf(field), quoteIf(a.Column))
	}
	return list
}

// Tolerates reports whether MaxErrors sets bad records aside.
func (in *Input) Tolerates() bool { return in.MaxErrors != nil && !in.MaxErrors.none() }
