//! The last steps of a process before it becomes the machine: what it may take of the host, what it
//! may ask of it, and that it ends with its supervisor.

use std::ffi::CString;

use nix::errno::Errno;
use nix::sys::personality::{self, Persona};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::launch::{Calls, Isolation, Launch, Limits};
use super::{Trouble, calls, caps, landlock, trouble};

/// Becomes the machine; returns only if something fails, with what.
pub fn become_machine(launch: &Launch, argv: &[CString], env: &[CString]) -> Trouble {
    let prepare = || -> Result<(), Trouble> {
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        // Not a member of the user's session: its terminal is not the machine's.
        let _ = nix::unistd::setsid();
        if launch.fixed_addresses {
            let now = personality::get().map_err(trouble("personality"))?;
            personality::set(now | Persona::ADDR_NO_RANDOMIZE).map_err(trouble("personality"))?;
        }
        limit(&launch.limits)?;
        confine(launch)
    };
    if let Err(why) = prepare() {
        return why;
    }
    let Err(errno) = nix::unistd::execve(&argv[0], argv, env);
    format!("exec {}: {}", launch.argv[0], errno.desc())
}

/// Puts up what of the walls belongs to the process itself.
///
/// # Errors
/// The host's kernel refuses.
pub fn confine(launch: &Launch) -> Result<(), Trouble> {
    match launch.isolation {
        Isolation::Full => caps::drop_all().map_err(trouble("capabilities"))?,
        Isolation::Landlock => caps::drop_own().map_err(trouble("capabilities"))?,
        Isolation::Off => {}
    }
    prctl::set_no_new_privs().map_err(trouble("no_new_privs"))?;
    match (launch.isolation, launch.calls) {
        (Isolation::Landlock, _) => {
            landlock::confine(&launch.reach)?;
            calls::refuse(false)
        }
        (Isolation::Full, Calls::Machine) => calls::refuse(true),
        (Isolation::Full, Calls::All) | (Isolation::Off, _) => Ok(()),
    }
}

fn limit(limits: &Limits) -> Result<(), Trouble> {
    // A guest that panics aborts, and its core would be as large as its memory. Not 0: that does not
    // hold for cores that core_pattern pipes to a program, and 1 does (core(5), fs/coredump.c).
    let set = |resource, value| match setrlimit(resource, value, value) {
        // A hard limit of the user's own that is lower still.
        Ok(()) | Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(trouble("setrlimit")(errno)),
    };
    set(Resource::RLIMIT_CORE, 1)?;
    if let Some(bytes) = limits.file_size {
        set(Resource::RLIMIT_FSIZE, bytes)?;
        // The write fails with EFBIG, and the machine lives.
        // SAFETY: no handler is installed, the signal is ignored; that stays through execve(2).
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.map_err(trouble("signal"))?;
    }
    if let Some(bytes) = limits.private_memory {
        set(Resource::RLIMIT_DATA, bytes)?;
    }
    if let Some(count) = limits.processes
        && counts_by_namespace()
    {
        set(Resource::RLIMIT_NPROC, count)?;
    }
    Ok(())
}

/// Whether RLIMIT_NPROC counts the processes of a user namespace (Linux 5.14), and not all of the
/// user's: only then is it a limit of the machine.
fn counts_by_namespace() -> bool {
    let name = nix::sys::utsname::uname();
    name.is_ok_and(|name| at_least(&name.release().to_string_lossy(), (5, 14)))
}

fn at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert!(at_least("5.14.0", (5, 14)) && at_least("6.1.0-18-amd64", (5, 14)));
        assert!(!at_least("5.4.300", (5, 14)) && !at_least("five", (5, 14)));
    }
}
