//! The `lab` program as its users meet it: one binary, one file a command or subject, real boots.
//!
//! Every test has a project, a home and a folder for temporary files of its own, and shares the
//! kernels with all others (LAB_TEST_CACHE, else a folder below target/). A test that cannot run
//! here says so on standard error and passes; LAB_REQUIRE=all makes that a failure.

mod support;

mod accept;
mod bad_case;
mod bad_host;
mod boots;
mod bounds;
mod build;
mod build_trouble;
mod bundle;
mod cases;
mod each_patch;
mod escape;
mod flood;
mod gc;
mod hostfs;
mod info;
mod installed;
mod interrupt;
mod isolation;
mod judge;
mod kernel_list;
mod kernel_usage;
mod modules;
mod review;
mod run;
mod runs;
mod shell;
mod stall;
mod torture;
mod variants;
mod verdict;
mod verdict_forged;
