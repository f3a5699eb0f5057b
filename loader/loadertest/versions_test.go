package loadertest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkload/loader/loadertest"
)

// TestServersAreChosen runs a test of the kit again with other values of
// loadertest.ServersVar.
func TestServersAreChosen(t *testing.T) {
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(servers string) (string, error) {
		ran := filepath.Join(t.TempDir(), "ran")
		cmd := exec.Command(binary, "-test.v", "-test.run", "^TestWhichServers$")
		cmd.Env = append(os.Environ(), loadertest.ServersVar+"="+servers, loadertest.RanVar+"="+ran)
		out, err := cmd.CombinedOutput()
		lines, _ := os.ReadFile(ran) // none where nothing ran
		return string(out) + string(lines), err
	}
	for _, c := range []struct {
		servers string
		want    []string
		fails   bool
	}{
		{"mysql", []string{`"mysql" is neither postgres`}, true},
		{"postgres-x", []string{"write postgres-MAJOR"}, true},
		{"postgres-17,postgres-18", []string{"one version of each"}, true},
		{"cockroach-0.9", []string{"no cockroach-0.9 on PATH", "names no PostgreSQL"}, false},
		{"postgres", []string{"ran on PostgreSQL", "names no CockroachDB", "PostgreSQL\t1"}, false},
	} {
		out, err := run(c.servers)
		if (err != nil) != c.fails {
			t.Errorf("%s: %v\n%s", c.servers, err, out)
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: got %q, want %q in it", c.servers, out, w)
			}
		}
	}
}

// TestWhichServers says which servers there are.
func TestWhichServers(t *testing.T) {
	loadertest.ForEachServer(t, func(t *testing.T, srv loadertest.Server) {
		t.Logf("ran on %s", srv.Version)
		if !strings.Contains(srv.Version, srv.Name) {
			t.Errorf("%s says that it is %s", srv.Name, srv.Version)
		}
	})
}
