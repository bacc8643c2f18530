//! What an ELF file asks of the loader: read from its program headers, because those are what the
//! kernel and ld.so go by (section headers may be stripped), and without running it as ldd would.

use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// The architecture that a program and its libraries must share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Machine {
    /// 64 bits rather than 32.
    pub wide: bool,
    /// e_machine of elf(5).
    pub machine: u16,
}

/// What the loader does for one file, in the order of ld.so(8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Its architecture.
    pub machine: Machine,
    /// PT_INTERP: the loader; `None` for libraries and static programs.
    pub interpreter: Option<PathBuf>,
    /// DT_NEEDED, in order.
    pub needed: Vec<String>,
    /// DT_RPATH, unexpanded; empty where there is a DT_RUNPATH, which replaces it.
    pub rpath: Vec<String>,
    /// DT_RUNPATH, unexpanded.
    pub runpath: Vec<String>,
    /// It can end or cancel a thread: glibc then opens libgcc_s.so.1 behind the linker's back and
    /// aborts where that is missing.
    pub unwinds: bool,
}

/// Reads the headers of `data`; `None` where it is no ELF file at all, an error in words where it
/// is a broken one.
pub fn parse(data: &[u8]) -> Option<Result<Elf, String>> {
    let wide = match data.get(..5)? {
        [0x7f, b'E', b'L', b'F', 1] => false,
        [0x7f, b'E', b'L', b'F', 2] => true,
        _ => return None,
    };
    let parsed = if wide {
        read::<elf::FileHeader64<Endianness>>(data, wide)
    } else {
        read::<elf::FileHeader32<Endianness>>(data, wide)
    };
    Some(parsed.map_err(|e| e.to_string()))
}

/// Expands `$ORIGIN`, `$LIB` and `$PLATFORM` of one search folder as ld.so does. `origin` is the
/// folder of the file that names it.
pub fn expand(folder: &str, origin: &Path, machine: Machine) -> PathBuf {
    let mut text = folder.to_string();
    let lib = if machine.wide { "lib64" } else { "lib" };
    for (token, value) in
        [("ORIGIN", &*origin.to_string_lossy()), ("LIB", lib), ("PLATFORM", std::env::consts::ARCH)]
    {
        text = text.replace(&format!("${{{token}}}"), value).replace(&format!("${token}"), value);
    }
    PathBuf::from(text)
}

fn read<H: FileHeader<Endian = Endianness>>(data: &[u8], wide: bool) -> object::Result<Elf> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let mut found = Elf {
        machine: Machine { wide, machine: header.e_machine(endian).0 },
        interpreter: None,
        needed: Vec::new(),
        rpath: Vec::new(),
        runpath: Vec::new(),
        unwinds: false,
    };
    // A dynamic entry holds an offset into the string table, which is known by its address.
    let at = |address: u64, size: u64| {
        segments
            .iter()
            .filter(|s| s.p_type(endian) == elf::PT_LOAD)
            .find_map(|s| s.data_range(endian, data, address, size).ok().flatten())
    };
    for segment in segments {
        if let Some(path) = segment.interpreter(endian, data)? {
            found.interpreter = Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()));
        }
        let Some(entries) = segment.dynamic(endian, data)? else { continue };
        let entries: Vec<_> = entries
            .iter()
            .map(|d| (d.tag(endian), d.val(endian)))
            .take_while(|(tag, _)| *tag != elf::DT_NULL)
            .collect();
        let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, v)| *v);
        let (Some(address), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else {
            continue;
        };
        let strings = at(address, size).unwrap_or_default();
        let string = |offset: u64| {
            let rest = usize::try_from(offset).ok().and_then(|o| strings.get(o..));
            let rest = rest.unwrap_or_default();
            let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
            String::from_utf8_lossy(&rest[..end]).into_owned()
        };
        let all =
            |wanted| entries.iter().filter(move |(tag, _)| *tag == wanted).map(|(_, v)| string(*v));
        let folders = |wanted| {
            all(wanted)
                .flat_map(|list| list.split(':').map(str::to_string).collect::<Vec<_>>())
                .filter(|folder| !folder.is_empty())
                .collect()
        };
        found.needed = all(elf::DT_NEEDED).collect();
        found.runpath = folders(elf::DT_RUNPATH);
        if found.runpath.is_empty() {
            found.rpath = folders(elf::DT_RPATH);
        }
        // The C library itself defines these names; it does not use them.
        let libc = all(elf::DT_SONAME)
            .any(|name| name.starts_with("libc.so") || name.starts_with("libpthread.so"));
        found.unwinds = !libc
            && strings
                .split(|b| *b == 0)
                .any(|name| matches!(name, b"pthread_exit" | b"pthread_cancel"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_very_test_program() {
        let data = std::fs::read("/proc/self/exe").unwrap();
        let elf = parse(&data).expect("ELF").unwrap();
        assert_eq!(elf.machine.wide, cfg!(target_pointer_width = "64"));
        assert!(elf.needed.iter().any(|n| n.starts_with("libc.")), "{:?}", elf.needed);
        assert!(elf.interpreter.is_some_and(|i| i.is_absolute()));
    }

    #[test]
    fn a_static_program_asks_for_nothing() {
        let elf = parse(super::super::recipe::INIT).expect("ELF").unwrap();
        assert_eq!((elf.interpreter, elf.needed), (None, vec![]));
    }

    #[test]
    fn text_is_no_elf_and_a_broken_header_is_an_error() {
        assert_eq!(parse(b"#!/bin/sh\n"), None);
        assert_eq!(parse(b""), None);
        assert!(parse(b"\x7fELF\x02\x01\x01 too short").expect("ELF by its magic").is_err());
    }

    #[test]
    fn origin_and_lib_are_expanded() {
        let machine = Machine { wide: true, machine: 62 };
        let at = |text| expand(text, Path::new("/opt/x/bin"), machine);
        assert_eq!(at("$ORIGIN/../lib"), Path::new("/opt/x/bin/../lib"));
        assert_eq!(at("${ORIGIN}/../$LIB"), Path::new("/opt/x/bin/../lib64"));
        assert_eq!(at("/plain"), Path::new("/plain"));
    }
}
