package main

import (
	"encoding/csv"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"bulkload/loader/commit"
	"bulkload/loader/files"
	"bulkload/loader/load"
)

func csvFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "table", Usage: "table to load into"},
		&cli.StringFlag{Name: "delimiter", Value: "auto", Usage: "field separator: auto, tab, a character, or its number as in \\x01"},
		&cli.StringFlag{Name: "quote", Value: "auto", Usage: "character around fields: auto, a character, or none"},
		&cli.StringFlag{Name: "escape", Usage: "character that escapes a quote inside quotes (default: the quote itself)"},
		&cli.StringFlag{Name: "null", Usage: "unquoted text that means NULL (default: the empty text)"},
		&cli.StringFlag{Name: "header", Value: "auto", Usage: "first record is a header: auto, yes or no"},
		&cli.StringFlag{Name: "skip", Value: "0", Usage: "lines to skip before the header"},
		&cli.StringFlag{Name: "encoding", Usage: "encoding of the files, such as latin1 (default: UTF-8, or UTF-16 with a byte order mark)"},
		&cli.StringFlag{Name: "columns", Usage: "names of the fields, in order: id,name,…"},
		&cli.StringSliceFlag{Name: "map", Usage: "FIELD=COLUMN: load FIELD into COLUMN; FIELD= drops the field"},
		&cli.StringSliceFlag{Name: "set", Usage: "COLUMN=EXPRESSION: compute COLUMN in SQL, from the fields"},
		&cli.StringFlag{Name: "on-conflict", Value: "fail", Usage: "when the primary key exists: fail, skip or update the row"},
		&cli.StringFlag{Name: "max-errors", Value: "0", Usage: "bad records to set aside as rejects before the load stops: N or N%"},
		&cli.StringFlag{Name: "rejects", Usage: "write rejects to PATH.rejects.csv and PATH.errors.csv; existing files are kept (default: named after file and load)"},
		&cli.StringFlag{Name: "max-record-bytes", Value: strconv.Itoa(files.DefaultMaxRecordBytes), Usage: "maximum size of a record, in bytes"},
		&cli.StringFlag{Name: "short-rows", Value: "error", Usage: "records with fewer fields than the header: error, or null to load NULL for the missing ones"},
		&cli.BoolFlag{Name: "create-table", Usage: "create the table if it is missing, with types that return every value of the files unchanged"},
		&cli.StringFlag{Name: "types", Usage: "types for --create-table: COLUMN=TYPE,… or text for TEXT everywhere"},
		&cli.StringFlag{Name: "key", Usage: "primary key for --create-table: id or a,b"},
		&cli.StringFlag{Name: "indexes", Value: "keep", Usage: "secondary indexes: keep, or defer until after the last row (empty tables only)"},
		&cli.BoolFlag{Name: "again", Usage: "load a file even if an unfinished load of it has rows in this table; those rows stay"},
		&cli.BoolFlag{Name: "truncate", Usage: "empty the table before the first row (TRUNCATE); the record of the load says whether it is done"},
		&cli.BoolFlag{Name: "replace", Usage: "PostgreSQL: load into a new table, which replaces the target in one transaction after the last row"},
		&cli.BoolFlag{Name: "no-registry", Usage: "do not record the load in schema loader; it cannot be resumed or verified"},
	}
}

// fileFormat returns flags in which --format says the form of the files as well.
func fileFormat(flags []cli.Flag) []cli.Flag {
	list := slices.Clone(flags)
	for i, f := range list {
		if slices.Contains(f.Names(), "format") {
			list[i] = &cli.StringFlag{Name: "format", Value: "csv", Usage: "format of the files: csv, or text for COPY's text format; json also prints the result as JSON (text,json: both)"}
		}
	}
	return list
}

// readFileFormat reads --format of csv.
func (p *program) readFileFormat(text string) error {
	p.json, p.copyText = false, false
	for _, f := range strings.Split(text, ",") {
		switch strings.TrimSpace(f) {
		case "csv":
		case "json":
			p.json = true
		case "text":
			p.copyText = true
		default:
			return &usageError{fmt.Sprintf("--format is csv, text (COPY's text format), json (the result), or text,json, not %q", text)}
		}
	}
	return nil
}

// csvRequest reads the flags of a load of files.
func (p *program) csvRequest(c *cli.Context) (load.Request, error) {
	if err := p.begin(c); err != nil {
		return load.Request{}, err
	}
	s, err := p.settings(c)
	if err != nil {
		return load.Request{}, err
	}
	indexes, err := readIndexes(c)
	if err != nil {
		return load.Request{}, err
	}
	if c.IsSet("rejects") && !c.IsSet("max-errors") {
		return load.Request{}, &usageError{"--rejects needs --max-errors N or N%, which allows bad records"}
	}
	req, _, err := p.files(c, s, indexes)
	return req, err
}

// files reads the flags that describe the files and their target.
func (p *program) files(c *cli.Context, s load.Settings, indexes load.Indexes) (load.Request, *files.Dataset, error) {
	req := load.Request{Table: c.String("table"), NoRegistry: c.Bool("no-registry"), Indexes: indexes, Once: !c.Bool("again") && !c.Bool("truncate") && !c.Bool("replace"),
		Truncate: c.Bool("truncate"), Replace: c.Bool("replace"), Settings: s}
	if !c.Args().Present() {
		return req, nil, &usageError{"csv needs file names, or - for standard input"}
	}
	if slices.Contains(c.Args().Slice(), "") {
		return req, nil, &usageError{"csv has an empty file name; give the name, or leave it out"}
	}
	if req.Table == "" {
		return req, nil, &usageError{"csv needs --table, the table to load into"}
	}
	d := files.New(files.Request{CopyText: p.copyText, CreateTable: c.Bool("create-table"), Input: files.NewInput(p.stdin)})
	req.Dataset = d
	for _, read := range []func(*cli.Context, *files.Request) error{readFormat, readColumns, readTreatment} {
		if err := read(c, &d.Request); err != nil {
			return req, nil, err
		}
	}
	d.Request.Names = c.Args().Slice()
	if err := req.Check(); err != nil { // without a look at the files
		return req, nil, err
	}
	var err error
	d.Request.Names, err = files.Expand(c.Args().Slice())
	return req, d, err
}

// readFormat reads the flags that say how the text of the files is read.
func readFormat(c *cli.Context, f *files.Request) (err error) {
	f.Null, f.Encoding = c.String("null"), c.String("encoding")
	if text := c.String("delimiter"); text != "auto" {
		if f.Delimiter, err = character("delimiter", text); err != nil {
			return err
		}
	}
	if text := c.String("quote"); text == "none" {
		f.NoQuote = true
	} else if text != "auto" {
		if f.Quote, err = character("quote", text); err != nil {
			return err
		}
	}
	if text := c.String("escape"); text != "" {
		if f.Escape, err = character("escape", text); err != nil {
			return err
		}
	}
	if f.CopyText && (f.Quote != 0 || f.NoQuote || f.Escape != 0) {
		return &usageError{"--format text has no quotes and escapes with a backslash; it cannot be used with --quote or --escape"}
	}
	switch f.Header = files.Header(c.String("header")); f.Header {
	case files.HeaderAuto, files.HeaderYes, files.HeaderNo:
	default:
		return &usageError{fmt.Sprintf("--header is auto, yes or no, not %q", f.Header)}
	}
	skip, err := number("skip", c.String("skip"), 0, 1000)
	if err != nil {
		return err
	}
	f.Skip = int(skip)
	return nil
}

// readColumns reads the flags about fields, and about the columns and the table that take them.
func readColumns(c *cli.Context, f *files.Request) (err error) {
	if f.Columns, err = names("columns", c.String("columns")); err != nil {
		return err
	}
	switch text := c.String("short-rows"); text {
	case "error", "":
	case "null":
		f.ShortRows = true
	default:
		return &usageError{fmt.Sprintf("--short-rows is error or null, not %q", text)}
	}
	if f.Types, f.Text, err = columnTypes(c.String("types")); err != nil {
		return err
	}
	if f.Key, err = names("key", c.String("key")); err != nil {
		return err
	}
	f.Map = map[string]string{}
	for _, text := range c.StringSlice("map") {
		i := strings.LastIndexByte(text, '=') // the name of a field may hold =
		if i < 0 {
			return &usageError{fmt.Sprintf("--map takes FIELD=COLUMN, not %q", text)}
		}
		f.Map[strings.TrimSpace(text[:i])] = strings.TrimSpace(text[i+1:])
	}
	for _, text := range c.StringSlice("set") {
		column, expr, err := pair("set", text)
		if err == nil && expr == "" {
			err = &usageError{fmt.Sprintf("--set takes COLUMN=EXPRESSION, not %q", text)}
		}
		if err != nil {
			return err
		}
		f.Set = append(f.Set, commit.Assignment{Column: column, Expr: "(" + expr + ")"})
	}
	return nil
}

// readTreatment reads the flags about bad and repeated records.
func readTreatment(c *cli.Context, f *files.Request) (err error) {
	switch x := c.String("on-conflict"); x {
	case "fail":
	case string(commit.SkipRow), string(commit.UpdateRow):
		f.Conflict = commit.Conflict(x)
	default:
		return &usageError{fmt.Sprintf("--on-conflict is fail, skip or update, not %q", x)}
	}
	if f.MaxErrors, err = tolerance(c.String("max-errors")); err != nil {
		return err
	}
	bytes, err := number("max-record-bytes", c.String("max-record-bytes"), 1, 1<<30)
	if err != nil {
		return err
	}
	f.MaxRecordBytes = int(bytes)
	return nil
}

