// Package measure holds the shared parts of the programs that time the loader beside others:
// whole processes, and the statements around them.
package measure

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"bulkload/loader/server"
)

// Target is the flag --url of every program.
var Target = flag.String("url", "", "server, with a user who may create databases")

// Main parses the flags and runs a program. The program's name precedes its errors.
func Main(name string, run func(context.Context) error) {
	flag.Parse()
	if *Target == "" {
		fmt.Fprintf(os.Stderr, "%s: --url is needed\n", name)
		os.Exit(2)
	}
	if err := run(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Open returns the target, and the URL of a freshly created database on it.
func Open(ctx context.Context, database string) (*server.Server, string, error) {
	cfg, err := server.Parse(*Target)
	if err != nil {
		return nil, "", err
	}
	srv, err := server.Open(ctx, cfg, "")
	if err != nil {
		return nil, "", err
	}
	db, err := WithDatabase(*Target, database)
	if err != nil {
		return nil, "", err
	}
	return srv, db, Fresh(ctx, srv, database)
}

// Fresh drops a database of the target and creates it again.
func Fresh(ctx context.Context, srv *server.Server, database string) error {
	if err := Drop(ctx, srv, database); err != nil {
		return err
	}
	return Exec(ctx, *Target, "CREATE DATABASE "+database)
}

// Drop drops databases of the target with their contents; missing ones are ignored.
func Drop(ctx context.Context, srv *server.Server, databases ...string) error {
	for _, name := range databases {
		drop := "DROP DATABASE IF EXISTS " + name
		if srv.Product == server.CockroachDB {
			drop += " CASCADE"
		}
		if err := Exec(ctx, *Target, drop); err != nil {
			return err
		}
	}
	return nil
}

// BuildLoader builds the loader in dir and returns its path. The working directory must
// be the root of the repository.
func BuildLoader(dir string) (string, error) {
	path := filepath.Join(dir, "loader")
	if _, _, err := Process(exec.Command("go", "build", "-o", path, "./cmd/loader")); err != nil {
		return "", fmt.Errorf("build the loader: %w", err)
	}
	return path, nil
}

// A Use is the resource use of a process from start to end.
type Use struct {
	Elapsed time.Duration
	CPU     time.Duration // user and system time
	PeakKiB int64         // resident memory
}

// Process runs a command and returns its stdout. The error wraps that of cmd.Run, and holds the
// text of stdout and stderr.
func Process(cmd *exec.Cmd) ([]byte, Use, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	elapsed := time.Since(start)
	if err != nil {
		return nil, Use{}, fmt.Errorf("%s: %w: %s%s", filepath.Base(cmd.Path), err, stdout.Bytes(), stderr.Bytes())
	}
	state := cmd.ProcessState
	use := Use{Elapsed: elapsed, CPU: state.UserTime() + state.SystemTime(), PeakKiB: state.SysUsage().(*syscall.Rusage).Maxrss}
	return stdout.Bytes(), use, nil
}

// WithDatabase returns a server's URL with another database.
func WithDatabase(server, name string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("--url takes a URL")
	}
	u.Path = "/" + name
	return u.String(), nil
}

// Exec runs statements at a URL, over a new connection.
func Exec(ctx context.Context, url string, statements ...string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, q := range statements {
		if _, err := conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// Value returns the single value of a query at a URL.
func Value[T any](ctx context.Context, url, query string) (v T, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return v, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, query).Scan(&v)
	return v, err
}

// Median returns the middle value; of an even number of values the upper one of the two.
func Median[T int64 | float64](list []T) T {
	s := slices.Clone(list)
	slices.Sort(s)
	return s[len(s)/2]
}

// Ratios returns the quotients of the values of the same turns: noise of the machine affects
// the runs of a turn alike.
func Ratios(of, to []float64) []float64 {
	list := make([]float64, len(to))
	for i := range list {
		list[i] = of[i] / to[i]
	}
	return list
}

// Spread prints the median of values with the minimum and the maximum, by a verb such as %.2f.
func Spread(verb string, list []float64) string {
	return fmt.Sprintf(strings.ReplaceAll("% (% to %)", "%", verb), Median(list), slices.Min(list), slices.Max(list))
}
