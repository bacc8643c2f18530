//! The archive itself, by the host's tar.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use crate::kernel::{Output, PullError, Watch};
use crate::manifest::{Diagnostic, Result, nearest};

/// How an archive is compressed: by a program that tar calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// zstd: a kernel in half a second.
    Zstd,
    /// gzip: everywhere.
    Gzip,
    /// xz: the smallest.
    Xz,
    /// None.
    None,
}

/// Endings of archives, the best first.
pub const ENDINGS: [(&str, Compression); 6] = [
    (".tar.zst", Compression::Zstd),
    (".tar.gz", Compression::Gzip),
    (".tgz", Compression::Gzip),
    (".tar.xz", Compression::Xz),
    (".txz", Compression::Xz),
    (".tar", Compression::None),
];

/// What tar and its compressors say of a full disk.
const FULL: [&str; 3] = ["No space left", "quota exceeded", "Wrote only"];

impl Compression {
    /// What an archive's name says.
    ///
    /// # Errors
    /// It says nothing that is known, or this host has not got the program.
    pub fn of_name(name: &str) -> Result<Self> {
        let known = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
        let Some((_, compression)) = known else {
            let all: Vec<&str> = ENDINGS.iter().map(|(ending, _)| *ending).collect();
            let error = Diagnostic::usage(format!("{name} is not the name of an archive"));
            let end = name.find(".t").map_or("", |at| &name[at..]);
            return Err(match nearest(end, all.iter().copied()).filter(|_| !end.is_empty()) {
                Some(near) => {
                    error.help(format!("did you mean {near}? There are {}", all.join(", ")))
                }
                None => error.help(format!("it ends with one of {}", all.join(", "))),
            });
        };
        match compression.program() {
            Some(program) if !crate::image::on_host(program) => {
                Err(Diagnostic::trouble(format!("this host has no {program}"))
                    .help("install it, or name an archive that ends with .tar"))
            }
            _ => Ok(*compression),
        }
    }

    /// The ending of the best that this host can make.
    pub fn best_ending() -> &'static str {
        let can =
            |compression: Compression| compression.program().is_none_or(crate::image::on_host);
        ENDINGS
            .iter()
            .find(|(_, compression)| can(*compression))
            .map_or(".tar", |(ending, _)| ending)
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
            Self::Xz => Some("xz"),
            Self::None => None,
        }
    }
}

/// Packs the folder `name` of `from` into `out`, which appears when it is whole; returns its bytes.
///
/// # Errors
/// `out` is there already or cannot be written, no room, the user interrupted.
pub(super) fn pack(
    from: &Path,
    name: &str,
    out: &Path,
    compression: Compression,
    cancel: &AtomicBool,
) -> Result<u64, PullError> {
    let folder = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // The usual mode, less the umask: it is to be given to others.
    let mode = std::fs::Permissions::from_mode(0o666);
    let mut beside = tempfile::Builder::new();
    let beside = beside.prefix(".lab-bundle-").permissions(mode).tempfile_in(folder);
    let beside = beside.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound if !folder.is_dir() => {
            Diagnostic::usage(format!("there is no folder {}", folder.display()))
                .help("make it, or name another with -o")
        }
        _ => super::files::no_room(out, &e),
    })?;
    let mut tar = Command::new("tar");
    // A name with a colon is none of another host; owners are nobody else's business.
    tar.args(["--force-local", "--format=pax", "--pax-option=delete=atime,delete=ctime"]).args([
        "--sparse",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    if let Some(program) = compression.program() {
        tar.arg(format!("--use-compress-program={program}"));
    }
    tar.arg("-cf").arg(beside.path()).arg("-C").arg(from).arg("--").arg(name);
    let mut watch = Watch { progress: &mut |_| {}, cancel };
    let ran = watch.run(tar, Output::Apart, |_| {})?;
    if !ran.status.success() {
        let full = FULL.iter().any(|words| ran.err.contains(words));
        let message = format!("cannot write {}", out.display());
        return Err(match (full, ran.err.lines().next()) {
            (true, _) => Diagnostic::trouble(format!("{message}: the disk is full"))
                .help("free some room (lab gc), or name a file elsewhere with -o"),
            (false, words) => {
                Diagnostic::trouble(format!("{message}: {}", words.unwrap_or("tar failed")))
            }
        }
        .into());
    }
    let file = beside.as_file();
    let bytes = file.sync_all().and_then(|()| file.metadata()).map(|meta| meta.len());
    let bytes = bytes.map_err(|e| super::files::no_room(out, &e))?;
    match beside.into_temp_path().persist_noclobber(out) {
        Ok(()) => Ok(bytes),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(there_already(out).into())
        }
        Err(e) => Err(Diagnostic::io("make", out, &e.error).into()),
    }
}

/// An archive is never written over.
pub(super) fn there_already(out: &Path) -> Diagnostic {
    Diagnostic::usage(format!("{} is there already", out.display()))
        .help("remove it, or name another with -o")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_it_is_compressed() {
        assert_eq!(Compression::of_name("a.b.tar").unwrap(), Compression::None);
        assert_eq!(Compression::of_name("a.tgz").unwrap(), Compression::Gzip);
        let error = Compression::of_name("a.tar.zstd").unwrap_err().to_string();
        assert!(error.contains("did you mean .tar.zst?"), "{error}");
        let error = Compression::of_name("a.zip").unwrap_err().to_string();
        assert!(error.contains("ends with one of .tar.zst, .tar.gz,"), "{error}");
        assert!(Compression::of_name(&format!("x{}", Compression::best_ending())).is_ok());
    }
}
