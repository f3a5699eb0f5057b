package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The chart has two panels over the rows per chunk: rows per second above, p99 of a chunk
// below. Colours distinguish methods, commit modes and indexes; dashes and points distinguish
// numbers of workers.
//
// A template of the standard library writes the SVG. Note: gonum.org/v1/plot drew it before. It
// was a quarter of the binary, had one colour per element, no light and dark, no titles, and its
// output had to be rewritten. The other plotting libraries for Go draw pixels, or pages that load
// JavaScript. What is left to do without one is two scales and their ticks.

// A layout holds the sizes of a chart in pixels.
type layout struct {
	name         string
	width        float64
	upper, lower float64 // heights of the panels
}

// wide suits screens and README files, narrow suits telephones.
var (
	wide   = layout{"wide", 960, 260, 190}
	narrow = layout{"narrow", 400, 220, 180}
)

// Sizes common to all layouts, in pixels.
const (
	textSize  = 12.0
	rowHeight = 18.0 // of the legend and of the limits' names
	margin    = 14.0
	keyWidth  = 34.0 // of the sample of a line in the legend
)

// A chart is what the template draws: shapes in their order, then texts.
type chart struct {
	Name               string // distinguishes the charts of a page
	Width, Height      px
	Title, Description string
	Style              template.CSS
	Shapes             []shape
	Texts              []label

	layout layout
	report *Report
}

// px is a length or position in pixels.
type px float64

func (p px) String() string {
	return strconv.FormatFloat(math.Round(float64(p)*10)/10, 'f', -1, 64)
}

type shape struct {
	Class, Path string
	Tip         string // shown by browsers under the pointer
}

type label struct {
	Class       string
	X, Y, Width px // Y is the base line
	Text        string
}

// An align is where a text is, relative to its position.
type align float64

const (
	start  align = 0
	middle align = -0.5
	end    align = -1
)

func (c *chart) text(class string, x, y float64, a align, text string) {
	w := textWidth(text, strings.Contains(class, "heading"))
	c.Texts = append(c.Texts, label{class, px(x + float64(a)*w), px(y), px(w), text})
}

func (c *chart) path(class, path, tip string) {
	c.Shapes = append(c.Shapes, shape{class, path, tip})
}

func (c *chart) segment(class string, x1, y1, x2, y2 float64) {
	c.path(class, fmt.Sprintf("M%s,%sL%s,%s", px(x1), px(y1), px(x2), px(y2)), "")
}

//go:embed chart.svg
var chartText string

var chartTemplate = template.Must(template.New("chart.svg").Parse(chartText))

// WriteSVG writes the chart as an SVG file.
func (r *Report) WriteSVG(w io.Writer) error {
	if _, err := io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"); err != nil {
		return err
	}
	return chartTemplate.ExecuteTemplate(w, "chart", r.chart(wide, true))
}

// A quantity is what a panel shows of each cell.
type quantity struct {
	name   string
	unit   string
	chunks bool // whether it is one of chunks, which IMPORT has not
	value  func(*Cell) Interval
}

var quantities = [2]quantity{
	{"rows per second", "rows/s", false, func(c *Cell) Interval { return c.Rate }},
	{"p99 of a chunk, milliseconds", "ms", true, func(c *Cell) Interval {
		return Interval{Center: 1000 * c.P99.Center, Lo: 1000 * c.P99.Lo, Hi: 1000 * c.P99.Hi, Confidence: c.P99.Confidence}
	}},
}

// A panel is one of the two coordinate systems.
type panel struct {
	quantity
	y      scale
	ticksY []tick
}

