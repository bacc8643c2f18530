//! Configuration: fragments that ask, the kernel's own `make allnoconfig` that decides, and the
//! reasons for what became of each request.
//!
//! ```text
//! fragments -> merge -> (make) -> .config -> verify, explain, describe
//! language: the kernel's Kconfig files, read to name conditions
//! ```

mod blame;
mod config;
mod describe;
mod explain;
mod fragment;
mod fragment_line;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod language;
mod merge;
#[cfg(test)]
mod tests;
mod verify;

pub use config::{Kconfig, Value};
pub use describe::{Description, describe};
pub use explain::{Explanation, explain};
pub use fragment::{Fragment, Request, Target};
pub use language::Tree as KconfigTree;
pub use merge::{Asked, Merged, merge};
pub use verify::verify;
