package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"bulkload/loader/loadertest"
)

// nowhere names a server that nobody can reach, which is known at once.
const nowhere = "host=/nonexistent"

// inProcess runs the command and returns its exit code and its stderr.
func inProcess(t *testing.T, args ...string) (int, string) {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	code := run(append([]string{"loader"}, args...), null, null, said)
	text, err := os.ReadFile(said.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text)
}

// settingPairs are commands, settings that each of them takes alone, and the pairs that
// contradict each other: by the places of the two among the settings.
var settingPairs = []struct {
	command  string
	settings []string
	against  map[[2]int]string // what is said
}{
	{
		command: "csv ok.csv --table t",
		settings: []string{
			0: "--no-registry", 1: "--max-errors 5", 2: "--max-errors 1%", 3: "--via copy", 4: "--via insert", 5: "--via import", 6: "--on-conflict skip", 7: "--on-conflict update",
			8: "--set v=upper(v)", 9: "--commit statement", 10: "--commit transaction", 11: "--indexes defer", 12: "--create-table", 13: "--handoff upload", 14: "--handoff s3://b/x.csv",
			15: "--serve-addr localhost:0", 16: "--streams 3", 17: "--chunk 10", 18: "--workers 3", 19: "--rate 100", 20: "--order file", 21: "--columns id,v", 22: "--map v=w",
			23: "--map x=v", 24: "--quote none", 25: "--delimiter ;", 26: "--null ;", 27: "--encoding latin1", 28: "--again", 29: "--short-rows null",
			30: "--header no", 31: "--skip 1", 32: "--chunk-timeout 1s", 33: "--retry-for 1s", 34: "--format json", 35: "--quiet", 36: "--verbose", 37: "--echo", 38: "--set v=1",
		},
		against: map[[2]int]string{
			{0, 1}: "--no-registry", {0, 2}: "--no-registry", {0, 11}: "--no-registry",
			{1, 9}: "need --commit transaction", {2, 9}: "need --commit transaction", {6, 9}: "need --commit transaction", {7, 9}: "need --commit transaction",
			{3, 6}: "use --via insert", {3, 7}: "use --via insert", {3, 8}: "use --via insert", {3, 38}: "use --via insert",
			{8, 9}: "computed by --set", {9, 38}: "computed by --set",
			{3, 13}: "for --via import", {3, 14}: "for --via import", {3, 15}: "for --via import", {3, 16}: "for --via import",
			{4, 13}: "for --via import", {4, 14}: "for --via import", {4, 15}: "for --via import", {4, 16}: "for --via import",
			{13, 15}: "need --handoff serve", {14, 15}: "need --handoff serve",
			{21, 23}: "--columns has id, v", {8, 23}: "column v is set twice", {23, 38}: "column v is set twice",
			{25, 26}: "cannot contain the delimiter", {8, 38}: "--set sets column v twice",
		},
	},
	{
		command:  "csv ok.csv --table t --create-table",
		settings: []string{0: "--key id", 1: "--key id,id", 2: "--types v=INT8", 3: "--types text"},
		against:  map[[2]int]string{{0, 1}: "--key names id twice", {1, 2}: "--key names id twice", {1, 3}: "--key names id twice"},
	},
	{
		command:  "csv - --table t",
		settings: []string{0: "--commit statement", 1: "--via insert", 2: "--max-errors 1"},
		against: map[[2]int]string{
			{0, 1}: "standard input does not allow", {0, 2}: "standard input does not allow",
		},
	},
	{
		command: "points --n 10",
		settings: []string{
			0: "--no-registry", 1: "--indexes defer", 2: "--via copy", 3: "--via insert", 4: "--via import", 5: "--handoff serve", 6: "--commit statement", 7: "--commit transaction", 8: "--rate 5",
			9: "--seed 1", 10: "--chunk 5", 11: "--workers 2", 12: "--order file", 13: "--streams 2",
		},
		against: map[[2]int]string{
			{0, 1}: "--no-registry", {2, 5}: "for --via import", {3, 5}: "for --via import", {2, 13}: "for --via import", {3, 13}: "for --via import",
		},
	},
	{
		command:  "accounts --n 10 --commit statement",
		settings: []string{0: "--via insert", 1: "--workers 2"},
		against:  map[[2]int]string{{0, 1}: "accounts need --commit transaction"},
	},
	{
		command:  "plan csv ok.csv --table t",
		settings: []string{0: "--no-registry", 1: "--max-errors 5", 2: "--via copy", 3: "--on-conflict skip"},
		against:  map[[2]int]string{{0, 1}: "--no-registry", {2, 3}: "use --via insert"},
	},
	{
		command:  "bench csv ok.csv --table t",
		settings: []string{0: "--via copy", 1: "--on-conflict skip", 2: "--commit statement", 3: "--set v=1", 4: "--commit statement,transaction", 5: "--via copy,insert"},
		against: map[[2]int]string{
			{0, 1}: "use --via insert", {0, 3}: "use --via insert", {1, 2}: "need --commit transaction", {2, 3}: "computed by --set",
		},
	},
	{
		command:  "loads resume abc",
		settings: []string{0: "--max-errors 1", 1: "--commit statement", 2: "--commit transaction", 3: "--via copy", 4: "--handoff upload", 5: "--via import"},
		against:  map[[2]int]string{{0, 1}: "--max-errors needs --commit transaction", {3, 4}: "for --via import"},
	},
	{
		command:  "transfer --verify",
		settings: []string{0: "--n 1", 1: "--workers 2", 2: "--seed 1"},
		against:  map[[2]int]string{{1, 2}: "--verify alone makes no transfers"},
	},
}

