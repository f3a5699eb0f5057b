package bench

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ParseChunks parses a list of chunk sizes from 1 to high: 100,1000,5000. It returns nil for
// "auto".
func ParseChunks(text string, high int64) ([]int64, error) {
	if text == "auto" {
		return nil, nil
	}
	list, err := parse(text, 1, high)
	if err != nil {
		return nil, fmt.Errorf("auto, or %w", err)
	}
	return list, nil
}

// ParseWorkers parses a list of numbers of workers from 1 to high. For "auto" it returns 0,
// the default of a load.
func ParseWorkers(text string, high int64) ([]int, error) {
	if text == "auto" {
		return []int{0}, nil
	}
	list, err := parse(text, 1, high)
	if err != nil {
		return nil, fmt.Errorf("auto, or %w", err)
	}
	var workers []int
	for _, n := range list {
		workers = append(workers, int(n))
	}
	return workers, nil
}

// parse parses comma-separated numbers and returns them sorted, without duplicates.
func parse(text string, low, high int64) ([]int64, error) {
	var list []int64
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseInt(strings.ReplaceAll(strings.TrimSpace(part), "_", ""), 10, 64)
		if err != nil || n < low || n > high {
			return nil, fmt.Errorf("comma-separated whole numbers from %d to %d, not %q", low, high, text)
		}
		list = append(list, n)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}
