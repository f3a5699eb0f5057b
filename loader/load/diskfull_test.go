//go:build linux

package load_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkload/loader"
	"bulkload/loader/loadertest"
	"bulkload/loader/server"
)

// smallDisk mounts a file system of so many MiB and returns its directory, or skips the
// test where only root may do that.
func smallDisk(t *testing.T, mib string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ld")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+mib+"m,mode=0755"); err != nil {
		loadertest.Skip(t, "a small disk needs root: mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fill writes a file until the disk has no more than left bytes, or near that: others may
// write meanwhile. The file's name is ballast.
func fill(dir string, left int64) error {
	f, err := os.Create(filepath.Join(dir, ballast))
	if err != nil {
		return err
	}
	defer f.Close()
	for size := int64(0); ; {
		var s syscall.Statfs_t
		if err := syscall.Statfs(dir, &s); err != nil {
			return err
		}
		more := int64(s.Bavail)*s.Bsize - left
		if more <= 0 {
			return nil
		}
		switch err := syscall.Fallocate(int(f.Fd()), 0, size, more); err {
		case nil:
			size += more
		case syscall.ENOSPC, syscall.EINTR: // somebody was faster
		default:
			return err
		}
	}
}

const ballast = "ballast"

// TestDiskOfTheServerIsFull fills the server's disk when the first rows of a load are in.
// The load gives up, by the server's reason where it still says one; what is in is whole
// chunks; the load that is resumed when the space is back is exact.
func TestDiskOfTheServerIsFull(t *testing.T) {
	loadertest.Long(t)
	for _, p := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(p.String(), func(t *testing.T) {
			mib := "160"
			if p == server.CockroachDB {
				mib = "512" // its log alone takes room ahead, 64 MiB at a time
			}
			disk := smallDisk(t, mib)
			t.Setenv("TMPDIR", disk)
			srv, db := loadertest.OwnServer(t, p)
			for _, sub := range few(subjects(srv)) {
				t.Run(sub.String(), func(t *testing.T) {
					url := srv.NewDatabase(t)
					const n = 80_000
					sub.Chunk, sub.RetryFor, sub.ChunkTimeout = 500, 2*time.Second, 3*time.Second
					var once sync.Once
					var full error
					sub.Observe = func(loader.Event) { once.Do(func() { full = fill(disk, 1<<20) }) }
					x := sub.startDirect(t, url, n)
					_, err := x.wait()
					t.Logf("the load on a full disk: %v", err)
					if full != nil {
						t.Fatal(full)
					}
					x.Close()
					if err := os.Remove(filepath.Join(disk, ballast)); err != nil {
						t.Fatal(err)
					}
					if !errors.Is(err, loader.ErrGaveUp) {
						t.Errorf("got %v, want to give up", err)
					}
					// PostgreSQL ends itself when there is no space for its log, and CockroachDB
					// for its store.
					if !db.Running() {
						t.Log("the server has ended itself")
						if err := db.Restart(context.Background()); err != nil {
							t.Fatal(err)
						}
					} else if p == server.PostgreSQL && server.Code(err) != "53100" {
						t.Errorf("got %v, want the SQLSTATE of a full disk", err)
					}
					if c := sub.count(t, url); c == 0 || c == n || c%500 != 0 {
						t.Errorf("%d rows are in; want a part, in whole chunks", c)
					}
					resume(t, url, x.Load, sub.Settings)
					sub.exact(t, url, x.Load, n)
				})
			}
		})
	}
}
