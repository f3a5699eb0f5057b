package serve_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bulkload/chunker"
	"bulkload/loader"
	"bulkload/loader/failure"
	"bulkload/loader/importer/serve"
	"bulkload/loader/importer/virtual"
	"bulkload/loader/loadertest"
	"bulkload/loader/rows"
)

func TestMain(m *testing.M) { loadertest.Main(m) }

func listen(t *testing.T) *serve.Server {
	t.Helper()
	s, err := serve.Listen("", "", "", "", serve.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); http.DefaultClient.CloseIdleConnections() })
	return s
}

// request returns status, header and body of an answer.
func request(t *testing.T, method, url, ranged string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranged != "" {
		req.Header.Set("Range", ranged)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, body
}

func TestServedTextsAndRanges(t *testing.T) {
	s := listen(t)
	x := parts(t, 1)[0]
	want := whole(t, parts(t, 1)[0], 0)
	url := s.Offer("points.csv", x)
	if code, h, body := request(t, http.MethodHead, url, ""); code != 200 || h.Get("Accept-Ranges") != "bytes" || len(body) != 0 {
		t.Errorf("HEAD: %d, %v, %d bytes", code, h, len(body))
	}
	if code, _, body := request(t, http.MethodGet, url, ""); code != 200 || !bytes.Equal(body, want) {
		t.Errorf("GET: %d, %d bytes; want %d", code, len(body), len(want))
	}
	n := len(want)
	for _, r := range []struct {
		text        string
		first, last int
	}{
		{"bytes=0-", 0, n - 1}, {"bytes=100-", 100, n - 1}, {"bytes=100-199", 100, 199}, {fmt.Sprintf("bytes=%d-", n-1), n - 1, n - 1}, {fmt.Sprintf("bytes=5-%d", n+100), 5, n - 1},
	} {
		code, h, body := request(t, http.MethodGet, url, r.text)
		if code != http.StatusPartialContent || !bytes.Equal(body, want[r.first:r.last+1]) || h.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, n) {
			t.Errorf("%s: %d, %q, %d bytes", r.text, code, h.Get("Content-Range"), len(body))
		}
	}
	if code, h, _ := request(t, http.MethodGet, url, fmt.Sprintf("bytes=%d-", n)); code != http.StatusRequestedRangeNotSatisfiable || h.Get("Content-Range") != fmt.Sprintf("bytes */%d", n) {
		t.Errorf("behind the end: %d, %v", code, h)
	}
	// A header that is no range of one kind is as if there were none.
	for _, text := range []string{"bytes=-5", "bytes=1-2,5-6", "lines=1-", "bytes=9-3", "bytes=x-"} {
		if code, _, body := request(t, http.MethodGet, url, text); code != 200 || len(body) != n {
			t.Errorf("Range %s: %d, %d bytes", text, code, len(body))
		}
	}
}

func TestNothingElseIsServed(t *testing.T) {
	s := listen(t)
	url := s.Offer("points.csv", parts(t, 1)[0])
	base, _, _ := strings.Cut(url, "/points.csv")
	root := base[:strings.LastIndexByte(base, '/')]
	other := listen(t).Offer("points.csv", parts(t, 1)[0])
	wrong := root + other[strings.Index(other[8:], "/")+8:]
	for _, u := range []string{root, root + "/", base, base + "/", root + "/points.csv", base + "/points.csv/", base + "/../points.csv", strings.ToUpper(base) + "/points.csv", wrong, url + "x", url + "%00"} {
		if u == url {
			t.Fatal("the test asks for what is served")
		}
		u = strings.Replace(u, "HTTP://", "http://", 1)
		if code, _, body := request(t, http.MethodGet, u, ""); code != http.StatusNotFound && code != http.StatusMovedPermanently || len(body) > 100 {
			t.Errorf("GET %s: %d, %q", u, code, body)
		}
	}
	for _, m := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "TRACE"} {
		if code, _, body := request(t, m, url, ""); code != http.StatusMethodNotAllowed || len(body) > 100 {
			t.Errorf("%s: %d, %q", m, code, body)
		}
	}
	if s.Fault() != nil {
		t.Errorf("the server has failed: %v", s.Fault())
	}
	// A closed server serves nothing.
	s.Close()
	if _, err := http.Get(url); err == nil {
		t.Error("a closed server answers")
	}
}

