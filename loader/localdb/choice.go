package localdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bulkload/loader/atomicfile"
	"bulkload/loader/server"
)

// Data is a database in DefaultDir, whether a server runs on it or not.
type Data struct {
	Product server.Product
	Version string // the major version: "15", or "21.1" of CockroachDB
	Dir     string
}

// String says what the data is and where: "PostgreSQL 15 in /var/…".
func (d Data) String() string { return fmt.Sprintf("%s %s in %s", d.Product, d.Version, d.Dir) }

// List returns the databases in a directory; empty is DefaultDir.
func List(dir string) ([]Data, error) {
	dir, err := baseDir(dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []Data
	for _, e := range entries {
		if d, ok := dataOf(filepath.Join(dir, e.Name())); ok && e.IsDir() {
			list = append(list, d)
		}
	}
	return list, nil
}

// The names of the directories of databases, before their versions.
const (
	postgresName  = "postgresql-"
	cockroachName = "cockroach-v"
)

// dataOf reads what a directory is from its name.
func dataOf(dir string) (Data, bool) {
	name := filepath.Base(dir)
	if v, ok := strings.CutPrefix(name, postgresName); ok {
		return Data{server.PostgreSQL, v, dir}, true
	}
	v, ok := strings.CutPrefix(name, cockroachName)
	return Data{server.CockroachDB, v, dir}, ok
}

// Made reports whether anything was ever kept in the data.
func (d Data) Made() bool {
	name := "data"
	if d.Product == server.PostgreSQL {
		name = filepath.Join("data", "PG_VERSION")
	}
	_, err := os.Stat(filepath.Join(d.Dir, name))
	return err == nil
}

// choiceName is the file that says which database is meant.
const choiceName = "choice.json"

// A choice is the content of that file.
type choice struct {
	Name string // of the directory
	Path string // of the binaries that were used
}

// Meant returns the database that Start takes when its options name none: the one that
// was started first, or that was chosen since with Options.Choose; without a note of
// that, one that Keep keeps running. It is false where there is neither.
func Meant(dir string) (Data, bool) {
	d, _, ok := meant(dir)
	return d, ok
}

func meant(dir string) (Data, choice, bool) {
	list, err := List(dir)
	if err != nil {
		return Data{}, choice{}, false
	}
	var c choice
	if base, err := baseDir(dir); err == nil {
		if b, err := os.ReadFile(filepath.Join(base, choiceName)); err == nil {
			_ = json.Unmarshal(b, &c) // a damaged one names nothing
		}
	}
	for _, d := range list {
		if filepath.Base(d.Dir) == c.Name {
			return d, c, true
		}
	}
	for _, d := range list {
		if Kept(d.Dir) {
			return d, choice{}, true
		}
	}
	return Data{}, choice{}, false
}

// binary returns a binary for the data: that of the running server, else one of the same
// version that is installed or can be fetched.
func (d Data) binary(ctx context.Context, c choice, r Reporter) (Binary, error) {
	if s, err := readState(d.Dir); err == nil && s.Path != "" {
		db := &DB{URL: s.URL}
		if db.answers(ctx) == nil {
			return Binary{Product: d.Product, Path: s.Path, Version: s.Version}, nil
		}
	}
	fits := func(b Binary, err error) bool {
		return err == nil && filepath.Base(dataDir("", b)) == filepath.Base(d.Dir)
	}
	if d.Product == server.CockroachDB {
		b, err := FindProduct(d.Product)
		if fits(b, err) {
			return b, nil
		}
		if c.Path != "" {
			if b, err := describe(d.Product, c.Path, c.Path); fits(b, err) {
				return b, nil
			}
		}
		return Binary{}, ErrNotFound
	}
	n, err := strconv.Atoi(d.Version)
	if err != nil {
		return Binary{}, err
	}
	if b, err := find(d.Product, n); err == nil {
		return b, nil
	}
	if c.Path != "" {
		if b, err := describe(d.Product, c.Path, filepath.Join(c.Path, "postgres")); fits(b, err) {
			return b, nil
		}
	}
	return Provide(ctx, d.Product, n, r)
}

// choose writes down which database is meant.
func (db *DB) choose() error {
	b, err := json.Marshal(choice{Name: filepath.Base(db.Dir), Path: db.Path})
	if err != nil {
		return err
	}
	f, err := atomicfile.Create(filepath.Join(filepath.Dir(db.Dir), choiceName))
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Discard()
		return err
	}
	return f.Finish()
}

// baseDir returns the directory of all databases.
func baseDir(dir string) (string, error) {
	if dir == "" {
		return DefaultDir()
	}
	return dir, nil
}

// dataDir returns the directory of a binary's data in base.
func dataDir(base string, b Binary) string {
	if b.Product == server.PostgreSQL {
		return filepath.Join(base, postgresName+major(b.Version))
	}
	return filepath.Join(base, cockroachName+majorMinor(b.Version))
}

// A Stopped says what became of a database of StopAll.
type Stopped struct {
	Data
	Used bool // another command uses it, and stops it when it ends
}

// StopAll stops the servers of all databases in a directory; empty is DefaultDir. None of
// them is kept running any more. It returns those that ran.
func StopAll(ctx context.Context, dir string) ([]Stopped, error) {
	list, err := List(dir)
	if err != nil {
		return nil, err
	}
	var stopped []Stopped
	for _, d := range list {
		db := &DB{Binary: Binary{Product: d.Product}, Dir: d.Dir}
		ran, used, err2 := db.stopKept(ctx)
		if ran {
			stopped = append(stopped, Stopped{d, used})
		}
		err = errors.Join(err, err2)
	}
	return stopped, err
}

// stopKept stops a server and ends its being kept.
func (db *DB) stopKept(ctx context.Context) (ran, used bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	unlock, err := db.lockStart(ctx)
	if err != nil {
		return false, false, err
	}
	defer unlock()
	if err := db.Keep(false); err != nil {
		return false, false, err
	}
	ran = db.ran()
	switch err = db.stopUnused(ctx); {
	case errors.Is(err, errUsed):
		return true, true, nil
	case err != nil:
		return ran, false, fmt.Errorf("%w (in %s)", err, db.Dir)
	}
	return ran, false, nil
}

// ran reports whether a server was started in the directory that was not stopped since.
func (db *DB) ran() bool {
	pid := filepath.Join(db.data(), "postmaster.pid")
	if db.Product == server.CockroachDB {
		pid = filepath.Join(db.Dir, "pid")
	}
	_, err := os.Stat(pid)
	return err == nil
}

// RemoveAll stops the servers of all databases in a directory and deletes the data,
// whether a server can be started on it or not; empty is DefaultDir. What another command
// uses stays, which is an error. It returns the directories that are gone.
func RemoveAll(ctx context.Context, dir string) ([]string, error) {
	list, err := List(dir)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, d := range list {
		if err2 := remove(ctx, d); err2 != nil {
			err = errors.Join(err, err2)
			continue
		}
		gone = append(gone, d.Dir)
	}
	base, err2 := baseDir(dir)
	if err != nil || err2 != nil {
		return gone, errors.Join(err, err2)
	}
	if err := os.Remove(filepath.Join(base, choiceName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return gone, err
	}
	return gone, nil
}

func remove(ctx context.Context, d Data) error {
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	db := &DB{Binary: Binary{Product: d.Product}, Dir: d.Dir}
	unlock, err := db.lockStart(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := db.stopUnused(ctx); err != nil {
		return fmt.Errorf("%w in %s", err, d.Dir)
	}
	return os.RemoveAll(d.Dir)
}
