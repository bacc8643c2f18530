//! The cache of assembled images: by content, shared by everybody who uses the folder, and found
//! again without reading a single input.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::Image;
use super::collect::Collected;
use super::newc;
use super::provenance::{self, Provenance};
use super::search::SearchPath;
use super::stamp::Stamp;
use super::tree::{Node, Source};
use crate::manifest::{Diagnostic, Result};

/// CACHE/images.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// A shared lock (flock) on an image's folder: whoever tidies up takes it exclusively first.
pub type Lease = Arc<Flock<File>>;

/// index/KEY.json: what a request led to, and what must be unchanged for it to lead there again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub digest: String,
    /// Programs and where the search found each.
    found: Vec<(String, Option<PathBuf>)>,
    inputs: Vec<Stamp>,
}

/// DIGEST/image.json.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    /// Of image.cpio, in bytes; another size is a damaged image.
    size: u64,
    provenance: Vec<Provenance>,
    programs: BTreeMap<String, String>,
}

impl Store {
    /// Opens the store, making its folders.
    pub fn open(cache: &Path) -> Result<Self> {
        let root = cache.join("images");
        let index = root.join("index");
        fs::create_dir_all(&index).map_err(|e| Diagnostic::io("make the folder", &index, &e))?;
        Ok(Self { root })
    }

    /// The image of a request, where it was built before and nothing has changed since.
    pub fn lookup(&self, key: &str, search: &SearchPath) -> Option<Image> {
        let entry: Entry = serde_json::from_slice(&fs::read(self.index(key)).ok()?).ok()?;
        let same = entry.inputs.iter().all(Stamp::holds)
            && entry.found.iter().all(|(name, path)| search.find(name) == *path);
        if same { self.lease(&entry.digest) } else { None }
    }

