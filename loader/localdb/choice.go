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

// Data is a database in DefaultDir, running or not.
type Data struct {
	Product server.Product
	Version string // the major version: "15", or "21.1" for CockroachDB
	Dir     string
}

// String returns product, version and directory: "PostgreSQL 15 in /var/…".
func (d Data) String() string { return fmt.Sprintf("%s %s in %s", d.Product, d.Version, d.Dir) }

// List returns the databases in dir; an empty dir means DefaultDir.
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

// Prefixes of the directory names of databases; the version follows.
const (
	postgresName  = "postgresql-"
	cockroachName = "cockroach-v"
)

// dataOf derives product and version from the name of a directory.
func dataOf(dir string) (Data, bool) {
	name := filepath.Base(dir)
	if v, ok := strings.CutPrefix(name, postgresName); ok {
		return Data{server.PostgreSQL, v, dir}, true
	}
	v, ok := strings.CutPrefix(name, cockroachName)
	return Data{server.CockroachDB, v, dir}, ok
}

// Made reports whether the database was ever initialized.
func (d Data) Made() bool {
	name := "data"
	if d.Product == server.PostgreSQL {
		name = filepath.Join("data", "PG_VERSION")
	}
	_, err := os.Stat(filepath.Join(d.Dir, name))
	return err == nil
}

// choiceName is the file that records the chosen database.
const choiceName = "choice.json"

// A choice is the content of the choice file.
type choice struct {
	Name string // of the database's directory
	Path string // of the binaries used when it was chosen
}

// Meant returns the database that Start uses if its options name none. That is the database
// started first, or one chosen later with Options.Choose. If no choice is recorded, it is a
// database that Retain keeps running. The bool is false if there is neither.
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
			_ = json.Unmarshal(b, &c) // a damaged file makes no choice
		}
	}
	for _, d := range list {
		if filepath.Base(d.Dir) == c.Name {
			return d, c, true
		}
	}
	for _, d := range list {
		if Retained(d.Dir) {
			return d, choice{}, true
		}
	}
	return Data{}, choice{}, false
}

// binary returns a server binary for the data: that of the running server, or else one of the
// same version that is installed or can be fetched.
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

// choose records the database as the chosen one.
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

// baseDir returns the directory of all databases; an empty dir means DefaultDir.
func baseDir(dir string) (string, error) {
	if dir == "" {
		return DefaultDir()
	}
	return dir, nil
}

// dataDir returns the directory in base for the data of a binary's version.
func dataDir(base string, b Binary) string {
	if b.Product == server.PostgreSQL {
		return filepath.Join(base, postgresName+major(b.Version))
	}
	return filepath.Join(base, cockroachName+majorMinor(b.Version))
}

// A Stopped is the result of StopAll for one database.
type Stopped struct {
	Data
	Used bool // another command uses it, and will stop it at its end
}

// StopAll stops the servers of all databases in dir and revokes Retain for them. An empty dir
// means DefaultDir. It returns the databases whose servers ran.
func StopAll(ctx context.Context, dir string) ([]Stopped, error) {
	list, err := List(dir)
	if err != nil {
		return nil, err
	}
	var stopped []Stopped
	for _, d := range list {
		db := &DB{Binary: Binary{Product: d.Product}, Dir: d.Dir}
		ran, used, err2 := db.stopRetained(ctx)
		if ran {
			stopped = append(stopped, Stopped{d, used})
		}
		err = errors.Join(err, err2)
	}
	return stopped, err
}

// stopRetained revokes Retain and stops the server unless another command uses it.
func (db *DB) stopRetained(ctx context.Context) (ran, used bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	unlock, err := db.lockStart(ctx)
	if err != nil {
		return false, false, err
	}
	defer unlock()
	if err := db.Retain(false); err != nil {
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

// ran reports whether a server was started in the directory and not stopped since.
func (db *DB) ran() bool {
	pid := filepath.Join(db.data(), "postmaster.pid")
	if db.Product == server.CockroachDB {
		pid = filepath.Join(db.Dir, "pid")
	}
	_, err := os.Stat(pid)
	return err == nil
}

// RemoveAll stops the servers of all databases in dir and deletes the data, even if no server
// can be started on it. An empty dir means DefaultDir. A database in use by another command
// stays, which is an error. RemoveAll returns the deleted directories.
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
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
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
	return removeAll(d.Dir)
}
