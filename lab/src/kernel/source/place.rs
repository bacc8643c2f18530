//! What the text of `source = ...` means, and the nearest thing where it means nothing.

use std::path::{Path, PathBuf};

use crate::manifest::{Diagnostic, Result, nearest};

/// A source as written, looked at on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Folder(PathBuf),
    Tarball(PathBuf),
    Git { path: PathBuf, rev: String },
    Debian { suite: String, package: String },
}

/// What tar unpacks by itself.
const TARBALLS: [&str; 6] = [".tar.xz", ".tar.gz", ".tgz", ".tar.bz2", ".tar.zst", ".tar"];

impl Place {
    /// Reads the text; paths in it are absolute already.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some((suite, package)) = text.strip_prefix("debian:").and_then(|t| t.split_once('/'))
        {
            return Ok(Self::Debian { suite: suite.into(), package: package.into() });
        }
        if let Some((path, rev)) = text.strip_prefix("git:").and_then(|t| t.rsplit_once('#')) {
            return Ok(Self::Git { path: path.into(), rev: rev.into() });
        }
        let path = PathBuf::from(text);
        let real = || path.canonicalize().map_err(|e| Diagnostic::io("find", &path, &e));
        match path.metadata() {
            Ok(meta) if meta.is_dir() => Ok(Self::Folder(real()?)),
            Ok(_) if TARBALLS.iter().any(|ending| text.ends_with(ending)) => {
                Ok(Self::Tarball(real()?))
            }
            Ok(_) => {
                Err(Diagnostic::usage(format!("the source {text} is no folder and no tarball"))
                    .help(format!("a tarball's name ends in one of {}", TARBALLS.join(", "))))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(missing(&path)),
            Err(e) => Err(Diagnostic::io("look at", &path, &e)),
        }
    }
}

/// The error of a path that does not exist: the nearest name in the deepest folder that does.
pub(in crate::kernel) fn missing(path: &Path) -> Diagnostic {
    let error = Diagnostic::usage(format!("there is no {}", path.display()));
    let there = path.ancestors().skip(1).find(|folder| folder.is_dir());
    let Some(there) = there else { return error };
    let wanted = path.strip_prefix(there).unwrap_or(path).iter().next().unwrap_or_default();
    let items = std::fs::read_dir(there).into_iter().flatten().flatten();
    let names: Vec<String> =
        items.map(|item| item.file_name().to_string_lossy().into_owned()).collect();
    match nearest(&wanted.to_string_lossy(), names.iter().map(String::as_str)) {
        Some(near) => error.help(format!("did you mean {}?", there.join(near).display())),
        None => error.help(format!("{} is there", there.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_the_kind() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        std::fs::create_dir(at("linux")).unwrap();
        std::fs::write(at("linux-6.1.tar.xz"), "").unwrap();
        std::fs::write(at("linux.zip"), "").unwrap();
        let parse = |name: &str| Place::parse(&at(name).to_string_lossy());
        assert_eq!(parse("linux").unwrap(), Place::Folder(at("linux")));
        assert_eq!(parse("linux-6.1.tar.xz").unwrap(), Place::Tarball(at("linux-6.1.tar.xz")));
        assert!(parse("linux.zip").unwrap_err().to_string().contains("no tarball"));
        let error = parse("linx/fs").unwrap_err().to_string();
        assert!(error.ends_with("linux?)"), "{error}");
        assert_eq!(
            Place::parse("git:/a#b/linux#v6.1").unwrap(),
            Place::Git { path: "/a#b/linux".into(), rev: "v6.1".into() }
        );
        assert_eq!(
            Place::parse("debian:bullseye/linux-source-5.10").unwrap(),
            Place::Debian { suite: "bullseye".into(), package: "linux-source-5.10".into() }
        );
    }
}
