package keysize

// invertedCost bounds the amount that a row adds to an inverted index. Such an index has one
// key per element of an array, path of a JSON document, trigram or lexeme of a text, or cell of
// a shape. key is the size of the rest of each key.
//
// A record of r bytes has at most about r/2 elements (each needs a byte and a separator).
// Together the elements of an array are as long as the record. In JSON, each path repeats the
// names above it. A name or a bracket takes no more bytes in a key than in the text. So n
// leaves of at least two bytes leave r-2n bytes for the names above them, which makes n(r-2n)
// bytes in total, at most r²/8. The bound must be linear in r, so one factor r of the square is
// the length of the longest record.
//
// Source: EncodeInvertedIndexTableKeys of pkg/sql/rowenc/index_encoding.go and
// encodeInvertedIndexKeys of pkg/util/json/json.go, v21.1.5.
func (s Schema) invertedCost(x *Index, key Size, g RowInfo) IndexCost {
	longest := g.MaxRecordBytes
	if longest <= 0 {
		longest = DefaultMaxRecordBytes
	}
	c := x.Columns[len(x.Columns)-1]
	cost := IndexCost{Index: x, KVs: 1, Key: Size{Guess: key.Guess || c.Computed}}
	rest := key.For(longest) + FamilySuffixBytes(0)
	scale := int64(1)
	if countsCapacity(g.Major, g.Minor) {
		// Count each element twice, as in textCapacity: its key grows from a copy of the prefix.
		scale, rest = 2, 2*rest+invertedRounding+spanStruct
	}

	// For elements: elem is the length of each beyond its text, elemPerByte the bytes of all
	// together per byte of the record.
	var elem, elemPerByte int64
	var each int64 = 2 // minimum bytes of the record per element
	switch {
	case c.Kind == KeyGeo:
		// At most 30 cells (s2_max_cells), each with a marker, a cell number, a kind and a
		// bounding box of four floats.
		const cells = 30
		cost.KVs = cells
		cost.Key.Bytes = cells * (rest + scale*(1+9+1+4*8))
		return cost
	case x.Trigram:
		each, elem = 1, 3+3*4 // three characters; a word of n has n+1 of them
	case c.Kind == KeyArray:
		z := KeyColumn{Kind: c.Elem}.Size()
		elem, elemPerByte = z.Bytes, z.PerByte
		cost.Key.Guess = cost.Key.Guess || z.Guess
	case c.Kind == KeyJSON:
		// A number has the longest leaf relative to its text. Zero bytes, which a key doubles,
		// take six characters in JSON.
		elem, elemPerByte = 3+9, (longest+7)/8+1
	case c.Kind == KeyTSVector:
		elem, elemPerByte = 3, 1
	default:
		elem, elemPerByte = guessedTextBytes, 2
		cost.Key.Guess = true
	}
	elem, elemPerByte = scale*elem, scale*elemPerByte
	if n := g.MaxElements; n > 0 && (c.Kind == KeyArray || c.Kind == KeyJSON) {
		cost.KVs = n
		cost.Key.Bytes = n * (rest + elem)
		cost.Key.PerByte = min(n*scale, elemPerByte)
		return cost
	}
	cost.KVsPerByte = (1 + each - 1) / each
	cost.Key.Bytes = rest + elem
	cost.Key.PerByte = (rest+elem+each-1)/each + elemPerByte
	return cost
}

// invertedRounding is what a doubled prefix is rounded up by, as long as it is below 256 bytes.
const invertedRounding = 14
