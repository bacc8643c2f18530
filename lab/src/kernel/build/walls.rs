//! What make and the compilers under it may see and touch: the host's programs, the source to read,
//! the build folder to write, a /tmp of their own, and no network. A Makefile is a program that
//! came with the source; and whatever it starts ends with the lab.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::kernel::tool::on_path;
use crate::manifest::{Diagnostic, Result};
use crate::sandbox::{Isolation, Launch, REFUSALS, RootEntry};

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

/// Of the lab's environment, what make gets, and what begins with `CCACHE_`. All else might change the
/// kernel (LLVM, KCPPFLAGS, C_INCLUDE_PATH) or what is built (KCONFIG_CONFIG, M), and is in no key.
const INHERITED: [&str; 4] = ["PATH", "HOME", "USER", "LOGNAME"];

/// Of ccache's variables, those with which another program compiles than `gcc`.
const NOT_CACHES: [&str; 5] =
    ["CCACHE_COMPILER", "CCACHE_COMPILERTYPE", "CCACHE_PATH", "CCACHE_PREFIX", "CCACHE_PREFIX_CPP"];

/// The walls around one build folder.
#[derive(Clone, Debug)]
pub(super) struct Walls {
    /// [`Isolation::Off`] where there are no namespaces to be had: what make starts ends with the
    /// lab all the same.
    pub isolation: Isolation,
    /// They may come down where the host refuses them: nobody asked for them by name.
    pub may_fall: bool,
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

    /// Takes the walls down, since make could not be started behind them.
    ///
    /// # Errors
    /// They were asked for by name, or it was not for the host's refusal.
    pub fn fall(&mut self, why: &str) -> Result<()> {
        let refused = REFUSALS.iter().any(|refusal| why.starts_with(refusal));
        if self.may_fall && refused {
            self.isolation = Isolation::Off;
            return Ok(());
        }
        Err(Diagnostic::trouble(format!("make cannot be started behind walls: {why}")).help(
            "`lab doctor` says what this host gives; lab kernel build --sandbox=off builds without \
             walls, as you",
        ))
    }

    fn environment(&self, ccache: Option<&Path>) -> Vec<(String, String)> {
        let text = |word: std::ffi::OsString| word.into_string().ok();
        let mut env: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .filter(|(name, _)| is_inherited(name))
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
        let path = std::env::var_os("PATH").unwrap_or_default();
        root.extend(toolchain_folders(&path, &homes()).iter().map(|path| bind(path, true)));
        root.extend(self.readable.iter().map(|path| bind(path, true)));
        root.extend(
            self.writable.iter().map(PathBuf::as_path).chain(ccache).map(|p| bind(p, false)),
        );
        root
    }
}

fn is_inherited(name: &str) -> bool {
    INHERITED.contains(&name) || name.starts_with("CCACHE_") && !NOT_CACHES.contains(&name)
}

/// The user's home, by the environment and by the host's list of users.
fn homes() -> Vec<PathBuf> {
    let listed = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let all = std::env::var_os("HOME").map(PathBuf::from).into_iter().chain(listed.map(|u| u.dir));
    all.filter(|home| home.is_absolute()).collect()
}

/// Folders of `path` outside the system's own, and what the compiler found in one has beside it; none
/// in which one of `homes` is whole.
fn toolchain_folders(path: &OsStr, homes: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(path)
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
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let homes: Vec<PathBuf> = homes.iter().map(real).collect();
    folders.retain(|folder| {
        let folder = real(folder);
        let of_system = SYSTEM.iter().any(|system| folder.starts_with(system));
        let shows_home = homes.iter().any(|home| home.starts_with(&folder));
        !of_system && !shows_home && folder != Path::new("/")
    });
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
            may_fall: true,
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
    fn nothing_that_changes_a_kernel_is_inherited() {
        for name in ["LLVM", "LLVM_IAS", "KCPPFLAGS", "KAFLAGS", "KCFLAGS", "KCONFIG_CONFIG", "W"] {
            assert!(!is_inherited(name), "{name}");
        }
        for name in ["V", "C", "M", "CPATH", "C_INCLUDE_PATH", "CCACHE_COMPILER", "CC", "path"] {
            assert!(!is_inherited(name), "{name}");
        }
        for name in ["PATH", "HOME", "CCACHE_MAXSIZE"] {
            assert!(is_inherited(name), "{name}");
        }
        let allowed = ["LC_ALL", "TZ", "TMPDIR", "CCACHE_DIR"];
        for (name, _) in walls().launch(Vec::new(), None).env {
            assert!(is_inherited(&name) || allowed.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn a_path_does_not_open_the_home_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let home = root.join("home/u");
        std::fs::create_dir_all(home.join("bin")).unwrap();
        std::os::unix::fs::symlink("u", root.join("home/link")).unwrap();
        let folders = |path: &[&str]| {
            let path = std::env::join_paths(path.iter().map(|p| root.join(p))).unwrap();
            let all = toolchain_folders(&path, std::slice::from_ref(&home));
            all.into_iter().filter(|f| f.starts_with(&root)).collect::<Vec<_>>()
        };
        assert!(folders(&["home/u", "home/u/", "home", "home/link", "home/u/bin/.."]).is_empty());
        assert_eq!(folders(&["home/u", "home/u/bin"]), [home.join("bin")]);
    }

    #[test]
    fn walls_come_down_only_where_the_host_refuses_them_and_nobody_asked() {
        let isolation = |may_fall, why: &str| {
            let mut walls = Walls { may_fall, ..walls() };
            walls.fall(why).map(|()| walls.isolation).map_err(|error| error.to_string())
        };
        for refusal in REFUSALS {
            let why = format!("{refusal}: unshare: Operation not permitted");
            assert_eq!(isolation(true, &why), Ok(Isolation::Off));
            assert!(isolation(false, &why).unwrap_err().contains(&why));
        }
        let why = "mount a tmpfs on /b/root: No space left on device";
        assert!(isolation(true, why).unwrap_err().contains(why));
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
