//! The declarations of a case.toml: what an experiment needs, does, and how it is judged.
//!
//! They serialise, because a run's effective manifest is kept with it and read again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Backend;

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
    /// Free words to select by; what is tagged `slow` runs only when asked for.
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
    /// Everything in the folder but case.toml, snapshots/, README*, dot files and shared folders.
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
    /// How long PID 1 may leave a question unanswered; 5 s by default.
    #[serde(default = "default_hang")]
    pub hang: Duration,
    /// How long the kernel may take to PID 1's hello, and PID 1 from there until it is ready; by
    /// default what was learnt from this kernel's boots.
    #[serde(default)]
    pub boot: Option<Duration>,
    /// The image's name; `base` by default.
    pub image: String,
}

/// [`MachineSpec::hang`] where nothing is said.
pub(super) fn default_hang() -> Duration {
    Duration::from_secs(5)
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

impl MachineOp {
    /// Whether the machine starts again after it.
    pub fn ends_the_boot(&self) -> bool {
        matches!(self, Self::PowerCut | Self::Reboot)
    }
}

/// In the manifest's words.
impl std::fmt::Display for MachineOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PowerCut => f.write_str("power-cut"),
            Self::Reboot => f.write_str("reboot"),
            Self::Hotplug(disk) => write!(f, "hotplug {disk}"),
            Self::Unplug(disk) => write!(f, "unplug {disk}"),
            Self::Resize(disk, bytes) => write!(f, "resize {disk} {}", size(*bytes)),
            Self::Sysrq(key) => write!(f, "sysrq {key}"),
        }
    }
}

/// Bytes in the largest unit that divides them.
fn size(bytes: u64) -> String {
    [(30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
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
