package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"bulkload/loader/commit"
	"bulkload/loader/load"
)

// Bounds of flags.
const (
	maxRows    = int64(1) << 50 // keys of points end at 2^53
	maxChunk   = 10_000_000     // more rows than any server takes in one transaction
	maxWorkers = 256
)

// number reads a whole number within bounds.
func number(name, text string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
	if err != nil || n < low || n > high {
		return 0, &usageError{fmt.Sprintf("--%s takes a whole number from %d to %d, not %q", name, low, high, text)}
	}
	return n, nil
}

// runFlags are the flags of every run of a load; their values may differ from run to run.
func (p *program) runFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "chunk", Value: "auto", Usage: "rows per chunk, or auto"},
		&cli.StringFlag{Name: "workers", Value: "auto", Usage: "chunks loaded at once, or auto"},
		&cli.StringFlag{Name: "via", Value: "auto", Usage: "method: auto, insert, copy, or import for CockroachDB's IMPORT INTO"},
		commitFlag(),
		&cli.DurationFlag{Name: "chunk-timeout", Value: commit.DefaultChunkTimeout, Usage: "maximum time of one attempt at a chunk"},
		&cli.StringFlag{Name: "rate", Usage: "maximum rows per second"},
		orderFlag(),
		&cli.DurationFlag{Name: "retry-for", Value: commit.DefaultRetryFor, Usage: "maximum time of all attempts at a chunk"},
	}, handoffFlags()...)
}

func commitFlag() cli.Flag {
	return &cli.StringFlag{Name: "commit", Value: "auto", Usage: "how a chunk is committed: statement (one statement, its rows are looked up after a lost reply), transaction (its rows and a ledger row), or auto"}
}

func orderFlag() cli.Flag {
	return &cli.StringFlag{Name: "order", Value: "auto", Usage: "order in which chunks are taken: file for the order of the input, or auto (CockroachDB: from distant parts of the input; PostgreSQL: as file)"}
}

// settings reads runFlags.
func (p *program) settings(c *cli.Context) (load.Settings, error) {
	var s load.Settings
	var err error
	if text := c.String("chunk"); text != "auto" {
		n, err := number("chunk", text, 1, maxChunk)
		if err != nil {
			return s, err
		}
		s.Chunk = n
	}
	if s.Workers, err = readWorkers(c); err != nil {
		return s, err
	}
	switch v := c.String("via"); v {
	case "auto":
	case string(commit.Insert), string(commit.Copy), string(load.Import):
		s.Method = commit.Method(v)
	default:
		return s, &usageError{fmt.Sprintf("--via is auto, insert, copy or import, not %q", v)}
	}
	switch v := c.String("commit"); v {
	case "auto":
	case string(commit.Statement), string(commit.Transaction):
		s.CommitMode = commit.Mode(v)
	default:
		return s, &usageError{fmt.Sprintf("--commit is auto, statement or transaction, not %q", v)}
	}
	s.ChunkTimeout, s.RetryFor = c.Duration("chunk-timeout"), c.Duration("retry-for")
	if s.ChunkTimeout <= 0 || s.RetryFor <= 0 {
		return s, &usageError{"--chunk-timeout and --retry-for must be greater than 0"}
	}
	if s.ImportOptions, err = readHandoff(c); err != nil {
		return s, err
	}
	if text := c.String("rate"); text != "" {
		if s.Rate, err = strconv.ParseFloat(text, 64); err != nil || !(s.Rate >= 1) || math.IsInf(s.Rate, 0) {
			return s, &usageError{fmt.Sprintf("--rate takes rows per second, from 1 on, not %q", text)}
		}
	}
	if s.InOrder, err = readOrder(c); err != nil {
		return s, err
	}
	s.Stop, s.Detail = p.stop, p.verbose
	return s, nil
}

// readWorkers reads --workers; zero is automatic.
func readWorkers(c *cli.Context) (int, error) {
	text := c.String("workers")
	if text == "auto" {
		return 0, nil
	}
	n, err := number("workers", text, 1, maxWorkers)
	return int(n), err
}

// readSeed reads --seed. Without it, the seed is random.
func readSeed(c *cli.Context) (uint64, error) {
	text := c.String("seed")
	if text == "" {
		return rand.Uint64(), nil
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, &usageError{fmt.Sprintf("--seed takes a whole number from 0 to %d, not %q", uint64(math.MaxUint64), text)}
	}
	return seed, nil
}

// readOrder reports whether chunks must be committed in the order of the input.
func readOrder(c *cli.Context) (bool, error) {
	switch x := c.String("order"); x {
	case "auto":
		return false, nil
	case "file":
		return true, nil
	default:
		return false, &usageError{fmt.Sprintf("--order is auto or file, not %q", x)}
	}
}

// readIndexes reads whether secondary indexes are kept or deferred.
func readIndexes(c *cli.Context) (load.Indexes, error) {
	switch x := load.Indexes(c.String("indexes")); x {
	case load.KeepIndexes, load.DeferIndexes:
		return x, nil
	default:
		return "", &usageError{fmt.Sprintf("--indexes is keep or defer, not %q", x)}
	}
}

// resumeHelp holds the help of runFlags where a resumed load has another default.
var resumeHelp = map[string]struct{ usage, byDefault string }{
	"chunk":   {"rows per chunk of this run, or auto; not kept from earlier runs", ""},
	"workers": {"chunks loaded at once by this run, or auto; not kept from earlier runs", ""},
	"via":     {"method of this run: auto, insert or copy; a load begun by IMPORT goes on by IMPORT", ""},
	"commit":  {"how a chunk is committed; cannot be changed", "as before"},
	"rate":    {"maximum rows per second of this run; not kept from earlier runs", "no maximum"},
	"order":   {"order in which chunks are taken: file for the order of the input, from now on", "as before"},
	"streams": {"number of files of a load by IMPORT; cannot be changed", "as before"},
}

// resumeFlags are runFlags with the help for a resumed load.
func (p *program) resumeFlags() []cli.Flag {
	list := p.runFlags()
	for _, flag := range list {
		if f, ok := flag.(*cli.StringFlag); ok {
			if h, ok := resumeHelp[f.Name]; ok {
				f.Usage, f.DefaultText = h.usage, h.byDefault
			}
		}
	}
	return list
}
