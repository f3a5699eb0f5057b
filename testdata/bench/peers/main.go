// Command peers times the loader beside bare loops and other programs on a running server. It
// times whole processes, interleaved, and writes the medians and the ratios as a table in
// Markdown. It builds the loader itself:
//
//	go run ./testdata/bench/peers --url 'postgres://root@localhost:26257/?sslmode=disable' --rows 400000
//
// With --rtt all programs reach the server over a link of that round trip. With --workers 0 the
// loader chooses. It lists programs that are not installed as missing, and programs that the server does not
// support with the reason. It drops and creates the databases loader_bench and bank on the
// server.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"bulkload/testdata/bench/measure"
)

var (
	nRows   = flag.Int64("rows", 400_000, "rows of each run")
	count   = flag.Int("count", 5, "runs of each program")
	workers = flag.Int("workers", 2, "connections of the programs that can be told; 0 is the loader's choice, and 4 of others")
	rtt     = flag.Duration("rtt", 0, "round trip to the server")
	only    = flag.String("only", "", "run only programs whose name contains this, beside the loader")
	bare    = flag.String("bare", "", "internal: be the bare loop insert or copy")
	chunk   = flag.Int64("chunk", 0, "rows per chunk of the bare loop; 0 is the loader's default")
)

func main() {
	measure.Main("peers", func(ctx context.Context) error {
		if *bare != "" {
			return bareLoop(ctx)
		}
		return compare(ctx)
	})
}

// compare runs everything and prints the table.
func compare(ctx context.Context) error {
	// 1. The programs and their rows.
	dir, err := os.MkdirTemp("", "peers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir}
	if b.loader, err = measure.BuildLoader(dir); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	for name, separator := range map[string]byte{"points.csv": ',', "points.tsv": '\t'} {
		if err := writeRows(filepath.Join(dir, name), separator); err != nil {
			return err
		}
	}
	// 2. The loader makes its table and its registry. Every program then fills the same empty
	// table, except programs that make their own.
	if b.srv, b.db, err = measure.Open(ctx, "loader_bench"); err != nil {
		return err
	}
	defer func() {
		if err := measure.Drop(ctx, b.srv, "loader_bench", "bank"); err != nil {
			fmt.Fprintln(os.Stderr, "peers:", err)
		}
	}()
	if out, err := exec.Command(b.loader, "points", "--n", "1", "--url", b.db).CombinedOutput(); err != nil {
		return fmt.Errorf("first run of the loader: %w: %s", err, out)
	}
	if b.far, err = measure.Distant(b.db, *rtt); err != nil {
		return err
	}
	all := slices.DeleteFunc(b.contenders(), func(c *contender) bool {
		return !strings.HasPrefix(c.name, "loader") && !strings.Contains(c.name, *only)
	})
	// 3. The first round warms up, and shows which programs do not run here.
	for i := range *count + 1 {
		for _, c := range all {
			if c.missing != "" {
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", i, *count, c.name)
			if err := c.run(ctx, b.db, i > 0); err != nil {
				var exit *exec.ExitError
				if i > 0 || !errors.As(err, &exit) || strings.HasPrefix(c.name, "loader") {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				c.missing = "does not run here: " + c.said
			}
		}
	}
	b.print(all)
	return nil
}

// print prints the table.
func (b *bench) print(all []*contender) {
	rate := map[string][]float64{}
	for _, c := range all {
		rate[c.name] = c.rate
	}
	fmt.Printf("%s, a round trip of %s, %d points, %d workers; %d cores%s; whole processes, the median of %d interleaved runs\n\n",
		b.srv.Info, *rtt, *nRows, *workers, runtime.NumCPU(), memory(), *count)
	fmt.Println("| program | version | rows/s (least to most) | loader's to its | CPU s | peak MiB |\n|---|---|---|---|---|---|")
	for _, c := range all {
		if c.missing != "" {
			fmt.Printf("| %s | %s | %s | | | |\n", c.name, c.version, c.missing)
			continue
		}
		ratio := ""
		if c.against != "" {
			ratio = fmt.Sprintf("%.2f", measure.Median(measure.Ratios(rate[c.against], c.rate)))
		}
		fmt.Printf("| %s | %s | %s (%s to %s) | %s | %.2f | %d |\n", c.name, c.version, short(measure.Median(c.rate)), short(slices.Min(c.rate)), short(slices.Max(c.rate)),
			ratio, measure.Median(c.cpu), measure.Median(c.peak)>>10)
	}
}

// short formats a rate, with blanks between thousands.
func short(x float64) string {
	s := strconv.FormatInt(int64(x/100+.5)*100, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}

// memory returns the machine's memory, from Linux; empty elsewhere.
func memory() string {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return ""
	}
	var kib int64
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); err != nil {
		return ""
	}
	return fmt.Sprintf(", %d GiB of memory", (kib+1<<19)>>20)
}
