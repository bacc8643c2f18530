//! What the cache holds of kernels, when each part was last used and whether a project asks for it:
//! what `lab gc --kernels` decides by, and how it removes them. Nothing in use is ever removed, and
//! whatever goes can be fetched or built again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use nix::fcntl::FlockArg;

use super::build::{Folder, Recipe};
use super::entry::disk_usage;
use super::store::{TEMPORARY, lock, remove_locked, used};
use super::{KernelKey, KernelSpec, Kernels, Provider};
use crate::manifest::{Diagnostic, Result};

/// A part of the cache that goes or stays as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A kernel of the store.
    Kernel(KernelKey),
    /// A source tree: the name of its folder in CACHE/sources.
    Source(String),
    /// A build folder of CACHE/builds, by its name.
    Build(String),
    /// What lies in CACHE/path for a kernel that the user has, by its name.
    Path(String),
}

/// What is known of a part.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Which.
    pub part: Part,
    /// What it is, in a few words.
    pub what: String,
    /// When it was last used.
    pub used: SystemTime,
    /// A lab is using it now.
    pub in_use: bool,
    /// A kernel of the project is made from it.
    pub wanted: bool,
}

/// The parts that a project's kernels are made from.
#[derive(Default)]
struct Wanted {
    kernels: BTreeSet<KernelKey>,
    /// Asked for, and it cannot be said what exactly is meant now: what was is kept.
    wishes: Vec<Provider>,
    sources: BTreeSet<String>,
    builds: BTreeSet<String>,
    paths: BTreeSet<String>,
}

/// A temporary folder without a lock was left before there was one; so old, nobody works in it.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

