//go:build chaos

package loadertest_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// A guard is a piece of code that keeps a promise, and the test that would miss it. A test
// that cannot fail proves nothing: TestGuardsCanFail takes each guard away and runs its
// test, which must fail.
type guard struct {
	name string
	file string // below the root of the repository
	old  string // stands in it once
	new  string // in its place, without the guard
	pkg  string
	run  string // the test, as -run takes it
	long bool   // of the long tier
}

// Controls that are tests of their own are not repeated here: rows without ledger and
// look-up (TestSwallowedRepliesWithoutProof), transfers without their history
// (TestAmbiguousCommitsWithoutHistory), files served without Range
// (TestBrokenReadsOfALiveImport).
var guards = []guard{
	{"rows of the reply are counted, in a transaction", "loader/commit/transaction.go",
		"case n != int64(chunk.Len()):", "case n < 0:", "./loader/load", "TestCountThatDiffers/PostgreSQL", false},
	{"rows of the reply are counted, by statement", "loader/commit/statement.go",
		"if n == int64(chunk.Len()) {", "if n >= 0 {", "./loader/load", "TestCountThatDiffers", false},
	{"COMMIT is checked", "loader/commit/transaction.go",
		"err = pgx.ErrTxCommitRollback\n\t}\n\treturn err\n", "err = pgx.ErrTxCommitRollback\n\t}\n\treturn nil\n", "./loader/load", "TestDuplicateAtCommit", false},
	{"waits grow", "loader/commit/commit.go",
		"wait = min(2*wait, lastBackoff)", "wait = min(wait, lastBackoff)", "./loader/load", "TestStormsOf40001/PostgreSQL", false},
	{"an ambiguous SQLSTATE is one", "loader/server/classify.go",
		`code == "40003", strings.HasPrefix(code, "08"),`, `false,`, "./loader/server", "TestClassify", false},
	{"an uncertain outcome is looked up", "loader/commit/commit.go",
		"p.look = p.look || class == server.Uncertain", "p.look = false", "./loader/load", "TestConnectionsBreakAtCommit/PostgreSQL", false},
	{"the look-up compares what rows hold", "loader/commit/statement.go",
		"if row.equal(chunk, i, at) {", "if true || row.equal(chunk, i, at) {", "./loader/load", "TestForeignRowsAreNotTakenForOurs/PostgreSQL", false},
	{"chunks that are too large are halved", "loader/run.go",
		"case !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrSlow):", "case true:", "./loader/load", "TestTooLargeIsHalved", false},
	{"an attempt has a deadline", "loader/commit/commit.go",
		"context.WithTimeout(ctx, c.ChunkTimeout)", "context.WithCancel(ctx)", "./loader/load", "TestBlackHoles/PostgreSQL/points/statement/insert/commit", true},
	{"broken sessions are ended", "loader/server/stuck.go",
		"if len(list) == 0 {", "if true {", "./loader/load", "TestBlackHoles/PostgreSQL/keyless/transaction/copy/in_COPY", true},
	{"an older run is fenced", "loader/registry/queue.go",
		"take over from run %s: %w\", run, err)\n\t}\n\tif err := r.Fence(ctx, load, run); err != nil {", "take over from run %s: %w\", run, err)\n\t}\n\tif err := error(nil); err != nil {", "./loader/registry", "TestOlderRunIsFenced", false},
	{"a checkpoint is of its own run", "loader/registry/queue.go",
		"done = $4, beat = now() WHERE load = $1 AND lo = $2 AND run = $3", "done = $4, beat = now() WHERE load = $1 AND lo = $2 AND $3 <> ''", "./loader/registry", "TestLateCheckpoint", false},
	{"a ledger row needs a claim", "loader/commit/statement.go",
		"SELECT 1 FROM loader.claims WHERE load = $1 AND run = $4 AND lo <= $2::INT8 AND hi >= $3::INT8)", "SELECT 1 WHERE $4 <> '')", "./loader/load", "TestRunThatWasTakenOverWritesNothing/PostgreSQL", false},
	{"files are those of before", "loader/source/csv.go",
		"func (s *CSV) unchanged(f *os.File, i int) error {", "func (s *CSV) unchanged(f *os.File, i int) error {\n\tif f != nil {\n\t\treturn nil\n\t}", "./loader/load", "TestFilesThatChange", false},
	{"rejects are for their owner", "cmd/loader/csv.go",
		"f.Chmod(0o600)", "f.Chmod(0o644)", "./cmd/loader", "TestPermissionsWhateverTheUmask", false},
	{"a URL is not quoted in errors", "loader/server/config.go",
		"ErrURL, parseProblem(text, err))", "ErrURL, err)", "./cmd/loader", "TestSecretsAppearNowhere/PostgreSQL", true},
	{"a served file has a path that nobody guesses", "loader/handoff/serve.go",
		"t := s.texts[r.URL.Path]", "t := s.texts[r.URL.Path]\n\tfor _, t = range s.texts {\n\t}", "./loader/handoff", "TestNothingElseIsServed", false},
	{"the limit of rows per second", "loader/run.go",
		"if r.limit != nil {", "if false {", "./loader/load", "TestRateBoundsTheRows", false},
}

// TestGuardsCanFail takes about ten seconds a guard. To run one:
//
//	go test -tags chaos -run 'TestGuardsCanFail/waits_grow' -v ./loader/loadertest
func TestGuardsCanFail(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range guards {
		t.Run(g.name, func(t *testing.T) {
			path := filepath.Join(root, g.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), g.old); n != 1 {
				t.Fatalf("%q stands %d times in %s, want once: the guard is another now", g.old, n, g.file)
			}
			dir := t.TempDir()
			changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
			replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]string{changed: strings.Replace(string(text), g.old, g.new, 1), overlay: string(replace)} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			// A run that waits for ever has failed as well.
			args := []string{"test", "-overlay", overlay, "-vet=off", "-count=1", "-v", "-timeout", "90s", "-run", g.run}
			if g.long {
				args = append(args, "-tags", "chaos")
			}
			cmd := exec.Command("go", append(args, g.pkg)...)
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			test := regexp.QuoteMeta(strings.SplitN(g.run, "/", 2)[0])
			switch failed := regexp.MustCompile(`(?m)^(--- FAIL: ` + test + `|panic: test timed out)`).Match(out); {
			case failed:
				t.Logf("%s fails without it, as it must", g.run)
			case err == nil && regexp.MustCompile(`(?m)^\s*--- SKIP: `+test+`.*\n.*(cockroach|PostgreSQL)`).Match(out):
				loadertest.Skip(t, g.run+" is skipped here")
			default:
				t.Errorf("%s does not fail without it: %v\n%s", g.run, err, out)
			}
		})
	}
}
