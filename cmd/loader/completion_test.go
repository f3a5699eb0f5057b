package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// completions are command lines with the cursor at their end, and words that are offered.
var completions = []struct{ line, want string }{
	{"loader p", "points plan"},
	{"loader po", "points"},
	{"loader loads re", "resume"},
	{"loader loads --url x re", "resume"},
	{"loader db st", "start stop"},
	{"loader completion ", "bash zsh fish"},
	{"loader points --see", "--seed"},
	{"loader points --n 5 --chunk-", "--chunk-timeout"},
	{"loader loads resume 3f9q2k7x --max-e", "--max-errors"},
	{"loader csv x.csv --tab", "--table"},
	// The shell offers files.
	{"loader csv x", ""},
	{"loader csv x.csv --rejects ", ""},
	{"loader csv -- ", ""},
}

// TestCompletion runs the scripts in their shells, where they are installed.
func TestCompletion(t *testing.T) {
	bin := t.TempDir()
	if err := os.Symlink(mustLookPath("loader"), filepath.Join(bin, "loader")); err != nil {
		t.Fatal(err)
	}
	shells := map[string]string{
		"bash": `source <(loader completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _loader; printf '%s ' "${COMPREPLY[@]}"`,
		// compadd works inside of a completion alone.
		"zsh":  `compdef() { }; _files() { }; compadd() { print -n -- "${(@P)2} " }; words=("$@"); CURRENT=$#; source <(loader completion zsh); _loader`,
		"fish": `loader completion fish | source; complete -C (string join -- " " $argv) | string replace -r "\t.*" ""; true`,
	}
	for shell, script := range shells {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				loadertest.Skip(t, shell+" is not installed")
			}
			for _, c := range completions {
				words := strings.Split(c.line, " ")
				args := append([]string{"-c", script, shell}, words...)
				if shell == "fish" {
					args = append([]string{"-c", script}, words...)
				}
				cmd := exec.Command(path, args...)
				cmd.Dir = t.TempDir() // without files to offer
				cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
				out, err := cmd.CombinedOutput()
				got := strings.Fields(string(out))
				if shell != "bash" { // their shells choose among what is offered
					cur := words[len(words)-1]
					var fit []string
					for _, w := range got {
						if strings.HasPrefix(w, cur) {
							fit = append(fit, w)
						}
					}
					got = fit
				}
				want := strings.Fields(c.want)
				slices.Sort(got)
				slices.Sort(want)
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("%q: got %q, %v; want %q", c.line, got, err, want)
				}
			}
		})
	}
}

// TestCompletionRunsNothing asks for completions where urfave/cli takes the request for a value
// or an argument, and would run the command.
func TestCompletionRunsNothing(t *testing.T) {
	for _, line := range []string{
		"csv x.csv --table t --null ", "csv x.csv --table", "points --table ", "points --n 5 --", "points -- --n", "count --", "db sql SELECT -- ", "loads cancel 3f9q2k7x --", "nonsense", "points --nonsense ", "",
	} {
		cmd := exec.Command(mustLookPath("loader"), append(strings.Split(line, " "), completeFlag)...)
		cmd.Env = append(plainEnv(), "LOADER_URL=postgres://u@127.0.0.1:1/x?sslmode=disable", "LOADER_DOWNLOAD=no", "LOADER_DB_DIR="+t.TempDir())
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil || stderr.Len() > 0 {
			t.Errorf("%q: %v: %s", line, err, stderr.String())
		}
	}
}
