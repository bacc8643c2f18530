//! What people write: lab.toml and the cases, validated as a whole before anything runs.
//!
//! These are declarations only. Later modules take them and act: [`crate::kernel`] makes a
//! [`KernelSpec`] bootable, [`crate::image`] assembles an [`ImageSpec`], [`crate::case`] runs a
//! [`Case`].

mod diagnostic;

pub use diagnostic::{Diagnostic, Fault, Place, Result, errno_words, nearest};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A validated lab.toml and its cases; immutable.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder of lab.toml; the current folder where there is none.
    pub root: PathBuf,
    /// lab.toml, or `None` where only the embedded one applies.
    pub file: Option<PathBuf>,
    /// `[debian] mirror = URL`: where packages come from; `None`: what the host's apt uses.
    pub debian_mirror: Option<String>,
    /// `default-kernels`: what runs without `-k`.
    pub default_kernels: Vec<String>,
    /// `[kernel.NAME]`, `extends` flattened; the project's own and the embedded ones.
    pub kernels: BTreeMap<String, KernelSpec>,
    /// `images/NAME.toml`; `base` is always there.
    pub images: BTreeMap<String, ImageSpec>,
    /// `[[known]]`.
    pub known: Vec<Known>,
    /// `[matrix.NAME]`.
    pub matrices: BTreeMap<String, MatrixSpec>,
    /// `cases/NAME/case.toml`: a case with an error harms no other.
    pub cases: BTreeMap<String, Result<Case>>,
}

/// What a kernel is made of: one `[kernel.NAME]` with `extends` flattened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSpec {
    /// The name in lab.toml.
    pub name: String,
    /// The architecture, and so the backend.
    pub arch: Arch,
    /// Where it comes from.
    pub provider: Provider,
    /// Words for the command line of every boot.
    pub cmdline: Vec<String>,
}

/// The architecture of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// User-Mode Linux.
    Um,
    /// A PC, in QEMU.
    #[serde(rename = "x86_64")]
    X86_64,
}

/// What runs a kernel; follows from its architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The kernel is a process.
    Uml,
    /// A full machine.
    Qemu,
}

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// `debian = "SUITE/PACKAGE"`: a prebuilt package.
    Debian {
        /// For example `bookworm`.
        suite: String,
        /// For example `user-mode-linux`.
        package: String,
    },
    /// `source = ...`: built here.
    Source {
        /// A directory, a tarball, `git:PATH#REV` or `debian:SUITE/linux-source-X.Y`.
        source: String,
        /// Names of fragments in kconfigs/.
        kconfig: Vec<String>,
        /// Names of series in patches/, or patch files.
        patches: Vec<String>,
    },
    /// `path = ...`: files or a built tree that the user has.
    Path {
        /// A boot file or a built kernel tree.
        path: PathBuf,
    },
}

/// One `images/NAME.toml`: the guest's root file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// The manifest's name.
    pub name: String,
    /// What it is for.
    pub summary: String,
    /// The program that is /bin/sh in the guest.
    pub shell: String,
    /// Programs of the host, found on its PATH and in the sbin folders; each with its ELF closure.
    pub programs: Vec<String>,
    /// Programs to take along only where the host has them.
    pub optional: Vec<String>,
    /// Other files of the host.
    pub files: Vec<ImageFile>,
    /// Small files written out in the manifest: path in the guest and text.
    pub texts: BTreeMap<String, String>,
}

/// A file or folder of the host in an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageFile {
    /// On the host: absolute, or relative to the manifest's folder.
    pub host: PathBuf,
    /// In the guest, absolute.
    pub guest: PathBuf,
}

/// `[[known]]`: a failure that is known; a different failure is a new one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// A case's name or a glob.
    pub case: String,
    /// Globs of kernel names.
    pub kernel: Vec<String>,
    /// Why it fails.
    pub reason: String,
    /// The failure's signature where it is not a difference of output, for example
    /// `splat:WARNING` (as the report prints it). A difference of output is compared with
    /// `snapshots/*.known.snap` instead.
    pub signature: Option<String>,
}

/// `[matrix.NAME]`: kernels x cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixSpec {
    /// Globs of kernel names.
    pub kernels: Vec<String>,
    /// Globs of case names.
    pub cases: Vec<String>,
}

/// A scripted experiment: one validated case.toml.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// One line for `lab list`.
    pub summary: String,
    /// Where the experiment comes from.
    pub refs: Vec<String>,
    /// Free words to select by; `slow` is left out of quick runs.
    pub tags: Vec<String>,
    /// What it cannot do without.
    pub needs: Needs,
    /// The machine that it runs on.
    pub machine: MachineSpec,
    /// Parameter names and their values; each combination is a run of its own.
    pub params: BTreeMap<String, Vec<String>>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What makes its transcript stable, in order.
    pub filters: Vec<Filter>,
    /// Comparisons of measures, `TERM cmp [NUMBER *] TERM`.
    pub asserts: Vec<String>,
    /// Splats that are part of the experiment: names of the splat table, or `NAME: TEXT` with a
    /// piece of the line.
    pub allow: Vec<String>,
    /// Kernels that rightly differ: `[variant.NAME]`.
    pub variants: BTreeMap<String, Variant>,
    /// Changes under which the case must fail: `[[twin]]`.
    pub twins: Vec<Twin>,
    /// Files beside case.toml that the guest sees in /case: path below /case and file on the host.
    /// Everything in the folder but case.toml, snapshots/, README* and dot files.
    pub files: BTreeMap<String, PathBuf>,
}

