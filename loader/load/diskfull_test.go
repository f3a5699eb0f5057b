//go:build linux

package load_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

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

// fill writes a file until the disk has no more than left bytes, and returns its name.
func fill(t *testing.T, dir string, left int64) string {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(s.Bavail)*s.Bsize-left); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestDiskOfTheServerIsFull fills the server's disk while a load runs, by half of its
// rows. The load ends, or is still trying, when the space is back; what is in is whole
// chunks; the resumed load is exact.
func TestDiskOfTheServerIsFull(t *testing.T) {
	loadertest.Long(t)
	for _, p := range []server.Product{server.PostgreSQL, server.CockroachDB} {
		t.Run(p.String(), func(t *testing.T) {
			mib := "160"
			if p == server.CockroachDB {
				mib = "320"
			}
			disk := smallDisk(t, mib)
			t.Setenv("TMPDIR", disk)
			srv, db := loadertest.OwnServer(t, p)
			for _, sub := range few(subjects(srv)) {
				t.Run(sub.String(), func(t *testing.T) {
					url := srv.NewDatabase(t)
					const n = 200_000
					sub.Chunk, sub.RetryFor = 500, 4*time.Second
					sub.ChunkTimeout = 3 * time.Second
					x := sub.hold(t, url, n)
					ballast := fill(t, disk, 8<<20)
					x.run(t)
					_, err := x.wait()
					t.Logf("the load on a full disk: %v", err)
					if err == nil {
						t.Error("the disk was never full")
					}
					x.Close()
					if err := os.Remove(ballast); err != nil {
						t.Fatal(err)
					}
					// PostgreSQL ends itself when there is no space for its log, and CockroachDB
					// for its store.
					if !db.Running() {
						t.Log("the server has ended itself")
						if err := db.Restart(context.Background()); err != nil {
							t.Fatal(err)
						}
					}
					if c := sub.count(t, url); c%500 != 0 {
						t.Errorf("%d rows are in: a chunk is there by half", c)
					}
					resume(t, url, x.Load, sub.Settings)
					sub.exact(t, url, x.Load, n)
				})
			}
		})
	}
}
