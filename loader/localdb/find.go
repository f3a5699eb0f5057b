// Package localdb starts a private database on this machine, for the command without --url and
// for tests. It uses an installed CockroachDB or PostgreSQL, or else a PostgreSQL that it
// fetches once.
package localdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"bulkload/loader/server"
)

// ErrNotFound is wrapped by the errors of Find, FindProduct and Provide if there is no
// database. The error text explains how to install one.
var ErrNotFound = errors.New("no local database found")

// A Binary is an installed or fetched database server.
type Binary struct {
	Product server.Product
	// Path is the cockroach binary, or the directory of PostgreSQL's binaries.
	Path string
	// Version is the version that the binary reports: "21.1.5", "15.18".
	Version string
}

// String returns product, version and path: "PostgreSQL 15.18 (/usr/lib/…)".
func (b Binary) String() string { return fmt.Sprintf("%s %s (%s)", b.Product, b.Version, b.Path) }

// Major returns the major version: 15, or 21 for CockroachDB.
func (b Binary) Major() int {
	n, _ := strconv.Atoi(major(b.Version))
	return n
}

// Find returns a database server that is available now. It looks for COCKROACH_BINARY or
// cockroach on PATH; then for PostgreSQL in LOADER_PG_BIN, on PATH, and where Debian, Homebrew
// and npm's @embedded-postgres install it, the newest first; then for one that Provide fetched
// earlier. It fetches nothing.
func Find() (Binary, error) {
	if b, err := FindProduct(server.CockroachDB); err == nil || os.Getenv("COCKROACH_BINARY") != "" {
		return b, err
	}
	if b, err := FindProduct(server.PostgreSQL); err == nil || os.Getenv("LOADER_PG_BIN") != "" {
		return b, err
	}
	return Binary{}, fmt.Errorf("%w; pass --url, or %s", ErrNotFound, installHint())
}

// FindProduct is Find for one product.
func FindProduct(p server.Product) (Binary, error) { return find(p, 0) }

// FindMajor is FindProduct for one major version of PostgreSQL.
func FindMajor(major int) (Binary, error) { return find(server.PostgreSQL, major) }

// find is FindProduct for one major version of PostgreSQL; 0 means any.
func find(p server.Product, major int) (Binary, error) {
	if p == server.CockroachDB {
		path := os.Getenv("COCKROACH_BINARY")
		if path == "" {
			path = "cockroach"
		}
		path, err := exec.LookPath(path)
		if err != nil {
			return Binary{}, fmt.Errorf("%w: no cockroach on PATH or in COCKROACH_BINARY", ErrNotFound)
		}
		return describe(p, path, path)
	}
	for _, dir := range postgresDirs(major) {
		if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		if b, err := describe(p, dir, filepath.Join(dir, "postgres")); err == nil && (major == 0 || b.Major() == major) {
			return b, nil
		}
	}
	if major != 0 || os.Getenv("LOADER_PG_BIN") == "" {
		if b, err := fetched(major); err == nil {
			return b, nil
		}
	}
	return Binary{}, fmt.Errorf("%w: no initdb and postgres in LOADER_PG_BIN, on PATH or where packages install them", ErrNotFound)
}

// postgresDirs returns the directories that may hold PostgreSQL's server binaries. If set,
// LOADER_PG_BIN is the only one, unless a major version is requested.
func postgresDirs(major int) []string {
	var dirs []string
	if dir := os.Getenv("LOADER_PG_BIN"); dir != "" {
		dirs = append(dirs, dir)
		if major == 0 {
			return dirs
		}
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		// A link on PATH points to the directory with the other programs and files.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
		"node_modules/@embedded-postgres/*/native/bin",
	} {
		found, _ := filepath.Glob(pattern) // the only error is a bad pattern
		slices.SortFunc(found, func(a, b string) int { return digits(b) - digits(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

// digits returns the digits of a path as a number, for sorting versions.
func digits(path string) int {
	n, _ := strconv.Atoi(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, path))
	return n
}

// describe runs a server binary to get its version.
func describe(p server.Product, path, binary string) (Binary, error) {
	args := []string{"--version"}
	if p == server.CockroachDB {
		args = []string{"version"}
	}
	out, err := exec.Command(binary, args...).Output()
	if err != nil {
		return Binary{}, fmt.Errorf("%s %s: %w", binary, args[0], err)
	}
	b := Binary{Product: p, Path: path}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, "Build Tag:"); ok {
			b.Version = strings.TrimPrefix(strings.TrimSpace(v), "v")
		} else if v, ok := strings.CutPrefix(line, "postgres (PostgreSQL) "); ok {
			b.Version, _, _ = strings.Cut(strings.TrimSpace(v), " ")
		}
	}
	if b.Version == "" {
		return Binary{}, fmt.Errorf("%s %s prints no version", binary, args[0])
	}
	return b, nil
}

func installHint() string {
	switch runtime.GOOS {
	case "darwin":
		return "install one: brew install cockroachdb/tap/cockroach, or brew install postgresql"
	case "windows":
		return "install CockroachDB and set COCKROACH_BINARY to its path"
	}
	return "install one: put cockroach on PATH, or apt-get install -y postgresql, or dnf install -y postgresql-server"
}
