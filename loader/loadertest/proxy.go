package loadertest

import (
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A Proxy stands between clients and a real server and applies faults to what
// they say to each other. Clients reach it over TCP, without TLS, at [Proxy.URL];
// it reaches the server as the upstream URL says, by unix socket or TCP without
// TLS. Messages pass byte for byte. All methods are safe for concurrent use.
type Proxy struct {
	t        testing.TB
	upstream *pgconn.Config
	url      string
	listener net.Listener
	wg       sync.WaitGroup // accept loop and connections

	mu     sync.Mutex
	faults []*Fault
	conns  map[*conn]struct{}
	stats  Stats
	trips  trips
	far    distance
	mode
}

// mode is what holds for every connection until Heal. Guarded by Proxy.mu.
type mode struct {
	rate   int // bytes a second, 0 for no limit
	refuse bool
	holes  [2]chan struct{} // by the sending side: closed by Heal
	closed bool
}

// Stats counts what a proxy has seen.
type Stats struct {
	Connections    int // accepted, whatever became of them
	Open           int // now, those of held statements too
	Refused        int
	SSLRequests    int // answered with N
	GSSEncRequests int // answered with N
	CancelRequests int
	Frontend       map[Kind]int // messages from clients, up to and with those that a fault met
	Backend        map[Kind]int // messages from the server
	BytesToServer  int64
	BytesToClient  int64
	Faults         map[string]int // how often each action happened, by Action.String

	// Trips counts the round trips of all connections, and Chain the longest chain of trips of
	// which each waited for the one before; see Proxy.Distance. Asked holds what was sent in each
	// trip, with the number of the connection.
	Trips, Chain int
	Asked        []string
}

// Injected returns the number of faults that happened.
func (s Stats) Injected() int {
	n := 0
	for _, k := range s.Faults {
		n += k
	}
	return n
}

// NewProxy starts a proxy to the server of upstreamURL, with the faults given. The
// test closes it. A fault that makes no sense fails the test.
func NewProxy(t testing.TB, upstreamURL string, faults ...*Fault) *Proxy {
	t.Helper()
	config, err := pgconn.ParseConfig(upstreamURL)
	if err != nil {
		t.Fatal("proxy: the upstream URL does not parse") // not err: it may hold the password
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("proxy: %v", err)
	}
	p := &Proxy{
		t: t, upstream: config, listener: l,
		url:   clientURL(upstreamURL, config, l.Addr().String()),
		conns: map[*conn]struct{}{},
		stats: Stats{Frontend: map[Kind]int{}, Backend: map[Kind]int{}, Faults: map[string]int{}},
	}
	t.Cleanup(p.Close)
	p.Add(faults...)
	p.wg.Go(p.accept)
	return p
}

// clientURL returns the URL with which a client reaches addr instead of the
// upstream server: the same user, password, database and parameters, no TLS.
func clientURL(upstream string, config *pgconn.Config, addr string) string {
	query := url.Values{}
	if u, err := url.Parse(upstream); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		query = u.Query()
		for _, k := range []string{"host", "hostaddr", "port", "user", "password", "passfile", "database", "dbname",
			"sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslsni", "sslnegotiation"} {
			query.Del(k)
		}
	} else {
		for k, v := range config.RuntimeParams {
			query.Set(k, v)
		}
	}
	query.Set("sslmode", "disable")
	u := url.URL{
		Scheme: "postgres", User: url.User(config.User), Host: addr, Path: "/" + config.Database,
		RawQuery: strings.ReplaceAll(query.Encode(), "+", "%20"), // pgconn, as libpq, takes + for itself
	}
	if config.Password != "" {
		u.User = url.UserPassword(config.User, config.Password)
	}
	return u.String()
}

// URL returns the URL of the upstream server as reached through the proxy.
func (p *Proxy) URL() string { return p.url }

