//! Takes every capability from the machine: it has a user namespace of its own, but needs nothing
//! that this could give it.

use nix::errno::Errno;
use nix::libc;

/// securebits(7): root is not special on exec, ids carry no capabilities, none can be made ambient;
/// all locked. (NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE and their locks, KEEP_CAPS's lock.)
const SECUREBITS: libc::c_ulong = 0b1110_1111;

/// Empties the bounding set, locks the securebits, and empties the process' own sets.
///
/// # Errors
/// prctl(2) or capset(2) refuse.
pub fn drop_all() -> nix::Result<()> {
    let zero: libc::c_ulong = 0;
    for capability in 0..64 as libc::c_ulong {
        // SAFETY: prctl(2) with integers only.
        match Errno::result(unsafe {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, zero, zero, zero)
        }) {
            Ok(_) => {}
            // Beyond the last capability that this kernel knows.
            Err(Errno::EINVAL) if capability > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    // SAFETY: prctl(2) with integers only.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECUREBITS, zero, zero, zero) })?;
    give_up()
}

/// The same of a process without a user namespace of its own: one that has no capability may not
/// lock what it could get, and no_new_privs does that for it.
///
/// # Errors
/// capset(2) refuses.
pub fn drop_own() -> nix::Result<()> {
    match drop_all() {
        Err(Errno::EPERM) => give_up(),
        other => other,
    }
}

fn give_up() -> nix::Result<()> {
    // capset(2): version 3, this process; two words each of effective, permitted, inheritable.
    let header: [u32; 2] = [0x2008_0522, 0];
    let sets = [0u32; 6];
    // SAFETY: the header and the two data structures have the layout that capset(2) documents.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) })?;
    Ok(())
}
