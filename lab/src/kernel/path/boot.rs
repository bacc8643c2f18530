//! Recognises what boots: a UML program or a bzImage, by its contents and never by its name.

use std::io::Read;
use std::path::Path;

use crate::kernel::Arch;
use crate::manifest::{Diagnostic, Result};

/// What a boot file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// A User-Mode Linux program; it tells its release and configuration itself.
    Uml,
    /// A bzImage of this release.
    BzImage(String),
}

impl Boot {
    /// Its architecture.
    pub fn arch(&self) -> Arch {
        match self {
            Self::Uml => Arch::Um,
            Self::BzImage(_) => Arch::X86_64,
        }
    }

    /// Looks at a file.
    ///
    /// # Errors
    /// It cannot be read or is no kernel that boots: says what it is, where that is known.
    pub fn of(file: &Path) -> Result<Self> {
        let io = |e| Diagnostic::io("read", file, &e);
        let mut bytes = Vec::new();
        let mut opened = std::fs::File::open(file).map_err(io)?;
        opened.by_ref().take(1 << 16).read_to_end(&mut bytes).map_err(io)?;
        if let Some(release) = bzimage(&bytes) {
            return Ok(Self::BzImage(release));
        }
        let shown = file.display();
        let wrong = |what: &str, help: &str| {
            Err(Diagnostic::usage(format!("{shown} is {what}")).help(help.to_string()))
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if !bytes.starts_with(b"\x7fELF") {
            if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\xfd7zXZ") {
                return wrong("compressed", "expand it first; a bzImage is booted as it is");
            }
            return wrong(
                "not a kernel that boots",
                "a User-Mode Linux program or arch/x86/boot/bzImage is wanted, or a built kernel tree",
            );
        }
        // arch/um/kernel/config.c keeps the whole .config as text.
        opened.read_to_end(&mut bytes).map_err(io)?;
        if contains(&bytes, b"CONFIG_UML=y\n") {
            return Ok(Self::Uml);
        }
        if contains(&bytes, b"Linux version ") {
            return wrong(
                "a kernel's ELF file, which QEMU is not given here",
                "name the arch/x86/boot/bzImage of the same build, or the built tree itself",
            );
        }
        if name.ends_with(".ko") {
            return wrong("a kernel module", "name the built tree, and its modules come along");
        }
        wrong(
            "a program, and no User-Mode Linux",
            "a User-Mode Linux program or arch/x86/boot/bzImage is wanted, or a built kernel tree",
        )
    }
}

/// The release in a bzImage's setup header (Documentation/arch/x86/boot.rst), if it is one.
fn bzimage(bytes: &[u8]) -> Option<String> {
    if bytes.get(0x202..0x206)? != b"HdrS" || bytes.get(0x1fe..0x200)? != [0x55, 0xaa] {
        return None;
    }
    let offset = u16::from_le_bytes(bytes.get(0x20e..0x210)?.try_into().ok()?);
    let text = bytes.get(usize::from(offset) + 0x200..)?;
    let text: Vec<u8> = text.iter().copied().take_while(|b| *b != 0 && *b != b' ').collect();
    String::from_utf8(text).ok().filter(|text| !text.is_empty())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    // Good enough on a hundred megabytes: most bytes are not the first one.
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == wanted[0]) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_decide() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("boot");
        let of = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            Boot::of(&file)
        };
        let mut image = vec![0; 0x400];
        image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x310].copy_from_slice(b"6.1.0-test (a@b)");
        assert_eq!(of(&image).unwrap(), Boot::BzImage("6.1.0-test".into()));
        assert_eq!(of(b"\x7fELF..CONFIG_UMLX CONFIG_UML=y\n..").unwrap(), Boot::Uml);
        let said = |bytes: &[u8]| of(bytes).unwrap_err().to_string();
        assert!(said(b"\x7fELF..Linux version 6.1").contains("arch/x86/boot/bzImage"));
        assert!(said(b"\x7fELF").contains("a program, and no User-Mode Linux"));
        assert!(said(b"\x1f\x8b").contains("compressed"));
        assert!(said(b"#!/bin/sh").contains("not a kernel that boots"));
        assert!(said(b"").contains("not a kernel that boots"));
    }
}
