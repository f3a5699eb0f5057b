package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkload/loader/bench"
	"bulkload/loader/commit"
	"bulkload/loader/load"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// reports are pages that differ in what they have to lay out.
func reports() map[string]*bench.Report {
	small := &bench.Report{Server: "PostgreSQL 15.18", Table: "public.points", Kind: "points", Rows: 1000, Cells: []bench.Cell{
		cell(bench.Setting{Chunk: 1000, Workers: 1, Method: commit.Copy, CommitMode: commit.Transaction, Indexes: load.KeepIndexes}, 1, 1e6),
	}}
	only := &bench.Report{Server: "CockroachDB 21.1.5", Table: "public.points", Kind: "points", Rows: 1000, Cells: []bench.Cell{
		cell(bench.Setting{Method: bench.Import, Indexes: load.KeepIndexes}, 2, 1e6),
	}}
	// Names that are markup, limits at the left edge and near each other.
	odd := &bench.Report{Server: "CockroachDB 21.1.5", Table: `public."<b>&amp;</b> ""x"" 表"`, Kind: "csv", Rows: 1000}
	for _, chunk := range []int64{2, 5, 10} {
		for _, x := range []load.Indexes{load.KeepIndexes, load.DeferIndexes} {
			c := cell(bench.Setting{Chunk: chunk, Workers: 16, Method: commit.Insert, CommitMode: commit.Transaction, Indexes: x}, 4, 9e3*float64(chunk))
			c.Limits = []load.LimitPreview{{Name: server.IntentSetting, Max: 9, MaxRows: 3}, {Name: "sql.conn.max_read_buffer_message_size", Max: 9, MaxRows: 4}, {Name: "kv.raft.command.max_size", Max: 9, MaxRows: 11}}
			odd.Cells = append(odd.Cells, c)
		}
	}
	return map[string]*bench.Report{
		"many lines":  sample(6),
		"one cell":    bench.Finish(small, server.PostgreSQL, bench.Setting{}),
		"import only": bench.Finish(only, server.CockroachDB, bench.Setting{}),
		"odd names":   bench.Finish(odd, server.CockroachDB, bench.Setting{}),
	}
}

// TestPageIsWhole: a page names no other place to load from.
func TestPageIsWhole(t *testing.T) {
	for name, r := range reports() {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := r.WriteHTML(&b); err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(b.String(), "http://www.w3.org/2000/svg", "")
			b.Reset()
			if err := r.WriteSVG(&b); err != nil {
				t.Fatal(err)
			}
			for d := xml.NewDecoder(&b); ; {
				if _, err := d.Token(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatalf("the picture is no XML: %v", err)
				}
			}
			for _, bad := range []string{"http:", "https:", "src=", "url(", "@import", "<script", "<link", "<b>", "ZgotmplZ"} {
				if strings.Contains(text, bad) {
					t.Errorf("the page has %s", bad)
				}
			}
		})
	}
}

// inspection is what the script below finds in a page that a browser has laid out.
type inspection struct {
	Name      string
	Width     float64
	Scrolling float64 // width of what a reader scrolls over
	Charts    int     // visible ones
	Labels    []string
	Dark      bool
	Paper     string
	Overlaps  []string
	Outside   []string
	Small     []string
	Colors    map[string]string // of texts, by their text
	Texts     int
}

// inspector looks at each text of the pages' pictures: which others it overlaps, its size and
// its colour. The pages are in frames, each with its own policy, which lets no script run.
const inspector = `<script>
window.onload = () => {
  const all = [...document.querySelectorAll('iframe')].map(f => {
    const d = f.contentDocument, style = f.contentWindow.getComputedStyle;
    const out = {name: f.title, dark: f.contentWindow.matchMedia('(prefers-color-scheme: dark)').matches, overlaps: [], outside: [], small: [], colors: {}};
    out.paper = style(d.body).backgroundColor;
    out.width = f.contentWindow.innerWidth;
    out.scrolling = d.documentElement.scrollWidth;
    const charts = [...d.querySelectorAll('.chart')].filter(e => e.getBoundingClientRect().width > 0);
    out.charts = charts.length;
    out.labels = charts[0].getAttribute('aria-labelledby').split(' ').map(id => d.getElementById(id).textContent);
    const frame = charts[0].getBoundingClientRect();
    const list = [...charts[0].querySelectorAll('text')].map(e => ({text: e.textContent, box: e.getBoundingClientRect(), e}));
    out.texts = list.length;
    list.forEach((a, i) => {
      out.colors[a.text] = style(a.e).fill;
      if (a.box.height < 10) out.small.push(a.text + ' ' + a.box.height);
      if (a.box.left < frame.left - 1 || a.box.right > frame.right + 1 || a.box.top < frame.top - 1 || a.box.bottom > frame.bottom + 1) out.outside.push(a.text);
      list.slice(i + 1).forEach(b => {
        const w = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
        const h = Math.min(a.box.bottom, b.box.bottom) - Math.max(a.box.top, b.box.top);
        if (w > 1 && h > 2) out.overlaps.push(a.text + ' | ' + b.text);
      });
    });
    d.querySelectorAll('td, p, h1').forEach((e, i) => { out.colors['page ' + i] = style(e).color; });
    return out;
  });
  document.body.innerHTML = '<pre id="out"></pre>';
  document.getElementById('out').textContent = JSON.stringify(all);
};
</script>`