    /// Waits for whoever builds the same request right now; held while building.
    pub fn building(&self, key: &str) -> Result<Flock<File>> {
        let path = self.root.join("index").join(format!("{key}.lock"));
        let file = File::create(&path).map_err(|e| Diagnostic::io("write", &path, &e))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Diagnostic::io("lock", &path, &errno.into()))
    }

    /// Writes an image and the index entry of its request. `started` is when the inputs began to be
    /// looked at.
    pub fn add(&self, key: &str, collected: Collected, started: SystemTime) -> Result<Image> {
        let folder = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&self.root)
            .map_err(|e| Diagnostic::io("make a folder in", &self.root, &e))?;
        // Held until it has its name: a free one proves that the lab that made it is dead.
        let _alive = File::open(folder.path()).map(|it| Flock::lock(it, FlockArg::LockShared));
        let cpio = folder.path().join("image.cpio");
        let failed = |e| Diagnostic::io("write", &cpio, &e);
        let mut out = Hashing {
            out: BufWriter::with_capacity(1 << 20, File::create(&cpio).map_err(failed)?),
            hasher: blake3::Hasher::new(),
            size: 0,
        };
        newc::write(&collected.tree, &mut out, failed)?;
        let Hashing { mut hasher, size, .. } = out;
        // A guest's ramdisk is never written to: a program that tries should hear about it.
        let readonly = std::os::unix::fs::PermissionsExt::from_mode(0o444);
        fs::set_permissions(&cpio, readonly).map_err(failed)?;

        let provenance = describe(&collected);
        let description = Description { size, provenance, programs: collected.programs };
        let json = to_json(&description);
        // The same bytes from a newer package are another image: transcripts name the versions.
        hasher.update(&json);
        let digest = hasher.finalize().to_hex().to_string();
        let path = folder.path().join("image.json");
        fs::write(&path, json).map_err(|e| Diagnostic::io("write", &path, &e))?;
        let image = self.publish(folder, &digest)?;

        let index = self.index(key);
        if collected.inputs.iter().any(|stamp| stamp.is_fresh(started)) {
            // Too young to tell a later change from: the next request looks again.
            let _ = fs::remove_file(index);
            return Ok(image);
        }
        let entry = Entry { digest, found: collected.found, inputs: collected.inputs };
        let mut file = tempfile::NamedTempFile::new_in(self.root.join("index"))
            .map_err(|e| Diagnostic::io("write", &index, &e))?;
        file.write_all(&to_json(&entry))
            .and_then(|()| file.persist(&index).map(drop).map_err(|e| e.error))
            .map_err(|e| Diagnostic::io("write", &index, &e))?;
        Ok(image)
    }

    /// Gives a finished folder its name. Where another process was faster, its equal image is used;
    /// where a damaged one is in the way, it is dropped.
    fn publish(&self, folder: tempfile::TempDir, digest: &str) -> Result<Image> {
        let place = self.root.join(digest);
        for _ in 0..10 {
            match fs::rename(folder.path(), &place) {
                Ok(()) => drop(folder.keep()),
                Err(e) if place.is_dir() => {
                    tracing::debug!("{} is there already: {e}", place.display());
                    if let Some(image) = self.lease(digest) {
                        return Ok(image);
                    }
                    let old = tempfile::Builder::new().prefix(".old-").tempdir_in(&self.root);
                    let old =
                        old.map_err(|e| Diagnostic::io("make a folder in", &self.root, &e))?;
                    // Fails only where somebody else has just done it.
                    let _ = fs::rename(&place, old.path().join(digest));
                    continue;
                }
                Err(e) => return Err(Diagnostic::io("make", &place, &e)),
            }
            break;
        }
        self.lease(digest).ok_or_else(|| {
            Diagnostic::trouble(format!("the image in {} vanished or is damaged", place.display()))
                .help("run the command again; is something else tidying the cache?")
        })
    }

    /// An intact image, locked against being tidied away.
    fn lease(&self, digest: &str) -> Option<Image> {
        use std::os::unix::fs::MetadataExt;
        let folder = self.root.join(digest);
        let lease = Flock::lock(File::open(&folder).ok()?, FlockArg::LockShared).ok()?;
        // Locked, but perhaps no longer the folder of that name.
        let (locked, named) = (lease.metadata().ok()?, folder.metadata().ok()?);
        if (locked.dev(), locked.ino()) != (named.dev(), named.ino()) {
            return None;
        }
        let json = fs::read(folder.join("image.json")).ok()?;
        let description: Description = serde_json::from_slice(&json).ok()?;
        let cpio = folder.join("image.cpio");
        // When it was last used, for `lab gc`. A cache that cannot be written is still a good one.
        let _ = lease.set_modified(SystemTime::now());
        (cpio.metadata().ok()?.len() == description.size).then(|| Image {
            digest: digest.to_string(),
            cpio,
            provenance: description.provenance,
            programs: description.programs,
            lease: Arc::new(lease),
        })
    }

    fn index(&self, key: &str) -> PathBuf {
        self.root.join("index").join(format!("{key}.json"))
    }
}

/// Where each file of an image in the cache came from; `None` where it is not there any more.
pub fn provenance_of(cache: &Path, digest: &str) -> Option<Vec<Provenance>> {
    let file = cache.join("images").join(digest).join("image.json");
    let description: Description = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    Some(description.provenance)
}

/// Where every file of the tree is from; texts of a manifest have no provenance but the manifest.
fn describe(collected: &Collected) -> Vec<Provenance> {
    let mut pairs = Vec::new();
    let mut own = Vec::new();
    for (guest, node) in collected.tree.iter() {
        match node {
            Node::File(_, Source::Host(path)) => {
                pairs.push((format!("/{guest}"), path.to_string_lossy().into_owned()));
            }
            Node::File(_, Source::Embedded(_)) => own.push(Provenance {
                guest: format!("/{guest}"),
                host: "(lab)".into(),
                package: Some("lab".into()),
                version: Some(env!("CARGO_PKG_VERSION").into()),
            }),
            _ => {}
        }
    }
    let mut provenance = provenance::trace(pairs);
    provenance.extend(own);
    provenance.sort_by(|a, b| a.guest.cmp(&b.guest));
    provenance
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps with text keys and paths checked to be UTF-8")
}

/// Digests and counts what is written.
struct Hashing<W> {
    out: W,
    hasher: blake3::Hasher,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(data)?;
        self.hasher.update(&data[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
