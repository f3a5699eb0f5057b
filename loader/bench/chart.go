package bench

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The chart has two panels over the rows per chunk: rows per second above, p99 of a chunk
// below. Colours distinguish methods, commit modes and indexes; dashes and points distinguish
// numbers of workers.
//
// gonum.org/v1/plot supports one colour per element. Each colour here becomes a CSS custom
// property with one value for light and one for dark backgrounds. A viewer without support for
// custom properties shows the light one.

// Size of the chart and of its parts, in points.
const (
	chartWidth  = 760
	panelHeight = 260
	textSize    = 10
	rowHeight   = 15 // of the legend and of the limits' names
	margin      = 10
)

// WriteSVG writes the chart as an SVG file.
func (r *Report) WriteSVG(w io.Writer) error {
	svg, err := r.svg()
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+svg)
	return err
}

// svg returns the chart as an SVG element.
func (r *Report) svg() (string, error) {
	legend := r.legend()
	marks := r.marks()
	panels := []*plot.Plot{r.panel("rows per second"), r.panel("p99 of a chunk, milliseconds")}
	if err := r.draw(panels); err != nil {
		return "", err
	}
	panels[0].X.Label.Text = "" // the lower panel shows it
	// 1. The height, which depends on the legend and the limits above the panels.
	columns, width := legendColumns(legend)
	legendRows := (len(legend) + columns - 1) / columns
	tiles := draw.Tiles{Rows: 2, Cols: 1, PadY: 8, PadLeft: margin, PadRight: margin}
	frame := draw.Canvas{Rectangle: vg.Rectangle{Max: vg.Point{X: chartWidth, Y: 2 * panelHeight}}}
	aligned := plot.Align([][]*plot.Plot{{panels[0]}, {panels[1]}}, tiles, frame)
	data := panels[0].DataCanvas(aligned[0][0])
	toX, _ := panels[0].Transforms(&data)
	labels := placeMarks(marks, toX)
	markRows := 0
	for _, l := range labels {
		markRows = max(markRows, l.row+1)
	}
	top := vg.Length(margin + rowHeight*(1+legendRows+markRows) + 8)
	height := top + 2*panelHeight + margin

	// 2. Background, title, legend.
	canvas := vgsvg.New(chartWidth, height)
	dc := draw.New(canvas)
	dc.SetColor(paper.light)
	dc.Fill(dc.Rectangle.Path())
	at := func(row vg.Length) vg.Length { return height - margin - rowHeight*(row+1) + 3 }
	title := style(ink)
	title.Font.Weight = bold
	title.Font.Size = textSize + 1
	dc.FillText(title, vg.Point{X: margin, Y: at(0)}, r.title())
	for i, l := range legend {
		x, y := margin+vg.Length(i%columns)*width, at(vg.Length(1+i/columns))
		line, glyph := r.looks(l)
		dc.StrokeLine2(line, x, y+3.5, x+30, y+3.5)
		dc.DrawGlyph(glyph, vg.Point{X: x + 15, Y: y + 3.5})
		dc.FillText(style(ink), vg.Point{X: x + 36, Y: y}, l.Name())
	}

	// 3. The panels, below the names of the limits.
	body := draw.Crop(dc, 0, 0, margin, -top)
	aligned = plot.Align([][]*plot.Plot{{panels[0]}, {panels[1]}}, tiles, body)
	upper := panels[0].DataCanvas(aligned[0][0])
	lower := panels[1].DataCanvas(aligned[1][0])
	toX, _ = panels[0].Transforms(&upper)
	labels = placeMarks(marks, toX)
	base := func(l placed) vg.Length { return upper.Max.Y + 6 + rowHeight*vg.Length(l.row) }
	line := draw.LineStyle{Color: limit.light, Width: 1, Dashes: []vg.Length{4, 3}}
	for i, l := range labels {
		x := toX(marks[i].at())
		dc.StrokeLine2(line, x, lower.Min.Y, x, lower.Max.Y)
		dc.StrokeLine2(line, x, upper.Min.Y, x, base(l)+textSize)
	}
	for _, l := range labels {
		dc.SetColor(paper.light)
		dc.Fill(vg.Rectangle{Min: vg.Point{X: l.x - 2, Y: base(l) - 3}, Max: vg.Point{X: l.x + l.width + 2, Y: base(l) + textSize}}.Path())
		dc.FillText(style(limit), vg.Point{X: l.x, Y: base(l)}, l.text)
	}
	panels[0].Draw(aligned[0][0])
	panels[1].Draw(aligned[1][0])

	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return "", fmt.Errorf("draw the chart: %w", err)
	}
	return themed(b.String(), chartWidth, float64(height), r.title()), nil
}

