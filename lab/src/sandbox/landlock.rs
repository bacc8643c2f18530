//! The walls of [`Isolation::Landlock`](super::Isolation::Landlock): files by Landlock
//! (Documentation/userspace-api/landlock.rst), all else that can be had by a filter of system calls.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::libc;

use super::Trouble;
use super::launch::{Access, Reach};

/// The newest version whose rights are asked for; what an older kernel does not know is left out
/// of it, and a table in docs/architecture.md says what that leaves possible.
const NEWEST: ABI = ABI::V10;

/// Version of Landlock that this host's kernel offers; `None` where it has none, or where it was not
/// switched on at boot (`lsm=`).
pub fn version() -> Option<u32> {
    const VERSION: libc::c_uint = 1;
    let nothing: *const libc::c_void = std::ptr::null();
    // SAFETY: landlock_create_ruleset(2) with this flag reads nothing and makes no descriptor.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    u32::try_from(Errno::result(version).ok()?).ok().filter(|version| *version > 0)
}

/// Keeps this process, and all that it starts, to `reach`: for good, and whoever it becomes.
///
/// # Errors
/// The host's kernel has no Landlock, or something of `reach` is not there.
pub fn confine(reach: &[Reach]) -> Result<(), Trouble> {
    let failed = |e: &dyn std::fmt::Display| format!("landlock: {e}");
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(|e| failed(&e))?;
    for Reach { path, access } in reach {
        let there = PathFd::new(path).map_err(|e| failed(&e))?;
        let rights = match path.is_dir() {
            true => rights(*access),
            false => rights(*access) & AccessFs::from_file(NEWEST),
        };
        ruleset = ruleset.add_rule(PathBeneath::new(there, rights)).map_err(|e| failed(&e))?;
    }
    let status = ruleset.restrict_self().map_err(|e| failed(&e))?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("landlock: this host's kernel has none".into()),
        _ => Ok(()),
    }
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match access {
        Access::Read => read,
        Access::Run => read | AccessFs::Execute,
        Access::Write => read | AccessFs::WriteFile,
        Access::Own => {
            let foreign = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
            AccessFs::from_all(NEWEST) & !foreign
        }
    }
}