// TestPictureIsOfToday: the picture that README shows has the style of those that bench draws.
func TestPictureIsOfToday(t *testing.T) {
	kept, err := os.ReadFile("../../testdata/bench/chunks.svg")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := sample(1).WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	style := func(svg string) string {
		_, rest, _ := strings.Cut(svg, "<style>")
		text, _, _ := strings.Cut(rest, "</style>")
		return text
	}
	if got := style(string(kept)); got == "" || got != style(b.String()) {
		t.Error("testdata/bench/chunks.svg is of an earlier loader; make it again: loader bench points --n 100000 --chunks 100,500,1000,2000,5000,9999,10000,20000 --count 7 --budget 5m --svg testdata/bench/chunks.svg")
	}
}

// TestPageInBrowser opens the pages in Chromium, as wide as a screen and as a telephone, with
// light and with dark colours: no text covers another or leaves the picture, each is large
// enough and has enough contrast, and nobody has to scroll sideways for the picture. With -v
// and -artifacts, pages and screenshots are kept.
func TestPageInBrowser(t *testing.T) {
	loadertest.Long(t)
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		loadertest.Skip(t, "no chromium on PATH")
	}
	dir := t.ArtifactDir()
	frames, pages := "", 0
	for name, r := range reports() {
		var b bytes.Buffer
		if err := r.WriteHTML(&b); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name+".html"), b.String())
		for _, width := range []int{1240, 400} {
			frames += fmt.Sprintf(`<iframe title="%s" width="%d" height="1500" style="border:0" srcdoc="%s"></iframe>`, name, width, html.EscapeString(b.String()))
			pages++
		}
	}
	probe := filepath.Join(dir, "probe.html")
	write(t, probe, `<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark">`+frames+inspector)
	for scheme, number := range map[string]string{"dark": "0", "light": "1"} {
		open := func(args ...string) string {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, browser, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
				"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(),
				"--blink-settings=preferredColorScheme=" + number}, args...)...)
			cmd.WaitDelay = 5 * time.Second
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("chromium: %v", err)
			}
			return string(out)
		}
		dom := open("--window-size=1700,1500", "--dump-dom", "file://"+probe)
		_, rest, _ := strings.Cut(dom, `<pre id="out">`)
		text, _, ok := strings.Cut(rest, "</pre>")
		var list []inspection
		if err := json.Unmarshal([]byte(html.UnescapeString(text)), &list); !ok || err != nil || len(list) != pages {
			t.Fatalf("the page did not answer: %v: %.200s", err, dom)
		}
		for _, got := range list {
			name := fmt.Sprintf("%s %g %s", got.Name, got.Width, scheme)
			t.Run(name, func(t *testing.T) { got.check(t, scheme) })
			if testing.Verbose() {
				// A window is at least 500 wide: a frame is not.
				one := filepath.Join(dir, "frame.html")
				write(t, one, fmt.Sprintf(`<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><body style="margin:0"><iframe width="%g" height="1500" style="border:0" src="%s.html"></iframe>`, got.Width, got.Name))
				open(fmt.Sprintf("--window-size=%g,1500", max(got.Width, 500)), "--screenshot="+filepath.Join(dir, name+".png"), "file://"+one)
			}
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (got inspection) check(t *testing.T, scheme string) {
	if got.Dark != (scheme == "dark") {
		t.Errorf("dark is %v", got.Dark)
	}
	if got.Texts < 10 {
		t.Errorf("the picture has %d texts", got.Texts)
	}
	if len(got.Overlaps) > 0 || len(got.Outside) > 0 {
		t.Errorf("texts over each other: %q; outside: %q", got.Overlaps, got.Outside)
	}
	if len(got.Small) > 0 {
		t.Errorf("texts are too small to read: %q", got.Small)
	}
	if got.Charts != 1 || got.Scrolling > got.Width {
		t.Errorf("%d charts; %g pixels of %g wide", got.Charts, got.Scrolling, got.Width)
	}
	if len(got.Labels) != 2 || len(got.Labels[0]) < 10 || len(got.Labels[1]) < 10 {
		t.Errorf("the picture is described by %q", got.Labels)
	}
	for what, color := range got.Colors {
		if c := contrast(t, cssColor(t, color), cssColor(t, got.Paper)); c < 4.5 {
			t.Errorf("%q has a contrast of %.1f, %s on %s", what, c, color, got.Paper)
		}
	}
}

// TestColors holds that lines stand out from the paper, and from each other also for the
// colour-blind (by the matrices of Machado, Oliveira and Fernandes, 2009, for the whole
// loss of one kind of cone).
func TestColors(t *testing.T) {
	tints := bench.Tints()
	blind := map[string][9]float64{
		"nobody":       {1, 0, 0, 0, 1, 0, 0, 0, 1},
		"protanopia":   {0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998},
		"deuteranopia": {0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881},
		"tritanopia":   {1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900},
	}
	for i, scheme := range []string{"light", "dark"} {
		paper := hexColor(t, tints["paper"][i])
		for name, tint := range tints {
			if least := map[bool]float64{true: 3, false: 0}[name != "paper" && name != "faint"]; contrast(t, hexColor(t, tint[i]), paper) < least {
				t.Errorf("%s on %s paper has a contrast of %.1f", name, scheme, contrast(t, hexColor(t, tint[i]), paper))
			}
		}
		for who, m := range blind {
			for a := 1; a <= 4; a++ { // more ways than four are rare
				for b := a + 1; b <= 4; b++ {
					x, y := hexColor(t, tints[fmt.Sprint("series-", a)][i]), hexColor(t, tints[fmt.Sprint("series-", b)][i])
					if d := distance(see(m, x), see(m, y)); d < 12 {
						t.Errorf("on %s paper, %s: series %d and %d are %.1f apart", scheme, who, a, b, d)
					}
				}
			}
		}
	}
}

// A linear colour, each part from 0 to 1.
type linear [3]float64

func hexColor(t *testing.T, s string) linear {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "#"), 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	return toLinear(float64(n>>16&255), float64(n>>8&255), float64(n&255))
}

