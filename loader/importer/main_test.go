package importer_test

import (
	"testing"

	"bulkload/loader/loadertest"
)

func TestMain(m *testing.M) { loadertest.Main(m) }
