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

// pieces returns the appends for a value of the column, whose size is at most z. For byteStrings,
// withBytes is closer.
func (c KeyColumn) pieces(z Size) []piece {
	if z.Exact {
		return []piece{{z.Bytes, z.Bytes}}
	}
	least := int64(1)
	if c.Kind == KeyInt && c.Ints != nil && !c.Nullable {
		least, _ = IntKeyBytesIn(c.Ints.First, c.Ints.Last, c.Desc)
	}
	marker := piece{1, 1}
	var list []piece
	switch c.Kind {
	case KeyInt, KeyBool, KeyDate, KeyTime, KeyOID:
		return []piece{{least, z.Bytes}}
	case KeyTimeTZ:
		return []piece{marker, {0, timeTZInstant}, {0, timeTZOffset}}
	case KeyTimestamp:
		return []piece{marker, {0, timestampSeconds}, {0, timestampNanos}}
	case KeyInterval:
		return []piece{marker, {0, intervalNanos}, {0, intervalMonths}, {0, intervalDays}}
	case KeyBox2D:
		list = []piece{marker}
		for range 4 {
			list = append(list, piece{0, 1}, piece{0, 8})
		}
		return list
	case KeyBit:
		list = []piece{marker}
		for range (c.Width + 63) / 64 {
			list = append(list, piece{0, 9})
		}
		return append(list, piece{0, 1}, piece{0, 2})
	case KeyFloat, KeyDecimal:
		return []piece{marker, {0, z.Bytes - 1}}
	}
	// A marker, the bytes, and a terminator.
	return []piece{marker, {0, max(z.Bytes-3, 0)}, {0, 2}}
}

// A byteString is a value in a key that consists of bytes, with the number of those at its
// beginning that are never 0x00.
type byteString struct{ length, notZero int64 }

// byteStrings returns the values of a column whose values have few possible lengths in bytes.
func (c KeyColumn) byteStrings() []byteString {
	switch c.Kind {
	case KeyUUID:
		return []byteString{{uuidBytes, 0}}
	case KeyINet:
		return []byteString{{inet4Bytes, 0}, {inet6Bytes, 1}} // the family of IPv6 is 1
	}
	return nil
}

// withColumn returns the slices after appending a value of the column, whose size is at most z.
func withColumn(keys sliceSet, c KeyColumn, z Size) sliceSet {
	list := c.byteStrings()
	if list == nil {
		return with(keys, c.pieces(z)...)
	}
	all := sliceSet{}
	if c.Nullable {
		all = with(keys, piece{NullKeyBytes, NullKeyBytes})
	}
	for _, b := range list {
		for s := range withBytes(keys, b) {
			all[s] = true
		}
	}
	return all
}

// withBytes returns the slices after appending bytes of any value: a marker, then the bytes up to
// each zero and the two bytes that replace it, the rest, and a terminator of two.
func withBytes(keys sliceSet, b byteString) sliceSet {
	// reached[n] are the slices after n bytes, the last of them a zero.
	reached := make([]sliceSet, b.length+1)
	for n := range reached {
		reached[n] = sliceSet{}
	}
	for s := range keys {
		reached[0][s.plus(1)] = true
	}
	all := sliceSet{}
	for n := range b.length + 1 {
		for s := range reached[n] {
			for zero := max(n, b.notZero); zero < b.length; zero++ {
				reached[zero+1][s.plus(zero-n).plus(2)] = true
			}
			all[s.plus(b.length-n).plus(2)] = true
		}
	}
	return all
}

// unknownColumns is the number of columns up to which all counts are tried if the table's
// number of columns is unknown. More columns make the first slice larger, so that it is less
// likely to grow.
const unknownColumns = 24

// A slice is a key under construction.
type slice struct{ length, capacity int64 }

// A sliceSet is everything that a key can be at one step of its construction.
type sliceSet map[slice]bool

// plus returns the slice after appending n bytes.
func (s slice) plus(n int64) slice {
	s.length += n
	if s.length > s.capacity {
		s.capacity = grownTo(s.capacity, s.length)
	}
	return s
}

// firstCapacity is the capacity of an index's keys when they begin with a prefix of prefix bytes,
// in a table of the given number of columns.
func firstCapacity(prefix, columns int64) int64 { return 2*prefix + 2*columns }

// beginnings returns the initial slices of keys with a prefix of prefix bytes, for a table with
// the given number of columns. If columns is zero (unknown), it returns one slice per possible
// number.
func beginnings(prefix, columns int64) sliceSet {
	if columns > 0 {
		return sliceSet{{prefix, firstCapacity(prefix, columns)}: true}
	}
	list := sliceSet{}
	for n := range int64(unknownColumns) {
		list[slice{prefix, firstCapacity(prefix, n+1)}] = true
	}
	return list
}

// with returns the slices after appending pieces.
func with(keys sliceSet, pieces ...piece) sliceSet {
	for _, p := range pieces {
		next := sliceSet{}
		for s := range keys {
			for n := p.least; n <= p.most; n++ {
				next[s.plus(n)] = true
			}
		}
		keys = next
	}
	return keys
}

// clipped returns the slices with their capacity reduced to their length.
func clipped(keys sliceSet) sliceSet {
	list := sliceSet{}
	for s := range keys {
		list[slice{s.length, s.length}] = true
	}
	return list
}

// mostCapacity returns the largest capacity, and whether all slices have it.
func mostCapacity(keys sliceSet) (most int64, same bool) {
	least := int64(-1)
	for s := range keys {
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

// textCapacity bounds the capacity of a text key of x with the given family. key is its size with
// the family's suffix.
//
// A slice that never grows keeps its first capacity, which is large in a table of many columns. One
// that grows gets at most twice what it outgrew, in whole size classes: no more than twice the key
// without its last byte, plus the rounding of the doubled first capacity. Doubled classes are
// classes, or are rounded by less than their growth falls behind double. Keys of a family other
// than 0 grow from a copy of any length.
//
// Note: a closer bound would have to know each text. The capacity of a key that has just outgrown
// its slice is nearly twice its length.
func (s Schema) textCapacity(x *Index, key Size, family int) Size {
	var first, rounding int64
	for begun := range beginnings(s.prefix(x).Bytes, int64(s.Columns)) {
		c := begun.capacity
		first, rounding = max(first, c), max(rounding, grownTo(c, c+1)-2*c)
	}
	if family != 0 {
		first, rounding = 0, copyRounding
	}
	return Size{Bytes: max(first, 2*(key.Bytes-1)+rounding), PerByte: 2 * key.PerByte, Guess: key.Guess}
}

// copyRounding is the most by which a slice of any length is more than doubled as it grows: the
// step between size classes of about 512 bytes.
const copyRounding = 64

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
		size := s.textCapacity(x, length, family)
		size.Bytes += spanStruct
		return size
	}
	prefix := s.prefix(x)
	keys := beginnings(prefix.Bytes, int64(s.Columns))
	var rest piece
	for i, c := range cols {
		z := c.Size()
		if i < own {
			keys = withColumn(keys, c, z)
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
		keys = with(keys, rest)
	}
	end := []piece{{suffix, suffix}}
	if family != 0 {
		// The slice belongs to family 0. The keys of other families start as a copy of it; the
		// family's number and its length are appended separately.
		keys, end = clipped(keys), []piece{{suffix - 1, suffix - 1}, {1, 1}}
	}
	capacity, same := mostCapacity(with(keys, end...))
	return Size{Bytes: spanStruct + capacity, Exact: key.Exact && same, Guess: key.Guess}
}
