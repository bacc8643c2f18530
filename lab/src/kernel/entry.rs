//! One kernel in the store: the record `kernel.json` beside its files, and how its files are
//! checked: by size and time at every use, by digest only when those disagree.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::KernelKey;
use super::external::ExternalModules;
use super::source::{KernelVersion, SourceOrigin};
use crate::manifest::{Arch, Diagnostic, Result};

/// Where a kernel came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "provider", rename_all = "kebab-case")]
pub enum Origin {
    /// Packages of Debian, verified by apt against the archive's signature.
    Debian {
        /// For example `bookworm`.
        suite: String,
        /// The package that was asked for.
        #[serde(flatten)]
        package: Package,
        /// What came along: the C library, or what a metapackage stands for.
        with: Vec<Package>,
    },
    /// Built here.
    Source {
        /// Of this source.
        source: SourceOrigin,
        /// What it was, patches aside: a digest in hex.
        identity: String,
        /// What its Makefile states.
        version: KernelVersion,
        /// The fragments of its configuration.
        kconfig: Vec<String>,
        /// The subjects of the patches applied to it, in order.
        patches: Vec<String>,
        /// Patches that applied only with less context.
        fuzz: Vec<String>,
        /// Modules of other sources in its module tree.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        modules: Vec<ExternalModules>,
    },
    /// Files of the user, used where they are.
    Path {
        /// The boot file or the built tree.
        path: PathBuf,
        /// `git describe --dirty` of the source of a built tree; `None`: not git, or a single file.
        git: Option<String>,
    },
}

/// A binary package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the .deb file, in hex, from the signed index.
    pub sha256: String,
}

/// `kernel.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub format: u32,
    pub key: KernelKey,
    pub arch: Arch,
    pub release: String,
    pub origin: Origin,
    /// There is a `libraries` folder.
    pub libraries: bool,
    /// There is a `modules/RELEASE` folder.
    pub modules: bool,
    /// Bytes that its files take on the disk.
    pub bytes: u64,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// The files that every boot depends on.
    pub files: Vec<Mark>,
}

/// What a file must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Relative to the entry.
    path: String,
    size: u64,
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
    blake3: String,
}

/// What a look at an entry's files said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// As recorded.
    Good,
    /// Other times, same content: the cache was copied.
    Touched,
    /// A file is missing or has another content.
    Damaged,
}

/// The format of `kernel.json`; an entry of another format is made again.
pub(super) const FORMAT: u32 = 1;

/// The record's name in an entry.
const RECORD: &str = "kernel.json";

impl Entry {
    /// Reads the record of the entry in `folder`; `None` if there is none that can be used.
    pub fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join(RECORD)).ok()?;
        let entry: Self = serde_json::from_slice(&text).ok()?;
        (entry.format == FORMAT && entry.key.is_sound()).then_some(entry)
    }

    /// Writes the record, whole or not at all.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("a record is plain data");
        write_whole(&folder.join(RECORD), &text)
    }

    /// Compares sizes and times, and where they differ the digests. Reads no file that is as it
    /// was.
    pub fn health(&self, folder: &Path) -> Health {
        let mut health = Health::Good;
        for mark in &self.files {
            let file = folder.join(&mark.path);
            match std::fs::metadata(&file) {
                Ok(meta) if meta.is_file() && meta.len() == mark.size => {
                    if (meta.mtime(), meta.mtime_nsec()) == mark.mtime {
                        continue;
                    }
                    if digest(&file).ok().as_ref() != Some(&mark.blake3) {
                        return Health::Damaged;
                    }
                    health = Health::Touched;
                }
                _ => return Health::Damaged,
            }
        }
        health
    }

    /// Takes down what `paths` (relative to `folder`) look like now.
    pub fn mark(&mut self, folder: &Path, paths: &[String]) -> Result<()> {
        let mark = |path: &String| -> Result<Mark> {
            let file = folder.join(path);
            let look = || -> io::Result<Mark> {
                let meta = std::fs::metadata(&file)?;
                let mtime = (meta.mtime(), meta.mtime_nsec());
                Ok(Mark { path: path.clone(), size: meta.len(), mtime, blake3: digest(&file)? })
            };
            look().map_err(|e| Diagnostic::io("read", &file, &e))
        };
        self.files = paths.iter().map(mark).collect::<Result<_>>()?;
        Ok(())
    }

    /// Takes down the times again, after [`Health::Touched`].
    pub fn remark(&mut self, folder: &Path) -> Result<()> {
        let paths: Vec<String> = self.files.iter().map(|mark| mark.path.clone()).collect();
        self.mark(folder, &paths)
    }
}

