// Package localdb starts a private database on this machine: what the command uses
// without --url, and what the tests use. It takes a CockroachDB or PostgreSQL that
// is installed, else a PostgreSQL that it fetches once.
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

// ErrNotFound is wrapped by the errors of Find, FindProduct and Provide when there is no
// database. The error's text says how to install one.
var ErrNotFound = errors.New("no local database found")

// A Binary is a database server that is installed or was fetched.
type Binary struct {
	Product server.Product
	// Path is the cockroach binary, or the directory of PostgreSQL's binaries.
	Path string
	// Version is as its own --version says it: "21.1.5", "15.18".
	Version string
}

// String says what the binary is and where: "PostgreSQL 15.18 (/usr/lib/…)".
func (b Binary) String() string { return fmt.Sprintf("%s %s (%s)", b.Product, b.Version, b.Path) }

// Major returns the major version: 15, or 21 of CockroachDB.
func (b Binary) Major() int {
	n, _ := strconv.Atoi(major(b.Version))
	return n
}

// Find returns the database that is at hand: COCKROACH_BINARY, or cockroach on PATH;
// else PostgreSQL, from LOADER_PG_BIN, PATH, and the places where Debian, Homebrew and
// npm's @embedded-postgres install it, the newest first; else one that Provide has
// fetched before. It fetches nothing.
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

// find is FindProduct for one major version of PostgreSQL; 0 is any.
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

// postgresDirs returns the directories that may hold PostgreSQL's server binaries.
// LOADER_PG_BIN is the only one, unless a major version is asked for.
func postgresDirs(major int) []string {
	var dirs []string
	if dir := os.Getenv("LOADER_PG_BIN"); dir != "" {
		dirs = append(dirs, dir)
		if major == 0 {
			return dirs
		}
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		// A link on PATH leads to where the other programs and files are.
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
		found, _ := filepath.Glob(pattern) // only a bad pattern is an error
		slices.SortFunc(found, func(a, b string) int { return digits(b) - digits(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

// digits returns the number in a path, for sorting versions.
func digits(path string) int {
	n, _ := strconv.Atoi(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, path))
	return n
}

// describe asks a server binary for its version.
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
		return Binary{}, fmt.Errorf("%s %s does not say a version", binary, args[0])
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
