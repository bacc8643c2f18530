//! What must hold for any text of a kernel's source: `lab::fuzzing` calls these.

pub(crate) use super::kconfig::fuzz::{fragment, kconfig};
pub(crate) use super::patches::fuzz::patch;
