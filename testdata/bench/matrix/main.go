// Command matrix writes a page of the tests run on each version of each server. It reads the
// files that tests write as LOADER_TEST_RAN says:
//
//	export LOADER_TEST_RAN=/tmp/ran
//	LOADER_TEST_SERVERS=cockroach-26.1,postgres-18 go test ./loader/...
//	go run ./testdata/bench/matrix /tmp/ran > loader/loadertest/MATRIX.md
package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: matrix FILE…")
		os.Exit(2)
	}
	m := matrix{}
	for _, name := range os.Args[1:] {
		if err := m.read(name); err != nil {
			fmt.Fprintln(os.Stderr, "matrix:", err)
			os.Exit(1)
		}
	}
	m.write(os.Stdout)
}

// A kind is a group of tests: a column of the page.
type kind struct {
	name    string
	pattern *regexp.Regexp // matches package and test; the first match wins
}

var kinds = []kind{
	{"IMPORT", regexp.MustCompile(`loader/importer |Import|TheJob|JobsTime|OneJob`)},
	{"plan", regexp.MustCompile(`Proof|Sizes|Bound(OfJSON|sAre)|OnePhase|Plan|Describe|Limits|loader/bench `)},
	{"faults", regexp.MustCompile(`Kill|Cut|Fault|Storm|Soak|Break|Lost|Late|Crash|Silen|BlackHole|Zombie|Takeover|TakenOver|Fence|Full|Inject|Licence|Nodes|Arrives|Swallow|Signal|Standby|Gone`)},
	{"suite", regexp.MustCompile(``)},
}

// columns is the order of the kinds on the page.
var columns = []string{"suite", "faults", "IMPORT", "plan"}

// released are the versions listed on the page, with or without a run.
var released = map[string][]string{
	"CockroachDB": {"21.1", "21.2", "22.1", "22.2", "23.1", "23.2", "24.1", "24.2", "24.3", "25.1", "25.2", "25.3", "25.4", "26.1", "26.2"},
	"PostgreSQL":  {"14", "15", "16", "17", "18"},
}

// A matrix is the last outcome of each test, by server and test.
type matrix map[server]map[string]string

type server struct{ product, version string }

// family is the version as released: 21.1, or 15.
func (s server) family() string {
	parts := strings.Split(s.version, ".")
	if s.product == "PostgreSQL" || len(parts) < 2 {
		return parts[0]
	}
	return parts[0] + "." + parts[1]
}

func (m matrix) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		x := strings.Split(lines.Text(), "\t")
		if len(x) != 5 {
			return fmt.Errorf("%s:%d: %d fields, want 5", name, n, len(x))
		}
		s := server{x[0], x[1]}
		if m[s] == nil {
			m[s] = map[string]string{}
		}
		if x[4] != "skipped" {
			m[s][x[2]+" "+x[3]] = x[4]
		}
	}
	return lines.Err()
}

func (m matrix) write(w io.Writer) {
	fmt.Fprint(w, `# What ran on which server

Made by testdata/bench/matrix from the outcomes that the tests write down (LOADER_TEST_RAN),
not by hand. A cell counts the tests that were given such a server and passed; what failed
when it last ran is named below. [VERSIONS.md](VERSIONS.md) says what each version made
different.

`)
	fmt.Fprintf(w, "| server | %s |\n|---%s|\n", strings.Join(columns, " | "), strings.Repeat("|---", len(columns)))
	servers := slices.SortedFunc(maps.Keys(m), func(a, b server) int {
		return cmp.Or(cmp.Compare(a.product, b.product), number(a.version, b.version))
	})
	var failures []string
	for _, s := range servers {
		passed, failed := map[string]int{}, map[string]int{}
		for _, test := range slices.Sorted(maps.Keys(m[s])) {
			k := kindOf(test)
			if m[s][test] == "ok" {
				passed[k]++
				continue
			}
			failed[k]++
			failures = append(failures, fmt.Sprintf("* %s %s: %s", s.product, s.version, strings.TrimPrefix(test, "bulkload/")))
		}
		var cells []string
		for _, k := range columns {
			switch {
			case passed[k]+failed[k] == 0:
				cells = append(cells, notRun(s, k))
			case failed[k] == 0:
				cells = append(cells, fmt.Sprintf("%d passed", passed[k]))
			default:
				cells = append(cells, fmt.Sprintf("%d passed, %d failed", passed[k], failed[k]))
			}
		}
		fmt.Fprintf(w, "| %s %s | %s |\n", s.product, s.version, strings.Join(cells, " | "))
	}
	for _, product := range slices.Sorted(maps.Keys(released)) {
		var missing []string
		for _, v := range released[product] {
			if !slices.ContainsFunc(servers, func(s server) bool { return s.product == product && s.family() == v }) {
				missing = append(missing, v)
			}
		}
		if len(missing) > 0 {
			fmt.Fprintf(w, "\nNot run: %s %s.\n", product, strings.Join(missing, ", "))
		}
	}
	if len(failures) > 0 {
		fmt.Fprintf(w, "\n## Failed\n\n%s\n", strings.Join(failures, "\n"))
	}
}

// notRun is the cell of tests that were not run or do not exist.
func notRun(s server, kind string) string {
	if s.product == "PostgreSQL" && kind == "IMPORT" {
		return "has none"
	}
	return "not run"
}

func kindOf(test string) string {
	for _, k := range kinds {
		if k.pattern.MatchString(test) {
			return k.name
		}
	}
	return ""
}

// number compares versions by their numbers.
func number(a, b string) int {
	x, y := strings.FieldsFunc(a, notDigit), strings.FieldsFunc(b, notDigit)
	for i := range min(len(x), len(y)) {
		n, _ := strconv.Atoi(x[i])
		k, _ := strconv.Atoi(y[i])
		if n != k {
			return n - k
		}
	}
	return len(x) - len(y)
}

func notDigit(r rune) bool { return r < '0' || r > '9' }