// A thousand connections that ask for nothing, or read nothing, keep nobody from reading.
func TestIdleConnectionsBlockNobody(t *testing.T) {
	s := listen(t)
	other := s.Offer("other.csv", parts(t, 1)[0])
	url := s.Offer("points.csv", parts(t, 1)[0])
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	_, path, _ := strings.Cut(other[8:], "/")
	for i := range 1000 {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
		if i%2 == 0 { // a reader that takes nothing
			fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		}
	}
	if code, _, body := request(t, http.MethodGet, url, ""); code != 200 || len(body) == 0 {
		t.Errorf("got %d, %d bytes", code, len(body))
	}
}

func TestServedOverTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	s, err := serve.Listen("", "localhost", cert, key, serve.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	url := s.Offer("points.csv", parts(t, 1)[0])
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || len(body) == 0 || !strings.HasPrefix(url, "https://localhost:") {
		t.Errorf("%s: %d bytes, %v", url, len(body), err)
	}
	if _, err := serve.Listen("", "", cert, cert, serve.NewSecret()); err == nil {
		t.Error("a certificate is taken for a key")
	}
	var file *failure.FileError
	if _, err := serve.Listen("", "", cert, key+".gone", serve.NewSecret()); !errors.As(err, &file) || file.Name != key+".gone" || file.Write {
		t.Errorf("without the key: got %v, want an error that names its file", err)
	}
}

// failing is a source whose third span cannot be made.
type failing struct{ loader.Source }

var errBad = errors.New("bad record")

func (f failing) Fill(c *rows.Chunk, span chunker.Span) error {
	if span.First >= 2*4096 {
		return errBad
	}
	return f.Source.Fill(c, span)
}

// A text that breaks off must not look whole to the reader.
func TestASourceThatFailsBreaksTheConnection(t *testing.T) {
	s := listen(t)
	url := s.Offer("points.csv", &virtual.File{Source: failing{points()}, Range: chunker.Range{End: testRows}, Format: virtual.CSV})
	res, err := http.Get(url)
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("the reader took a part for the whole")
	}
	select {
	case <-s.Failed():
	case <-time.After(10 * time.Second):
		t.Fatal("the server does not say that it has failed")
	}
	if !errors.Is(s.Fault(), errBad) {
		t.Errorf("got %v", s.Fault())
	}
}

func TestAnotherServerTakesThePlace(t *testing.T) {
	secret := serve.NewSecret()
	s, err := serve.Listen("", "", "", "", secret)
	if err != nil {
		t.Fatal(err)
	}
	url := s.Offer("points.csv", parts(t, 1)[0])
	s.Close()
	again, err := serve.Listen(s.Addr(), "", "", "", secret)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := again.Offer("points.csv", parts(t, 1)[0]); got != url {
		t.Errorf("got %s, want %s", got, url)
	}
	if code, _, body := request(t, http.MethodGet, url, "bytes=1000-"); code != http.StatusPartialContent || len(body) == 0 {
		t.Errorf("got %d", code)
	}
	if _, err := serve.Listen(s.Addr(), "", "", "", secret); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("an address in use: got %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestServersLeaveNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s, err := serve.Listen("", "", "", "", serve.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	url := s.Offer("points.csv", parts(t, 1)[0])
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(res.Body, make([]byte, 10))
	cancel()
	res.Body.Close()
	s.Close()
	http.DefaultClient.CloseIdleConnections()
}
