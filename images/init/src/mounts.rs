//! What every guest has mounted before the host's plan arrives, and its device nodes and links.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use lab_proto::GuestShare;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::trouble::{Context, Result};

/// A line of the mount table.
struct Mount {
    fstype: &'static str,
    target: &'static str,
    flags: MsFlags,
    data: &'static str,
    /// Left out where the kernel does not have it.
    optional: bool,
}

const NONE: MsFlags = MsFlags::empty();
const NO_SUID: MsFlags = MsFlags::MS_NOSUID;
const SYSTEM: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const SHARED: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// In order. /tmp is a tmpfs because overlayfs takes no upper folder on rootfs where that is a ramfs.
#[rustfmt::skip]
const TABLE: &[Mount] = &[
    Mount { fstype: "proc",     target: "/proc",               flags: SYSTEM,  data: "", optional: false },
    // CONFIG_DEVTMPFS_MOUNT does not apply to an initramfs.
    Mount { fstype: "devtmpfs", target: "/dev",                flags: NO_SUID, data: "mode=755", optional: false },
    Mount { fstype: "devpts",   target: "/dev/pts",            flags: NO_SUID, data: "gid=5,mode=620,ptmxmode=666", optional: false },
    Mount { fstype: "sysfs",    target: "/sys",                flags: SYSTEM,  data: "", optional: true },
    Mount { fstype: "tmpfs",    target: "/dev/shm",            flags: SHARED,  data: "mode=1777", optional: true },
    Mount { fstype: "tmpfs",    target: "/run",                flags: SHARED,  data: "mode=755", optional: true },
    Mount { fstype: "tmpfs",    target: "/tmp",                flags: NONE,    data: "mode=1777", optional: true },
    Mount { fstype: "debugfs",  target: "/sys/kernel/debug",   flags: SYSTEM,  data: "", optional: true },
    Mount { fstype: "tracefs",  target: "/sys/kernel/tracing", flags: SYSTEM,  data: "", optional: true },
    // A module where target_core_mod needs it: tried again when the plan's modules are loaded.
    Mount { fstype: "configfs", target: "/sys/kernel/config",  flags: SYSTEM,  data: "", optional: true },
    Mount { fstype: "cgroup2",  target: "/sys/fs/cgroup",      flags: SYSTEM,  data: "", optional: true },
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/self/mounts", "/etc/mtab"),
];

/// Mounts the table.
///
/// # Errors
/// A mount that nothing works without was refused; all others are tried nevertheless.
pub fn mount_table() -> Result<()> {
    let mut result = Ok(());
    let mut known = String::new();
    for line in TABLE {
        // Asking first keeps the kernel from calling modprobe for each missing one.
        if line.optional && !has(&known, line.fstype) {
            continue;
        }
        if let Err(trouble) = mount_line(line)
            && !line.optional
        {
            result = result.and(Err(trouble));
        }
        if line.fstype == "proc" {
            known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        }
    }
    for (to, link) in LINKS {
        // Images may bring their own.
        let _ = symlink(to, link);
    }
    // What the kernel calls for request_module(): this program, unless the image has another.
    if let Ok(program) = fs::read_link("/proc/self/exe") {
        let _ = make_folder("/sbin").and_then(|()| symlink(program, "/sbin/modprobe"));
    }
    result
}

/// Mounts what the plan's modules made available: configfs, where it is one.
pub fn mount_late() {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for line in TABLE.iter().filter(|line| line.fstype == "configfs") {
        if has(&known, line.fstype) {
            // Mounted already: EBUSY.
            let _ = mount_line(line);
        }
    }
}

/// Mounts a host's folder, makes its mount point.
///
/// # Errors
/// With the errno's words.
pub fn mount_share(share: &GuestShare) -> Result<()> {
    let what = || format!("mount {} ({} {})", share.guest, share.fstype, share.source);
    fs::create_dir_all(&share.guest).context(what())?;
    let flags = if share.readonly { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let data = (!share.data.is_empty()).then_some(share.data.as_str());
    let source = Some(share.source.as_str());
    mount(source, share.guest.as_str(), Some(share.fstype.as_str()), flags, data).context(what())
}

/// Makes the nodes whose opening loads their module: /dev/fuse, /dev/mapper/control and the like
/// (`modules.devname` of the tree).
pub fn make_static_nodes(tree: &Path) {
    let text = fs::read_to_string(tree.join("modules.devname")).unwrap_or_default();
    for node in text.lines().filter_map(static_node) {
        let path = Path::new("/dev").join(node.name);
        if let Some(parent) = path.parent() {
            let _ = DirBuilder::new().recursive(true).mode(0o755).create(parent);
        }
        // There already: the module is loaded or built in.
        let _ = mknod(&path, node.kind, Mode::from_bits_truncate(0o600), node.device());
    }
}

#[derive(Debug, PartialEq, Eq)]
struct StaticNode<'a> {
    name: &'a str,
    kind: SFlag,
    major: u64,
    minor: u64,
}

impl StaticNode<'_> {
    fn device(&self) -> u64 {
        makedev(self.major, self.minor)
    }
}

/// `dm_mod mapper/control c10:236`
fn static_node(line: &str) -> Option<StaticNode<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (module, name, number) = (words.next()?, words.next()?, words.next()?);
    if module.starts_with('#') || name.starts_with('/') || name.contains("..") {
        return None;
    }
    let kind = if number.starts_with('b') { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
    let (major, minor) = number.get(1..)?.split_once(':')?;
    Some(StaticNode { name, kind, major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn mount_line(line: &Mount) -> Result<()> {
    let data = (!line.data.is_empty()).then_some(line.data);
    let attempt = || mount(Some(line.fstype), line.target, Some(line.fstype), line.flags, data);
    let result = match attempt() {
        Err(Errno::ENOENT) => make_folder(line.target).and_then(|()| Ok(attempt()?)),
        other => other.map_err(io::Error::from),
    };
    match result {
        // Some kernels mount devtmpfs themselves.
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Ok(()),
        other => other.context(format_args!("mount {} ({})", line.target, line.fstype)),
    }
}

fn make_folder(path: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn has(filesystems: &str, fstype: &str) -> bool {
    filesystems.lines().any(|line| line.split('\t').next_back() == Some(fstype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_nodes_of_a_real_tree() {
        let control =
            StaticNode { name: "mapper/control", kind: SFlag::S_IFCHR, major: 10, minor: 236 };
        assert_eq!(static_node("dm_mod mapper/control c10:236"), Some(control));
        let block = static_node("x y/z b7:1").unwrap();
        assert_eq!((block.kind, block.major, block.minor), (SFlag::S_IFBLK, 7, 1));
        for bad in [
            "# Device nodes to trigger on-demand module loading.",
            "a b",
            "a ../b c1:2",
            "a b cx:2",
            "",
        ] {
            assert_eq!(static_node(bad), None, "{bad}");
        }
    }

    #[test]
    fn filesystems_are_whole_words() {
        let known = "nodev\tsysfs\nnodev\ttmpfs\n\text4\n";
        assert!(has(known, "sysfs") && has(known, "ext4") && !has(known, "ext"));
    }
}
