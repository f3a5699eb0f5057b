package bench

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// A tint is a colour for light and for dark backgrounds. Its name is a class of the chart.
type tint struct{ name, light, dark string }

var (
	paper = tint{"paper", "#fdfdfc", "#16181d"}
	ink   = tint{"ink", "#1b1f24", "#e6e8eb"}
	faint = tint{"faint", "#dfe2e6", "#343941"} // the grid
	limit = tint{"limit", "#5d646e", "#a3abb7"}
)

// series are the colours of lines. They are close to Okabe and Ito's, which are
// distinguishable with any kind of colour blindness, and contrast with the background.
var series = []tint{
	{"series-1", "#0072b2", "#56b4e9"},
	{"series-2", "#d55e00", "#ff8f3f"},
	{"series-3", "#0b5d1e", "#c6e86b"},
	{"series-4", "#a8467f", "#e39bc6"},
	{"series-5", "#8a6a00", "#f0d242"},
	{"series-6", "#44474d", "#c5c9d0"},
}

// tints returns all colours of the chart.
func tints() []tint { return append([]tint{paper, ink, faint, limit}, series...) }

// dashes lists the dash patterns of the first, second, … number of workers.
var dashes = []string{"none", "7 4", "2 3", "9 3 2 3", "1 4"}

// glyphs lists the points of the first, second, … number of workers.
var glyphs = []func(x, y float64) string{
	func(x, y float64) string { return circle(x, y, 3.5) },
	func(x, y float64) string { return fmt.Sprintf("M%s,%sh6.4v6.4h-6.4z", px(x-3.2), px(y-3.2)) },
	func(x, y float64) string { return fmt.Sprintf("M%s,%sl4.2,7.4h-8.4z", px(x), px(y-4.8)) },
	func(x, y float64) string { return fmt.Sprintf("M%s,%sl4.6,4.6l-4.6,4.6l-4.6,-4.6z", px(x), px(y-4.6)) },
	func(x, y float64) string {
		return fmt.Sprintf("M%s,%sh2.4v-3h2.4v3h3v2.4h-3v3h-2.4v-3h-3v-2.4z", px(x-4), px(y-1.2))
	},
}

func circle(x, y, r float64) string {
	return fmt.Sprintf("M%s,%sa%[3]s,%[3]s 0 1,0 %[4]s,0a%[3]s,%[3]s 0 1,0 -%[4]s,0z", px(x-r), px(y), px(r), px(2*r))
}

// stylesheet returns the style of the chart: each colour once for light and once for dark
// backgrounds. It uses no custom properties, which some viewers lack: a viewer without
// prefers-color-scheme shows the light colours.
func stylesheet() template.CSS {
	var light, dark, lines strings.Builder
	for _, t := range tints() {
		fmt.Fprintf(&light, ".chart .%s{color:%s}\n", t.name, t.light)
		fmt.Fprintf(&dark, ".chart .%s{color:%s}\n", t.name, t.dark)
	}
	for i, d := range dashes {
		fmt.Fprintf(&lines, ".chart .dash-%d{stroke-dasharray:%s}\n", i+1, d)
	}
	return template.CSS(fmt.Sprintf(`.chart text{font:%gpx "Liberation Sans",Arimo,Arial,Helvetica,sans-serif;fill:currentColor;white-space:pre}
.chart text.heading{font-weight:bold}
.chart text.over{paint-order:stroke;stroke:%s;stroke-width:4px;stroke-linejoin:round}
.chart path{fill:none;stroke:none;stroke-linejoin:round}
.chart .area{fill:currentColor}
.chart path.thin{stroke:currentColor;stroke-width:1px}
.chart path.line{stroke:currentColor;stroke-width:1.8px}
.chart path.mark{stroke:currentColor;stroke-width:1.2px;stroke-dasharray:4 3}
.chart path.chosen{stroke:currentColor;stroke-width:1.5px}
.chart path.band{fill:currentColor;fill-opacity:.13}
%s%s@media (prefers-color-scheme:dark){
%s.chart text.over{stroke:%s}
}
`, textSize, paper.light, lines.String(), light.String(), dark.String(), paper.dark))
}

// looks returns the classes of a line and the shape of its points: the colour by combination,
// dashes and points by workers.
func (r *Report) looks(c *Cell) (color, dash string, glyph func(x, y float64) string) {
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
	n := max(slices.Index(workers, c.Workers), 0) % len(dashes)
	return series[slices.Index(ways, c.commitMode())%len(series)].name, fmt.Sprintf("dash-%d", n+1), glyphs[n]
}

// advances holds the widths of the characters from blank to ~ in thousandths of the text size,
// as in Adobe's metrics of Helvetica. Arial and Liberation Sans have the same widths.
var advances = [...]int{
	278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, // blank to /
	556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, // 0 to ?
	1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778, // @ to O
	667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, // P to _
	333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, // ` to o
	556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584, // p to ~
}

// textWidth returns the width of a text in pixels. Widths of other characters than ASCII's are
// estimates: a viewer fits each text into the width used here, whatever its font.
func textWidth(s string, bold bool) float64 {
	sum := 0
	for _, c := range s {
		switch {
		case c >= ' ' && int(c-' ') < len(advances):
			sum += advances[c-' ']
		case c >= 0x1100:
			sum += 1000 // Chinese, Japanese and Korean characters are as wide as high
		default:
			sum += 600
		}
	}
	w := float64(sum) * textSize / 1000
	if bold {
		w *= 1.07
	}
	return w
}

// wrap cuts a text into lines of at most width pixels, between words where it can.
func wrap(s string, width float64, bold bool) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && textWidth(line+" "+word, bold) <= width {
			line += " " + word
			continue
		}
		if line != "" {
			lines = append(lines, line)
		}
		line = ""
		for _, c := range word {
			if textWidth(line+string(c), bold) > width {
				lines = append(lines, line)
				line = ""
			}
			line += string(c)
		}
	}
	return append(lines, line)
}
