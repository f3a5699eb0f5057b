package main

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bulkload/loader/server"
)

// FuzzReorder holds that arguments are moved, never changed, lost or made, that what stands
// behind -- stays as it is, and that a second time changes nothing.
func FuzzReorder(f *testing.F) {
	for _, line := range []string{
		"points --n 5 --chunk 2", "csv a.csv --table t b.csv", "loads resume x --url u", "--quiet points", "csv -- --table t", "csv --table", "plan csv - --table t",
		"--url x loads --format json list", "csv --map a=b --map=c=d f", "-", "-- --", "points --n=5 -h", "nonsense --n 5",
		"x loads --format", "csv a.csv --table",
	} {
		f.Add(strings.ReplaceAll(line, " ", "\x00"))
	}
	p := &program{stdin: os.Stdin, stdout: &streamWriter{File: os.Stdout}, stderr: &streamWriter{File: os.Stderr, raw: true}, stop: make(chan struct{})}
	f.Fuzz(func(t *testing.T, line string) {
		args := append([]string{"loader"}, strings.Split(line, "\x00")...)
		app := p.app()
		got, err := reorder(app, slices.Clone(args))
		if err != nil {
			if last := args[len(args)-1]; !strings.HasPrefix(last, "-") || slices.Contains(args, "--") {
				t.Errorf("%q: %v", args, err)
			}
			return
		}
		if want, have := slices.Sorted(slices.Values(args)), slices.Sorted(slices.Values(got)); !slices.Equal(want, have) {
			t.Fatalf("%q becomes %q", args, got)
		}
		if got[0] != "loader" {
			t.Errorf("%q becomes %q", args, got)
		}
		if again, err := reorder(app, slices.Clone(got)); err != nil || !slices.Equal(again, got) {
			t.Errorf("%q becomes %q, and then %q, %v", args, got, again, err)
		}
	})
}

// FuzzFlags holds that values of flags are taken or refused as a usage error, and that what
// is taken is within its bounds.
func FuzzFlags(f *testing.F) {
	for _, text := range []string{"1", "1_000", "-1", "1e3", "", "0x10", "5%", "100.1%", "NaN%", "a=b", "=", "a,\"b,c\"", "\"", "tab", `\t`, "é", ",", "\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		check := func(what string, err error) {
			var usage *usageError
			if err != nil && !errors.As(err, &usage) {
				t.Errorf("%s %q: %v is no usage error", what, text, err)
			}
			if err != nil && strings.ContainsAny(printable(err.Error()), "\x1b\x00\r") {
				t.Errorf("%s %q: %q holds control characters", what, text, err)
			}
		}
		n, err := number("n", text, 1, maxRows)
		check("a number", err)
		if err == nil && (n < 1 || n > maxRows) {
			t.Errorf("%q is the number %d", text, n)
		}
		if plain, perr := strconv.ParseInt(text, 10, 64); perr == nil && plain >= 1 && plain <= maxRows && (err != nil || n != plain) {
			t.Errorf("%q is %d, %v", text, n, err)
		}
		tol, err := tolerance(text)
		check("a tolerance", err)
		if err == nil && !(tol.Records >= 0 && tol.Percent >= 0 && tol.Percent <= 100) {
			t.Errorf("%q is the tolerance %+v", text, tol)
		}
		c, err := character("quote", text)
		check("a character", err)
		if err == nil && (c > 0x7f || c == '\r' || c == '\n') {
			t.Errorf("%q is the character %q", text, c)
		}
		_, _, err = pair("map", text)
		check("a pair", err)
		_, err = names("columns", text)
		check("names", err)
		_, err = server.ParseTable(text)
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("the error of table %q has more than a line: %q", text, err)
		}
	})
}
