//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bulkload/loader/loadertest"
)

// TestWalkThrough runs the commands of the table beside the tutorial, each as
// it stands, on secure servers and on an insecure CockroachDB.
func TestWalkThrough(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "loader", "bank", "TUTORIAL.md"))
	if err != nil {
		t.Fatal(err)
	}
	section := string(text)
	var exports []string
	for _, m := range block.FindAllStringSubmatch(section, -1) {
		exports = append(exports, m[2])
	}
	var steps []string
	for _, m := range regexp.MustCompile("(?m)^\\|[^|]*\\| `([^`]*)` \\|$").FindAllStringSubmatch(section, -1) {
		steps = append(steps, m[1])
	}
	if len(exports) != 2 || len(steps) < 8 {
		t.Fatalf("found %d blocks and %d steps in TUTORIAL.md", len(exports), len(steps))
	}
	// walk runs the steps in a directory, behind what sets the variables.
	walk := func(t *testing.T, dir, setup string, skip string) {
		for _, step := range steps {
			if skip != "" && strings.Contains(step, skip) {
				continue
			}
			if strings.HasPrefix(step, "go install ") {
				continue // TestReadme does it; here loader is the test's own
			}
			cmd := exec.Command("bash", "-euo", "pipefail", "-c", setup+"\n"+step)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "LOADER_URL=")
			cmd.WaitDelay = 10 * time.Second
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("$ %s: %v\n%s", step, err, out)
			}
			for command, want := range map[string]string{
				"loader count": "100\n", "loader transfer --verify": "each made once", "loader transfer --echo": "-> COMMIT", "loader points": "loaded 10000 points",
			} {
				if strings.HasPrefix(step, command) && !strings.Contains(string(out), want) {
					t.Errorf("$ %s prints\n%s\nwant %q in it", step, out, want)
				}
			}
		}
	}
	const certificates = "--certs-dir"
	t.Run("insecure", func(t *testing.T) {
		loadertest.Slow(t) // the same steps as on the secure server
		s := loadertest.CockroachServer(t)
		port := regexp.MustCompile(`:(\d+)/`).FindStringSubmatch(s.URL())[1]
		t.Cleanup(func() {
			loadertest.Exec(t, s.URL(), "DROP DATABASE IF EXISTS bank CASCADE", "DROP USER IF EXISTS maxroach")
		})
		walk(t, t.TempDir(), strings.ReplaceAll(exports[0], ":26257", ":"+port), certificates)
	})
	t.Run("secure", func(t *testing.T) {
		loadertest.EachSecureServer(t, func(t *testing.T, s *loadertest.SecureServer) {
			dir := t.TempDir()
			if !s.Cockroach {
				// Over the socket, where PostgreSQL asks maxroach for nothing.
				user := strings.Replace(s.URL(), "postgres@/postgres", "maxroach@/bank", 1)
				walk(t, dir, fmt.Sprintf("export ROOT='%s'\nexport LOADER_URL='%s'", strings.Replace(s.URL(), "/postgres?", "/?", 1), user), certificates)
				return
			}
			for link, target := range map[string]string{"certs": s.CertsDir, "my-safe-directory": filepath.Dir(s.CAKey)} {
				if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
					t.Fatal(err)
				}
			}
			walk(t, dir, strings.ReplaceAll(exports[1], ":26257", fmt.Sprintf(":%d", s.Port)), "")
		})
	})
}
