//! The guest's root file system: an initramfs assembled from programs and files of the host, so
//! that a case runs the very tools that its author uses, with nothing to download or to install.

mod collect;
mod elf;
mod libraries;
mod needs;
mod newc;
mod packages;
mod provenance;
mod recipe;
mod search;
mod stamp;
mod store;
mod tree;
mod trim;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use serde::Serialize;

use crate::manifest::{ImageSpec, Result};
use search::SearchPath;
use store::{Lease, Store};

pub use packages::debian_package;
pub use provenance::Provenance;
/// For the tests that make on the host what a tool made in the guest.
#[doc(hidden)]
pub use recipe::TOOLS as GUEST_TOOLS;
pub use recipe::{GUEST_PATH, TOOL_NAMES};
pub use store::provenance_of;
pub use trim::{StoredImage, abandoned, bytes, remove, stored};

/// What a case adds to its image.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Extra {
    /// More programs of the host.
    pub programs: Vec<String>,
    /// Files and folders: absolute path in the guest, absolute path on the host. They replace what
    /// the image has there.
    pub files: BTreeMap<String, PathBuf>,
}

/// An assembled image in the cache; it stays there as long as this or a clone of it lives.
#[derive(Clone, Debug)]
pub struct Image {
    /// BLAKE3 of the archive and its provenance, 64 hex digits.
    pub digest: String,
    /// The uncompressed newc archive; read-only for everybody.
    pub cpio: PathBuf,
    /// Where each file came from, by guest path.
    pub provenance: Vec<Provenance>,
    programs: BTreeMap<String, String>,
    #[expect(dead_code, reason = "held, not read")]
    lease: Lease,
}

/// Whether the host has a program of this name.
pub fn on_host(program: &str) -> bool {
    search::SearchPath::of_host().find(program).is_some()
}

/// Assembles an image, or takes it from `cache` (the user's cache folder; images/ is made in it)
/// where none of its inputs has changed. Programs are searched on the PATH of this process and in
/// the sbin folders.
///
/// Fails where the host lacks a program (all that are missing are named, with their packages),
/// where a file cannot be read, and where the cache cannot be written.
pub fn assemble(spec: &ImageSpec, extra: &Extra, cache: &Path) -> Result<Image> {
    assemble_from(spec, extra, cache, &SearchPath::of_host())
}

fn assemble_from(
    spec: &ImageSpec,
    extra: &Extra,
    cache: &Path,
    search: &SearchPath,
) -> Result<Image> {
    let store = Store::open(cache)?;
    let key = request_key(spec, extra, search);
    if let Some(image) = store.lookup(&key, search) {
        return Ok(image);
    }
    let _building = store.building(&key)?;
    if let Some(image) = store.lookup(&key, search) {
        return Ok(image);
    }
    let started = SystemTime::now();
    let collected = collect::collect(spec, extra, search)?;
    store.add(&key, collected, started)
}

impl Image {
    /// Package and version of a program in this image, by the name it was asked for or has in the
    /// guest's program folders. `None` where it is not in the image or of no package.
    pub fn package_of(&self, program: &str) -> Option<(&str, &str)> {
        let guest = self.programs.get(program);
        let found = self.provenance.iter().find(|p| match guest {
            Some(guest) => p.guest.strip_prefix('/') == Some(guest),
            None => recipe::GUEST_PATH.iter().any(|folder| {
                p.guest.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'))
                    == Some(program)
            }),
        })?;
        Some((found.package.as_deref()?, found.version.as_deref()?))
    }
}

/// Names a request: everything that decides on the image but the host's files.
fn request_key(spec: &ImageSpec, extra: &Extra, search: &SearchPath) -> String {
    static GUESTS: OnceLock<[u8; 32]> = OnceLock::new();
    let guests = GUESTS.get_or_init(|| {
        *blake3::Hasher::new().update(recipe::INIT).update(recipe::TOOLS).finalize().as_bytes()
    });
    let mut hasher = blake3::Hasher::new();
    hasher.update(&recipe::VERSION.to_le_bytes()).update(guests);
    hasher.update(format!("{spec:?}\n{extra:?}").as_bytes());
    for folder in search.folders() {
        hasher.update(b"\0").update(folder.as_os_str().as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests;
