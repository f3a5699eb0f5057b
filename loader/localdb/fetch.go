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

// NewestMajor is the major version of PostgreSQL that is fetched by default.
const NewestMajor = 18

// OldestMajor is the oldest major version of PostgreSQL that can be fetched.
const OldestMajor = 14

// fetchTimeout bounds a download, and stallTimeout the time without new data.
var (
	fetchTimeout = 10 * time.Minute
	stallTimeout = time.Minute
)

// A Reporter receives messages about slow steps of Start and Provide. The zero value is
// silent.
type Reporter struct {
	// Line, when not nil, receives one line for the user.
	Line func(text string)
	// Progress, when not nil, receives the bytes downloaded so far and their total; 0 means
	// that the total is unknown.
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

// Provide is FindProduct for one major version of PostgreSQL; 0 means any. If none is found,
// it fetches one, unless LOADER_DOWNLOAD is "no".
//
// Binaries are fetched into CacheDir, once for all commands. A download is unpacked and
// checked under a temporary name, and renamed only when complete. A lock lets one command
// fetch a major version; the others wait and use the result.
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

// downloads reports whether LOADER_DOWNLOAD permits downloads.
func downloads() bool {
	switch strings.ToLower(os.Getenv("LOADER_DOWNLOAD")) {
	case "no", "never", "off", "false", "0":
		return false
	}
	return true
}

// fetch fetches a major version, unless another command did so in the meantime.
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
		r.line("waiting for another command to fetch PostgreSQL %d", major)
		if _, err := l.TryLockContext(ctx, 50*time.Millisecond); err != nil {
			return Binary{}, fmt.Errorf("wait for another command that fetches it: %w", err)
		}
	}
	defer l.Unlock()
	if b, err := fetched(major); err == nil {
		return b, nil
	}
	left, _ := filepath.Glob(filepath.Join(cache, ".new-"+name+"-*")) // the only error is a bad pattern
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
	if err := os.RemoveAll(dir); err != nil { // fetched rejected it as damaged
		return Binary{}, err
	}
	if err := os.Rename(whole, dir); err != nil {
		return Binary{}, err
	}
	b.Path = filepath.Join(dir, bin)
	return b, nil
}

// A content describes a fetched directory. Its file is written last.
type content struct {
	Bin   string // path of the binaries in the directory
	Files int
	Bytes int64
}

const contentName = "fetched.json"

// seal makes a directory readable for the server's user, records its content, and syncs it to
// disk.
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
		return os.Chmod(path, mode) // independent of the umask
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

// count adds up the files and bytes in a directory, except the content file.
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

// fetched returns the newest fetched PostgreSQL of a major version; 0 means any. It ignores
// incomplete directories: programs that clean up temporary files delete them one by one.
func fetched(major int) (Binary, error) {
	cache, err := CacheDir()
	if err != nil {
		return Binary{}, err
	}
	list, _ := filepath.Glob(filepath.Join(cache, "postgresql-*", contentName)) // the only error is a bad pattern
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

// versionIn returns the version in the name of a fetched directory as a number: 1804 for 18.4.
func versionIn(dir string) int {
	_, version, _ := strings.Cut(filepath.Base(dir), "-")
	version, _, _ = strings.Cut(version, "-")
	major, minor, _ := strings.Cut(version, ".")
	hundreds, _ := strconv.Atoi(major)
	rest, _ := strconv.Atoi(minor)
	return 100*hundreds + rest
}

// CacheDir returns the directory for fetched binaries: LOADER_CACHE_DIR, or else the user's
// cache. Root's is readable for other users, since PostgreSQL does not run as root.
func CacheDir() (string, error) {
	if dir := os.Getenv("LOADER_CACHE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	return cacheDir()
}

// openDir makes a directory that every user can enter, as far as its parents permit.
func openDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil || os.Geteuid() != 0 || info.Mode().Perm() == 0o755 {
		return err
	}
	return os.Chmod(dir, 0o755) // independent of the umask
}

// A source is an origin of PostgreSQL binaries.
type source struct {
	version string // of PostgreSQL
	from    string
	size    int64  // packed, in bytes; 0 means unknown
	licence string // of PostgreSQL and of the package
	// get creates the directory "whole" in staging and returns the path of the binaries in it.
	get func(ctx context.Context, staging string, progress func(done int64)) (bin string, err error)
}

// download chooses a source, reports it, and fetches.
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

// sourceOf returns npm if its client is installed and has a package for this system, or else
// the Go library.
func sourceOf(major int) (source, error) {
	pin, ok := pins[pinned{system(), major}]
	_, musl := os.Stat("/etc/alpine-release") // the packages do not run on musl
	if npm := npmPath(); ok && npm != "" && musl != nil {
		return pin.source(npm, system()), nil
	}
	return librarySource(major)
}

// system returns the name of this system in package names: linux-x64.
func system() string {
	goos, arch := runtime.GOOS, runtime.GOARCH
	if arch == "amd64" {
		arch = "x64"
	}
	return goos + "-" + arch
}
