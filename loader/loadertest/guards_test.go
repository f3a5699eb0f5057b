package loadertest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A guard is a piece of code that keeps a promise, and the test that would miss it. A test
// that cannot fail proves nothing: TestGuardsCanFail takes each guard away and runs its
// test, which must fail, in the words that tell what the guard is for.
type guard struct {
	name string
	file string // below the root of the repository
	old  string // stands in it once
	new  string // in its place, without the guard
	pkg  string
	run  string // the test, as -run takes it
	says string // regular expression on what it then says
	long bool   // of the long tier
}

// Controls that are tests of their own are not repeated here: rows without ledger and
// look-up (TestSwallowedRepliesWithoutProof), transfers without their history
// (TestAmbiguousCommitsWithoutHistory), files served without Range
// (TestBrokenReadsOfALiveImport).
//
// Not a guard: that only what a look-up found missing is sent with ON CONFLICT. A first
// send with it fails no test, for the count of the reply has the rows looked up.
var guards = []guard{
	{"rows of the reply are counted, in a transaction", "loader/commit/transaction.go",
		"case n != int64(chunk.Len()):", "case n < 0:",
		"./loader/load", "TestCountThatDiffers/PostgreSQL/keyless", "got <nil>, want ErrUnconfirmed", false},
	{"rows of the reply are counted, by statement", "loader/commit/statement.go",
		"if n == int64(chunk.Len()) {", "if n >= 0 {",
		"./loader/load", "TestCountThatDiffers/PostgreSQL/points", "got 0 look-ups", false},
	{"COMMIT is checked", "loader/commit/transaction.go",
		"err = pgx.ErrTxCommitRollback\n\t}\n\treturn err\n", "err = pgx.ErrTxCommitRollback\n\t}\n\treturn nil\n",
		"./loader/load", "TestDuplicateAtCommit/keyless", "got <nil>, want the duplicate", false},
	{"waits grow", "loader/commit/commit.go",
		"wait = min(2*wait, lastBackoff)", "wait = min(wait, lastBackoff)",
		"./loader/load", "TestStormsOf40001/PostgreSQL", "the waits do not grow", false},
	{"an ambiguous SQLSTATE is one", "loader/server/classify.go",
		`code == "40003", strings.HasPrefix(code, "08"),`, `false,`,
		"./loader/server", "TestClassify", "40003.* is permanent, want uncertain", false},
	{"an uncertain outcome is looked up", "loader/commit/commit.go",
		"p.look = p.look || class == server.Uncertain", "p.look = false",
		"./loader/load", "TestConnectionsBreakAtCommit/PostgreSQL", "nothing was looked up", false},
	{"the look-up compares what rows hold", "loader/commit/statement.go",
		"if row.equal(chunk, i, at) {", "if true || row.equal(chunk, i, at) {",
		"./loader/load", "TestForeignRowsAreNotTakenForOurs/PostgreSQL", "got <nil>, want key", false},
	{"chunks that are too large are halved", "loader/run.go",
		"case !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrSlow):", "case true:",
		"./loader/load", "TestTooLargeIsHalved/PostgreSQL/statement/insert", "chunk too large for the server", true},
	{"an attempt has a deadline", "loader/commit/commit.go",
		"context.WithTimeout(ctx, c.ChunkTimeout)", "context.WithCancel(ctx)",
		"./loader/load", "TestBlackHoles/PostgreSQL/points/statement/insert/commit", "not back within 20 times", true},
	{"broken sessions are ended", "loader/server/stuck.go",
		"if len(list) == 0 {", "if true {",
		"./loader/load", "TestBlackHoles/PostgreSQL/keyless/transaction/copy/in_COPY", "not back within 20 times", true},
	{"an older run is fenced", "loader/registry/fence.go",
		"take over from run %s: %w\", run, err)\n\t}\n\tif err := r.Fence(ctx, load, run); err != nil {", "take over from run %s: %w\", run, err)\n\t}\n\tif err := error(nil); err != nil {",
		"./loader/registry", "TestOlderRunIsFenced/PostgreSQL", "session can still write", false},
	{"what ends a load is repeated", "loader/registry/end.go",
		"if was = b.state; was != Loading {\n\t\t\treturn nil\n", "if was = b.state; was != Loading {\n\t\t\treturn ours{ErrCancelled}\n",
		"./loader/registry", "TestReplyToAnEndIsLost/PostgreSQL", "the run's session is still there", false},
	{"a load that cannot begin is taken back", "loader/load/record.go",
		"err = l.undo(context.WithoutCancel(ctx), deferred, err)", "_ = l.undo",
		"./loader/load", "TestOpeningBreaksBehindTheDrops/PostgreSQL", "the registry has 1 loads, want 0", false},
	{"its sessions end before it is looked which indexes are there", "loader/load/record.go",
		"if err := again.registry.Fence(ctx, l.ID, l.run); err != nil {", "if err := error(nil); err != nil {",
		"./loader/load", "TestDropThatArrivesLate/PostgreSQL", "(?s)got indexes.*want", false},
	{"a checkpoint is of its own run", "loader/registry/queue.go",
		"done = $4, beat = now() WHERE load = $1 AND lo = $2 AND run = $3", "done = $4, beat = now() WHERE load = $1 AND lo = $2 AND $3 <> ''",
		"./loader/registry", "TestLateCheckpoint/PostgreSQL", "a late checkpoint gives <nil>", false},
	{"a ledger row needs a claim", "loader/commit/statement.go",
		"SELECT 1 FROM loader.claims WHERE load = $1 AND run = $4 AND lo <= $2::INT8 AND hi >= $3::INT8)", "SELECT 1 WHERE $4 <> '')",
		"./loader/load", "TestRunThatWasTakenOverWritesNothing/PostgreSQL", "rows are in, and", false},
	{"files are those of before", "loader/files/csv.go",
		"func (s *CSV) unchanged(f *os.File, i int) error {", "func (s *CSV) unchanged(f *os.File, i int) error {\n\tif f != nil {\n\t\treturn nil\n\t}",
		"./loader/load", "TestFilesThatChange", "want the file has changed", false},
	{"rejects are for their owner", "cmd/loader/csv.go",
		"f.Chmod(0o600)", "f.Chmod(0o644)",
		"./cmd/loader", "TestPermissionsWhateverTheUmask", `rejects\.csv has mode 0644`, false},
	{"a URL is not quoted in errors", "loader/server/config.go",
		"ErrURL, parseProblem(text, err))", "ErrURL, err)",
		"./loader/server", "FuzzParse", "the error shows the password", false},
	{"a served file has a path that nobody guesses", "loader/importer/serve/serve.go",
		"t := s.texts[r.URL.Path]", "t := s.texts[r.URL.Path]\n\tfor _, t = range s.texts {\n\t}",
		"./loader/importer/serve", "TestNothingElseIsServed", "GET .*/points.csv/: 200", false},
	{"the limit of rows per second", "loader/run.go",
		"if r.limit != nil {", "if false {",
		"./loader/load", "TestRateBoundsTheRows", "at 1000 rows a second it is", false},
	{"the tag of COMMIT is read", "loader/commit/transaction.go",
		`if err == nil && tag.String() != "COMMIT" {`, "if false {",
		"./loader/load", "TestCommitIsAnsweredByRollback/keyless", "missing, 0 twice", false},
	{"a chunk that is there by half is not there", "loader/commit/statement.go",
		"case found.ours == chunk.Len():", "case found.ours > 0:",
		"./loader/load", "TestChunkThatIsThereByHalf/PostgreSQL", "the table is not exact", false},
	{"rows that are there are passed over", "loader/commit/statement.go",
		"send = c.sql.fill\n", "send = c.sql.insert\n",
		"./loader/load", "TestChunkThatIsThereByHalf/PostgreSQL", "duplicate key", false},
	{"a record is not read beyond its longest length", "loader/files/csvcut.go",
		"case !c.eof && len(c.buf) <= c.src.maxRecord():\n\t\t\t// A record longer than a span, or than any may be.\n\t\t\tif err := c.fill(min(2*len(c.buf), c.src.maxRecord()+1)); err != nil {",
		"case !c.eof:\n\t\t\tif err := c.fill(2 * len(c.buf)); err != nil {",
		"./loader/files", "TestRecordsHaveALongestLength", "in a span of 1310725 bytes", false},
	{"a record has a longest length", "loader/files/csv.go",
		"} else if scan.At-at > s.maxRecord() {", "} else if false {",
		"./loader/files", "TestRecordsHaveALongestLength", "got EOF", false},
	{"a table has the key that is looked up", "loader/load/table.go",
		`} else if !slices.Equal(t.Primary, []string{"id"}) {`, `} else if false {`,
		"./loader/load", "TestTablesThatDoNotFit/PostgreSQL", `got <nil>, want "the primary key is`, false},
	{"files bring the key that is looked up", "loader/load/csvlookup.go",
		"case l.keysCSV() == nil:", "case false:",
		"./loader/load", "TestFilesWithoutTheKey/PostgreSQL", "want --commit statement refused", false},
	{"texts are compared byte for byte", "loader/commit/lookup.go",
		"`format(%s, %s) COLLATE \"C\" = format(%s, %s) COLLATE \"C\"`", "`lower(format(%s, %s)) = lower(format(%s, %s))`",
		"./loader/load", "TestEqualIsNotTheSame/PostgreSQL", "CITEXT key1 where KEY1 is, key k: .*want a duplicate", false},
	{"what a column keeps of a text is compared", "loader/commit/lookup.go",
		"if c.Stored != \"\" {", "if false {",
		"./loader/load", "TestLookUpOfWhatIsKept/PostgreSQL", "want the row looked up and found", false},
	{"what cannot be looked up is refused", "loader/load/csvplan.go",
		"if why := l.unsure(); why != \"\" {", "if why := l.unsure(); why == \"?\" {",
		"./loader/load", "TestLookUpsThatTellNothing/PostgreSQL", "want it refused for", false},
	{"the last record of a key wins in a chunk", "loader/commit/text.go",
		"order += \" DESC\"", "order += \"\"",
		"./loader/load", "TestOrderOfConflicts/PostgreSQL", "versions and their keys are", false},
	{"one worker keeps the order of the input", "loader/load/workers.go",
		"case l.ordered():", "case false:",
		"./loader/load", "TestOrderOfConflicts/PostgreSQL", "versions and their keys are", false},
	{"equal keys are the server's to say", "loader/commit/text.go",
		"values, keys = append(values, storedValue(field, c)+\" AS \"+key), append(keys, key)", "values, keys = append(values, field+\" AS \"+key), append(keys, key)",
		"./loader/load", "TestKeysThatAreEqual/PostgreSQL", "want 2 conflicts", false},
	{"one run at a time keeps the order of the input", "loader/registry/queue.go",
		"if q.InOrder && len(others) > 0 {", "if false {",
		"./loader/load", "TestOneRunAtATime/PostgreSQL", "the second run commits beside the first", false},
	{"loads that began out of order are refused", "loader/registry/queue.go",
		"if q.InOrder && !isPrefix(taken) {", "if false {",
		"./loader/load", "TestLoadsThatBeganOutOfOrder/PostgreSQL", "want it refused", false},
	{"equal rows are of others where nothing was sent", "loader/commit/lookup.go",
		"case f.ours > 0 && !p.doubt && (f.ours < chunk.Len() || f.stamps > 1):", "case false:",
		"./loader/load", "TestRepeatedRecords/PostgreSQL", "want it to say that a row with the same content is there", false},
	{"records of a chunk are not the same", "loader/commit/lookup.go",
		"case f.again > 0:", "case false:",
		"./loader/load", "TestRepeatedRecords/PostgreSQL", "want it to say that an earlier record has it too", false},
	{"rows from before the load are of others", "loader/commit/lookup.go",
		"case o.Began == \"\":", "case true:",
		"./loader/load", "TestEarlierRowsAreOfOthers/PostgreSQL", "want the duplicate k=0", false},
	{"what was decided by looking is settled", "loader/load/load.go",
		"if err := l.settle(ctx, res); err != nil || l.registry == nil {", "if err := error(nil); err != nil || l.registry == nil {",
		"./loader/load", "TestRepeatedRecordsInDoubt/PostgreSQL", "want the duplicate k=0", false},
	{"a load is not done before it is settled", "loader/registry/books.go",
		"state = CASE WHEN `+unsettled+` THEN 'loading' ELSE $3 END`", "state = $3`",
		"./loader/load", "TestRepeatedRecords/PostgreSQL", "the load is done", false},
	{"what was decided by looking is recorded", "loader/run.go",
		"if out.Looked || err != nil && out.Uncertain {", "if false {",
		"./loader/load", "TestRepeatedRecordsInDoubt/PostgreSQL", "want the duplicate k=0", false},
	{"what a dead run may have sent is recorded", "loader/registry/fence.go",
		"for _, gap := range c.Done.Gaps(c.Range) {", "for _, gap := range c.Done.Gaps(c.Range)[:0] {",
		"./loader/load", "TestKilledLoadsWithRepeatedRecords/PostgreSQL", "0 again, killed after statement", false},
	{"standard input is not looked up", "loader/load/csvlookup.go",
		"return f.Once })", "return f.Once && false })",
		"./loader/load", "TestStatementsOfStandardInput/PostgreSQL", "want it refused", false},
	{"ranges are served", "loader/importer/serve/serve.go",
		"t.Write(r.Context(), out, first)", "t.Write(r.Context(), out, 0)",
		"./loader/importer/serve", "TestServedTextsAndRanges", "bytes=100-199: 206", false},
	{"a served file is for GET and HEAD", "loader/importer/serve/serve.go",
		"case r.Method != http.MethodGet && r.Method != http.MethodHead:", "case false:",
		"./loader/importer/serve", "TestNothingElseIsServed", "DELETE: 200", false},
	{"a transfer is looked up before it is made again", "loader/bank/transfer.go",
		"b.attempt(ctx, t, attempt > 0 && !b.Unproven)", "b.attempt(ctx, t, false)",
		"./loader/bank", "TestAmbiguousCommits/PostgreSQL/reply_swallowed", "transfers_pkey", false},
	{"a call around the transfers has a deadline", "loader/bank/run.go",
		"ctx, cancel := context.WithTimeout(ctx, b.AttemptTimeout)", "ctx, cancel := context.WithCancel(ctx)",
		"./loader/bank", "TestSilenceAroundTransfers/PostgreSQL", "not back within 40 times an attempt's: context deadline exceeded", false},
	{"a transfer has a deadline", "loader/bank/transfer.go",
		"ctx, cancel := context.WithTimeout(ctx, b.AttemptTimeout)", "ctx, cancel := context.WithCancel(ctx)",
		"./loader/bank", "TestSilenceAroundTransfers/PostgreSQL", "not back within 40 times an attempt's: transfer 0: context deadline exceeded", false},
	{"accounts that change are counted", "loader/bank/transfer.go",
		"if n := tag.RowsAffected(); n != 2 {", "if n := tag.RowsAffected(); n < 2 {",
		"./loader/bank", "TestCountThatDiffers/PostgreSQL", "got <nil>, want ErrUnconfirmed and .*changed 3 of 2", false},
	{"the history keeps a transfer from coming twice", "loader/bank/history.go",
		"sink_had BIGINT NOT NULL,\n\t\tPRIMARY KEY (run, n))", "sink_had BIGINT NOT NULL)",
		"./loader/bank", "TestTransferArrivesTwice/PostgreSQL", "0 missing, 0 twice, 0 foreign, . wrong", false},
	{"waits between attempts at a transfer grow", "loader/bank/transfer.go",
		"return min(firstBackoff<<min(attempt-1, 20), lastBackoff)", "return firstBackoff",
		"./loader/bank", "TestTransferStorms/PostgreSQL/without_end", "the waits do not grow", false},
	{"a starting server is waited for", "loader/server/again.go",
		`busy := code == "57P03" || code == "53300"`, `busy := code == "53300"`,
		"./loader/server", "TestAgainWaitsForAServerThatStarts", "asked 4 times.*57P03", true},
	{"silent sessions do not fill the bank's pool", "loader/bank/bank.go",
		"Max: 2 * o.Workers,", "Max: o.Workers,",
		"./loader/bank", "TestSilenceAroundTransfers/PostgreSQL", "not back within 40 times an attempt's: context deadline exceeded", false},
	{"good-byes are bounded", "loader/server/server.go",
		"case <-time.After(closeTimeout):", "case <-time.After(time.Hour):",
		"./loader/bank", "TestSilenceAroundTransfers/PostgreSQL", "not back within 40 times an attempt's: <nil>", false},
	{"statements end on the server too", "loader/server/server.go",
		"if o.AttemptTimeout <= 0 {", "if true {",
		"./loader/load", "TestTimeoutsOfTheServer/statement_timeout/PostgreSQL/points/statement/insert", "want to give up with 57014", false},
	{"rows of an IMPORT are counted", "loader/importer/finish.go",
		"if rows >= 0 && want >= 0 && rows != want {", "if false {",
		"./loader/load", "TestImportOfFewerRows", "got <nil>, want ErrUnconfirmed", false},
	{"rows of an IMPORT are counted before they are recorded", "loader/importer/finish.go",
		"if rows < want && r.State.WasEmpty", "if false && r.State.WasEmpty",
		"./loader/load", "TestImportOfFewerRows", "got <nil>, want ErrUnconfirmed", false},
	{"the job of an earlier run is found again", "loader/importer/send.go",
		"if r.State.Tag == \"\" || r.Record == nil {", "if true {",
		"./loader/load", "TestResumeGivesTheJobsTime", "ingested key collides", false},
	{"a job whose answer was lost is followed", "loader/importer/send.go",
		"answers = nil // SHOW JOB decides", "return Job{}, a.err",
		"./loader/load", "TestImportRepliesAreLost/serve", "importfaults_test.go:[0-9]+: (conn closed|unexpected EOF)", false},
	{"Ctrl-C cancels the job", "loader/importer/send.go",
		`err := Control(watch, r.db, "CANCEL", id)`, "err := error(nil)",
		"./loader/load", "TestStopCancelsTheJob/upload", "the job has succeeded, want it canceled", true},
	{"the session of an IMPORT is ended before another is sent", "loader/importer/send.go",
		`if r.session == "" {`, "if true {",
		"./loader/load", "TestImportStatementThatArrivesLate", "2 jobs were begun, want one", true},
	{"an IMPORT that vanishes is given up", "loader/importer/send.go",
		"time.AfterFunc(r.AttemptTimeout, hangUp)", "time.AfterFunc(time.Hour, hangUp)",
		"./loader/load", "TestImportInSilence/serve", `not back within 40 times the chunk's: \^IMPORT INTO`, true},
	{"calls around an IMPORT have a deadline", "loader/server/bounded.go",
		"context.WithTimeout(ctx, b.Within)", "context.WithCancel(ctx)",
		"./loader/load", "TestImportInSilence/upload", "not back within 40 times the chunk's", true},
	{"a probe that is cut tells nothing", "loader/importer/check.go",
		"case pg == nil && err != nil && ctx.Err() == nil:", "case false:",
		"./loader/load", "TestImportProbeIsCut", "the database cannot reach this command", false},
	{"a full disk may pass", "loader/server/classify.go",
		`code == "53100", `, "",
		"./loader/load", "TestDiskOfTheServerIsFull/PostgreSQL", "want to give up", true},
	{"a lane that is used up wakes the claimer", "loader/lanes.go",
		"r.wake() // it may", "// it may",
		"./loader", "TestReserveThatIsUsedUp", "all goroutines in bubble are blocked", false},
	{"a lane of a worker that is dismissed is seen", "loader/run.go",
		"\tr.wake()\n\treturn true\n", "\treturn true\n",
		"./loader", "TestLaneOfADismissedWorkerIsSeen", "beside a lane that is free", false},
	{"a run in which nothing is under way ends", "loader/job.go",
		"beside.Go(func() { r.watch(ctx) })", "_ = r.watch",
		"./loader", "TestRunThatStalls", "got context deadline exceeded, want ErrStalled", false},
	{"a run that has failed does not wait for a claim", "loader/job.go",
		"time.AfterFunc(releaseTimeout, giveUp)", "time.AfterFunc(time.Hour, giveUp)",
		"./loader", "TestFailureIsNotHeldBackByAClaim", "back after 1h0m0s", false},
	{"what a server says while the client logs in is heard", "loader/server/login.go",
		"err != nil && !c.in.Load() &&", "false &&",
		"./loader/server", "TestLastWordsOfAServer", "write while logging in", false},
	{"a refused certificate is final", "loader/server/again.go",
		"isCertificate(err) || isAlert(err) ||", "isCertificate(err) ||",
		"./cmd/loader", "TestCertificates/PostgreSQL", "that refuses the certificate was asked", false},
	{"what is echoed gives no access", "cmd/loader/echo.go",
		"s = importer.RedactAll(s)", "_ = importer.RedactAll",
		"./cmd/loader", "TestEchoShowsNoSecret", "the echo of IMPORT INTO", false},
}

// lost says what is wrong with the place of a guard, as the code is now.
func (g *guard) lost(text string) string {
	if n := strings.Count(text, g.old); n != 1 {
		return fmt.Sprintf("%q stands %d times in %s, want once: the guard is another now", g.old, n, g.file)
	}
	return ""
}

// TestGuardsAreThere finds each guard in the code, so that a change of one is seen before
// TestGuardsCanFail, of the long tier, takes it away.
func TestGuardsAreThere(t *testing.T) {
	for _, g := range guards {
		text, err := os.ReadFile(filepath.Join("../..", g.file))
		if err != nil {
			t.Fatal(err)
		}
		if lost := g.lost(string(text)); lost != "" {
			t.Errorf("%s: %s", g.name, lost)
		}
	}
}
