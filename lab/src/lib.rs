//! A kernel test lab for filesystems and block stacks.
//!
//! The modules stand in the order in which data flows; docs/architecture.md draws it on one page.
//! The library prints nothing and reads no home directory by itself: what a person sees goes
//! through [`report`], and where files live is handed in as [`cli::Dirs`].

pub mod manifest;

pub mod sandbox;

pub mod kernel;

pub mod image;

pub mod machine;

pub mod console;

pub mod case;

pub mod snapshot;

pub mod series;

pub mod gc;

pub mod bundle;

pub mod report;

pub mod cli;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
