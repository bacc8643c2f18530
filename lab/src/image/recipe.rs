//! What every image has, as data: the guest's own programs, folders, links and small texts, and
//! what some programs of the host cannot do without although no ELF header says so.

/// Part of every cache key: raise it when the same request would give another image.
pub const VERSION: u32 = 1;

/// PID 1, which is modprobe too when it is called so.
pub static INIT: &[u8] = include_bytes!(env!("LAB_GUEST_INIT"));

/// The workload programs, one binary.
pub static TOOLS: &[u8] = include_bytes!(env!("LAB_GUEST_TOOLS"));

/// The names that [`TOOLS`] goes by. A test asks the binary itself, so that this cannot drift.
pub const TOOL_NAMES: &[&str] = &["noise"];

/// Where the programs of an image are looked for in the guest: PATH for its steps.
pub const GUEST_PATH: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// Folders and their permission bits.
pub const DIRS: &[(&str, u32)] = &[
    ("/case", 0o755),
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/mnt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/usr/bin", 0o755),
    ("/usr/lib", 0o755),
    ("/usr/lib64", 0o755),
    ("/usr/sbin", 0o755),
    ("/var/tmp", 0o1777),
];

/// Symlinks: path and text. One /usr for everything, whatever the host does.
pub const LINKS: &[(&str, &str)] = &[
    ("/bin", "usr/bin"),
    ("/lib", "usr/lib"),
    ("/lib64", "usr/lib64"),
    ("/sbin", "usr/sbin"),
    ("/etc/mtab", "../proc/mounts"),
    ("/var/run", "../run"),
    // The kernel's request_module() runs /sbin/modprobe.
    ("/usr/sbin/modprobe", "/init"),
];

/// Small files; a manifest's own texts replace them.
pub const TEXTS: &[(&str, &str)] = &[
    ("/etc/fstab", ""),
    ("/etc/group", "root:x:0:\ndaemon:x:1:\ndisk:x:6:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    // Accounts come from files alone: libnss modules for anything else are not in the image.
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"),
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         daemon:x:1:1:daemon:/:/bin/false\n\
         nobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
];

/// A program (by the name of its resolved file) and host files or folders that it reads: taken
/// along where the host has them.
pub const COMPANIONS: &[(&str, &[&str])] = &[
    // Without it mke2fs complains and makes a file system with no features.
    ("mke2fs", &["/etc/mke2fs.conf"]),
    ("lvm", &["/etc/lvm/lvm.conf"]),
    // Line editing of `lab shell` in the usual terminals; both places where hosts keep them.
    (
        "bash",
        &[
            "/lib/terminfo/l/linux",
            "/lib/terminfo/s/screen",
            "/lib/terminfo/s/screen-256color",
            "/lib/terminfo/t/tmux",
            "/lib/terminfo/t/tmux-256color",
            "/lib/terminfo/x/xterm",
            "/lib/terminfo/x/xterm-256color",
            "/usr/share/terminfo/l/linux",
            "/usr/share/terminfo/s/screen",
            "/usr/share/terminfo/s/screen-256color",
            "/usr/share/terminfo/t/tmux",
            "/usr/share/terminfo/t/tmux-256color",
            "/usr/share/terminfo/x/xterm",
            "/usr/share/terminfo/x/xterm-256color",
        ],
    ),
];

/// Opened by glibc at run time to end a thread; see [`super::elf::Elf::unwinds`].
pub const UNWINDER: &str = "libgcc_s.so.1";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn tool_names_are_those_of_the_binary() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("lab-tools");
        std::fs::write(&program, TOOLS).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let output = Command::new(&program).arg("--list").output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(listed.lines().collect::<Vec<_>>(), TOOL_NAMES);
    }
}
