package localdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	embedded "github.com/fergusstrange/embedded-postgres"
)

// libraryVersions maps major versions to the versions that the library names.
var libraryVersions = map[int]embedded.PostgresVersion{
	14: embedded.V14, 15: embedded.V15, 16: embedded.V16, 17: embedded.V17, 18: embedded.V18,
}

// librarySource returns the Go library embedded-postgres as a source. The library knows its
// repository and respects HTTPS_PROXY; LOADER_PG_REPOSITORY sets the address of a mirror. It
// checks each download against the hash that the repository provides with it.
func librarySource(major int) (source, error) {
	version, ok := libraryVersions[major]
	if !ok {
		return source{}, fmt.Errorf("no PostgreSQL %d is known for %s", major, system())
	}
	return source{
		version: strings.TrimSuffix(string(version), ".0"),
		from:    "embedded-postgres-binaries " + string(version),
		licence: "PostgreSQL License (the package: Apache 2.0)",
		get: func(ctx context.Context, staging string, _ func(int64)) (string, error) {
			return "bin", libraryGet(ctx, version, staging)
		},
	}, nil
}

// libraryGet makes the library fetch and unpack. Its only operation also starts a server, so
// libraryGet gives it an invalid data directory that passes for an initialized one. The failed
// start shows that everything before it succeeded.
//
// The library cannot be interrupted: after the end of ctx it continues in staging, without
// effect.
func libraryGet(ctx context.Context, version embedded.PostgresVersion, staging string) error {
	data := filepath.Join(staging, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	major, _, _ := strings.Cut(string(version), ".")
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	said := &byteCounter{}
	c := embedded.DefaultConfig().Version(version).Port(uint32(port)).Logger(said).
		CachePath(filepath.Join(staging, "jar")).RuntimePath(filepath.Join(staging, "run")).
		BinariesPath(filepath.Join(staging, "whole")).DataPath(data)
	if mirror := os.Getenv("LOADER_PG_REPOSITORY"); mirror != "" {
		c = c.BinaryRepositoryURL(strings.TrimSuffix(mirror, "/"))
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil { // for example if staging is deleted
				done <- fmt.Errorf("the library panics: %v", p)
			}
		}()
		done <- embedded.NewDatabase(c).Start()
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	switch {
	case err == nil:
		return errors.New("a server was started on no data")
	case said.n == 0:
		return err
	}
	return nil
}

// byteCounter counts the bytes written to it.
type byteCounter struct{ n int }

func (h *byteCounter) Write(p []byte) (int, error) { h.n += len(p); return len(p), nil }
