package loadertest_test

func init() { guards = append(guards, registryGuards...) }

// registryGuards are those of the registry's versions and of its protocol.
var registryGuards = []guard{
	{"a registry of an earlier version is one", "loader/registry/schema.go",
		"case f.ours():", "case f.ours() && f.version == Version:",
		"./loader/registry", "TestEarlierRegistries/PostgreSQL", "no registry in this database", false},
	{"an earlier registry is upgraded before it is written", "loader/registry/schema.go",
		"if !r.older.Load() {\n\t\treturn nil", "if true {\n\t\treturn nil",
		"./loader/registry", "TestEarlierRegistries/PostgreSQL", "an upgraded registry is", false},
	{"a newer registry is refused", "loader/registry/schema.go",
		"case f.version > Version:", "case f.version > 1000:",
		"./loader/registry", "TestNewerRegistry/PostgreSQL", "newer registry gives <nil>", false},
	{"a schema of others is left alone", "loader/registry/schema.go",
		"f.ours() || history {", "f.ours() || history || true {",
		"./loader/registry", "TestSchemaOfOthers/PostgreSQL", "want a SchemaError that names the schema", false},
	{"transfers leave a schema of others alone", "loader/bank/history.go",
		"if foreign != nil {", "if false {",
		"./loader/bank", "TestSchemaOfOthers/PostgreSQL", "want a SchemaError that names what", false},
}
