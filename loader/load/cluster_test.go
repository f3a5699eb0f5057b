//go:build chaos

package load_test

import (
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/testserver"

	"bulkload/loader"
	"bulkload/loader/commit"
	"bulkload/loader/loadertest"
	"bulkload/loader/localdb"
	"bulkload/loader/server"
)

// A cluster is three nodes of CockroachDB, with three replicas of everything.
type cluster struct {
	testserver.TestServer
	ports []int // of the nodes, which keep them over restarts
}

// threeNodes starts a cluster for one test, or skips it.
func threeNodes(t *testing.T) *cluster {
	t.Helper()
	b, err := localdb.FindProduct(server.CockroachDB)
	if err != nil {
		loadertest.Skip(t, err.Error())
	}
	out := log.Writer()
	log.SetOutput(t.Output()) // testserver says there what it starts
	t.Cleanup(func() { log.SetOutput(out) })
	c := &cluster{}
	opts := []testserver.TestServerOpt{
		testserver.CockroachBinaryPathOpt(b.Path), testserver.ThreeNodeOpt(), testserver.StoreOnDiskOpt(),
		testserver.PollListenURLTimeoutOpt(120), testserver.InitTimeoutOpt(120),
	}
	for range 3 {
		port := freePort(t)
		c.ports = append(c.ports, port)
		opts = append(opts, testserver.AddListenAddrPortOpt(port))
	}
	if c.TestServer, err = testserver.NewTestServer(opts...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	loadertest.Eventually(t, "three replicas of every range", func() bool {
		return loadertest.Value[int64](t, c.at("defaultdb"), "SELECT count(*) FROM crdb_internal.ranges_no_leases WHERE array_length(replicas, 1) < 3") == 0
	})
	return c
}

// at returns a URL of all nodes, from the first on.
func (c *cluster) at(database string) string {
	hosts := make([]string, len(c.ports))
	for i, p := range c.ports {
		hosts[i] = fmt.Sprintf("localhost:%d", p)
	}
	u := url.URL{Scheme: "postgres", User: url.User("root"), Host: strings.Join(hosts, ","), Path: "/" + database, RawQuery: "sslmode=disable&connect_timeout=5"}
	return u.String()
}

// start starts a node that was stopped.
func (c *cluster) start(t *testing.T, node int) {
	t.Helper()
	if err := c.StartNode(node); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitForInitFinishForNode(node); err != nil {
		t.Fatal(err)
	}
}

// kill ends a node as kill -9 does, where /proc says which process it is.
func (c *cluster) kill(t *testing.T, node int) {
	t.Helper()
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range list {
		text, _ := os.ReadFile(name)
		if !strings.Contains(string(text), fmt.Sprintf("--listen-addr=localhost:%d\x00", c.ports[node])) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
	if err := c.StopNode(node); err != nil {
		t.Fatal(err)
	}
}

// TestNodesAreStoppedInTurn stops and starts each node of a cluster of three while a
// load runs, which knows all of their addresses.
func TestNodesAreStoppedInTurn(t *testing.T) {
	c := threeNodes(t)
	for i, sub := range few(subjects(loadertest.Server{Cockroach: true, Product: server.CockroachDB})) {
		t.Run(sub.String(), func(t *testing.T) {
			var retries int64
			for node := range 3 {
				name := fmt.Sprintf("turn%d%d", i, node)
				loadertest.Exec(t, c.at("defaultdb"), "CREATE DATABASE "+name)
				n := int64(30_000)
				if sub.Way == commit.Statement {
					n = 100_000
				}
				sub.Chunk, sub.RetryFor, sub.ChunkTimeout = 100, 3*time.Minute, 10*time.Second
				some := make(chan struct{}, 1)
				sub.Observe = func(loader.Event) {
					select {
					case some <- struct{}{}:
					default:
					}
				}
				x := sub.startDirect(t, c.at(name), n)
				<-orDone(some, x.done)
				if err := c.StopNode(node); err != nil {
					t.Fatal(err)
				}
				// The other two go on: rows arrive while the node is away.
				<-orDone(some, x.done)
				c.start(t, node)
				retries += x.mustEnd(t).Retries
				sub.exact(t, c.at(name), x.Load, n)
			}
			t.Logf("each node stopped and started once: %d retries", retries)
			if retries == 0 {
				t.Error("no chunk was sent again: the nodes were stopped behind the loads")
			}
		})
	}
}

// orDone returns a channel that gives something when either does.
func orDone(some, done <-chan struct{}) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		select {
		case <-some:
		case <-done:
		}
	}()
	return c
}

// freePort returns a port of the loopback address that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
