//! A kernel and an image, running: disks, shares and three channels that are never mixed.
//!
//! Nothing here knows what a case is. The run loop gets a [`Machine`], polls its [`Channels`] and
//! its end, and may ask for a [`MachineOp`] or its death.

pub mod disk;
mod fake;
mod layout;
mod loader;
mod log_end;
mod mconsole;
mod processes;
pub mod room;
mod scratch;
pub mod uml;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use lab_proto::{GuestDisk, GuestShare};
use serde::{Deserialize, Serialize};

pub use crate::manifest::MachineOp;
pub use crate::sandbox::{Child, Ending, Isolation, Launch, RootEntry};
pub use fake::{Fake, FakeGuest};
pub use log_end::{LogEnd, LogMemory};
pub use scratch::{Scratch, abandoned, remove_abandoned};

use crate::manifest::{Disk, Result};

/// All that one boot needs, on the host's side; a backend makes a [`Launch`] of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachinePlan {
    /// The file that boots.
    pub boot: PathBuf,
    /// Folder with the loader and C library that the boot file wants; `None`: the host's.
    pub libraries: Option<PathBuf>,
    /// The kernel's module tree (the folder with modules.dep).
    pub modules: Option<PathBuf>,
    /// `uname -r` of the kernel, as its provider recorded it.
    pub release: String,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// Guest memory in bytes.
    pub memory: u64,
    /// Processors.
    pub cpus: u32,
    /// Words of the kernel's command line beyond the backend's own.
    pub cmdline: Vec<String>,
    /// Disks in order, each with its file on the host.
    pub disks: Vec<(Disk, PathBuf)>,
    /// Folders of the host and where the guest wants them.
    pub shares: Vec<crate::manifest::Share>,
    /// How the machine is kept from the host.
    pub isolation: Isolation,
    /// A ceiling for the private memory of each of the machine's processes, in bytes; `None` where
    /// the kernel maps terabytes that it never touches (KASAN's shadow).
    pub private_memory: Option<u64>,
    /// An empty folder of this run, for mount points and sockets; not below any share.
    pub scratch: PathBuf,
}

/// The host's ends of a machine's channels; all non-blocking.
#[derive(Debug)]
pub struct Channels {
    /// What the kernel prints (printk).
    pub log: LogEnd,
    /// The steps' terminal, raw, both ways.
    pub terminal: OwnedFd,
    /// Records to and from PID 1.
    pub control: OwnedFd,
    /// What the machine's own process prints on the host: its errors, not the guest's.
    pub words: OwnedFd,
}

/// What the guest has to know of its disks and shares: names differ by backend.
#[derive(Clone, Debug, Default)]
pub struct GuestView {
    /// For the /dev/lab links.
    pub disks: Vec<GuestDisk>,
    /// To be mounted.
    pub shares: Vec<GuestShare>,
    /// The module tree, where it comes as a share.
    pub modules: Option<GuestShare>,
}

/// A running machine. Dropping it kills and reaps everything that belongs to it.
pub trait Machine: Send {
    /// The host's ends of the channels.
    fn channels(&self) -> &Channels;

    /// How the guest sees its disks and shares.
    fn guest_view(&self) -> GuestView;

    /// Readable when [`Machine::ending`] may have an answer.
    fn ending_fd(&self) -> BorrowedFd<'_>;

    /// How the machine ended, if it did. Does not block.
    fn ending(&mut self) -> Option<Ending>;

    /// Does something to the machine.
    ///
    /// # Errors
    /// What this backend cannot do, or what went wrong.
    fn request(&mut self, op: &MachineOp) -> Result<()>;

    /// Stops the machine where it is: when this returns, nothing more of the guest is executed, and
    /// what its kernel has said is in the channels. Only [`Machine::kill`] follows.
    ///
    /// # Errors
    /// It had ended before, which [`Machine::ending`] then says, or it does not stand still.
    fn freeze(&mut self) -> Result<()>;

    /// Kills the machine if it still runs, and starts it again as it was planned, on the same disks,
    /// with fresh channels.
    ///
    /// # Errors
    /// As at the first start.
    fn start_again(&mut self) -> Result<()>;

    /// Asks the kernel for the state of its tasks, which it prints to its log, if it takes
    /// interrupts still; in some seconds at most. For a machine that is killed next.
    ///
    /// # Errors
    /// It does not answer, or this backend cannot ask.
    fn ask_for_tasks(&mut self) -> Result<()> {
        Err(crate::manifest::Diagnostic::trouble("this machine has no way to ask its kernel"))
    }

    /// Where its processes stand, as the host sees them; with the kernel's stack where `deep`, which
    /// may take some seconds. `None` where there is nothing to be seen.
    fn host_view(&self, deep: bool) -> Option<String> {
        let _ = deep;
        None
    }

    /// How long its processes have waited for a processor of the host, all together.
    fn waited_for_cpu(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    /// Kills the machine and all that belongs to it, and waits for their end. Idempotent.
    fn kill(&mut self);
}