// character reads a flag's value of one ASCII character.
func character(name, text string) (byte, error) {
	switch text {
	case "tab", `\t`:
		return '\t', nil
	case "space":
		return ' ', nil
	case `\`:
		return '\\', nil
	}
	if code, ok := strings.CutPrefix(text, `\`); ok { // \001 or \x01, for shells that cannot write such characters
		base := 8
		if code, ok = strings.CutPrefix(code, "x"); ok {
			base = 16
		}
		if n, err := strconv.ParseUint(code, base, 7); err == nil {
			text = string(rune(n))
		}
	}
	if len(text) != 1 || strings.ContainsAny(text, "\x00\r\n") || text[0] > '\x7f' {
		return 0, &usageError{fmt.Sprintf(`--%s takes one ASCII character except NUL, CR and LF, such as ; or tab or \x01, not %q`, name, text)}
	}
	return text[0], nil
}

// pair reads NAME=VALUE.
func pair(flag, text string) (name, value string, err error) {
	name, value, ok := strings.Cut(text, "=")
	if name = strings.TrimSpace(name); !ok || name == "" {
		return "", "", &usageError{fmt.Sprintf("--%s takes NAME=VALUE, not %q", flag, text)}
	}
	return name, strings.TrimSpace(value), nil
}

// names reads a list of names, quoted as CSV if a name holds a comma.
func names(flag, text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	list, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, &usageError{fmt.Sprintf("--%s takes comma-separated names, not %q", flag, text)}
	}
	for i := range list {
		if list[i] = strings.TrimSpace(list[i]); list[i] == "" {
			return nil, &usageError{fmt.Sprintf("--%s has an empty name: %q", flag, text)}
		}
	}
	return list, nil
}

// columnTypes reads --types: a comma-separated list of COLUMN=TYPE. Types may hold commas in
// brackets; the word text makes all other columns TEXT.
func columnTypes(text string) (map[string]string, bool, error) {
	if text == "" {
		return nil, false, nil
	}
	list, all, depth, from := map[string]string{}, false, 0, 0
	for i := 0; i <= len(text); i++ {
		switch {
		case i < len(text) && text[i] == '(':
			depth++
		case i < len(text) && text[i] == ')':
			depth--
		case i == len(text) || text[i] == ',' && depth == 0:
			one := strings.TrimSpace(text[from:i])
			from = i + 1
			if strings.EqualFold(one, "text") {
				all = true
				continue
			}
			at := strings.LastIndexByte(one, '=')
			if at < 1 || !typeName.MatchString(one[at+1:]) {
				return nil, false, &usageError{fmt.Sprintf("--types takes COLUMN=TYPE,… or text, not %q", one)}
			}
			list[strings.TrimSpace(one[:at])] = strings.TrimSpace(one[at+1:])
		}
	}
	return list, all, nil
}

// typeName matches the accepted types: a type becomes a part of CREATE TABLE.
var typeName = regexp.MustCompile(`^\s*[A-Za-z_"][A-Za-z0-9_ ."]*(\(\s*[0-9]+\s*(,\s*-?[0-9]+\s*)?\))?[A-Za-z ]*(\[\])*\s*$`)

// tolerance reads --max-errors.
func tolerance(text string) (files.Tolerance, error) {
	if text == "" {
		return files.Tolerance{}, nil // the command has no such flag
	}
	if share, ok := strings.CutSuffix(text, "%"); ok {
		f, err := strconv.ParseFloat(share, 64)
		if err != nil || !(f >= 0 && f <= 100) {
			return files.Tolerance{}, &usageError{fmt.Sprintf("--max-errors takes a share from 0%% to 100%%, not %q", text)}
		}
		return files.Tolerance{Percent: f}, nil
	}
	n, err := number("max-errors", text, 0, 1<<40)
	return files.Tolerance{Records: n}, err
}

// readTolerance reads the flags that change which records a resumed load accepts.
func readTolerance(c *cli.Context, in *files.Input) error {
	if c.IsSet("max-errors") {
		t, err := tolerance(c.String("max-errors"))
		if err != nil {
			return err
		}
		in.MaxErrors = &t
	}
	if c.IsSet("max-record-bytes") {
		n, err := number("max-record-bytes", c.String("max-record-bytes"), 1, 1<<30)
		in.MaxRecordBytes = int(n)
		return err
	}
	return nil
}
