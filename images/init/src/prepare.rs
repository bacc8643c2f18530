//! Makes the machine as the plan says: clock, modules, shares, disks.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use lab_proto::{GuestDisk, GuestPlan};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::time::ClockId;
use nix::unistd::sethostname;

use crate::channels::wait_for;
use crate::load::{load, running_tree};
use crate::mounts::{make_static_nodes, mount_late, mount_share};
use crate::trouble::{Context, Result, Trouble};

/// Does all of it, in the order in which one thing needs another.
///
/// # Errors
/// The first thing that could not be done.
pub fn prepare(plan: &GuestPlan) -> Result<()> {
    if let Some(ns) = plan.clock_ns {
        let time = TimeSpec::from_duration(std::time::Duration::from_nanos(ns));
        ClockId::CLOCK_REALTIME.set_time(time).context("set the clock")?;
    }
    seed(plan);
    sethostname("lab").context("set the host name")?;
    if let Some(share) = &plan.modules_from {
        mount_share(share)?;
    }
    let tree = running_tree();
    make_static_nodes(&tree.folder);
    if !plan.modules.is_empty() {
        for module in &plan.modules {
            load(&tree, module, "")?;
        }
        mount_late();
    }
    for share in &plan.shares {
        mount_share(share)?;
    }
    for disk in &plan.disks {
        link_disk(disk)?;
    }
    Ok(())
}

fn link_disk(disk: &GuestDisk) -> Result<()> {
    wait_for(&disk.device);
    if !Path::new(&disk.device).exists() {
        let GuestDisk { name, device } = disk;
        return Err(Trouble(format!("disk {name}: {device} did not appear within 2 s")));
    }
    let link = Path::new("/dev/lab").join(&disk.name);
    fs::create_dir_all("/dev/lab").context("/dev/lab")?;
    let _ = fs::remove_file(&link);
    symlink(&disk.device, &link).context(link.display())
}

/// Gives the kernel's random pool the host's randomness, credited. Without it, programs that want
/// an uuid wait on old kernels until enough interrupts came, and a machine started from a saved
/// state repeats the numbers of the last run. No failure is worth a word.
fn seed(plan: &GuestPlan) {
    /// struct rand_pool_info of linux/random.h.
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: libc::c_int,
        bytes: libc::c_int,
        buffer: [u8; 32],
    }
    nix::ioctl_write_ptr_bad!(add_entropy, 0x4008_5203, PoolInfo);
    nix::ioctl_none_bad!(reseed, 0x5207);
    let Ok(pool) = open("/dev/urandom", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) else {
        return;
    };
    let buffer = plan.nonce.derive("random pool", u64::from(plan.boot));
    let info = PoolInfo { entropy_bits: 256, bytes: 32, buffer };
    // SAFETY: the descriptor is open and `info` has the layout that RNDADDENTROPY reads.
    let _: Result<_, Errno> = unsafe { add_entropy(pool.as_raw_fd(), &info) };
    // SAFETY: RNDRESEEDCRNG takes no argument.
    let _: Result<_, Errno> = unsafe { reseed(pool.as_raw_fd()) };
}