// TestContradictions gives each command each pair of its settings, against a server that nobody
// reaches: those that contradict each other are a fault of usage that names them, and all others
// are not.
func TestContradictions(t *testing.T) {
	t.Setenv("LOADER_URL", "")
	t.Chdir(t.TempDir())
	if err := os.WriteFile("ok.csv", []byte("id,v\n1,a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range settingPairs {
		pairs := 0
		for i := range c.settings {
			for j := i + 1; j < len(c.settings); j++ {
				a, b := c.settings[i], c.settings[j]
				says, wrong := c.against[[2]int{i, j}]
				if strings.Fields(a)[0] == strings.Fields(b)[0] && !wrong && a[:5] != "--map" && a[:5] != "--set" {
					continue // the same flag twice: the last one counts
				}
				want := exitTarget
				if wrong {
					want = exitUsage
				}
				if pairs++; !wrong && !loadertest.Chaos && pairs%8 != 0 {
					continue
				}
				line := fmt.Sprintf("%s %s %s", c.command, a, b)
				code, said := inProcess(t, append(strings.Fields(line), "--url", nowhere)...)
				if code != want || !strings.Contains(said, says) {
					t.Errorf("%s: exit code %d, want %d: %s, want %q", line, code, want, said, says)
				}
			}
		}
		t.Logf("%s: %d pairs", c.command, pairs)
	}
	// Single settings that contradict the command, and three that go with no other.
	for line, says := range map[string]string{
		"csv ok.csv --table t --key id":                             "--key needs --create-table",
		"csv ok.csv --table t --types text":                         "--types needs --create-table",
		"csv ok.csv --table t --rejects r":                          "--rejects needs --max-errors N or N%",
		"csv ok.csv --table t --encoding nosuch":                    `unknown encoding "nosuch"`,
		"csv ok.csv --table a.b.c.d":                                "4 parts",
		"csv ok.csv --table t --quote none --escape !":              "an escape needs a quote character",
		"csv ok.csv --table t --columns a,a":                        "--columns names a twice",
		"csv none*.csv --table t --no-registry --max-errors 1":      "--no-registry",
		"csv ok.csv --table t --replace --no-registry":              "--replace is recorded in the registry",
		"csv ok.csv --table t --replace --truncate":                 "leave one out",
		"csv ok.csv --table t --replace --indexes defer":            "--replace cannot be used with --indexes defer",
		"points --n 5 --out x.csv --rate 5":                         "cannot be used with --rate",
		"points --n 5 --out x.csv --no-registry":                    "cannot be used with --no-registry",
		"csv ok.csv --table t --map a=v --map b=v":                  "--map sets column v twice",
		"csv ok.csv --table t --no-registry --max-errors 1 --key v": "--key needs --create-table: an existing table has its key; --max-errors",
	} {
		args := strings.Fields(line)
		if !slices.Contains(args, "--out") {
			args = append(args, "--url", nowhere)
		}
		if code, said := inProcess(t, args...); code != exitUsage || !strings.Contains(said, says) {
			t.Errorf("%s: exit code %d, want %d: %s, want %q", line, code, exitUsage, said, says)
		}
	}
}

// TestEmptyValues: a flag with an empty value, as of a variable that is not set, is refused, by
// every command.
func TestEmptyValues(t *testing.T) {
	t.Setenv("LOADER_URL", "")
	p := &program{}
	var walk func(path []string, list []*cli.Command)
	seen := 0
	walk = func(path []string, list []*cli.Command) {
		for _, c := range list {
			at := append(slices.Clone(path), c.Name)
			walk(at, c.Subcommands)
			for _, f := range c.Flags {
				name := f.Names()[0]
				if _, ok := f.(*cli.StringFlag); !ok || name == "null" {
					continue
				}
				seen++
				args := append(slices.Clone(at), "--"+name, "")
				if name == "url" {
					args = append(slices.Clone(at), "--url=") // nor does it start a database
				}
				if code, said := inProcess(t, args...); code != exitUsage || !strings.Contains(said, fmt.Sprintf("--%s is empty: ", name)) || !strings.Contains(said, "leave the flag out") {
					t.Errorf("%q: exit code %d, want %d: %s", args, code, exitUsage, said)
				}
			}
		}
	}
	walk(nil, p.app().Commands)
	if seen < 100 {
		t.Errorf("%d flags were found", seen)
	}
	if code, said := inProcess(t, "csv", "", "--table", "t"); code != exitUsage || !strings.Contains(said, "csv has an empty file name") {
		t.Errorf("an empty file name: exit code %d, want %d: %s", code, exitUsage, said)
	}
	for line, says := range map[string]string{
		"loads list abc":                `loads list takes no argument "abc"`,
		"completion bash zsh":           `not also "zsh"`,
		"plan points --n 5 --out x.csv": "--out uses no server",
	} {
		if code, said := inProcess(t, strings.Fields(line)...); code != exitUsage || !strings.Contains(said, says) {
			t.Errorf("%s: exit code %d, want %d: %s, want %q", line, code, exitUsage, said, says)
		}
	}
}

// TestFlagsOfOtherLoads: what a resumed load cannot have is refused, and the load is resumed
// without it.
func TestFlagsOfOtherLoads(t *testing.T) {
	loadertest.ForServerFirst(t, loadertest.PostgreSQL, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		runs := map[string][]string{
			"points --n 10 --chunk 5": {"--max-errors 1", "--rejects r", "--any-time", "--max-record-bytes 10", "--streams 2", "--handoff upload", "--via import"},
		}
		if s.Cockroach {
			runs["points --n 20 --via import --handoff upload --table p2"] = []string{"--chunk 5", "--rate 5", "--order file", "--commit transaction", "--streams 7", "--via copy"}
		}
		for line, flags := range runs {
			if code, said := inProcess(t, append(strings.Fields(line), "--url", url)...); code != exitOK {
				t.Fatalf("%s: exit code %d: %s", line, code, said)
			}
			id := loadertest.Value[string](t, url, "SELECT id FROM loader.loads ORDER BY created_at DESC LIMIT 1")
			for _, more := range flags {
				code, said := inProcess(t, append(strings.Fields("loads resume "+id+" "+more), "--url", url)...)
				if flag, _, _ := strings.Cut(more, " "); code != exitUsage || !strings.Contains(said, flag) {
					t.Errorf("resume of %s with %s: exit code %d, want %d: %s", line, more, code, exitUsage, said)
				}
			}
			if code, said := inProcess(t, "loads", "resume", id, "--url", url); code != exitOK {
				t.Errorf("resume of %s: exit code %d: %s", line, code, said)
			}
		}
	})
}

