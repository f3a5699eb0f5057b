package bench

import (
	"fmt"
	"slices"
	"strconv"
)

// A placedMark is a limit's line and name in the chart.
type placedMark struct {
	at       float64 // of the line
	text     string
	x, width float64 // of the name
	row      int     // counted upwards from the panel
}

// placeMarks lays out the limits' names above the panels of a chart. Normally a name is left of
// its line, each in its own row, with the leftmost limit nearest to the panel: then no line
// crosses a name. If there is no room on the left, the name is on the right, in the rows above,
// and its outline hides the lines behind it.
func (r *Report) placeMarks(x scale, width float64) []placedMark {
	const gap = 5
	marks := r.marks()
	list := make([]placedMark, len(marks))
	var left, right []int
	for i, m := range marks {
		p := placedMark{at: x.at(m.at()), text: fmt.Sprintf("%s: %s rows", m.Name, thousands(strconv.FormatInt(m.Rows, 10)))}
		p.width = min(textWidth(p.text, false), width-2*margin)
		if p.x = p.at - gap - p.width; p.x >= margin {
			left = append(left, i)
		} else {
			right = append(right, i)
			p.x = min(p.at+gap, width-margin-p.width)
		}
		list[i] = p
	}
	slices.Reverse(right)
	for row, i := range append(left, right...) {
		list[i].row = row
	}
	return list
}

// at returns the position of a limit's line: between the last size that fits and the next.
func (m LimitMark) at() float64 { return float64(m.Rows) + 0.5 }
