//! The private root: a small tmpfs that holds just what the run declares, and nothing of the host
//! behind it. Runs inside the new namespaces, before the machine starts.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Launch, RootEntry, Trouble};

const NONE: Option<&str> = None;

/// How trouble begins where the host refuses mounts in a user namespace.
pub const NO_MOUNTS: &str = "mounts are refused";

/// Builds the private root and moves into it.
///
/// # Errors
/// The call that failed, the path, and the errno's words.
pub fn enter(launch: &Launch) -> Result<(), Trouble> {
    let new = launch.mount_on.as_path();
    step("mount / private", Path::new("/"), || {
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
    })?;
    step("mount a tmpfs on", new, || {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("lab"), new, Some("tmpfs"), flags, Some("size=4m,mode=755"))
    })?;
    for entry in &launch.root {
        make(entry, new)?;
    }
    // pivot_root(2), "pivot_root(".", ".")": the old root lies over the new one until detached.
    step("enter", new, || nix::unistd::chdir(new))?;
    step("pivot_root to", new, || nix::unistd::pivot_root(".", "."))?;
    step("leave the old root", Path::new("/"), || umount2(".", MntFlags::MNT_DETACH))?;
    step("enter", Path::new("/"), || nix::unistd::chdir("/"))
}

fn make(entry: &RootEntry, new: &Path) -> Result<(), Trouble> {
    match entry {
        RootEntry::Folder(at) => folder(&below(new, at)),
        RootEntry::Link { at, to } => {
            let at = below(new, at);
            folder(at.parent().unwrap_or(new))?;
            std::os::unix::fs::symlink(to, &at).map_err(|e| words("link", &at, &e))
        }
        RootEntry::Bind { host, at, readonly } => bind(host, &below(new, at), *readonly),
        RootEntry::Memory { at, size } => {
            let at = below(new, at);
            folder(&at)?;
            let options = format!("size={size},mode=700");
            step("mount a tmpfs on", &at, || {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                mount(Some("memory"), &at, Some("tmpfs"), flags, Some(options.as_str()))
            })
        }
        RootEntry::Proc(at) => {
            let at = below(new, at);
            folder(&at)?;
            // Read-only: where the lab runs as root, the machine is the host's root to /proc/sys,
            // which asks for the user and not for capabilities.
            let flags =
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
            match mount(Some("proc"), &at, Some("proc"), flags, NONE) {
                Ok(()) | Err(Errno::EPERM | Errno::EBUSY) => Ok(()),
                Err(errno) => Err(format!("mount proc: {}", errno.desc())),
            }
        }
    }
}

fn bind(host: &Path, at: &Path, readonly: bool) -> Result<(), Trouble> {
    let metadata = std::fs::metadata(host).map_err(|e| words("look at", host, &e))?;
    if metadata.is_dir() {
        folder(at)?;
    } else {
        folder(at.parent().unwrap_or(Path::new("/")))?;
        std::fs::File::create(at).map_err(|e| words("make", at, &e))?;
    }
    // Recursive: in a user namespace what lies mounted below a folder is locked to it.
    step("bind", host, || mount(Some(host), at, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE))?;
    if readonly { make_readonly(at) } else { Ok(()) }
}

/// Read-only with everything below; mount_setattr(2) where the host's kernel has it (5.12).
fn make_readonly(at: &Path) -> Result<(), Trouble> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let attr = MountAttr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns: 0 };
    let path = std::ffi::CString::new(at.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: the path is NUL-terminated, and the structure is mount_setattr(2)'s version 0.
    let done = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &attr,
            size_of::<MountAttr>(),
        )
    });
    match done {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS) if mounts_below(at) => Err(format!(
            "make {} read-only: file systems are mounted below it, and this host's kernel is older \
             than 5.12",
            at.display()
        )),
        Err(Errno::ENOSYS) => step("remount read-only", at, || {
            let kept = MsFlags::from_bits_truncate(kept_flags(at)?);
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept;
            mount(NONE, at, NONE, flags, NONE)
        }),
        Err(errno) => Err(format!("make {} read-only: {}", at.display(), errno.desc())),
    }
}

/// Whether anything is mounted below `at`; yes where that cannot be told.
fn mounts_below(at: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return true };
    // The fifth field is the mount point (proc(5)).
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(Path::new).any(|point| point != at && point.starts_with(at))
}

/// The flags that a remount in a user namespace must repeat, or it is refused.
fn kept_flags(at: &Path) -> nix::Result<libc::c_ulong> {
    use nix::sys::statvfs::{FsFlags, statvfs};
    let now = statvfs(at)?.flags();
    let table = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    Ok(table.iter().filter(|(st, _)| now.contains(*st)).fold(0, |all, (_, ms)| all | ms.bits()))
}

fn below(new: &Path, at: &Path) -> PathBuf {
    new.join(at.strip_prefix("/").unwrap_or(at))
}

fn folder(at: &Path) -> Result<(), Trouble> {
    std::fs::create_dir_all(at).map_err(|e| words("make", at, &e))
}

fn step(what: &str, path: &Path, call: impl FnOnce() -> nix::Result<()>) -> Result<(), Trouble> {
    call().map_err(|errno| {
        let words = format!("{what} {}: {}", path.display(), errno.desc());
        match errno {
            Errno::EPERM | Errno::EACCES => format!("{NO_MOUNTS}: {words}"),
            _ => words,
        }
    })
}

fn words(what: &str, path: &Path, error: &std::io::Error) -> Trouble {
    format!("{what} {}: {}", path.display(), crate::manifest::errno_words(error))
}
