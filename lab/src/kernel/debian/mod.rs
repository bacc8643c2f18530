//! The `debian` provider: a prebuilt package becomes the files of a store entry. UML programs get
//! their suite's own C library beside them, so that they run whatever the host's is.

use std::path::{Path, PathBuf};
use std::process::Command;

mod apt;
mod candidate;
mod mirror;
mod trouble;

pub(super) use apt::Apt;
pub use apt::AptSource;
pub(super) use candidate::Candidate;
pub(super) use trouble::is_no_room;

use super::pull::{Made, room_for};
use super::tool::Watch;
use super::{Arch, KernelKey, Origin, PullError, PullProgress, tree};
use crate::manifest::{Diagnostic, Result};

/// What is to be fetched, known from the signed index alone.
pub(super) struct Resolved {
    apt: Apt,
    suite: String,
    arch: Arch,
    /// The package that was asked for comes first.
    candidates: Vec<Candidate>,
}

/// A change of this makes every kernel anew: raise it when what follows makes other files.
const RECIPE: &str = "debian 2";

/// The index and what apt makes of it, in bytes: Debian's largest suite takes two thirds.
const INDEX_ROOM: u64 = 150 << 20;

/// The C library that a UML program was built against, and what it loads by itself: without
/// libgcc_s.so.1 pthread_cancel(3) aborts, and Linux 7.2 calls it at every power-off (seen).
const C_LIBRARY: [&str; 2] = ["libc6", "libgcc-s1"];

/// What a metapackage stands for, and what the kernel's packages are split into in newer suites.
const KERNEL_PARTS: [&str; 4] = ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"];

impl Resolved {
    /// Looks a package up in `suite`, with what it needs. Works in `folder`.
    pub fn new(
        source: &AptSource,
        suite: &str,
        package: &str,
        arch: Arch,
        folder: &Path,
        watch: &mut Watch,
    ) -> Result<Self, PullError> {
        room_for(INDEX_ROOM, folder)?;
        let apt = Apt::open(source, suite, folder, watch)?;
        let mut candidates = vec![apt.candidate(package, watch)?];
        match arch {
            Arch::Um => {
                for library in C_LIBRARY {
                    candidates.push(apt.candidate(library, watch)?);
                }
            }
            Arch::X86_64 => {
                let mut next = 0;
                while let Some(candidate) = candidates.get(next) {
                    for name in candidate.depends.clone() {
                        let part = KERNEL_PARTS.iter().any(|part| name.starts_with(part));
                        if part && candidates.iter().all(|known| known.id.package != name) {
                            candidates.push(apt.candidate(&name, watch)?);
                        }
                    }
                    next += 1;
                }
            }
        }
        Ok(Self { apt, suite: suite.to_string(), arch, candidates })
    }

    /// The key of the kernel that [`Resolved::make`] would make.
    pub fn key(&self) -> KernelKey {
        let mut parts = vec![RECIPE, if self.arch == Arch::Um { "um" } else { "x86_64" }];
        for Candidate { id, .. } in &self.candidates {
            parts.extend([id.package.as_str(), &id.version, &id.sha256]);
        }
        KernelKey::of(&parts)
    }

    /// Where that kernel comes from.
    pub fn origin(&self) -> Origin {
        let mut packages = self.candidates.iter().map(|candidate| candidate.id.clone());
        let package = packages.next().expect("the package asked for comes first");
        Origin::Debian { suite: self.suite.clone(), package, with: packages.collect() }
    }

    /// Fetches, unpacks and sorts the files into `entry`. Works in `folder`, on the same file
    /// system.
    pub fn make(&self, folder: &Path, entry: &Path, watch: &mut Watch) -> Result<Made, PullError> {
        // Some of it is copied, and modules may be compressed in the package.
        let needed: u64 = self.candidates.iter().map(|c| c.size + c.installed * 5 / 4).sum();
        room_for(needed + (16 << 20), folder)?;
        let debs = self.apt.download(&self.candidates, watch)?;
        (watch.progress)(PullProgress::Unpack);
        let unpacked = folder.join("unpacked");
        for deb in debs {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&deb).arg(&unpacked);
            let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
            watch.must(unpack, &format!("unpack {name}"))?;
            // Room for what comes next.
            std::fs::remove_file(&deb).map_err(|e| Diagnostic::io("remove", &deb, &e))?;
        }
        let package = &self.candidates[0].id.package;
        match self.arch {
            Arch::Um => uml(package, &unpacked, entry, watch),
            Arch::X86_64 => image(package, &unpacked, entry, watch),
        }
    }
}

