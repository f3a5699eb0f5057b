package localdb

import "syscall"

const canMap = true

// tie makes the kernel kill the process when the thread that started it ends.
func tie(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// mapToNobody runs the process in a user namespace. Inside, it is nobody and owns root's
// files; to the rest of the system it is root.
func mapToNobody(a *syscall.SysProcAttr) {
	a.Cloneflags |= syscall.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: 0, Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: nobody, HostID: 0, Size: 1}}
	a.Credential = nil
}