// TestContradictionsOfImport: what contradicts IMPORT, which CockroachDB alone has, is said
// before there is a table.
func TestContradictionsOfImport(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, s loadertest.Server) {
		url := s.NewDatabase(t)
		t.Chdir(t.TempDir())
		if err := os.WriteFile("ok.csv", []byte("id,v\n1,a\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if s.Cockroach {
			for _, more := range []string{"--rate 1000", "--chunk 10", "--order file", "--commit transaction", "--indexes defer", "--on-conflict skip", "--max-errors 1", "--set v=1"} {
				code, said := inProcess(t, append(strings.Fields("csv ok.csv --table t --create-table --via import "+more), "--url", url)...)
				if flag, _, _ := strings.Cut(more, " "); code != exitUsage || !strings.Contains(said, flag) || !strings.Contains(said, "cannot be used with IMPORT") {
					t.Errorf("--via import %s: exit code %d, want %d: %s", more, code, exitUsage, said)
				}
			}
		}
		other := s.NewDatabase(t)
		// By themselves, so few rows go in chunks.
		for _, more := range []string{"--handoff upload", "--streams 2", "--serve-addr localhost:0"} {
			for _, command := range []string{"csv ok.csv --table t --create-table ", "points --n 10 ", "plan points --n 10 "} {
				if code, said := inProcess(t, append(strings.Fields(command+more), "--url", other)...); code != exitUsage || !strings.Contains(said, "are for IMPORT, ") || !strings.Contains(said, "leave them out") {
					t.Errorf("%s%s: exit code %d, want %d: %s", command, more, code, exitUsage, said)
				}
			}
		}
		if n := loadertest.Value[int64](t, other, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"); n != 0 && !s.Cockroach {
			t.Errorf("%d tables of others were made", n)
		}
		for _, more := range []string{"--via copy --on-conflict skip", "--max-errors 5 --no-registry"} {
			for _, create := range []string{" --create-table", ""} {
				if code, said := inProcess(t, append(strings.Fields("csv ok.csv --table t "+more+create), "--url", url)...); code != exitUsage {
					t.Errorf("%s: exit code %d, want %d: %s", more, code, exitUsage, said)
				}
			}
		}
		if n := loadertest.Value[int64](t, url, "SELECT count(*) FROM information_schema.tables WHERE table_schema IN ('public', 'loader')"); n != 0 {
			t.Errorf("%d tables were made", n)
		}
	})
}