/// `user-mode-linux`: /usr/bin/linux.uml, /usr/lib/uml/modules/RELEASE, the .config in its
/// documentation.
fn uml(package: &str, unpacked: &Path, entry: &Path, watch: &mut Watch) -> Result<Made, PullError> {
    let program = unpacked.join("usr/bin/linux.uml");
    if !program.is_file() {
        return Err(not_a_kernel(package, "usr/bin/linux.uml", Arch::Um).into());
    }
    tree::copy_libraries(&program, unpacked, &entry.join("libraries"))?;
    rename(&program, &entry.join("boot"))?;
    let config = unpacked.join("usr/share/doc").join(package).join("config.gz");
    if !config.is_file() {
        return Err(not_a_kernel(package, "config.gz in its documentation", Arch::Um).into());
    }
    let mut expand = Command::new("gzip");
    expand.arg("-dc").arg(&config);
    let text = watch.must(expand, "expand the kernel's config.gz")?;
    let config = entry.join("config");
    std::fs::write(&config, text).map_err(|e| Diagnostic::io("write", &config, &e))?;
    let release = modules(&unpacked.join("usr/lib/uml/modules"), entry, watch)?
        .ok_or_else(|| not_a_kernel(package, "usr/lib/uml/modules", Arch::Um))?;
    Ok(Made { release, libraries: true, modules: true })
}

/// `linux-image-*`: /boot/vmlinuz-RELEASE and /boot/config-RELEASE up to trixie, then `vmlinuz` and
/// `config` beside the modules.
fn image(
    package: &str,
    unpacked: &Path,
    entry: &Path,
    watch: &mut Watch,
) -> Result<Made, PullError> {
    let mut found = None;
    for place in ["lib/modules", "usr/lib/modules"] {
        if found.is_none() {
            found = modules(&unpacked.join(place), entry, watch)?;
        }
    }
    let lacks = |what| not_a_kernel(package, what, Arch::X86_64);
    let release = found.ok_or_else(|| lacks("lib/modules"))?;
    let beside = entry.join("modules").join(&release);
    for (name, target) in [("vmlinuz", "boot"), ("config", "config")] {
        let places = [unpacked.join("boot").join(format!("{name}-{release}")), beside.join(name)];
        let file = places.iter().find(|file| file.is_file()).ok_or_else(|| lacks(name))?;
        rename(file, &entry.join(target))?;
    }
    Ok(Made { release, libraries: false, modules: true })
}

/// Takes `from/RELEASE` over as `entry/modules/RELEASE`; the release, if there is one.
fn modules(from: &Path, entry: &Path, watch: &mut Watch) -> Result<Option<String>, PullError> {
    let mut folders = std::fs::read_dir(from).into_iter().flatten().flatten();
    let Some(folder) = folders.find(|item| item.path().join("kernel").is_dir()) else {
        return Ok(None);
    };
    let release = folder.file_name().to_string_lossy().into_owned();
    let target: PathBuf = entry.join("modules").join(&release);
    let parent = entry.join("modules");
    std::fs::create_dir_all(&parent).map_err(|e| Diagnostic::io("make", &parent, &e))?;
    rename(&folder.path(), &target)?;
    tree::prepare_modules(&target, watch)?;
    Ok(Some(release))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|e| Diagnostic::io("take over", from, &e))
}

fn not_a_kernel(package: &str, lacks: &str, arch: Arch) -> Diagnostic {
    let (arch, example) = match arch {
        Arch::Um => ("um", "user-mode-linux"),
        Arch::X86_64 => ("x86_64", "linux-image-cloud-amd64"),
    };
    Diagnostic::usage(format!("the package {package} holds no {arch} kernel: it has no {lacks}"))
        .help(format!("for arch = \"{arch}\" a package such as {example} is wanted"))
}
