//! PID 1 of the lab's guests: it makes the machine as the host's plan says, runs the steps of a
//! case in one shell, tells the host about them over the control channel and powers off.
//!
//! Called as `modprobe` it loads modules, because the kernel's request_module() and the cases call
//! that program and an image need not carry kmod.

// Without the runtime's own start: it aborts where the kernel gave no console and therefore no
// standard descriptors, and no reader of the log would learn why.
#![cfg_attr(not(test), no_main)]

mod channels;
mod descriptors;
mod glob;
mod guest;
mod load;
mod mark;
mod modprobe;
mod modules;
mod mounts;
mod power;
mod prepare;
mod pty;
mod queue;
mod script;
mod session;
mod trouble;
mod worker;

use std::path::Path;

use nix::libc::{c_char, c_int};
use nix::unistd::getpid;

#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code))]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    if Path::new(&program).file_name().is_some_and(|name| name == "modprobe") {
        let words = args.map(|word| word.to_string_lossy().into_owned());
        return modprobe::main(&words.collect::<Vec<_>>());
    }
    if getpid().as_raw() != 1 {
        descriptors::say_plainly("lab-init is PID 1 of a lab guest, or modprobe by its name\n");
        return 2;
    }
    power::off_on_panic();
    guest::main()
}
