//! Where ld.so would find a library on this host: its cache, then the standard folders. Run-time
//! paths of a file come first and are given by the caller.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::elf::{self, Machine};

/// The cache of ldconfig(8).
pub const CACHE: &str = "/etc/ld.so.cache";

/// Folders of glibc (multiarch, 64 bits, plain) and musl, for hosts without a cache.
const STANDARD: [&str; 9] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
];

/// The host's libraries.
#[derive(Debug, Default)]
pub struct Libraries {
    cached: HashMap<String, Vec<PathBuf>>,
    found: HashMap<(String, Machine), Option<PathBuf>>,
}

/// How a library was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// In a folder that the program names itself, or that every loader searches.
    Plain(PathBuf),
    /// Only through the cache, which the guest does not have: a link in a standard folder is due.
    ByCache(PathBuf),
}

impl Libraries {
    /// Reads the host's cache; a missing or foreign one counts as empty.
    pub fn of_host() -> Self {
        let data = fs::read(CACHE).unwrap_or_default();
        Self { cached: parse_cache(&data).unwrap_or_default(), ..Self::default() }
    }

    /// Finds `name` for a file of `machine`: in `folders` (its expanded run-time paths), the
    /// cache, the standard folders. Files of another architecture are passed over, as ld.so does.
    pub fn find(&mut self, name: &str, folders: &[PathBuf], machine: Machine) -> Option<Found> {
        let fits = |path: &Path| machine_of(path) == Some(machine);
        if name.contains('/') {
            let path = PathBuf::from(name);
            return fits(&path).then_some(Found::Plain(path));
        }
        if let Some(path) = folders.iter().map(|f| f.join(name)).find(|path| fits(path)) {
            return Some(Found::Plain(path));
        }
        let cached = &self.cached;
        let path = self.found.entry((name.to_string(), machine)).or_insert_with(|| {
            let cached = cached.get(name).into_iter().flatten().cloned();
            cached.chain(STANDARD.iter().map(|f| Path::new(f).join(name))).find(|path| fits(path))
        });
        path.clone().map(|path| {
            let standard =
                path.parent().is_some_and(|p| STANDARD[..8].iter().any(|s| Path::new(s) == p));
            if standard { Found::Plain(path) } else { Found::ByCache(path) }
        })
    }
}

/// The architecture of an ELF file by its first bytes; `None` for anything else.
fn machine_of(path: &Path) -> Option<Machine> {
    let mut head = [0; 20];
    fs::File::open(path).ok()?.read_exact(&mut head).ok()?;
    let wide = match head[..5] {
        [0x7f, b'E', b'L', b'F', 1] => false,
        [0x7f, b'E', b'L', b'F', 2] => true,
        _ => return None,
    };
    let machine = [head[18], head[19]];
    let little = head[5] == 1;
    let machine = if little { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    Some(elf::Machine { wide, machine })
}

/// Names and paths of an ld.so.cache, in its own order of preference. The format is that of
/// glibc's sysdeps/generic/dl-cache.h ("glibc-ld.so.cache1.1"), alone or behind the old one.
fn parse_cache(data: &[u8]) -> Option<HashMap<String, Vec<PathBuf>>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const OLD: &[u8] = b"ld.so-1.7.0\0";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    let u32_at = |data: &[u8], at: usize| {
        data.get(at..at + 4).map(|b| u32::from_ne_bytes(b.try_into().expect("four bytes")) as usize)
    };
    let data = if data.starts_with(OLD) {
        // Old header: magic, count, entries of 12 bytes; the new one follows, aligned to 8.
        let end = 16 + u32_at(data, 12)?.checked_mul(12)?;
        data.get(end.next_multiple_of(8)..)?
    } else {
        data
    };
    if !data.starts_with(MAGIC) {
        return None;
    }
    let string = |at: usize| {
        let rest = data.get(at..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    };
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    for entry in data.get(HEADER..)?.chunks_exact(ENTRY).take(u32_at(data, MAGIC.len())?) {
        // Variants for newer processors are left out: the guest's may be an older one.
        let hwcap = entry[16..24].iter().any(|b| *b != 0);
        let (Some(name), Some(path)) = (string(u32_at(entry, 4)?), string(u32_at(entry, 8)?))
        else {
            return None;
        };
        if !hwcap {
            found.entry(name.to_string()).or_default().push(path.into());
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_machine() -> Machine {
        machine_of(Path::new("/proc/self/exe")).unwrap()
    }

    #[test]
    fn finds_the_c_library_with_and_without_the_cache() {
        for mut libraries in [Libraries::of_host(), Libraries::default()] {
            let Some(Found::Plain(path)) = libraries.find("libc.so.6", &[], this_machine()) else {
                panic!("libc.so.6 in a standard folder")
            };
            assert!(path.is_file(), "{}", path.display());
            assert_eq!(libraries.find("libno-such.so.9", &[], this_machine()), None);
        }
    }

    #[test]
    fn a_library_of_another_architecture_is_passed_over() {
        let other = Machine { machine: 0xbeef, ..this_machine() };
        assert_eq!(Libraries::of_host().find("libc.so.6", &[], other), None);
    }

    #[test]
    fn the_cache_agrees_with_ldconfig() {
        let Ok(data) = fs::read(CACHE) else { return };
        let parsed = parse_cache(&data).expect("this host's cache");
        assert!(parsed.values().flatten().all(|p| p.is_absolute()));
        assert!(parsed.contains_key("libc.so.6"));
    }

    #[test]
    fn a_library_that_only_the_cache_knows_is_marked() {
        let (folder, mut libraries) = (tempfile::tempdir().unwrap(), Libraries::of_host());
        let path = folder.path().join("liblab-test.so.1");
        fs::copy("/proc/self/exe", &path).unwrap();
        libraries.cached.insert("liblab-test.so.1".into(), vec![path.clone()]);
        let found = libraries.find("liblab-test.so.1", &[], this_machine());
        assert_eq!(found, Some(Found::ByCache(path)));
    }

    #[test]
    fn a_damaged_cache_is_no_cache() {
        assert!(parse_cache(b"").is_none());
        assert!(parse_cache(b"glibc-ld.so.cache1.1").is_none());
        let mut data = b"glibc-ld.so.cache1.1".to_vec();
        data.extend(1u32.to_ne_bytes());
        data.resize(48, 0);
        data.extend([0xff; 24]);
        assert!(parse_cache(&data).is_none_or(|found| found.is_empty()));
    }
}
