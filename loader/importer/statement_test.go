package importer_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/importer"
	"bulkload/loader/importer/virtual"
)

func TestStatementQuotesAndRedacts(t *testing.T) {
	s := importer.Statement{
		Table: pgx.Identifier{"public", `ev"il; drop table p; --`}, Columns: []string{"id", `a"b`}, Format: virtual.CSV,
		Files:   []string{"s3://bucket/it's.csv?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=canary"},
		Options: []importer.Option{{Key: "nullif", Value: ""}, {Key: "delimiter", Value: "'"}},
	}
	want := `IMPORT INTO "public"."ev""il; drop table p; --" ("id", "a""b") CSV DATA ('s3://bucket/it''s.csv?AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY=canary') WITH "nullif" = '', "delimiter" = ''''`
	if got := s.SQL(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := s.String(); strings.Contains(got, "canary") || !strings.Contains(got, "s3://bucket/it") {
		t.Errorf("for people: %s", got)
	}
}

func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"s3://b/x.csv?AWS_SECRET_ACCESS_KEY=canary":                "s3://b/x.csv",
		"https://user:canary@host/x.csv#canary":                    "https://host/x.csv",
		"http://127.0.0.1:99/abcdefghijklmnopqrstuvwxyz/p-0-1.csv": "http://127.0.0.1:99/…/p-0-1.csv",
		"nodelocal://1/dir/x.csv":                                  "nodelocal://1/dir/x.csv",
		"ht tp://canary":                                           "a URL that cannot be parsed",
	} {
		if got := importer.Redact(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestName(t *testing.T) {
	for _, x := range []struct {
		part, parts int
		want        string
	}{{0, 1, "d/p-1.csv"}, {0, 10, "d/p-01.csv"}, {9, 10, "d/p-10.csv"}} {
		if got := importer.Name("d/p-*.csv", x.part, x.parts); got != x.want {
			t.Errorf("part %d of %d: got %s, want %s", x.part, x.parts, got, x.want)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for _, good := range []string{"s3://b/x", "gs://b/x", "azure-blob://c/x", "nodelocal://1/x", "http://h/x", "https://h/x", "userfile:///x"} {
		if err := importer.CheckURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "x.csv", "ftp://h/x", "s3:///x", "://", "http://"} {
		if err := importer.CheckURL(bad); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func TestFailureTellsWhatAndWhereWithoutRowsAndTokens(t *testing.T) {
	url := "http://127.0.0.1:99/abcdefghijklmnopqrstuvwxyz/load-0-1.csv"
	for _, x := range []struct {
		text       string
		data       bool
		row        int64
		has, hasNo []string
	}{
		{url + `: error parsing row 3: expected 2 fields, got 3 (row: "1,secret,5")`, true, 3, []string{"expected 2 fields", "load-0-1.csv"}, []string{"secret", "abcdefghij"}},
		{`addsstable [/Table/56/1/1/0,/Table/56/1/2/0/NULL): checking for key collisions: ingested key collides with an existing one: /Table/56/1/1/0`, true, 0, []string{"collides"}, nil},
		{"s3://b/x?AWS_SECRET_ACCESS_KEY=secret: access denied", false, 0, []string{"access denied"}, []string{"secret"}},
	} {
		e := importer.Failure(importer.Job{ID: 5, Status: importer.Failed, Error: x.text}, false)
		if e.Data != x.data || e.Row != x.row {
			t.Errorf("%s: got %+v", x.text, e)
		}
		for _, s := range x.has {
			if !strings.Contains(e.Error(), s) {
				t.Errorf("%q lacks %q", e.Error(), s)
			}
		}
		for _, s := range x.hasNo {
			if strings.Contains(e.Error(), s) {
				t.Errorf("%q holds %q", e.Error(), s)
			}
		}
	}
}
