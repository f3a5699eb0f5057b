package bench

import (
	"fmt"
	"html"
	"image/color"
	"regexp"
	"slices"
	"strconv"
	"strings"

	stdfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// A tint is a colour for light and for dark backgrounds.
type tint struct {
	name        string
	light, dark color.NRGBA
}

func rgb(hex uint32) color.NRGBA {
	return color.NRGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255}
}

var (
	paper = tint{"paper", rgb(0xfdfdfc), rgb(0x16181d)}
	ink   = tint{"ink", rgb(0x1b1f24), rgb(0xe6e8eb)}
	faint = tint{"faint", rgb(0xdfe2e6), rgb(0x343941)} // the grid
	limit = tint{"limit", rgb(0x5d646e), rgb(0xa3abb7)}
)

// series are the colours of lines. They are close to Okabe and Ito's, which are
// distinguishable with any kind of colour blindness, and contrast with the background.
var series = []tint{
	{"series-1", rgb(0x0072b2), rgb(0x56b4e9)},
	{"series-2", rgb(0xd55e00), rgb(0xff8f3f)},
	{"series-3", rgb(0x0b5d1e), rgb(0xc6e86b)},
	{"series-4", rgb(0xa8467f), rgb(0xe39bc6)},
	{"series-5", rgb(0x8a6a00), rgb(0xf0d242)},
	{"series-6", rgb(0x44474d), rgb(0xc5c9d0)},
}

// tints returns all colours of the chart.
func tints() []tint { return append([]tint{paper, ink, faint, limit}, series...) }

// dashes lists the dash patterns of the first, second, … number of workers.
var dashes = [][]vg.Length{nil, {6, 3}, {2, 2}, {8, 3, 2, 3}, {1, 3}}

// glyphs lists the points of the first, second, … number of workers.
var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.CrossGlyph{}}

// face is the font of the chart. Liberation Sans has the metrics of Arial and Helvetica, so
// text that fits by gonum's measure also fits in a browser.
var face = font.Font{Typeface: "Liberation", Variant: "Sans", Size: textSize}

const bold = stdfont.WeightBold

const families = `"Liberation Sans", Arimo, Arial, Helvetica, sans-serif`

func style(t tint) text.Style {
	return text.Style{Color: t.light, Font: face, Handler: plot.DefaultTextHandler, XAlign: text.XLeft, YAlign: text.YBottom}
}

// looks returns the style of a line: the colour by combination, dashes and points by workers.
func (r *Report) looks(c *Cell) (draw.LineStyle, draw.GlyphStyle) {
	var ways []Setting
	var workers []int
	for _, x := range r.measured() {
		if w := x.commitMode(); !slices.Contains(ways, w) {
			ways = append(ways, w)
		}
		if x.Chunk > 0 && !slices.Contains(workers, x.Workers) {
			workers = append(workers, x.Workers)
		}
	}
	slices.Sort(workers)
	col := series[slices.Index(ways, c.commitMode())%len(series)].light
	n := max(slices.Index(workers, c.Workers), 0) % len(dashes)
	return draw.LineStyle{Color: col, Width: 1.6, Dashes: dashes[n]}, draw.GlyphStyle{Color: col, Radius: 3, Shape: glyphs[n]}
}

var (
	svgHead  = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)
	svgColor = regexp.MustCompile(`(fill|stroke):(#[0-9A-Fa-f]{6})`)
	svgFont  = regexp.MustCompile(`font-family:[^;]*;`)
	svgText  = regexp.MustCompile(`(?s)<text ([^>]*?font-weight:(\w+);[^>]*?font-size:([0-9.]+)px[^>]*)>([^<]*)</text>`)
)

// fitted sets the length of every text to the one used for the layout, whatever font the
// viewer has.
func fitted(svg string) string {
	return svgText.ReplaceAllStringFunc(svg, func(s string) string {
		m := svgText.FindStringSubmatch(s)
		st := style(ink)
		if m[2] == "bold" {
			st.Font.Weight = bold
		}
		if size, err := strconv.ParseFloat(m[3], 64); err == nil {
			st.Font.Size = vg.Length(size)
		}
		width := st.Width(html.UnescapeString(m[4]))
		return fmt.Sprintf(`<text textLength="%.4g" lengthAdjust="spacingAndGlyphs" %s>%s</text>`, float64(width), m[1], m[4])
	})
}

// themed makes gonum's SVG follow the viewer's light or dark mode.
func themed(svg string, width, height float64, title string) string {
	names := map[string]string{}
	var light, dark strings.Builder
	for _, t := range tints() {
		names[hex(t.light)] = t.name
		fmt.Fprintf(&light, "--%s:%s;", t.name, hex(t.light))
		fmt.Fprintf(&dark, "--%s:%s;", t.name, hex(t.dark))
	}
	head := fmt.Sprintf(`<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-label="%s">
<style>.chart{%s}@media (prefers-color-scheme:dark){.chart{%s}}</style>`, width, height, width, height, html.EscapeString(title), light.String(), dark.String())
	svg = svgHead.ReplaceAllLiteralString(svg, head)
	svg = fitted(svg)
	svg = svgColor.ReplaceAllStringFunc(svg, func(s string) string {
		what, value, _ := strings.Cut(s, ":")
		name, ok := names[strings.ToLower(value)]
		if !ok {
			return s
		}
		return fmt.Sprintf("%s:%s;%s:var(--%s,%s)", what, value, what, name, value)
	})
	return svgFont.ReplaceAllLiteralString(svg, "font-family:"+strings.ReplaceAll(families, `"`, "'")+";")
}

func hex(c color.NRGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }
