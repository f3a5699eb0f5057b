package load_test

import (
	"testing"

	"bulkload/loader/loadertest"
)

// ofFile holds for subjects whose rows come from a file.
func ofFile(s subject) bool { return s.kind == "keyless" || s.kind == "file" || s.kind == "rejects" }

// eachOfFile is eachSubject for all that come from files, also without the tag chaos.
func eachOfFile(t *testing.T, f func(t *testing.T, srv loadertest.Server, url string, sub subject)) {
	t.Helper()
	loadertest.ForServer(t, loadertest.PostgreSQL, func(t *testing.T, srv loadertest.Server) {
		eachIn(t, srv, subjects(srv), ofFile, f)
	})
}

// TestSwallowedRepliesOfFiles loses the replies of commits.
func TestSwallowedRepliesOfFiles(t *testing.T) {
	eachOfFile(t, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		fault := &loadertest.Fault{When: sub.commitsOfChunks(srv), Nth: 2, Times: 3, Do: loadertest.SwallowReply}
		x := sub.start(t, url, 1500, fault)
		if res := x.mustEnd(t); fault.Count() != 3 || res.LookUps == 0 {
			t.Errorf("%d replies were lost, and %d times was looked up", fault.Count(), res.LookUps)
		}
		sub.exact(t, url, x.Load, 1500)
	})
}

// TestFilesAreCutAgain has the server refuse chunks as too large, and the files' spans cut
// again.
func TestFilesAreCutAgain(t *testing.T) {
	eachOfFile(t, func(t *testing.T, srv loadertest.Server, url string, sub subject) {
		fault := &loadertest.Fault{When: loadertest.Match{SQL: rowsOf, Kind: loadertest.MsgStatement}, Do: loadertest.Inject, Code: "53400", Times: 2}
		sub.Chunk = 400
		x := sub.start(t, url, 2000, fault)
		if res := x.mustEnd(t); fault.Count() != 2 || res.Halved == 0 {
			t.Errorf("%d chunks were refused, and %d halved", fault.Count(), res.Halved)
		}
		sub.exact(t, url, x.Load, 2000)
	})
}
