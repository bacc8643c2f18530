//! Archives become source trees by tar, Debian's packages of them by way of apt and dpkg-deb.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::pull::room_for;
use super::super::tool::Watch;
use super::super::{PullError, PullProgress};
use super::version::kernel_version;
use super::{Source, SourceOrigin, Sources, products};
use crate::manifest::{Diagnostic, Result};

/// What an unpacked source takes, as a multiple of its compressed archive (measured: 9.4 for
/// linux-source-6.1, 138 MB of xz).
const GROWTH: u64 = 11;

impl Sources {
    /// Makes `folder/tree` from the archive of a source, whole or not at all.
    pub(super) fn unpack(
        &self,
        source: &Source,
        folder: &Path,
        watch: &mut Watch,
    ) -> Result<(), PullError> {
        let work = folder.join("unpacking");
        remove_old(folder)?;
        std::fs::create_dir(&work).map_err(|e| Diagnostic::io("make", &work, &e))?;
        let (archive, temporary) = match &source.origin {
            SourceOrigin::Tarball { file, .. } => (file.clone(), None),
            _ => {
                let (archive, package) = fetch(source, watch)?;
                (archive, Some(package))
            }
        };
        let bytes = archive.metadata().map_err(|e| Diagnostic::io("read", &archive, &e))?.len();
        room_for(bytes * GROWTH, folder)?;
        (watch.progress)(PullProgress::Unpack);
        let mut tar = Command::new("tar");
        tar.arg("--no-same-owner").arg("-xf").arg(&archive).arg("-C").arg(&work);
        watch.must(tar, &format!("unpack {}", archive.display()))?;
        if let Some(package) = temporary {
            let _ = std::fs::remove_dir_all(package);
        }
        let top = only_folder(&work);
        kernel_version(&top).map_err(|error| {
            let shown = match &source.origin {
                SourceOrigin::Tarball { file, .. } => file.display().to_string(),
                origin => origin.to_string(),
            };
            let _ = std::fs::remove_dir_all(&work);
            match error.message().contains("is not a kernel source") {
                true => Diagnostic::usage(format!("{shown} holds no kernel source")).help(
                    "its top folder has no Makefile that begins with VERSION = and no Kconfig",
                ),
                false => error,
            }
        })?;
        remove_products(&top)?;
        let tree = folder.join("tree");
        std::fs::rename(&top, &tree).map_err(|e| Diagnostic::io("make", &tree, &e))?;
        let _ = std::fs::remove_dir_all(&work);
        Ok(())
    }
}

/// Deletes what an earlier unpacking left in the folder of a lineage.
pub(super) fn remove_old(folder: &Path) -> Result<()> {
    for old in ["unpacking", "tree", "pristine"].map(|name| folder.join(name)) {
        match std::fs::remove_dir_all(&old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Diagnostic::io("remove", &old, &e));
            }
            _ => {}
        }
    }
    let _ = std::fs::remove_file(folder.join("applied.json"));
    Ok(())
}

/// Deletes from a tree of ours what a build left in the source that it was made from.
pub(super) fn remove_products(tree: &Path) -> Result<()> {
    let built_in = products::was_built_in(tree);
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let full = tree.join(&folder);
        let io = |e| Diagnostic::io("read", &full, &e);
        for item in std::fs::read_dir(&full).map_err(io)? {
            let item = item.map_err(io)?;
            let path = folder.join(item.file_name());
            let gone = match item.file_type().map_err(io)?.is_dir() {
                true if products::is_product_folder(tree, &path) => {
                    std::fs::remove_dir_all(item.path())
                }
                true => {
                    folders.push(path);
                    Ok(())
                }
                false
                    if products::is_product_file(&path)
                        || (built_in && products::is_program(&item.path())) =>
                {
                    std::fs::remove_file(item.path())
                }
                false => Ok(()),
            };
            gone.map_err(|e| Diagnostic::io("remove", &item.path(), &e))?;
        }
    }
    Ok(())
}

/// Fetches the package of a source: its archive, and the temporary folder that this lies in.
fn fetch(source: &Source, watch: &mut Watch) -> Result<(PathBuf, PathBuf), PullError> {
    let unpacked = fetch_package(source, watch)?;
    let SourceOrigin::Debian { package, .. } = &source.origin else {
        return Err(Diagnostic::trouble("only a package is fetched").into());
    };
    let name = &package.package;
    let archive = unpacked.join("usr/src").join(format!("{name}.tar.xz"));
    if !archive.is_file() {
        let message = format!("the package {name} holds no usr/src/{name}.tar.xz");
        return Err(Diagnostic::usage(message)
            .help("a package such as linux-source-6.1 is wanted")
            .into());
    }
    Ok((archive, unpacked))
}

/// Fetches the package of a source and unpacks it; the temporary folder with what it holds.
pub(super) fn fetch_package(source: &Source, watch: &mut Watch) -> Result<PathBuf, PullError> {
    let Some(fetched) = source.fetched() else {
        return Err(Diagnostic::trouble("a package's index was not fetched").into());
    };
    let name = &fetched.candidate.id.package;
    room_for(fetched.candidate.size * (GROWTH + 2), fetched.work.path())?;
    let debs = fetched.apt.download(std::slice::from_ref(&fetched.candidate), watch)?;
    let unpacked = fetched.work.path().join("package");
    for deb in debs {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(&deb).arg(&unpacked);
        watch.must(unpack, &format!("unpack {name}"))?;
        let _ = std::fs::remove_file(&deb);
    }
    Ok(unpacked)
}

/// The folder in which an archive keeps everything, else `folder` itself.
fn only_folder(folder: &Path) -> PathBuf {
    let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut visible = items.map(|item| item.path());
    match (visible.next(), visible.next()) {
        (Some(only), None) if only.is_dir() => only,
        _ => folder.to_path_buf(),
    }
}
