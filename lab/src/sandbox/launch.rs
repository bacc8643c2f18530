//! What is started and inside which walls: data, made by pure functions and carried out by the
//! helper.

use std::os::fd::RawFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a machine is kept from the host; recorded with every run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Own user, mount, pid, network and ipc namespaces, and a private root with just what the run
    /// declares. Only this one carries the promise that a guest cannot touch the host.
    #[default]
    Full,
    /// For hosts that refuse user namespaces or mounts: Landlock keeps the machine to the declared
    /// files, and a filter of system calls refuses what Landlock does not govern. Weak.
    Landlock,
    /// None: guest root on UML is the invoking user. Only by `--sandbox=off`.
    Off,
}

impl Isolation {
    /// The word, with what has to be known where it is read: only `full` carries the promise.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Landlock => "landlock: weak",
            Self::Off => "off",
        }
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Landlock => "landlock",
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

/// A file or folder of the host that a machine reaches under [`Isolation::Landlock`], where it sees
/// the host's own root. A folder stands for all below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reach {
    /// Where; must be there.
    pub path: PathBuf,
    /// What may be done with it.
    pub access: Access,
}

/// What may be done with a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read, and execute.
    Run,
    /// Read.
    Read,
    /// Read and write what is there; make and remove nothing.
    Write,
    /// All that can be done with files: the folder is this run's alone.
    Own,
}

/// Ceilings of a process and of each of its children (setrlimit(2)); `None` leaves the user's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// The largest file that it may make, in bytes. Beyond it write(2) fails with EFBIG.
    pub file_size: Option<u64>,
    /// Private memory in bytes (RLIMIT_DATA): guest memory is a shared file, and not part of it.
    pub private_memory: Option<u64>,
    /// Processes and threads in the machine's user namespace. Not enforced on root, nor before
    /// Linux 5.14, where it would count all processes of the user.
    pub processes: Option<u64>,
}

/// Which system calls of the host a process may make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Calls {
    /// All that its namespaces and rights allow: for programs that are not machines.
    #[default]
    All,
    /// Not those that no machine needs, see `sandbox::calls`.
    Machine,
}

/// A process to be started: everything about it, decided beforehand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// Program and arguments; the program's path is one of the private root.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Descriptors that it inherits under the same numbers, beside 0, 1 and 2.
    pub keep: Vec<RawFd>,
    /// Its current folder, as it sees it; empty: the root.
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
    /// What it reaches of the host's files (for [`Isolation::Landlock`]).
    pub reach: Vec<Reach>,
    /// A folder of the host that is empty when the process is gone, and removed then, whatever
    /// became of the lab.
    pub clear: Option<PathBuf>,
    /// What it may ask of the host's kernel. Not for [`Isolation::Off`].
    pub calls: Calls,
    /// Start without address randomisation (personality(2)). UML wants that and would start itself
    /// once more through /proc/self/exe to get it (arch/um/os-Linux/main.c).
    pub fixed_addresses: bool,
    /// Its ceilings.
    pub limits: Limits,
}