// title returns the title of the chart.
func (r *Report) title() string {
	return fmt.Sprintf("%s %s into a table like %s, %s", thousands(strconv.FormatInt(r.Rows, 10)), r.unit(), r.Table, r.Server)
}

// legend returns one cell of each line, and the cells without chunks.
func (r *Report) legend() []*Cell {
	var list []*Cell
	for _, l := range r.lines() {
		list = append(list, l[0])
	}
	for _, c := range r.measured() {
		if c.Chunk == 0 {
			list = append(list, c)
		}
	}
	return list
}

// legendColumns returns the number of legend columns and their width.
func legendColumns(list []*Cell) (int, vg.Length) {
	widest := vg.Length(1)
	for _, c := range list {
		widest = max(widest, style(ink).Width(c.Name()))
	}
	widest += 36 + 18
	n := min(max(int((chartWidth-2*margin)/widest), 1), max(len(list), 1))
	return n, widest
}

// A placed is the position of a limit's name: its left end and its row, counted upwards from
// the panel.
type placed struct {
	text     string
	x, width vg.Length
	row      int
}

// placeMarks lays out the limits' names above the panels. Normally a name is left of its line,
// each in its own row, with the leftmost limit nearest to the panel: then no line crosses a
// name. If there is no room on the left, the name is on the right, in the rows above, and its
// background hides the lines behind it.
func placeMarks(marks []LimitMark, toX func(float64) vg.Length) []placed {
	list := make([]placed, len(marks))
	const gap = 5
	var left, right []int
	for i, m := range marks {
		name := fmt.Sprintf("%s: %s rows", m.Name, thousands(strconv.FormatInt(m.Rows, 10)))
		width := style(limit).Width(name)
		x := toX(m.at()) - gap - width
		if x < margin {
			right = append(right, i)
			x += width + 2*gap
		} else {
			left = append(left, i)
		}
		list[i] = placed{text: name, x: x, width: width}
	}
	slices.Reverse(right)
	for row, i := range append(left, right...) {
		list[i].row = row
	}
	return list
}

// at returns the position of a limit's line: between the last size that fits and the next.
func (m LimitMark) at() float64 { return float64(m.Rows) + 0.5 }

// panel returns an empty panel.
func (r *Report) panel(what string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color = ink.light
		a.Width = 0.8
		a.Label.TextStyle.Color, a.Label.TextStyle.Font = ink.light, face
		a.Tick.Label.Color, a.Tick.Label.Font = ink.light, face
		a.Tick.Color, a.Tick.Width, a.Tick.Length = ink.light, 0.8, 4
		a.Padding = 3
	}
	p.X.Label.Text, p.Y.Label.Text = "rows per chunk", what
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = plot.TickerFunc(logTicks)
	p.Y.Tick.Marker = plot.TickerFunc(linearTicks)
	return p
}

