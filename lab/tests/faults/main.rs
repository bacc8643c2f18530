//! The fault suite: one table of what may go wrong in a guest, a machine, the lab or its host, each
//! with the verdict and the exit code that it must end in, by real boots. None is ever a pass, each
//! has a twin (the same without the fault) that passes, and nothing is left behind.
//!
//! `table.rs` is the list; the other files say how each fault is brought about. One fault alone:
//! `cargo test -p lab --test faults -- NAME`.

#[path = "../cli/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests of the commands")]
mod support;

mod disk_full;
mod guest;
mod host;
mod kernel;
mod lab_ended;
mod left;
mod machine;
mod row;
mod scene;
mod table;
mod words;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let args = Arguments::from_args();
    left::own_shared_memory();
    let mut trials = Vec::new();
    for column in row::COLUMNS {
        for fault in table::TABLE.iter().filter(|fault| fault.is_for(column)) {
            let name = format!("{}: {}", column.backend, fault.name);
            trials.push(Trial::test(name, move || {
                fault.run(column);
                Ok(())
            }));
        }
    }
    let conclusion = libtest_mimic::run(&args, trials);
    println!("{}", row::summary());
    conclusion.exit();
}