impl Kernels {
    /// Everything of kernels in the cache, whoever brought it there; `specs` are the project's.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn stored<'a>(
        &self,
        specs: impl IntoIterator<Item = &'a KernelSpec>,
        cancel: &AtomicBool,
    ) -> Result<Vec<Stored>> {
        // Before anything is looked up: a look may count as a use.
        let kernels = self.store.list()?;
        let sources = self.sources.list()?;
        let mut wanted = Wanted::default();
        for spec in specs {
            self.want(spec, cancel, &mut wanted);
        }
        let mut all = Vec::new();
        for kernel in kernels {
            let by_wish =
                kernel.wanted_as.iter().any(|p| wanted.wishes.iter().any(|w| w.same_wish(p)));
            all.push(Stored {
                what: format!("Linux {} ({})", kernel.release, kernel.origin),
                used: kernel.used.max(kernel.made),
                in_use: kernel.in_use,
                wanted: by_wish || wanted.kernels.contains(&kernel.key),
                part: Part::Kernel(kernel.key),
            });
        }
        let builds = folders(&self.builds)?;
        let about = |lineage: &str| {
            let source = sources.iter().find(|source| source.lineage == lineage);
            source.map(|source| source.origin.to_string())
        };
        for name in builds {
            let folder = self.builds.join(&name);
            let tree = std::fs::read_link(folder.join("out/source")).ok();
            let lineage = tree.as_deref().and_then(Path::parent).and_then(Path::file_name);
            let of = lineage.and_then(|lineage| about(&lineage.to_string_lossy()));
            all.push(Stored {
                what: of.unwrap_or_else(|| "of a source that is gone".into()),
                used: newest(&folder),
                in_use: in_use(&folder),
                wanted: wanted.builds.contains(&name),
                part: Part::Build(name),
            });
        }
        for source in &sources {
            all.push(Stored {
                what: source.origin.to_string(),
                used: source.used,
                in_use: source.in_use,
                wanted: wanted.sources.contains(&source.lineage),
                part: Part::Source(source.lineage.clone()),
            });
        }
        let unfinished = |name: &String| {
            let folder = self.sources.root.join(name);
            folder.join("lock").is_file() && !sources.iter().any(|source| source.lineage == *name)
        };
        for name in folders(&self.sources.root)?.into_iter().filter(unfinished) {
            let folder = self.sources.root.join(&name);
            all.push(Stored {
                what: "a tree that was not made to its end".into(),
                used: newest(&folder),
                in_use: in_use(&folder),
                wanted: false,
                part: Part::Source(name),
            });
        }
        for name in folders(&self.paths.root)? {
            let folder = self.paths.root.join(&name);
            let release = folders(&folder.join("modules"))?.into_iter().next();
            all.push(Stored {
                what: match release {
                    Some(release) => format!("modules of your own Linux {release}"),
                    None => "of a boot file of your own".into(),
                },
                used: used(&folder),
                in_use: in_use(&folder),
                wanted: wanted.paths.contains(&name),
                part: Part::Path(name),
            });
        }
        Ok(all)
    }

    /// Bytes that a part takes on the disk.
    pub fn bytes(&self, part: &Part) -> u64 {
        let folder = match part {
            Part::Kernel(key) => self.store.root.join(key.as_str()),
            Part::Source(name) => self.sources.root.join(name),
            Part::Build(name) => self.builds.join(name),
            Part::Path(name) => self.paths.root.join(name),
        };
        disk_usage(&folder).unwrap_or(0)
    }

    /// Removes a part; `None` where a running lab uses it after all, or it is gone.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_part(&self, part: &Part) -> Result<Option<u64>> {
        match part {
            Part::Kernel(key) => Ok(Some(self.store.remove_key(key)?).filter(|bytes| *bytes > 0)),
            Part::Source(name) => remove_locked(&self.sources.root, name),
            Part::Build(name) => remove_locked(&self.builds, name),
            Part::Path(name) => {
                let removed = remove_locked(&self.paths.root, name)?;
                // What leads to it goes with it.
                for file in std::fs::read_dir(&self.paths.root).into_iter().flatten().flatten() {
                    let leads = std::fs::read_to_string(file.path());
                    if removed.is_some() && leads.is_ok_and(|text| text.trim() == name) {
                        let _ = std::fs::remove_file(file.path());
                    }
                }
                Ok(removed)
            }
        }
    }

    /// Folders that killed labs left half-made.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn abandoned(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for root in self.rooms() {
            for item in std::fs::read_dir(root).into_iter().flatten().flatten() {
                let folder = item.path();
                if !item.file_name().to_string_lossy().starts_with(TEMPORARY) || !folder.is_dir() {
                    continue;
                }
                let dead = match lock(&folder, FlockArg::LockExclusiveNonblock) {
                    Ok(lock) => lock.is_some(),
                    Err(_) => item.metadata().is_ok_and(|meta| {
                        let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
                        age.is_some_and(|age| age > FORGOTTEN)
                    }),
                };
                if dead {
                    found.push(folder);
                }
            }
        }
        Ok(found)
    }

    /// Removes what [`Kernels::abandoned`] found; the bytes freed, `None` where it is gone.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_abandoned(&self, folder: &Path) -> Result<Option<u64>> {
        // Who makes temporary folders in the store holds the gate meanwhile.
        let _gate = self.store.gate()?;
        if let Ok(None) = lock(folder, FlockArg::LockExclusiveNonblock) {
            return Ok(None);
        }
        let bytes = disk_usage(folder).unwrap_or(0);
        match std::fs::remove_dir_all(folder) {
            Ok(()) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Diagnostic::io("remove", folder, &e)),
        }
    }

    fn rooms(&self) -> [&Path; 4] {
        [&self.store.root, &self.sources.root, &self.builds, &self.paths.root]
    }

    /// Notes what a spec is made from. What cannot be looked at (a fragment that is gone, a source
    /// that is on another host) wants what it wanted before.
    fn want(&self, spec: &KernelSpec, cancel: &AtomicBool, wanted: &mut Wanted) {
        match &spec.provider {
            Provider::Debian { .. } => wanted.wishes.push(spec.provider.clone()),
            Provider::Path { path } => {
                let path = path.canonicalize().unwrap_or_else(|_| path.clone());
                let last = std::fs::read_to_string(self.paths.last_file(&path));
                wanted.paths.extend(last.map(|text| text.trim().to_string()));
            }
            Provider::Source { kconfig, .. } => {
                let source = Recipe::load(spec, &self.project).ok().and_then(|recipe| {
                    let source = self.known_source(&recipe, cancel).ok().flatten()?;
                    let modules = self.known_modules(&recipe, cancel).ok().flatten()?;
                    Some((recipe, source, modules))
                });
                let Some((recipe, source, modules)) = source else {
                    wanted.wishes.push(spec.provider.clone());
                    return;
                };
                wanted.sources.insert(source.lineage().to_string());
                wanted.builds.insert(Folder::name(source.lineage(), spec.arch, kconfig));
                let found = recipe
                    .indexed(spec, &source, &modules)
                    .and_then(|spec| self.store.key_of(&spec));
                match found {
                    Ok(Some(key)) => {
                        wanted.kernels.insert(key);
                    }
                    // Not built yet as it is now: what was built before is the nearest to it.
                    _ => wanted.wishes.push(spec.provider.clone()),
                }
            }
        }
    }
}

/// The folders in a room of the cache, temporary ones aside.
fn folders(root: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Diagnostic::io("read", root, &e)),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|item| item.path().is_dir())
        .map(|item| item.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

fn in_use(folder: &Path) -> bool {
    matches!(lock(folder, FlockArg::LockExclusiveNonblock), Ok(None))
}

/// When something in a build folder was last made: its log is new with each build.
fn newest(folder: &Path) -> SystemTime {
    let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let times = items.filter_map(|item| item.metadata().ok()?.modified().ok());
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