// chart lays out the chart.
func (r *Report) chart(l layout, headed bool) *chart {
	c := &chart{
		Name: l.name, Width: px(l.width), Title: r.title(), Style: stylesheet(), layout: l, report: r,
		Description: "Over the rows per chunk, on a logarithmic scale: rows per second above, p99 of a chunk below. " + strings.Join(r.Advice.Lines, "; ") + ".",
	}
	// 1. The scales, but for the position of the panels: the labels of the y axes determine the
	// left end of the x axis, which determines the rows of the limits' names.
	panels := [2]panel{r.panel(quantities[0], l.upper), r.panel(quantities[1], l.lower)}
	left := 0.0
	for _, p := range panels {
		for _, t := range p.ticksY {
			left = max(left, textWidth(t.label, false))
		}
	}
	left += margin + 8
	x := r.scaleX(left+12, l.width-margin-8)
	marks := r.placeMarks(x, l.width)

	// 2. Title and legend.
	y := margin
	if headed {
		for _, line := range wrap(c.Title, l.width-2*margin, true) {
			c.text("ink heading", margin, y+textSize, start, line)
			y += rowHeight
		}
		y += 4
	}
	y = c.legend(y)

	// 3. The panels, the limits' names above the upper one.
	heading := y + 26
	c.text("ink heading over", margin, heading, start, panels[0].name)
	rows := 0
	for _, m := range marks {
		rows = max(rows, m.row+1)
	}
	top := heading + 10 + rowHeight*float64(rows)
	panels[0].move(top, l.upper)
	below := top + l.upper + 54 // tick labels, then the next heading
	panels[1].move(below, l.lower)
	c.text("ink heading over", margin, below-12, start, panels[1].name)
	for _, p := range panels {
		c.axes(p, x, left)
	}
	for _, m := range marks {
		base := top - 8 - rowHeight*float64(m.row)
		c.segment("limit mark", m.at, base-textSize, m.at, panels[0].y.from)
		c.segment("limit mark", m.at, panels[1].y.to, m.at, panels[1].y.from)
		c.Texts = append(c.Texts, label{"limit over", px(m.x), px(base), px(m.width), m.text})
	}
	for _, p := range panels {
		c.curves(p, x)
	}
	c.text("ink", (left+l.width-margin)/2, below+l.lower+38, middle, "rows per chunk")
	c.Height = px(below + l.lower + 38 + margin)
	return c
}

// title returns the title of the chart.
func (r *Report) title() string {
	return fmt.Sprintf("%s %s into a table like %s, %s", thousands(strconv.FormatInt(r.Rows, 10)), r.unit(), r.Table, r.Server)
}

// legend draws the legend from y on, and returns its lower end.
func (c *chart) legend(y float64) float64 {
	r := c.report
	var list []*Cell
	for _, l := range r.lines() {
		list = append(list, l[0])
	}
	for _, x := range r.measured() {
		if x.Chunk == 0 {
			list = append(list, x)
		}
	}
	names := make([]string, len(list))
	for i, x := range list {
		names[i] = x.Name()
	}
	if r.recommended() != nil {
		names = append(names, "recommended")
	}
	widest := 1.0
	for _, n := range names {
		widest = max(widest, textWidth(n, false))
	}
	room := c.layout.width - 2*margin
	columns := max(int((room+20)/(keyWidth+widest+20)), 1)
	columns = min(columns, max(len(names), 1))
	for i, name := range names {
		x, base := margin+float64(i%columns)*(keyWidth+widest+20), y+textSize+rowHeight*float64(i/columns)
		mid := base - 4
		if i < len(list) {
			color, dash, glyph := r.looks(list[i])
			c.segment(color+" line "+dash, x, mid, x+keyWidth-8, mid)
			if list[i].Chunk > 0 {
				c.path(color+" area", glyph(x+(keyWidth-8)/2, mid), "")
			}
		} else {
			c.path("ink chosen", circle(x+(keyWidth-8)/2, mid, 6), "")
		}
		c.text("ink", x+keyWidth, base, start, name)
	}
	return y + rowHeight*float64((len(names)+columns-1)/columns)
}

// recommended returns the measured cell with chunks that the advice names, or nil.
func (r *Report) recommended() *Cell {
	for _, c := range r.measured() {
		if c.Chunk > 0 && c.Setting == r.Advice.Use {
			return c
		}
	}
	return nil
}

// scaleX returns the x axis between two positions.
func (r *Report) scaleX(from, to float64) scale {
	low, high := math.Inf(1), 0.0
	for _, c := range r.measured() {
		if c.Chunk > 0 {
			low, high = min(low, float64(c.Chunk)), max(high, float64(c.Chunk))
		}
	}
	for _, m := range r.marks() {
		low, high = min(low, m.at()), max(high, m.at())
	}
	switch {
	case high == 0:
		low, high = 1, 10 // only IMPORT was measured
	case high < 2*low:
		low, high = low/1.5, high*1.5
	}
	return scale{low: low, high: high, from: from, to: to, log: true}
}

