package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// bucketServer answers as S3 does for a bucket that there is not.
func bucketServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message><RequestId>1</RequestId></Error>`)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// What the server cannot read, or not as rows of the table, ends in one line that says
// why, in what state the table is and how to go on; nothing in it gives access.
func TestImportOfWhatIsNotThere(t *testing.T) {
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	narrow := write("narrow.csv", "1,2,3\n4,5,6\n")
	ragged := write("ragged.csv", "1,2,3,4\n5,6,7,8\n9,10,11\n")
	open := write("open.csv", "1,2,3,4\n5,\"6,7,8\n")
	files := serveDir(t, dir)
	keyed := strings.Replace(files, "http://", "http://user:PWCANARY@", 1)
	loadertest.Exec(t, url, "CREATE TABLE points (id INT8 PRIMARY KEY DEFAULT unique_rowid(), x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)")
	points := func(file string) []string {
		return []string{"points", "--n", "2", "--via", "import", "--handoff", file}
	}
	csv := func(path string, more ...string) []string {
		return append([]string{"csv", path, "--table", "points", "--header", "no", "--via", "import"}, more...)
	}
	newest := loadertest.Open(t, url).AtLeast(25, 1, 0) // says the same in other words
	newer := func(first, name string) bool {
		words := map[string]string{
			"no such file": `the database cannot read \S+/none\.csv: .*404 Not Found.* file does not exist; `,
			"wrong bucket": `the database cannot read s3://nosuchbucket/p\.csv: .*(aws config|NoSuchBucket)`,
		}[name]
		return words != "" && newest && regexp.MustCompile(words).MatchString(first)
	}
	const secrets = "AWS_ACCESS_KEY_ID=AKIACANARY&AWS_SECRET_ACCESS_KEY=SECRETCANARY"
	for _, x := range []struct {
		name, want string
		args       []string
		code       int
		long       bool
	}{
		{"no such file", "the database cannot read " + files + "/none.csv: IMPORT job N failed: http storage file does not exist: error response from server: 404 Not Found", points(keyed + "/none.csv?token=TOKENCANARY"), exitData, false},
		{"wrong bucket", "the database cannot read s3://nosuchbucket/p.csv: IMPORT job N failed: s3 object does not exist: NoSuchBucket: The specified bucket does not exist", points("s3://nosuchbucket/p.csv?AWS_REGION=us-east-1&AWS_ENDPOINT=" + bucketServer(t) + "&" + secrets), exitData, false},
		{"no key to the bucket", "the database cannot read s3://bucket/p.csv: IMPORT job N failed: AUTH is set to 'specified', but AWS_ACCESS_KEY_ID is not set", points("s3://bucket/p.csv"), exitData, true},
		{"no network", "the database cannot read s3://nosuchbucket/p.csv: IMPORT job N failed: failed to get s3 object: ", points("s3://nosuchbucket/p.csv?AWS_REGION=us-east-1&" + secrets), exitData, true},
		{"nobody there", "the database cannot read http://127.0.0.1:1/p.csv: IMPORT job N failed: ", points("http://127.0.0.1:1/p.csv?token=TOKENCANARY"), exitData, true},
		{"no such file of a node", "the database cannot read nodelocal://1/none.csv: IMPORT job N failed: ", points("nodelocal://1/none.csv"), exitData, true},
		{"no such upload", "the database cannot read userfile:///none.csv: IMPORT job N failed: file /none.csv does not exist", points("userfile:///none.csv"), exitData, true},
		{"columns of a URL", "IMPORT job N failed: " + files + "/narrow.csv: error parsing row 1: expected 4 fields, got 3", points(files + "/narrow.csv"), exitData, true},
		{"columns of a file and its copy, beforehand", "ragged.csv:3: 3 fields instead of 4", csv(ragged, "--handoff", files+"/ragged.csv"), exitData, false},
		{"columns of a file", "the first record has 3 fields, but public.points has 4 columns", csv(narrow), exitTarget, true},
		{"columns of a record", "ragged.csv:3: 3 fields instead of 4; --short-rows null loads NULL for missing fields, and --skip N skips lines before the header: job N is over", csv(ragged), exitData, true},
		{"columns of an uploaded record", "ragged.csv:3: 3 fields instead of 4", csv(ragged, "--handoff", "upload"), exitData, true},
		{"a quote that stays open", "open.csv:2: a quote is not closed", csv(open), exitData, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			if x.long {
				loadertest.Long(t)
			}
			cmd := command(url, x.args...)
			out, _ := cmd.CombinedOutput()
			text := jobNumber.ReplaceAllString(string(out), "job N")
			first, rest, _ := strings.Cut(text, "\n")
			if code := cmd.ProcessState.ExitCode(); code != x.code || !strings.HasPrefix(first, "loader: "+x.want) && !newer(first, x.name) {
				t.Errorf("exit code %d, %s\nwant %d, loader: %s", code, text, x.code, x.want)
			}
			if x.code == exitData && !strings.Contains(x.name, "beforehand") && (!strings.HasSuffix(first, "none of its rows was loaded, and public.points is online") && !strings.Contains(x.name, "upload") || !strings.HasPrefix(rest, "resume with: loader loads resume ")) {
				t.Errorf("the state and the way on are not said: %s", text)
			}
			if strings.Contains(text, "CANARY") {
				t.Errorf("what gives access is told: %s", text)
			}
			if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM points"); n != 0 {
				t.Errorf("%d rows are in", n)
			}
		})
	}
}

// A load whose URLs were wrong goes on with others.
func TestImportGoesOnWithOtherURLs(t *testing.T) {
	loadertest.Long(t)
	s := loadertest.CockroachServer(t)
	url := s.NewDatabase(t)
	dir := t.TempDir()
	out := command(url, "points", "--n", "1000", "--seed", "3", "--out", dir+"/p.csv")
	out.Args = out.Args[:len(out.Args)-3] // without --url
	if text, err := out.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	files := serveDir(t, dir)
	wrong := command(url, "points", "--n", "1000", "--seed", "3", "--via", "import", "--handoff", files+"/q.csv?token=TOKENCANARY")
	if text, _ := wrong.CombinedOutput(); wrong.ProcessState.ExitCode() != exitData || !strings.Contains(string(text), " --handoff URL --url …") {
		t.Fatalf("exit code %d: %s", wrong.ProcessState.ExitCode(), text)
	}
	id := loads(t, url)[0].ID
	again := command(url, "loads", "resume", id)
	if text, _ := again.CombinedOutput(); again.ProcessState.ExitCode() != exitRefused || !strings.Contains(string(text), "name them again with --handoff") {
		t.Errorf("without the URLs: exit code %d: %s", again.ProcessState.ExitCode(), text)
	}
	mustRun(t, url, "loads", "resume", id, "--handoff", files+"/p.csv")
	checkImported(t, url, id, 1000)
}
