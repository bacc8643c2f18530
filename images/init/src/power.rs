//! The end of a guest: kill, unmount, sync, power off; and the words that are left when nothing
//! else can be said.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Pid, sync};

use crate::trouble::{Context, Result};

/// How long a busy mount is waited for, in steps between attempts: a killed process' last references
/// go away a little later than the process, a loop device that clears itself later still.
const WAITS_MS: [u64; 5] = [2, 4, 8, 16, 0];

/// Onto the kernel's console, where its own last words are. Not through /dev/kmsg: the host has the
/// kernel drop what user space writes there.
pub fn last_words(text: &str) {
    let open = |path: &str| OpenOptions::new().write(true).open(path);
    let console = open("/dev/console").or_else(|_| {
        let mode = Mode::from_bits_truncate(0o600);
        mknod("/.console", SFlag::S_IFCHR, mode, makedev(5, 1))?;
        let opened = open("/.console");
        let _ = fs::remove_file("/.console");
        opened
    });
    if let Ok(mut console) = console {
        let _ = console.write_all(format!("lab-init: {}\n", text.replace('\n', " ")).as_bytes());
    }
}

/// A panic of PID 1 must not end in the kernel's own panic, which would be taken for a finding:
/// it powers off without an end record, so that the host says "broken".
pub fn off_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        last_words(&info.to_string());
        off()
    }));
}

/// Powers off; does not return.
pub fn off() -> ! {
    let _ = reboot(RebootMode::RB_POWER_OFF);
    // Only without the right to: not PID 1 of a guest.
    std::process::exit(1)
}

/// Kills everything except PID 1 and the kernel's own.
pub fn kill_all() {
    // ESRCH: there was nothing.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
}

/// What was mounted at some time, by the kernel's mount numbers.
#[derive(Debug)]
pub struct Mounted {
    ids: Vec<u32>,
    /// Kept open, because a step may unmount /proc.
    mountinfo: File,
}

impl Mounted {
    /// What is mounted now.
    ///
    /// # Errors
    /// /proc is not there.
    pub fn now() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let mut mountinfo = File::open(path).context(path)?;
        let ids = read_mounts(&mut mountinfo).iter().map(|mount| mount.id).collect();
        Ok(Self { ids, mountinfo })
    }
}

/// Unmounts all that was mounted since `base`, newest first, and syncs. Returns what stayed, with
/// the errno's words.
pub fn unmount_since(mut base: Mounted) -> Vec<String> {
    let mut left = Vec::new();
    for wait in WAITS_MS {
        left.clear();
        let mut busy = false;
        let mounts = read_mounts(&mut base.mountinfo);
        for mount in mounts.iter().rev().filter(|mount| !base.ids.contains(&mount.id)) {
            if let Err(errno) = umount2(mount.point.as_str(), MntFlags::UMOUNT_NOFOLLOW) {
                busy |= errno == Errno::EBUSY;
                left.push(format!("{}: {}", mount.point, errno.desc()));
            }
        }
        if !busy {
            break;
        }
        sleep(Duration::from_millis(wait));
    }
    sync();
    left
}

#[derive(Debug, PartialEq, Eq)]
struct MountPoint {
    id: u32,
    point: String,
}

fn read_mounts(mountinfo: &mut File) -> Vec<MountPoint> {
    let mut bytes = Vec::new();
    let _ = mountinfo.rewind().and_then(|()| mountinfo.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).lines().filter_map(mount_point).collect()
}

/// `22 1 0:20 / /proc rw,nosuid - proc proc rw` (proc_pid_mountinfo(5)): number and place.
fn mount_point(line: &str) -> Option<MountPoint> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    Some(MountPoint { id, point: unescape(words.nth(3)?) })
}

/// The kernel writes blanks, tabs, newlines and backslashes as `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\');
        let code = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// /proc/sys/kernel/tainted, also where a step has unmounted /proc.
pub fn taint() -> Option<u64> {
    let read = || std::fs::read_to_string("/proc/sys/kernel/tainted");
    let text = read().or_else(|_| {
        let none: Option<&str> = None;
        nix::mount::mount(none, "/proc", Some("proc"), nix::mount::MsFlags::empty(), none)?;
        read()
    });
    text.ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_odd_names() {
        let line = r"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(MountPoint { id: 36, point: r"/mnt/a b\c".into() }));
        assert_eq!(unescape(r"\04"), r"\04");
        assert_eq!(unescape(r"a\999"), r"a\999");
        assert_eq!(mount_point("nonsense"), None);
    }

    #[test]
    fn this_process_has_a_root() {
        let mut now = Mounted::now().unwrap();
        assert!(read_mounts(&mut now.mountinfo).iter().any(|mount| mount.point == "/"));
    }
}
