//! What is started and inside which walls: data, made by pure functions and carried out by the
//! helper.

use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a machine is kept from the host; recorded with every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Own user, mount, pid, network and ipc namespaces, and a private root with just what the run
    /// declares. Only this one carries the promise that a guest cannot touch the host.
    Full,
    /// None: guest root on UML is the invoking user. Only by `--sandbox=off`.
    Off,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Off => "off",
        })
    }
}

/// One thing in the private root; made in order. Paths of the private root are absolute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootEntry {
    /// An empty folder.
    Folder(PathBuf),
    /// A symbolic link.
    Link {
        /// Where.
        at: PathBuf,
        /// What it says.
        to: PathBuf,
    },
    /// A file or folder of the host.
    Bind {
        /// On the host.
        host: PathBuf,
        /// In the private root; made to fit.
        at: PathBuf,
        /// Not to be written.
        readonly: bool,
    },
    /// Memory of its own, for the guest's RAM.
    Memory {
        /// Where.
        at: PathBuf,
        /// At most so many bytes.
        size: u64,
    },
    /// /proc of the new pid namespace. Where the host forbids the mount (containers mask parts of
    /// their /proc, and the kernel then refuses a fresh one) the folder stays empty.
    Proc(PathBuf),
}

/// A process to be started: everything about it, decided beforehand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Program and arguments; the program's path is one of the private root.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Descriptors that it inherits under the same numbers, beside 0, 1 and 2.
    pub keep: Vec<RawFd>,
    /// Its current folder, as it sees it.
    pub folder: PathBuf,
    /// A socket of the lab's that the helper binds to this name in the folder, so that the machine
    /// can answer to it; the machine itself does not inherit it.
    pub bind: Option<(RawFd, String)>,
    /// The walls.
    pub isolation: Isolation,
    /// The private root's contents (for [`Isolation::Full`]).
    pub root: Vec<RootEntry>,
    /// An empty folder on the host on which the private root is mounted.
    pub mount_on: PathBuf,
    /// Start without address randomisation (personality(2)). UML wants that and would start itself
    /// once more through /proc/self/exe to get it (arch/um/os-Linux/main.c).
    pub fixed_addresses: bool,
    /// The largest file that it may make, in bytes: a declared ceiling for disks and shares.
    pub file_limit: Option<u64>,
}