func cssColor(t *testing.T, s string) linear {
	t.Helper()
	var r, g, b float64
	if _, err := fmt.Sscanf(s, "rgb(%f, %f, %f)", &r, &g, &b); err != nil {
		t.Fatalf("colour %q: %v", s, err)
	}
	return toLinear(r, g, b)
}

func toLinear(parts ...float64) (c linear) {
	for i, p := range parts {
		if p /= 255; p <= 0.04045 {
			c[i] = p / 12.92
		} else {
			c[i] = math.Pow((p+0.055)/1.055, 2.4)
		}
	}
	return c
}

// contrast is that of WCAG 2.
func contrast(t *testing.T, a, b linear) float64 {
	t.Helper()
	l := func(c linear) float64 { return .2126*c[0] + .7152*c[1] + .0722*c[2] + .05 }
	return max(l(a), l(b)) / min(l(a), l(b))
}

func see(m [9]float64, c linear) (out linear) {
	for i := range out {
		out[i] = min(max(m[3*i]*c[0]+m[3*i+1]*c[1]+m[3*i+2]*c[2], 0), 1)
	}
	return out
}

// distance is the difference of two colours in CIELAB (1976).
func distance(a, b linear) float64 {
	lab := func(c linear) [3]float64 {
		f := func(v float64) float64 {
			if v > 216.0/24389 {
				return math.Cbrt(v)
			}
			return (24389.0/27*v + 16) / 116
		}
		x := f((.4124*c[0] + .3576*c[1] + .1805*c[2]) / .9505)
		y := f(.2126*c[0] + .7152*c[1] + .0722*c[2])
		z := f((.0193*c[0] + .1192*c[1] + .9505*c[2]) / 1.089)
		return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
	}
	p, q := lab(a), lab(b)
	return math.Sqrt((p[0]-q[0])*(p[0]-q[0]) + (p[1]-q[1])*(p[1]-q[1]) + (p[2]-q[2])*(p[2]-q[2]))
}