/// `[needs]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Needs {
    /// Symbols without CONFIG_; `=m` and `=y` both satisfy. Missing: the run is a skip.
    pub kconfig: Vec<String>,
    /// Backends that it can run on; empty: any.
    pub backend: Vec<Backend>,
    /// Programs for the image.
    pub programs: Vec<String>,
    /// Kernel modules to load before the first step, where the kernel does not do it by itself.
    pub modules: Vec<String>,
    /// Detectors that the kernel must have.
    pub detectors: Vec<Detector>,
}

/// A kernel's means to notice its own faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detector {
    /// CONFIG_KASAN.
    Kasan,
    /// CONFIG_PROVE_LOCKING.
    Lockdep,
    /// CONFIG_DETECT_HUNG_TASK.
    HungTask,
    /// CONFIG_SOFTLOCKUP_DETECTOR.
    SoftLockup,
    /// CONFIG_RCU_STALL_COMMON (absent with TINY_RCU).
    RcuStall,
}

/// `[machine]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Guest memory in bytes; 256 MiB by default.
    pub memory: u64,
    /// Processors; 1 by default.
    pub cpus: u32,
    /// Words for the kernel's command line.
    pub cmdline: Vec<String>,
    /// Disks, in the order in which the machine gets them.
    pub disks: Vec<Disk>,
    /// Folders of the host.
    pub shares: Vec<Share>,
    /// tracefs events, `SUBSYSTEM:EVENT`.
    pub trace: Vec<String>,
    /// Which clock the guest lives by.
    pub clock: Clock,
    /// For the whole run, in the host's monotonic time; 60 s by default.
    pub timeout: Duration,
    /// The image's name; `base` by default.
    pub image: String,
}

/// The guest's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The host's time.
    #[default]
    Real,
    /// Waits cost nothing (time travel on UML, icount on QEMU).
    Virtual,
}

/// A disk of the machine: sparse, all zero at the start; /dev/lab/NAME in the guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Disk {
    /// Letters, digits, `-` and `_`.
    pub name: String,
    /// Bytes; a multiple of 512.
    pub size: u64,
}

/// A folder of the host in the guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Share {
    /// On the host, absolute after validation (in the manifest relative to the case's folder).
    pub host: PathBuf,
    /// In the guest, absolute.
    pub guest: PathBuf,
    /// `ro` (default) or `rw`.
    pub mode: ShareMode,
}

/// How a share may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareMode {
    /// Read-only.
    #[default]
    Ro,
    /// Writes reach the host.
    Rw,
}

/// `[[step]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What it is for, in words.
    pub name: Option<String>,
    /// What is done.
    pub action: Action,
    /// Which status is right.
    pub status: StatusRule,
    /// A failing set-up step: the case ends there.
    pub stop: bool,
    /// Its own deadline, within the machine's.
    pub timeout: Option<Duration>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Shell text, typed at the machine.
    Run(String),
    /// Something done to the machine.
    Machine(MachineOp),
}

/// Something done to a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineOp {
    /// The power fails: nothing is flushed.
    PowerCut,
    /// An orderly restart.
    Reboot,
    /// A disk appears.
    Hotplug(String),
    /// A disk goes.
    Unplug(String),
    /// A disk changes its size, in bytes.
    Resize(String, u64),
    /// A magic SysRq key.
    Sysrq(char),
}

/// Which status of a step is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusRule {
    /// This one; 0 by default.
    Is(i32),
    /// Any: the status is part of the finding, and so of the transcript.
    Any,
}

/// One entry of `filters`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// `"addresses"`, `"uuids"` or `"times"`.
    Named(NamedFilter),
    /// `{ regex = "...", to = "..." }`: the regex crate's syntax, on bytes, `$1` in `to`.
    Replace {
        /// The pattern; validated.
        regex: String,
        /// What takes its place.
        to: String,
    },
}

/// The named filter sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedFilter {
    /// Kernel addresses: `0x` and eight or more hex digits, `<...>` in traces.
    Addresses,
    /// UUIDs.
    Uuids,
    /// Dates, times of day, durations with a unit.
    Times,
}

/// `[variant.NAME]`: kernels that rightly differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// Globs of kernel names.
    pub kernels: Vec<String>,
    /// Why.
    pub reason: String,
}

/// `[[twin]]`: proves that the case can fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Twin {
    /// What is changed.
    pub with: Change,
    /// What the verdict must then be, `OUTCOME` or `OUTCOME:REASON`, for example `fail:output`.
    pub must: String,
}

/// What a twin changes; at least one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Another kernel.
    pub kernel: Option<String>,
    /// Other parameter values (need not be in `[params]`, but the names must).
    pub params: BTreeMap<String, String>,
    /// Kconfig lines, `SYMBOL=y` (kernels from source).
    pub config: Vec<String>,
    /// More patches (kernels from source).
    pub patches: Vec<String>,
    /// Other contents for files of /case: path below /case and file relative to the case's folder.
    pub files: BTreeMap<String, PathBuf>,
}

impl Arch {
    /// The backend of this architecture.
    pub fn backend(self) -> Backend {
        match self {
            Self::Um => Backend::Uml,
            Self::X86_64 => Backend::Qemu,
        }
    }
}

impl Project {
    /// The embedded project's folder stands for nothing on disk: a project without lab.toml.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Where a path of the project is, as a person would write it: relative to `from` if below it.
    pub fn shown<'a>(path: &'a Path, from: &Path) -> &'a Path {
        path.strip_prefix(from).unwrap_or(path)
    }
}
