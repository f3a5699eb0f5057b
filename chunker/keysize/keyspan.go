package keysize

// From 22.2 on, the coordinator of a transaction counts two things for each key: the Span structure
// that holds it, and the capacity of the structure's slices, not their length. The capacity results
// from Go's append while the key is built. The functions of this file simulate that step by step.
//
// If the gateway buffers writes, keys of non-unique indexes count less. Measured on 26.1, by the row
// at which the coordinator condenses: go test -run Proof ./loader/server with
// LOADER_TEST_SERVERS=cockroach-26.1. Source of the steps: EncodeIndexKey of
// pkg/sql/rowenc/index_encoding.go, v22.2 to v26.1, and growslice and roundupsize of Go's runtime.

// spanStruct is the size of a Span without its keys (roachpb.SpanOverhead).
const spanStruct = 48

// maxFollowed is the longest key whose growth is computed step by step. Longer keys get an
// upper bound.
const maxFollowed = 256

// countsCapacity reports whether this version counts capacities. An unknown version (major
// zero) is assumed to, because that counts more.
func countsCapacity(major, minor int) bool {
	return major == 0 || major > 22 || major == 22 && minor >= 2
}

// A piece is the number of bytes that one append adds to a key: least to most.
type piece struct{ least, most int64 }

// pieces returns the appends for a value of the column, whose size is at most z.
func (c KeyColumn) pieces(z Size) []piece {
	if z.Exact {
		return []piece{{z.Bytes, z.Bytes}}
	}
	least := int64(1)
	if c.Kind == KeyInt && c.Ints != nil && !c.Nullable {
		least, _ = IntKeyBytesIn(c.Ints.First, c.Ints.Last, c.Desc)
	}
	switch c.Kind {
	case KeyInt, KeyBool, KeyDate, KeyOID:
		return []piece{{least, z.Bytes}}
	case KeyFloat, KeyDecimal, KeyTime, KeyTimeTZ, KeyTimestamp, KeyInterval, KeyBox2D:
		// A marker, followed by one or more values.
		return []piece{{1, 1}, {0, z.Bytes - 1}}
	}
	// A marker, the bytes up to each zero, and a terminator.
	return []piece{{1, 1}, {0, max(z.Bytes-3, 0)}, {0, 2}}
}

// unknownColumns is the number of columns up to which all counts are tried if the table's
// number of columns is unknown. More columns make the first slice larger, so that it is less
// likely to grow.
const unknownColumns = 24

// A slice is a key under construction.
type slice struct{ length, capacity int64 }

// beginnings returns the initial slices of keys with a prefix of prefix bytes, for a table with
// the given number of columns. If columns is zero (unknown), it returns one slice per possible
// number.
func beginnings(prefix, columns int64) map[slice]bool {
	if columns > 0 {
		return map[slice]bool{{prefix, 2*prefix + 2*columns}: true}
	}
	list := map[slice]bool{}
	for n := range int64(unknownColumns) {
		list[slice{prefix, 2*prefix + 2*(n+1)}] = true
	}
	return list
}

// with returns the slices after appending pieces.
func with(slices map[slice]bool, pieces ...piece) map[slice]bool {
	for _, p := range pieces {
		next := map[slice]bool{}
		for s := range slices {
			for n := p.least; n <= p.most; n++ {
				grown := slice{s.length + n, s.capacity}
				if grown.length > s.capacity {
					grown.capacity = grownTo(s.capacity, grown.length)
				}
				next[grown] = true
			}
		}
		slices = next
	}
	return slices
}

// clipped returns the slices with their capacity reduced to their length.
func clipped(slices map[slice]bool) map[slice]bool {
	list := map[slice]bool{}
	for s := range slices {
		list[slice{s.length, s.length}] = true
	}
	return list
}

// mostCapacity returns the largest capacity, and whether all slices have it.
func mostCapacity(slices map[slice]bool) (most int64, same bool) {
	least := int64(-1)
	for s := range slices {
		most = max(most, s.capacity)
		if least < 0 || s.capacity < least {
			least = s.capacity
		}
	}
	return most, least == most
}

// grownTo returns the new capacity of a byte slice that has to grow to length bytes
// (growslice).
func grownTo(capacity, length int64) int64 {
	const threshold = 256
	switch {
	case length > 2*capacity:
		return sizeClass(length)
	case capacity < threshold:
		return sizeClass(2 * capacity)
	}
	for capacity < length {
		capacity += (capacity + 3*threshold) / 4
	}
	return sizeClass(capacity)
}

// sizeClasses are the size classes of Go's allocator up to 2 KiB (runtime/sizeclasses.go).
var sizeClasses = []int64{8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256,
	288, 320, 352, 384, 416, 448, 480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048}

// sizeClass returns the number of bytes allocated for n bytes; above 2 KiB, an upper bound.
func sizeClass(n int64) int64 {
	for _, c := range sizeClasses {
		if n <= c {
			return c
		}
	}
	return n + n/4 // neighbouring classes differ by less than a fifth
}

// textCapacity bounds the capacity of a text key: twice its length, plus the extra bytes of the
// smallest slices.
func textCapacity(key Size) Size {
	return Size{Bytes: 2*key.Bytes + 8, PerByte: 2 * key.PerByte, Guess: key.Guess}
}

// span returns the bytes that the coordinator counts for one key of x with the given family.
// key is the size of the key before the family suffix. cols are the key's columns; the first
// own of them are the index's own.
func (s Schema) span(x *Index, key Size, cols []KeyColumn, own int, family int, g RowInfo) Size {
	suffix := FamilySuffixBytes(family)
	length := Size{Bytes: key.Bytes + suffix, PerByte: key.PerByte, Exact: key.Exact, Guess: key.Guess}
	if !countsCapacity(g.Major, g.Minor) {
		return length
	}
	if key.PerByte > 0 || x.Ancestors > 0 || key.Bytes > maxFollowed {
		size := textCapacity(length)
		size.Bytes += spanStruct
		return size
	}
	prefix := s.prefix(x)
	var list []piece
	var rest piece
	for i, c := range cols {
		z := c.Size()
		if i < own {
			list = append(list, c.pieces(z)...)
			continue
		}
		least := int64(0)
		for _, p := range c.pieces(z) {
			least += p.least
		}
		rest.least, rest.most = rest.least+least, rest.most+z.Bytes
	}
	if len(cols) > own {
		if x.Unique && !x.Primary {
			rest.least = 0
		}
		list = append(list, rest)
	}
	keys := with(beginnings(prefix.Bytes, int64(s.Columns)), list...)
	end := []piece{{suffix, suffix}}
	if family != 0 {
		// The slice belongs to family 0. The keys of other families start as a copy of it; the
		// family's number and its length are appended separately.
		keys, end = clipped(keys), []piece{{suffix - 1, suffix - 1}, {1, 1}}
	}
	capacity, same := mostCapacity(with(keys, end...))
	return Size{Bytes: spanStruct + capacity, Exact: key.Exact && same, Guess: key.Guess}
}
