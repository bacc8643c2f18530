//! One case on one machine: what is to be done ([`RunPlan`]), what was seen ([`Evidence`]), and
//! what that means ([`judge`], the only maker of a pass).

mod boot_times;
mod budget;
mod conclude;
mod dead;
mod decode;
mod diagnosis;
mod dispatch;
mod evidence;
mod folder;
mod judge;
mod kernels;
mod needs;
mod observe;
mod plan;
mod prepare;
mod request;
mod verdict;

pub use crate::manifest::Case;
pub use boot_times::BootTimes;
pub use dead::{DeadRun, remove_gone};
pub use decode::DECODED;
pub use dispatch::{Dispatcher, Judge, Options, Round};
pub use evidence::{BootEvidence, Evidence, Left, Stall, StepEvidence, Tracked};
pub use folder::{Names as RunNames, RunFolder, RunInfo, RunState, list as list_runs, started};
pub use judge::{Expected, Verdict, judge, settle};
pub use needs::{missing, unheld};
pub use observe::{Observation, Watch, observe};
pub use plan::{Instance, PlannedKernel, RunPlan, TwinOf, default_cmdline};
pub use prepare::{DISKS, Prepared, Workshop, new_nonce, start};
pub use request::{Request, Selection, repeated, run_stamp};
pub use verdict::{Outcome, Reason, Signature};
