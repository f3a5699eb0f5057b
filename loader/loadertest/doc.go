// Package loadertest is the test kit of the loader: real databases, a proxy
// that puts faults between a client and the real server, and checks that say
// exactly what a load left behind.
//
// The parts can be used on their own:
//
//   - [Proxy] and [Fault]: the wire between client and server, broken at the
//     n-th message of a kind.
//   - [ForEachServer], [Server] and [Main]: PostgreSQL and CockroachDB for
//     tests, a fresh database each.
//   - [ServersVar]: which versions of them, for any suite.
//   - [CheckTable], [CheckNoLeaks] and [Canary]: what must hold afterwards.
//
// It knows nothing of the loader: it takes URLs, rows and outputs, so that a
// fault in the loader cannot hide in its own test kit. Only tests import it.
package loadertest
