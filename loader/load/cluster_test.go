//go:build chaos

package load_test

import (
	"fmt"
	"log"
	"net"
	"net/url"
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

// TestNodesAreStoppedInTurn stops and starts each node of a cluster of three while a
// load runs, which knows all of their addresses.
func TestNodesAreStoppedInTurn(t *testing.T) {
	b, err := localdb.FindProduct(server.CockroachDB)
	if err != nil {
		loadertest.Skip(t, err.Error())
	}
	defer log.SetOutput(log.Writer())
	log.SetOutput(t.Output()) // testserver says there what it starts
	opts := []testserver.TestServerOpt{
		testserver.CockroachBinaryPathOpt(b.Path), testserver.ThreeNodeOpt(), testserver.StoreOnDiskOpt(),
		testserver.PollListenURLTimeoutOpt(120), testserver.InitTimeoutOpt(120),
	}
	var ports []string
	for range 3 { // a node keeps its port over restarts
		port := freePort(t)
		ports = append(ports, fmt.Sprintf("localhost:%d", port))
		opts = append(opts, testserver.AddListenAddrPortOpt(port))
	}
	cluster, err := testserver.NewTestServer(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	base := url.URL{Scheme: "postgres", User: url.User("root"), Host: strings.Join(ports, ","), RawQuery: "sslmode=disable&connect_timeout=5"}
	at := func(database string) string {
		base.Path = "/" + database
		return base.String()
	}
	ready := func() bool {
		return loadertest.Value[int64](t, at("defaultdb"), "SELECT count(*) FROM crdb_internal.ranges_no_leases WHERE array_length(replicas, 1) < 3") == 0
	}
	loadertest.Eventually(t, "three replicas of every range", ready)
	for i, sub := range few(subjects(loadertest.Server{Cockroach: true, Product: server.CockroachDB})) {
		t.Run(sub.String(), func(t *testing.T) {
			var retries int64
			for node := range 3 {
				name := fmt.Sprintf("turn%d%d", i, node)
				loadertest.Exec(t, at("defaultdb"), "CREATE DATABASE "+name)
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
				x := sub.startDirect(t, at(name), n)
				<-orDone(some, x.done)
				if err := cluster.StopNode(node); err != nil {
					t.Fatal(err)
				}
				// The other two go on: rows arrive while the node is away.
				<-orDone(some, x.done)
				if err := cluster.StartNode(node); err != nil {
					t.Fatal(err)
				}
				if err := cluster.WaitForInitFinishForNode(node); err != nil {
					t.Fatal(err)
				}
				retries += x.mustEnd(t).Retries
				sub.exact(t, at(name), x.Load, n)
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