// Port returns the TCP port on 127.0.0.1 on which the proxy listens.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// Add gives the proxy more faults. They count from now on.
func (p *Proxy) Add(faults ...*Fault) {
	p.t.Helper()
	for _, f := range faults {
		if err := f.bind(p); err != nil {
			p.t.Fatalf("proxy: %v", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, faults...)
}

// Fired reports whether any fault has happened: a test that cuts at the n-th
// message counts n up until a run ends with Fired false.
func (p *Proxy) Fired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats.Injected() > 0
}

// Stats returns what the proxy has seen until now.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Open = len(p.conns)
	s.Trips, s.Chain, s.Asked = p.trips.number, p.trips.chain, slices.Clone(p.trips.asked)
	s.Frontend, s.Backend, s.Faults = maps.Clone(s.Frontend), maps.Clone(s.Backend), maps.Clone(s.Faults)
	return s
}

// Throttle slows every connection to n bytes a second in each direction; 0 ends it.
func (p *Proxy) Throttle(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = n
}

// BlackHole stops every connection as the action of that name does, and new
// ones too. Only as in Fault.Only.
func (p *Proxy) BlackHole(only *Side) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dig(&p.holes, only)
}

// Refuse resets every new connection until Heal. Open ones are not touched.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = true
}

// Heal makes the network whole: black holes, throttling and refusal end, and no
// fault happens any more. Statements that are held stay held.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		f.disarm()
	}
	p.heal()
}

func (p *Proxy) heal() {
	p.rate, p.refuse = 0, false
	fill(&p.holes)
	for c := range p.conns {
		fill(&c.holes)
	}
}

// dig opens the black holes for what only sends, or both sides.
func dig(holes *[2]chan struct{}, only *Side) {
	for side := range holes {
		if (only == nil || *only == Side(side)) && holes[side] == nil {
			holes[side] = make(chan struct{})
		}
	}
}

func fill(holes *[2]chan struct{}) {
	for side, hole := range holes {
		if hole != nil {
			close(hole)
			holes[side] = nil
		}
	}
}

// CloseAll resets every connection that a client has open. Held statements stay held.
func (p *Proxy) CloseAll() {
	for _, c := range p.open() {
		if !c.detached.Load() {
			c.close(true)
		}
	}
}

func (p *Proxy) open() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var cs []*conn
	for c := range p.conns {
		cs = append(cs, c)
	}
	return cs
}

// Close ends every connection, drops what is held, and waits until the proxy
// has no goroutine left. The test calls it at its end.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listener.Close()
	for _, c := range p.open() {
		c.close(true)
	}
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		nc, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.stats.Connections++
		c := &conn{p: p, n: p.stats.Connections, client: nc, done: make(chan struct{}), far: p.far}
		turnedAway := p.refuse || p.closed
		if p.refuse {
			p.stats.Refused++
		}
		if !turnedAway {
			p.conns[c] = struct{}{}
			p.wg.Go(c.run)
		}
		p.mu.Unlock()
		if turnedAway {
			reset(nc)
		}
	}
}

// meet counts m and returns the faults that happen at it, in the order in which
// they are to be done. At a message that is moot none happens.
func (p *Proxy) meet(m *Message, moot bool) []*Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.From == Frontend {
		p.stats.Frontend[m.Kind]++
		p.stats.BytesToServer += int64(len(m.Body)) + headerSize
	} else {
		p.stats.Backend[m.Kind]++
		p.stats.BytesToClient += int64(len(m.Body)) + headerSize
	}
	var passing, last []*Fault
	for _, f := range p.faults {
		switch {
		case !f.meets(m, moot || !f.passing() && last != nil):
			continue
		case f.passing():
			passing = append(passing, f)
		default:
			last = []*Fault{f}
		}
		p.stats.Faults[f.Do.String()]++
	}
	return append(passing, last...)
}

// dial opens a plain connection to the server.
func (p *Proxy) dial() (net.Conn, error) {
	network, address := pgconn.NetworkAddress(p.upstream.Host, p.upstream.Port)
	return net.DialTimeout(network, address, 10*time.Second)
}

// reset closes a connection with RST where its kind has one.
func reset(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	nc.Close()
}
