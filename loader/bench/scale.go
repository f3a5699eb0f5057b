package bench

import (
	"math"
	"slices"
	"strconv"
)

// A scale maps the values from low to high to pixels, linearly or by their logarithm.
type scale struct {
	low, high float64
	from, to  float64 // pixels
	log       bool
}

func (s scale) at(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return s.from + (s.to-s.from)*(v-low)/(high-low)
}

// A tick is a marked value of an axis.
type tick struct {
	value float64
	label string // empty without room for it
	rank  int    // the lower ones get labels first
}

// ticks returns the marked values of a scale. size returns the room that a label takes along the
// axis, in pixels.
func (s scale) ticks(size func(label string) float64) []tick {
	list := linearTicks(s.low, s.high)
	if s.log {
		list = logTicks(s.low, s.high)
	}
	var kept []tick
	for rank := range 3 {
		for i := range list {
			t := &list[i]
			if t.rank != rank {
				continue
			}
			if slices.ContainsFunc(kept, func(k tick) bool {
				return math.Abs(s.at(k.value)-s.at(t.value)) < (size(k.label)+size(t.label))/2
			}) {
				t.label = ""
				continue
			}
			kept = append(kept, *t)
		}
	}
	return list
}

// logTicks marks one to nine times the powers of ten. Powers have the best rank, then two and
// five times them. The others have labels only within a decade.
func logTicks(low, high float64) []tick {
	var list []tick
	for decade := math.Pow(10, math.Floor(math.Log10(low))); decade <= high; decade *= 10 {
		for i := 1; i < 10; i++ {
			x := float64(i) * decade
			if x < low || x > high {
				continue
			}
			t := tick{value: x, rank: 2}
			switch i {
			case 1:
				t.rank = 0
			case 2, 5:
				t.rank = 1
			}
			if t.rank < 2 || high < 10*low {
				t.label = thousands(strconv.FormatFloat(x, 'f', max(0, -int(math.Floor(math.Log10(decade)+1e-9))), 64))
			}
			list = append(list, t)
		}
	}
	return list
}

// linearTicks marks about five round numbers.
func linearTicks(low, high float64) []tick {
	step := math.Pow(10, math.Floor(math.Log10((high-low)/4)))
	for _, times := range []float64{1, 2, 2.5, 5, 10} {
		if (high-low)/(step*times) <= 6 {
			step *= times
			break
		}
	}
	var list []tick
	decimals := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	if math.Abs(step*math.Pow10(decimals)-math.Round(step*math.Pow10(decimals))) > 1e-9 {
		decimals++ // steps of 2.5
	}
	for i := math.Ceil(low / step); i*step <= high; i++ {
		label := strconv.FormatFloat(i*step, 'f', decimals, 64)
		if decimals == 0 {
			label = thousands(label)
		}
		list = append(list, tick{value: i * step, label: label})
	}
	return list
}
