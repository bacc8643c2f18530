//! Starts a kernel with a C library of its own where there is no private root to put that library
//! into: `landlock` and `off`.
//!
//! Debian's newer UML kernels want a newer libc than the host may have. They cannot be called
//! through `ld.so`: UML takes the end of its own image for the start of its heap (linux_main() in
//! arch/um/kernel/um_arch.c), which is then the loader's. So the boot file is copied, and the copy
//! names its interpreter relative to the current folder, as execve(2) allows.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::{MachinePlan, layout};
use crate::manifest::{Diagnostic, Result};
use crate::sandbox::Isolation;

/// PT_INTERP of every dynamic program for x86_64 (its psABI).
const INTERPRETER: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";
/// What the copy has in its place: a link in the machine's state folder, its current one.
const RELATIVE: &str = "ld.so";

/// The file that boots, as the machine's process finds it on the host.
pub(super) fn boot(plan: &MachinePlan) -> PathBuf {
    match borrowed(plan) {
        Some(_) => plan.scratch.join("linux"),
        None => plan.boot.clone(),
    }
}

/// The folder with the machine's own libraries, where it has no root of its own that shows them.
pub(super) fn borrowed(plan: &MachinePlan) -> Option<&Path> {
    match plan.isolation {
        Isolation::Full => None,
        Isolation::Landlock | Isolation::Off => plan.libraries.as_deref(),
    }
}

/// Makes the copy and the link, where they are wanted.
///
/// # Errors
/// A file cannot be read or made; the kernel has another interpreter than x86_64's.
pub(super) fn prepare(plan: &MachinePlan) -> Result<()> {
    let Some(libraries) = borrowed(plan) else { return Ok(()) };
    let copy = boot(plan);
    if !copy.exists() {
        let program =
            std::fs::read(&plan.boot).map_err(|e| Diagnostic::io("read", &plan.boot, &e))?;
        let program = relative(program).ok_or_else(|| {
            Diagnostic::trouble(format!(
                "{} does not name ld-linux-x86-64.so.2 as its interpreter",
                plan.boot.display()
            ))
            .help("--sandbox=full runs it all the same")
        })?;
        let executable = std::fs::Permissions::from_mode(0o700);
        std::fs::write(&copy, program)
            .and_then(|()| std::fs::set_permissions(&copy, executable))
            .map_err(|e| Diagnostic::io("make", &copy, &e))?;
    }
    let link = layout::state(plan).join(RELATIVE);
    // There since the last boot of this run, unless that cleared its folder.
    let _ = std::fs::remove_file(&link);
    symlink(libraries.join("ld-linux-x86-64.so.2"), &link)
        .map_err(|e| Diagnostic::io("make", &link, &e))
}

/// The program with a relative interpreter; `None` where it does not name the usual one.
fn relative(mut program: Vec<u8>) -> Option<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(&*program).ok()?;
    let endian = header.endian().ok()?;
    let mut headers = header.program_headers(endian, &*program).ok()?.iter();
    let (offset, size) = headers.find(|h| h.p_type(endian) == PT_INTERP)?.file_range(endian);
    let from = usize::try_from(offset).ok()?;
    let place = program.get_mut(from..from.checked_add(usize::try_from(size).ok()?)?)?;
    if place != INTERPRETER {
        return None;
    }
    place.fill(0);
    place[..RELATIVE.len()].copy_from_slice(RELATIVE.as_bytes());
    Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_replaced_in_place() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let changed = relative(program.clone()).unwrap();
        assert_eq!(changed.len(), program.len());
        let differ = |(a, b): (&u8, &u8)| a != b;
        assert!(program.iter().zip(&changed).filter(|pair| differ(*pair)).count() < 28);
        assert_eq!(relative(changed), None, "it names another one now");
        assert_eq!(relative(b"\x7fELF, but not for long".to_vec()), None);
    }
}
