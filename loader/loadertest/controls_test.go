//go:build chaos

package loadertest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
)

// guardTime ends a test that waits for ever without its guard. Its failure is then not the
// one that is expected: a test of a deadline has a bound of its own.
const guardTime = "90s"

// TestGuardsCanFail takes more than half an hour on two cores with nothing beside. To run one:
//
//	go test -tags chaos -run 'TestGuardsCanFail/waits_grow' -v ./loader/loadertest
func TestGuardsCanFail(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	share, shares := shareOf(t)
	for i, g := range guards {
		if i%shares != share {
			continue
		}
		t.Run(g.name, func(t *testing.T) {
			t.Parallel() // most of the time is building, or waiting for what does not come
			out, err := g.without(t, root)
			test, _, _ := strings.Cut(g.run, "/")
			failed := regexp.MustCompile(`(?m)^--- FAIL: ` + regexp.QuoteMeta(test) + ` `).Match(out)
			switch said := regexp.MustCompile(g.says).Match(out); {
			case failed && said:
			case failed:
				t.Errorf("%s fails without it, and does not say %q:\n%s", g.run, g.says, out)
			case err == nil && strings.Contains(string(out), localdb.ErrNotFound.Error()):
				loadertest.Skip(t, g.run+" has no server here")
			default:
				t.Errorf("%s does not fail without it: %v\n%s", g.run, err, out)
			}
		})
	}
}

// shareOf reads LOADER_TEST_SHARE: "2/8" is the third of eight shares of the guards, so that
// eight runs have them all. Without it there is one share.
func shareOf(t *testing.T) (share, shares int) {
	t.Helper()
	text := os.Getenv("LOADER_TEST_SHARE")
	if text == "" {
		return 0, 1
	}
	if _, err := fmt.Sscanf(text, "%d/%d", &share, &shares); err != nil || share < 0 || share >= shares {
		t.Fatalf("LOADER_TEST_SHARE=%s: write a share and their number, such as 2/8", text)
	}
	return share, shares
}

// without runs the guard's test on the code without the guard.
func (g *guard) without(t *testing.T, root string) ([]byte, error) {
	t.Helper()
	path := filepath.Join(root, g.file)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lost := g.lost(string(text)); lost != "" {
		t.Fatal(lost)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{changed: strings.Replace(string(text), g.old, g.new, 1), overlay: string(replace)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout", guardTime, "-v", "-run", g.run}
	if g.long {
		args = append(args, "-tags", "chaos")
	}
	cmd := exec.Command("go", append(args, g.pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "LOADER_TEST_SLOW=1")
	return cmd.CombinedOutput()
}
