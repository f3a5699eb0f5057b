package anytable

import (
	"maps"
	"slices"

	"github.com/brianvoe/gofakeit/v7/data"
)

// lists are the words of patterns, by name. They are of a library made for sensible values, which
// is too slow to be called for each value: one call takes as long as all columns of a row here.
var lists = map[string][]string{
	"first":     of("person", "first"),
	"last":      of("person", "last"),
	"prefix":    of("person", "prefix"),
	"hobby":     of("person", "hobby"),
	"city":      of("address", "city"),
	"state":     of("address", "state"),
	"state2":    of("address", "state_abr"),
	"country":   of("address", "country"),
	"country2":  of("address", "country_abr"),
	"street":    streets(),
	"company":   companies(),
	"industry":  of("company", "buzzwords"),
	"job":       of("job", "title"),
	"level":     of("job", "level"),
	"adjective": of("product", "adjective"),
	"material":  of("product", "material"),
	"product":   of("product", "name"),
	"category":  of("product", "category"),
	"word":      of("lorem", "word"),
	"color":     of("color", "full"),
	"currency":  of("currency", "short"),
	"money":     of("currency", "long"),
	"language":  of("language", "long"),
	"locale":    of("language", "bcp"),
	"lang2":     of("language", "short"),
	"mime":      of("file", "mime_type"),
	"extension": of("file", "extension"),
	"domain":    of("internet", "domain_suffix"),
	"agent":     of("internet", "browser"),
	"method":    of("internet", "http_method"),
	"zone":      of("timezone", "region"),
	"book":      of("book", "title"),
	"genre":     of("book", "genre"),
	"song":      of("song", "name"),
	"artist":    of("song", "artist"),
	"movie":     of("movie", "name"),
	"bank":      of("bank", "name"),
	"animal":    of("animal", "type"),
	"car":       of("car", "model"),
	"maker":     of("car", "maker"),
}

// words are those of sentences.
var words = lists["word"]

// of returns the words of a list that are ASCII without quotes and not long, each once.
func of(kind, name string) []string {
	var list []string
	for _, w := range data.Data[kind][name] {
		if len(w) > 0 && len(w) <= 40 && !slices.ContainsFunc([]byte(w), func(b byte) bool { return b < ' ' || b > '~' || b == '"' || b == '\'' || b == '\\' }) {
			list = append(list, w)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func streets() []string {
	var list []string
	suffixes := of("address", "street_suffix")
	for i, name := range of("person", "last") {
		if len(suffixes) > 0 && i%3 == 0 {
			s := suffixes[i/3%len(suffixes)]
			list = append(list, name+" "+string(s[0]&^0x20)+s[1:])
		}
	}
	return list
}

func companies() []string {
	suffixes := []string{"Inc", "LLC", "Ltd", "Group", "Partners", "and Sons", "Works", "Labs"}
	var list []string
	for i, name := range of("person", "last") {
		if i%2 == 0 {
			list = append(list, name+" "+suffixes[i/2%len(suffixes)])
		}
	}
	return list
}

func listNames() []string { return slices.Sorted(maps.Keys(lists)) }

// listsVersion tells the lists of one version of loader from those of another. A load whose rows
// are made of other lists cannot go on.
var listsVersion = func() string {
	var h uint64
	for _, name := range listNames() {
		for _, w := range lists[name] {
			h = streamOf(h, name+w)
		}
	}
	return string(appendCode(nil, h>>1, 12))
}()
