//! What make and the compilers under it may see and touch: the host's programs, the source to read,
//! the build folder to write, a /tmp of their own, and no network. A Makefile is a program that
//! came with the source; and whatever it starts ends with the lab.

use std::path::{Path, PathBuf};

use crate::kernel::tool::on_path;
use crate::sandbox::{Isolation, Launch, RootEntry};

/// Folders with the host's programs and their libraries, and where some distributions and vendors
/// keep theirs. Where one is a link (/bin to usr/bin) it is one in the private root too.
const SYSTEM: [&str; 10] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/nix/store",
    "/gnu/store",
];

/// What compilers and scripts read of /etc: Debian's links from `cc` and `awk` to the real ones,
/// where libraries are, and the defaults of interpreters. Nothing that is a secret.
const ETC: [&str; 7] = [
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/perl",
    "/etc/ssl/openssl.cnf",
    "/etc/ccache.conf",
];

const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Assembler text of one file each, and gone with the build: a ceiling, not a need.
const TEMPORARY: u64 = 2 << 30;

/// Of the lab's environment, what is not for make: what a user's shell sets for other builds, and
/// folders that are not in the private root.
const NOT_INHERITED: [&str; 16] = [
    "MAKEFLAGS",
    "MFLAGS",
    "GNUMAKEFLAGS",
    "MAKELEVEL",
    "ARCH",
    "CROSS_COMPILE",
    "KBUILD_OUTPUT",
    "KCFLAGS",
    "LANGUAGE",
    "TEMP",
    "TMP",
    "XDG_RUNTIME_DIR",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "CCACHE_DIR",
];

/// The walls around one build folder.
#[derive(Clone, Debug)]
pub(super) struct Walls {
    /// [`Isolation::Off`] where there are no namespaces to be had: what make starts ends with the
    /// lab all the same.
    pub isolation: Isolation,
    /// An empty folder, to mount the private root on; without walls, for temporary files.
    pub mount_on: PathBuf,
    /// Folders that make reads, at their own paths.
    pub readable: Vec<PathBuf>,
    /// Folders that it writes to, at their own paths.
    pub writable: Vec<PathBuf>,
}

impl Walls {
    /// What starts `argv`, whose first word is an absolute path, inside these walls. `ccache` is
    /// the folder of the compiler cache, where one is used.
    pub fn launch(&self, argv: Vec<String>, ccache: Option<&Path>) -> Launch {
        Launch {
            argv,
            env: self.environment(ccache),
            isolation: self.isolation,
            root: self.root(ccache),
            mount_on: self.mount_on.clone(),
            ..Launch::default()
        }
    }

    fn environment(&self, ccache: Option<&Path>) -> Vec<(String, String)> {
        let text = |word: std::ffi::OsString| word.into_string().ok();
        let mut env: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .filter(|(name, _)| !NOT_INHERITED.contains(&name.as_str()))
            .collect();
        let mut set = |name: &str, value: &str| env.push((name.into(), value.into()));
        set("LC_ALL", "C");
        set("TZ", "UTC");
        // Without walls too what a killed compiler leaves is in a folder that the next build clears.
        match self.isolation {
            Isolation::Off => set("TMPDIR", &self.mount_on.to_string_lossy()),
            _ => set("TMPDIR", "/tmp"),
        }
        if let Some(folder) = ccache {
            set("CCACHE_DIR", &folder.to_string_lossy());
        }
        env
    }

    fn root(&self, ccache: Option<&Path>) -> Vec<RootEntry> {
        let bind = |path: &Path, readonly| RootEntry::Bind {
            host: path.to_path_buf(),
            at: path.to_path_buf(),
            readonly,
        };
        let mut root = Vec::new();
        for path in SYSTEM.iter().map(Path::new) {
            match std::fs::read_link(path) {
                Ok(to) => root.push(RootEntry::Link { at: path.into(), to }),
                Err(_) if path.is_dir() => root.push(bind(path, true)),
                Err(_) => {}
            }
        }
        let there = |path: &&Path| path.exists();
        root.extend(ETC.iter().map(Path::new).filter(there).map(|path| bind(path, true)));
        root.extend(DEVICES.iter().map(Path::new).filter(there).map(|path| bind(path, true)));
        root.push(RootEntry::Link { at: "/dev/fd".into(), to: "/proc/self/fd".into() });
        for (number, name) in ["stdin", "stdout", "stderr"].iter().enumerate() {
            let to = format!("/proc/self/fd/{number}").into();
            root.push(RootEntry::Link { at: Path::new("/dev").join(name), to });
        }
        root.push(RootEntry::Proc("/proc".into()));
        root.push(RootEntry::Memory { at: "/tmp".into(), size: TEMPORARY });
        root.extend(toolchain_folders().iter().map(|path| bind(path, true)));
        root.extend(self.readable.iter().map(|path| bind(path, true)));
        root.extend(
            self.writable.iter().map(PathBuf::as_path).chain(ccache).map(|p| bind(p, false)),
        );
        root
    }
}

/// Folders of PATH outside the system's own, and what the compiler found in one has beside it.
fn toolchain_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute() && folder.is_dir())
        .collect();
    for program in ["gcc", "ld"] {
        let Some(file) = on_path(program).and_then(|file| file.canonicalize().ok()) else {
            continue;
        };
        folders.extend(file.parent().map(Path::to_path_buf));
        // .../bin/gcc finds cc1 and its headers in .../lib/gcc and .../libexec/gcc.
        let prefix = file.parent().and_then(Path::parent);
        folders.extend(prefix.filter(|p| p.join("lib/gcc").is_dir()).map(Path::to_path_buf));
    }
    let of_system = |folder: &PathBuf| {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        SYSTEM.iter().any(|system| real.starts_with(system))
    };
    folders.retain(|folder| !of_system(folder) && folder != Path::new("/"));
    // A folder before what lies in it: the later mount would hide the earlier.
    folders.sort();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walls() -> Walls {
        Walls {
            isolation: Isolation::Full,
            mount_on: "/b/root".into(),
            readable: vec!["/s/tree".into()],
            writable: vec!["/b/out".into()],
        }
    }

    #[test]
    fn only_the_build_folder_and_the_compilers_cache_are_written_to() {
        let launch = walls().launch(vec!["/usr/bin/make".into()], Some(Path::new("/c")));
        let written: Vec<&Path> = launch
            .root
            .iter()
            .filter_map(|entry| match entry {
                RootEntry::Bind { at, readonly: false, .. } => Some(at.as_path()),
                _ => None,
            })
            .collect();
        assert_eq!(written, [Path::new("/b/out"), Path::new("/c")]);
        let of = |name: &str| launch.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(
            (of("CCACHE_DIR"), of("LC_ALL"), of("MAKEFLAGS")),
            (Some("/c"), Some("C"), None)
        );
        assert!(of("PATH").is_some());
    }

    #[test]
    fn nothing_of_the_home_folder_is_seen() {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap();
        let all = |at: &Path| at == Path::new("/") || at == Path::new("/etc") || at == home;
        for entry in walls().launch(Vec::new(), None).root {
            if let RootEntry::Bind { at, .. } = entry {
                assert!(!all(&at), "{}", at.display());
            }
        }
    }
}
