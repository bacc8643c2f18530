//! The first half of getting a source: what is it now? Quick, takes no lock, and writes nothing but
//! notes that save the next look some work.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::super::debian::Apt;
use super::super::debian::Candidate;
use super::super::entry::{Package, write_whole};
use super::super::tool::Watch;
use super::super::{AptSource, KernelKey, PullError, PullProgress};
use super::checkout::Workspace;
use super::files::{Listing, list};
use super::git::{Commit, resolve};
use super::index::Index;
use super::place::Place;
use super::version::kernel_version;
use super::{Source, SourceOrigin, Sources};
use crate::manifest::{Diagnostic, Result};

/// What a look found beside the identity; the checkout goes on from here.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub fetched: Option<Arc<Fetched>>,
    pub commit: Option<Commit>,
    pub listing: Option<Arc<Listing>>,
}

/// An index of packages that was fetched to look into, and what it says.
pub(super) struct Fetched {
    pub apt: Apt,
    pub candidate: Candidate,
    pub work: Workspace,
}

/// `tarballs/DIGEST.json`.
#[derive(PartialEq, Serialize, Deserialize)]
struct Note {
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
    blake3: String,
}

impl Sources {
    /// What a source is now. For `debian:` what the suite had when it was last asked is good enough
    /// unless `fresh`; then (and the first time) the index is fetched.
    ///
    /// # Errors
    /// It does not exist, is not a kernel's, or cannot be read; see [`PullError`].
    pub fn look(
        &self,
        text: &str,
        apt: &AptSource,
        fresh: bool,
        progress: &mut dyn FnMut(PullProgress),
        cancel: &AtomicBool,
    ) -> Result<Source, PullError> {
        let mut watch = Watch { progress, cancel };
        let watch = &mut watch;
        let (origin, identity, lineage, found) = match Place::parse(text)? {
            Place::Folder(path) => self.look_folder(path, watch)?,
            Place::Tarball(file) => {
                let blake3 = self.digest_of_archive(&file)?;
                let identity = identity(&["tarball", &blake3]);
                let lineage = identity.clone();
                (SourceOrigin::Tarball { file, blake3 }, identity, lineage, Findings::default())
            }
            Place::Git { path, rev } => {
                let commit = resolve(&path, &rev, watch)?;
                let shared = commit.common_dir.canonicalize().unwrap_or(commit.common_dir.clone());
                let series = commit.version.series();
                // A series of releases has a tree of its own: going from one commit to the next is
                // what bisection does, going from 5.10 to 6.1 and back would build all anew.
                let lineage = identity(&["git", &shared.to_string_lossy(), &series]);
                let id = identity(&["git tree", &commit.tree]);
                let origin = SourceOrigin::Git { path, rev, commit: commit.commit.clone() };
                (origin, id, lineage, Findings { commit: Some(commit), ..Findings::default() })
            }
            Place::Debian { suite, package } => {
                self.look_debian(&suite, &package, apt, fresh, watch)?
            }
        };
        Ok(Source { text: text.to_string(), origin, identity, lineage, found })
    }

    /// Whether [`Sources::look`] can answer without the network.
    pub fn is_known(&self, text: &str) -> bool {
        match Place::parse(text) {
            Ok(Place::Debian { suite, package }) => self.debian_note(&suite, &package).is_file(),
            _ => true,
        }
    }

    fn debian_note(&self, suite: &str, package: &str) -> PathBuf {
        self.root.join("debian").join(format!("{suite}_{}.json", package.replace('/', "_")))
    }

    fn look_folder(&self, path: PathBuf, watch: &mut Watch) -> Result<Found, PullError> {
        kernel_version(&path)?;
        let lineage = identity(&["folder", &path.to_string_lossy()]);
        let index_file = self.root.join(&lineage).join("index");
        let (listing, index) = std::thread::scope(|scope| {
            let index = scope.spawn(|| Index::read(&index_file));
            (list(&path, watch), index.join().unwrap_or_default())
        });
        let listing = listing?;
        let id = Index::identity(index.as_ref(), &path, &listing.files)
            .map_err(|e| Diagnostic::io("read", &path, &e))?;
        let found = Findings { listing: Some(Arc::new(listing)), ..Findings::default() };
        Ok((SourceOrigin::Folder { path, git: None }, folder_identity(&id), lineage, found))
    }

    fn look_debian(
        &self,
        suite: &str,
        name: &str,
        apt: &AptSource,
        fresh: bool,
        watch: &mut Watch,
    ) -> Result<Found, PullError> {
        // Both are words without a slash: the manifest saw to that, and apt's client does again.
        let note = self.debian_note(suite, name);
        let known: Option<Package> =
            std::fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let (package, fetched) = match known {
            Some(package) if !fresh => (package, None),
            _ => {
                let fetched = self.fetch_index(suite, name, apt, watch)?;
                let package = fetched.candidate.id.clone();
                let text = serde_json::to_vec_pretty(&package).expect("a package is plain data");
                write_whole(&note, &text)?;
                (package, Some(Arc::new(fetched)))
            }
        };
        let id = identity(&["debian", &package.package, &package.version, &package.sha256]);
        let origin = SourceOrigin::Debian { suite: suite.to_string(), package };
        Ok((origin, id.clone(), id, Findings { fetched, ..Findings::default() }))
    }

    /// Asks the mirror which version a suite has.
    pub(super) fn fetch_index(
        &self,
        suite: &str,
        package: &str,
        apt: &AptSource,
        watch: &mut Watch,
    ) -> Result<Fetched, PullError> {
        let work = self.workspace()?;
        let apt = Apt::open(apt, suite, work.path(), watch)?;
        let candidate = apt.candidate(package, watch)?;
        Ok(Fetched { apt, candidate, work })
    }

    /// An archive's digest; reads it only if its stamp is a new one.
    fn digest_of_archive(&self, file: &Path) -> Result<String> {
        let name = identity(&[&file.to_string_lossy()]);
        let note = self.root.join("tarballs").join(format!("{name}.json"));
        let io = |e: io::Error| Diagnostic::io("read", file, &e);
        let meta = file.metadata().map_err(io)?;
        let known: Option<Note> =
            std::fs::read(&note).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let stamp = |blake3: String| Note {
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
            blake3,
        };
        if let Some(known) = known
            && stamp(known.blake3.clone()) == known
        {
            return Ok(known.blake3);
        }
        let mut hash = blake3::Hasher::new();
        hash.update_reader(std::fs::File::open(file).map_err(io)?).map_err(io)?;
        let now = stamp(hash.finalize().to_hex().to_string());
        let text = serde_json::to_vec(&now).expect("a note is plain data");
        write_whole(&note, &text)?;
        Ok(now.blake3)
    }
}

type Found = (SourceOrigin, String, String, Findings);

/// The identity of a folder from that of its files.
pub(super) fn folder_identity(files: &str) -> String {
    identity(&["folder contents", files])
}

/// A name for a list of words.
pub(super) fn identity(parts: &[&str]) -> String {
    KernelKey::of(parts).as_str().to_string()
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetched").field("candidate", &self.candidate).finish_non_exhaustive()
    }
}
