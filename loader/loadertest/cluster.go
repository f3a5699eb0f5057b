//go:build chaos

package loadertest

import (
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/testserver"

	"bulkload/loader/server"
)

// A Cluster is three nodes of CockroachDB, with three replicas of everything. They are
// numbered from 0.
type Cluster struct {
	nodes testserver.TestServer
	ports []int // of the nodes, which keep them over restarts
}

// ThreeNodes starts a cluster for one test, or skips it where there is no binary.
func ThreeNodes(t *testing.T) *Cluster {
	t.Helper()
	b, err := Find(server.CockroachDB)
	if err != nil {
		Skip(t, err.Error())
	}
	out := log.Writer()
	log.SetOutput(t.Output()) // testserver says there what it starts
	t.Cleanup(func() { log.SetOutput(out) })
	recordRun(t, server.CockroachDB, b.Version)
	c := &Cluster{}
	if err = c.open(b.Path); err != nil {
		// A port may have been taken before its node was there.
		t.Logf("started again with other ports: %v", err)
		err = c.open(b.Path)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.nodes.Stop()
		// testserver does not wait for the command that made the cluster, whose handle is a file
		// until it is collected.
		c.nodes = nil
		runtime.GC()
	})
	if err := letAnswersPass(t.Context(), c.At("defaultdb", 0)); err != nil {
		t.Fatal(err)
	}
	eventuallyWithin(t, 5*time.Minute, "three replicas of every range", func() bool {
		return Value[int64](t, c.At("defaultdb", 0), "SELECT count(*) FROM crdb_internal.ranges_no_leases WHERE array_length(replicas, 1) < 3") == 0
	})
	return c
}

// open starts the nodes. After an error nothing of them is left.
func (c *Cluster) open(binary string) (err error) {
	if c.ports, err = freePorts(3); err != nil {
		return err
	}
	opts := []testserver.TestServerOpt{
		testserver.CockroachBinaryPathOpt(binary), testserver.ThreeNodeOpt(), testserver.StoreOnDiskOpt(),
		testserver.PollListenURLTimeoutOpt(60), testserver.InitTimeoutOpt(60),
	}
	for _, port := range c.ports {
		opts = append(opts, testserver.AddListenAddrPortOpt(port))
	}
	c.nodes, err = testserver.NewTestServer(opts...)
	return err
}

// freePorts returns ports of the loopback address that nobody listens on.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // when all are known, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// At returns a URL of a database that names all nodes, from the first one on, which sessions are
// on while it is there.
func (c *Cluster) At(database string, first int) string {
	hosts := make([]string, len(c.ports))
	for i := range hosts {
		hosts[i] = fmt.Sprintf("localhost:%d", c.ports[(first+i)%len(c.ports)])
	}
	u := url.URL{Scheme: "postgres", User: url.User("root"), Host: strings.Join(hosts, ","), Path: "/" + database, RawQuery: "sslmode=disable&connect_timeout=5"}
	return u.String()
}

// NewDatabase creates a database and returns its URL; see At. It is gone with the cluster.
func (c *Cluster) NewDatabase(t testing.TB, name string, first int) string {
	t.Helper()
	Exec(t, c.At("defaultdb", first), "CREATE DATABASE "+name)
	return c.At(name, first)
}

// Start starts a node that was ended, and waits until it can be talked to.
func (c *Cluster) Start(t *testing.T, node int) {
	t.Helper()
	err := c.nodes.StartNode(node)
	if err == nil {
		err = c.nodes.WaitForInitFinishForNode(node)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Stop ends a node as its operator does, and waits until it has ended.
func (c *Cluster) Stop(t *testing.T, node int) {
	t.Helper()
	if err := c.nodes.StopNode(node); err != nil {
		t.Fatal(err)
	}
}

// Kill ends a node as kill -9 does, where /proc says which process it is.
func (c *Cluster) Kill(t *testing.T, node int) {
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
			p.Release()
		}
	}
	c.Stop(t, node)
}