impl fmt::Display for Origin {
    /// `user-mode-linux 6.1um4+b13 (bookworm)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { suite, package, .. } => {
                write!(f, "{} {} ({suite})", package.package, package.version)
            }
            Self::Source { source, version, patches, modules, .. } => {
                write!(f, "{version} from {source}")?;
                let names = modules.iter().flat_map(|m| &m.names).map(String::as_str);
                let names = names.collect::<Vec<_>>().join(", ");
                let with = match patches.len() {
                    0 => None,
                    1 => Some(patches[0].clone()),
                    n => Some(format!("{n} patches")),
                };
                match (with, names.as_str()) {
                    (None, "") => Ok(()),
                    (Some(patches), "") => write!(f, " with {patches}"),
                    (None, names) => write!(f, " with the modules {names}"),
                    (Some(patches), names) => write!(f, " with {patches} and the modules {names}"),
                }
            }
            Self::Path { path, git: Some(git) } => write!(f, "{} ({git})", path.display()),
            Self::Path { path, git: None } => write!(f, "{} (not git)", path.display()),
        }
    }
}

/// Writes a file beside and renames it into place, so that no reader ever sees half of it.
pub(super) fn write_whole(file: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        // The usual mode, less the umask: a cache may be shared.
        let mode = std::fs::Permissions::from_mode(0o666);
        let mut beside = tempfile::Builder::new().permissions(mode).tempfile_in(folder)?;
        beside.write_all(bytes)?;
        beside.persist(file)?;
        Ok(())
    };
    write().map_err(|e| Diagnostic::io("write", file, &e))
}

/// Bytes that a file or a tree takes on the disk.
pub(crate) fn disk_usage(path: &Path) -> io::Result<u64> {
    let meta = path.symlink_metadata()?;
    let mut bytes = meta.blocks() * 512;
    if meta.is_dir() {
        for item in std::fs::read_dir(path)? {
            bytes += disk_usage(&item?.path())?;
        }
    }
    Ok(bytes)
}

fn digest(file: &Path) -> io::Result<String> {
    let mut hash = blake3::Hasher::new();
    hash.update_reader(File::open(file)?)?;
    Ok(hash.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn entry(folder: &Path) -> Entry {
        std::fs::write(folder.join("boot"), b"kernel").unwrap();
        let package = Package { package: "p".into(), version: "1".into(), sha256: "00".repeat(32) };
        let origin = Origin::Debian { suite: "s".into(), package, with: Vec::new() };
        let mut entry = Entry {
            format: FORMAT,
            key: KernelKey::of(&["x"]),
            arch: Arch::Um,
            release: "6.1".into(),
            origin,
            libraries: false,
            modules: false,
            bytes: 6,
            made: 1,
            files: Vec::new(),
        };
        entry.mark(folder, &["boot".to_string()]).unwrap();
        entry
    }

    #[test]
    fn a_record_survives_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(folder.path());
        entry.write(folder.path()).unwrap();
        assert_eq!(Entry::read(folder.path()), Some(entry.clone()));
        assert_eq!(entry.origin.to_string(), "p 1 (s)");
        std::fs::write(folder.path().join(RECORD), "{\"format\": 1").unwrap();
        assert_eq!(Entry::read(folder.path()), None);
        Entry { format: FORMAT + 1, ..entry }.write(folder.path()).unwrap();
        assert_eq!(Entry::read(folder.path()), None);
    }

    #[test]
    fn health_tells_a_copy_from_damage() {
        let folder = tempfile::tempdir().unwrap();
        let boot = folder.path().join("boot");
        let mut entry = entry(folder.path());
        assert_eq!(entry.health(folder.path()), Health::Good);

        let earlier = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(&boot).unwrap().set_modified(earlier).unwrap();
        assert_eq!(entry.health(folder.path()), Health::Touched);
        entry.remark(folder.path()).unwrap();
        assert_eq!(entry.health(folder.path()), Health::Good);

        std::fs::write(&boot, b"kernex").unwrap();
        assert_eq!(entry.health(folder.path()), Health::Damaged, "same size, other content");
        std::fs::write(&boot, b"kern").unwrap();
        assert_eq!(entry.health(folder.path()), Health::Damaged, "cut short");
        std::fs::remove_file(&boot).unwrap();
        assert_eq!(entry.health(folder.path()), Health::Damaged, "gone");
    }
}