// draw adds the lines to the panels: medians with confidence intervals.
func (r *Report) draw(panels []*plot.Plot) error {
	least, most := math.Inf(1), 0.0
	for _, c := range r.measured() {
		if c.Chunk > 0 {
			least, most = min(least, float64(c.Chunk)), max(most, float64(c.Chunk))
		}
	}
	for _, m := range r.marks() {
		most = max(most, float64(m.Rows))
	}
	if most == 0 {
		least, most = 1, 10 // only IMPORT was measured
	}
	values := []func(*Cell) Interval{
		func(c *Cell) Interval { return c.Rate },
		func(c *Cell) Interval {
			return Interval{Center: 1000 * c.P99.Center, Lo: 1000 * c.P99.Lo, Hi: 1000 * c.P99.Hi, Confidence: c.P99.Confidence}
		},
	}
	for i, p := range panels {
		grid := plotter.NewGrid()
		grid.Vertical.Color, grid.Horizontal.Color = faint.light, faint.light
		grid.Vertical.Width, grid.Horizontal.Width = 0.6, 0.6
		p.Add(grid)
		low := math.Inf(1)
		for _, line := range r.lines() {
			if err := r.addLine(p, line, values[i]); err != nil {
				return err
			}
			for _, c := range line {
				low = min(low, values[i](c).Lo)
			}
		}
		for _, c := range r.measured() {
			if c.Chunk > 0 || i > 0 {
				continue
			}
			style, _ := r.looks(c)
			level, err := plotter.NewLine(plotter.XYs{{X: least, Y: values[i](c).Center}, {X: most, Y: values[i](c).Center}})
			if err != nil {
				return fmt.Errorf("draw the chart: %w", err)
			}
			level.LineStyle = style
			p.Add(level)
		}
		p.X.Min, p.X.Max = least/1.12, most*1.12
		if i > 0 && low > 0 && p.Y.Max > logFrom*low {
			// Times of chunks of 100 and of 10 000 rows differ by two decades.
			p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.TickerFunc(logTicks)
			p.Y.Min, p.Y.Max = low/1.3, p.Y.Max*1.3
			continue
		}
		p.Y.Min = 0
		p.Y.Max = max(p.Y.Max*1.05, 1e-3)
	}
	return nil
}

// logFrom is the ratio of the largest time to the smallest above which the times use a
// logarithmic scale.
const logFrom = 20

// points holds the values of a line for gonum's plotters.
type points struct {
	plotter.XYs
	plotter.YErrors
}

func (r *Report) addLine(p *plot.Plot, line []*Cell, value func(*Cell) Interval) error {
	var data points
	for _, c := range line {
		v := value(c)
		data.XYs = append(data.XYs, plotter.XY{X: float64(c.Chunk), Y: v.Center})
		data.YErrors = append(data.YErrors, struct{ Low, High float64 }{v.Center - v.Lo, v.Hi - v.Center})
	}
	l, s, err := plotter.NewLinePoints(data.XYs)
	if err != nil {
		return fmt.Errorf("draw the chart: %w", err)
	}
	bars, err := plotter.NewYErrorBars(data)
	if err != nil {
		return fmt.Errorf("draw the chart: %w", err)
	}
	l.LineStyle, s.GlyphStyle = r.looks(line[0])
	bars.LineStyle = draw.LineStyle{Color: l.LineStyle.Color, Width: 0.9}
	bars.CapWidth = 5
	p.Add(bars, l, s)
	return nil
}

// logTicks marks 1, 2 and 5 times the powers of ten.
func logTicks(low, high float64) []plot.Tick {
	var list []plot.Tick
	few := high/low > 3000 // no room for all numbers
	for decade := math.Pow(10, math.Floor(math.Log10(low))); decade <= high; decade *= 10 {
		for i := 1; i < 10; i++ {
			x := float64(i) * decade
			if x < low || x > high {
				continue
			}
			t := plot.Tick{Value: x}
			if i == 1 || !few && (i == 2 || i == 5) {
				t.Label = thousands(strconv.FormatFloat(x, 'f', max(0, -int(math.Floor(math.Log10(decade)+1e-9))), 64))
			}
			list = append(list, t)
		}
	}
	return list
}

// linearTicks marks about five round numbers.
func linearTicks(low, high float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/4)))
	for _, times := range []float64{1, 2, 2.5, 5, 10} {
		if (high-low)/(step*times) <= 6 {
			step *= times
			break
		}
	}
	var list []plot.Tick
	decimals := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	if math.Abs(step*math.Pow10(decimals)-math.Round(step*math.Pow10(decimals))) > 1e-9 {
		decimals++ // steps of 2.5
	}
	for i := math.Ceil(low / step); i*step <= high; i++ {
		label := strconv.FormatFloat(i*step, 'f', decimals, 64)
		if decimals == 0 {
			label = thousands(label)
		}
		list = append(list, plot.Tick{Value: i * step, Label: label})
	}
	return list
}
