package load_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/files"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
)

// write makes a file in the test's directory.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// filesOf returns what a request of files asks for.
func filesOf(req load.Request) *files.Request { return &req.Dataset.(*files.Dataset).Request }

// fileRequest returns a request for the named files.
func fileRequest(table string, names ...string) load.Request {
	return load.Request{Table: table, Dataset: files.New(files.Request{Names: names, Input: files.NewInput(strings.NewReader(""))})}
}

// resumeRowByRow resumes a load of a file by one worker in chunks of a row, and runs it.
func resumeRowByRow(t testing.TB, url, id string) error {
	t.Helper()
	ctx := context.Background()
	l, err := load.Resume(ctx, loadertest.Open(t, url), id, load.Settings{Chunk: 1, Workers: 1, Input: files.NewInput(nil)})
	if err != nil {
		return err
	}
	defer l.Close()
	_, err = l.Run(ctx)
	return err
}

// table returns the rows of a query as text, sorted; NULL is "NULL" and a text is quoted.
func table(t testing.TB, url, query string) []string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	found, err := conn.Query(ctx, query)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
		n := len(row.FieldDescriptions())
		values, targets := make([]*string, n), make([]any, n)
		for i := range values {
			targets[i] = &values[i]
		}
		if err := row.Scan(targets...); err != nil {
			return "", err
		}
		return show(values), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func show(values []*string) string {
	var b strings.Builder
	for _, v := range values {
		if v == nil {
			b.WriteString("NULL|")
		} else {
			fmt.Fprintf(&b, "%q|", *v)
		}
	}
	return b.String()
}

func checkRows(t testing.TB, got, want []string) {
	t.Helper()
	slices.Sort(want)
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("the table has %d rows, want %d", len(got), len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("row %d is %s, want %s", i, at(got, i), at(want, i))
		}
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "missing"
}

// dirty returns the text of a file with hostile but valid records, and its rows.
func dirty(n int) (text string, want []string) {
	var b strings.Builder
	b.WriteString("\xef\xbb\xbfid,a,b\r\n")
	for i := range n {
		a, c := fmt.Sprint("v", i), ""
		id := fmt.Sprint(i)
		var pa, pc *string = &a, &c
		switch i % 6 {
		case 0:
			fmt.Fprintf(&b, "%d,%s,\"\"\r\n", i, a)
		case 1:
			pc = nil
			fmt.Fprintf(&b, "\"%d\",\"%s\",\n", i, a)
		case 2:
			c = "line one\r\nline \"two\"\ttab\\N\\"
			fmt.Fprintf(&b, "%d,%s,\"line one\r\nline \"\"two\"\"\ttab\\N\\\"\r\n", i, a)
		case 3:
			a = strings.Repeat("é,", 500)
			fmt.Fprintf(&b, "%d,\"%s\",\"\"\n", i, a)
		case 4:
			a, c = "\\.", " \u2028 "
			fmt.Fprintf(&b, "%d,\\., \u2028 \n", i)
		case 5:
			pa, pc = nil, nil
			fmt.Fprintf(&b, "%d,,\n", i)
		}
		want = append(want, show([]*string{&id, pa, pc}))
	}
	return b.String(), want
}