// panel returns a panel whose place is not yet known.
func (r *Report) panel(q quantity, height float64) panel {
	low, high := math.Inf(1), 0.0
	for _, c := range r.measured() {
		if i := q.value(c); c.Chunk > 0 || !q.chunks {
			low, high = min(low, i.Lo), max(high, i.Hi)
		}
	}
	p := panel{quantity: q}
	if q.chunks && low > 0 && high > logFrom*low {
		// Times of chunks of 100 and of 10 000 rows differ by two decades.
		p.y = scale{low: low / 1.3, high: high * 1.3, log: true}
	} else {
		p.y = scale{low: 0, high: max(high*1.08, 1e-3)}
	}
	p.move(0, height)
	p.ticksY = p.y.ticks(func(string) float64 { return rowHeight })
	return p
}

// logFrom is the ratio of the largest time to the smallest above which the times use a
// logarithmic scale.
const logFrom = 20

// move places the panel below a position.
func (p *panel) move(top, height float64) { p.y.from, p.y.to = top+height, top }

// axes draws the grid, the axes and their labels.
func (c *chart) axes(p panel, x scale, left float64) {
	right := c.layout.width - margin
	ticksX := x.ticks(func(s string) float64 { return textWidth(s, false) + 12 })
	for _, t := range ticksX {
		if at := x.at(t.value); t.label != "" {
			c.segment("faint thin", at, p.y.to, at, p.y.from)
			c.text("ink", at, p.y.from+18, middle, t.label)
		}
	}
	for _, t := range p.ticksY {
		if at := p.y.at(t.value); t.label != "" {
			c.segment("faint thin", left, at, right, at)
			c.text("ink", left-8, at+4, end, t.label)
		}
	}
	c.segment("ink thin", left, p.y.from, right, p.y.from)
	for _, t := range ticksX {
		long := 3.0
		if t.label != "" {
			long = 5
		}
		c.segment("ink thin", x.at(t.value), p.y.from, x.at(t.value), p.y.from+long)
	}
}

// curves draws medians, their intervals, and the recommended setting.
func (c *chart) curves(p panel, x scale) {
	r := c.report
	for _, cell := range r.measured() {
		if v := p.value(cell); cell.Chunk == 0 && !p.chunks {
			// Without chunks there is one value for all sizes.
			color, _, _ := r.looks(cell)
			c.path(color+" band", p.band(scale{from: x.from, to: x.to, low: 0, high: 1}, []float64{0, 1}, []Interval{v, v}), "")
			c.segment(color+" line", x.from, p.y.at(v.Center), x.to, p.y.at(v.Center))
		}
	}
	for _, line := range r.lines() {
		color, dash, glyph := r.looks(line[0])
		var at []float64
		var values []Interval
		path := ""
		for i, cell := range line {
			at, values = append(at, float64(cell.Chunk)), append(values, p.value(cell))
			path += fmt.Sprintf("%s%s,%s", map[bool]string{true: "M", false: "L"}[i == 0], px(x.at(at[i])), px(p.y.at(values[i].Center)))
		}
		c.path(color+" band", p.band(x, at, values), "")
		c.path(color+" line "+dash, path, "")
		for i, v := range values {
			if px(p.y.at(v.Lo)) != px(p.y.at(v.Hi)) {
				atX, lo, hi := px(x.at(at[i])), px(p.y.at(v.Lo)), px(p.y.at(v.Hi))
				c.path(color+" thin", fmt.Sprintf("M%s,%sh6M%s,%sV%sM%s,%sh6", atX-3, lo, atX, lo, hi, atX-3, hi), "")
			}
			tip := fmt.Sprintf("%s, chunks of %s rows: %s %s", line[i].Name(), thousands(fmt.Sprint(line[i].Chunk)), grouped(v.Center), p.unit)
			c.path(color+" area", glyph(x.at(at[i]), p.y.at(v.Center)), strings.TrimSpace(tip+" "+v.bounds()))
		}
	}
	if cell := r.recommended(); cell != nil {
		c.path("ink chosen", circle(x.at(float64(cell.Chunk)), p.y.at(p.value(cell).Center), 7), "recommended: "+cell.Setting.String())
	}
}

// band returns the area of the intervals around a line.
func (p panel) band(x scale, at []float64, values []Interval) string {
	var upper, lower []string
	for i, v := range values {
		upper = append(upper, fmt.Sprintf("%s,%s", px(x.at(at[i])), px(p.y.at(v.Hi))))
		lower = append(lower, fmt.Sprintf("%s,%s", px(x.at(at[i])), px(p.y.at(v.Lo))))
	}
	slices.Reverse(lower)
	return "M" + strings.Join(append(upper, lower...), "L") + "z"
}
