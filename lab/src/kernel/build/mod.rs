//! A kernel from source: the tree with its patches, configured from fragments and checked, built in
//! a folder that is used again for the next patch, and put into the store.

mod external;
mod folder;
mod installed;
mod make;
mod recipe;
mod said;
mod walls;
mod warnings;

pub(super) use folder::Folder;
pub(super) use recipe::{Recipe, several};
pub use warnings::new_warnings;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use external::Built;
use installed::release_of;
use make::{Make, boot_file};
use recipe::{RECIPE, with_modules};
use warnings::Warnings;

use super::external::External;
use super::kernels::Kernels;
use super::pull::{Made, room_for};
use super::symbols::VMLINUX;
use super::tool::Watch;
use super::{
    Arch, Kconfig, KconfigTree, Kernel, KernelKey, KernelSpec, Merged, Origin, PullError,
    PullProgress, Target, Value, merge, verify,
};
use crate::manifest::{Diagnostic, Fault, Result};

/// A build folder and its kernel; UML with fs and block takes 300 MiB.
const ROOM: u64 = 1 << 30;

/// Where kbuild keeps the configuration, below `O=`.
const CONFIG: &str = ".config";
/// And the release, as uname(2) gives it.
const RELEASE: &str = "include/config/kernel.release";

impl Kernels {
    /// Builds the kernel that a spec asks for, or finds that the store has it.
    pub(super) fn build(
        &self,
        spec: &KernelSpec,
        progress: &mut dyn FnMut(PullProgress),
        cancel: &AtomicBool,
    ) -> Result<Kernel, PullError> {
        // What is here needs no turn at the source's tree, which another build may hold for minutes.
        if let Some(kernel) = self.find(spec, cancel)? {
            return Ok(kernel);
        }
        let recipe = Recipe::load(spec, &self.project)?;
        let source = self.sources.look(&recipe.source, &self.apt, false, progress, cancel)?;
        let mut tree = self.sources.check_out(&source, &self.apt, progress, cancel)?;
        let mut watch = Watch { progress, cancel };
        let mut modules = Vec::new();
        for text in &recipe.modules {
            modules.push(External::obtain(text, &self.sources, &self.apt, &mut watch)?);
        }
        let identities: Vec<String> = modules.iter().map(|m| m.identity.clone()).collect();
        // Of a folder the contents are known only now.
        let indexed = recipe.indexed(spec, tree.source(), &identities)?;
        let (_turn, _) = self.store.turn(&indexed, &mut watch)?;
        if let Some(kernel) = self.store.find(&indexed)? {
            return Ok(kernel);
        }
        let applied = tree.with_patches(&recipe.patches).map_err(PullError::Patch)?;
        for line in &applied.fuzz {
            (watch.progress)(PullProgress::Note(format!("patch fuzz: {line}")));
        }
        let folder = Folder::open(&self.builds, &tree, spec.arch, &recipe.kconfig, &mut watch)?;
        room_for(ROOM, &folder.path)?;
        let make = folder.make(&tree, spec.arch, self.jobs, self.isolation);
        let config = configure(&make, spec, &recipe, &mut watch).map_err(|error| match error {
            // A patch may take away what a fragment asks for.
            PullError::Other(wrong)
                if wrong.fault() == Fault::Usage && !recipe.patches.is_empty() =>
            {
                PullError::Compile(wrong)
            }
            other => other,
        })?;
        let text = make.made(CONFIG)?;
        let arch = format!("{:?}", spec.arch);
        let identity = tree.source().identity.clone();
        let toolchain = make::toolchain(&mut watch)?;
        let mut parts = vec![RECIPE, &identity, &applied.digest, &text, &arch, &toolchain];
        parts.extend(with_modules(&identities));
        let key = KernelKey::of(&parts);
        let kernel = match self.store.open_entry(&key, spec)? {
            Some(kernel) => kernel,
            None => {
                let warnings = compile(&make, &folder, &config, &mut watch)?;
                let built = external::build(&make, &modules, &mut watch)?;
                let work = self.store.workspace()?;
                let entry = work.folder.path().join("entry");
                let made = collect(&make, &config, &built, &entry, work.folder.path(), &mut watch)?;
                if let Some(text) = warnings {
                    let file = entry.join(warnings::IN_ENTRY);
                    std::fs::write(&file, text).map_err(|e| Diagnostic::io("write", &file, &e))?;
                }
                let origin = Origin::Source {
                    source: tree.source().origin.clone(),
                    identity,
                    version: tree.version().clone(),
                    kconfig: recipe.kconfig.clone(),
                    patches: recipe.patches.iter().map(|p| p.subject.clone()).collect(),
                    fuzz: applied.fuzz.clone(),
                    modules: built.iter().map(Built::record).collect(),
                };
                let _lease = super::pull::record(&entry, &key, spec.arch, origin, made)?;
                watch.check()?;
                self.store.install(&entry, &key, spec)?
            }
        };
        folder.done();
        self.store.point(&indexed, &key)?;
        Ok(kernel)
    }
}

/// Configures, and sees to it that every request survived.
fn configure(
    make: &Make,
    spec: &KernelSpec,
    recipe: &Recipe,
    watch: &mut Watch<'_>,
) -> Result<Kconfig, PullError> {
    let target = Target::of_source(&make.tree, make.arch)?;
    let merged: Merged = merge(&recipe.fragments, target).map_err(several)?;
    if !recipe.modules.is_empty() {
        external::loadable(spec, &merged)?;
    }
    let seed = &make.seed;
    std::fs::write(seed, merged.text()).map_err(|e| Diagnostic::io("write", seed, &e))?;
    (watch.progress)(PullProgress::Configure);
    let all = format!("KCONFIG_ALLCONFIG={}", seed.display());
    make.configure(&[&all, "allnoconfig"], "configure the kernel", watch)?;
    let config = Kconfig::parse(&make.made(CONFIG)?);
    let kconfig = KconfigTree::read(&make.tree, make.arch)?;
    verify(&merged, &config, &kconfig).map_err(several)?;
    Ok(config)
}

/// Builds; all warnings of the kernel, where they are known.
fn compile(
    make: &Make,
    folder: &Folder,
    config: &Kconfig,
    watch: &mut Watch<'_>,
) -> Result<Option<String>, PullError> {
    let expected = folder.expected();
    let started = Instant::now();
    let mut targets = match make.arch {
        Arch::Um => vec!["linux"],
        Arch::X86_64 => vec!["bzImage"],
    };
    if config.get("MODULES") == Value::Yes {
        targets.push("modules");
    }
    (watch.progress)(PullProgress::Build { objects: 0, expected, seconds: 0 });
    let fresh = !make.out.join(RELEASE).exists();
    let mut warnings = Warnings::open(&folder.path, &make.tree, fresh)?;
    let mut said = Vec::new();
    let mut before = 0;
    let made = make.build(&targets, "build the kernel", watch, |watch, line, objects| {
        said.extend(warnings.take(line));
        if objects != before {
            before = objects;
            let seconds = started.elapsed().as_secs();
            (watch.progress)(PullProgress::Build { objects, expected, seconds });
        }
    });
    if matches!(made, Ok(_) | Err(PullError::Compile(_))) {
        warnings.ended();
    }
    let objects = made?;
    for warning in said {
        (watch.progress)(PullProgress::Warning(warning));
    }
    if objects > expected.unwrap_or(0) {
        folder.expect(objects);
    }
    Ok(warnings.all())
}

/// Takes what boots from the build folder into a new entry of the store.
fn collect(
    make: &Make,
    config: &Kconfig,
    external: &[Built<'_>],
    entry: &Path,
    work: &Path,
    watch: &mut Watch<'_>,
) -> Result<Made, PullError> {
    let io = |what: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |e: std::io::Error| Diagnostic::io(what, &path, &e)
    };
    std::fs::create_dir_all(entry).map_err(io("make", entry))?;
    make.take(boot_file(make.arch), &entry.join("boot"))?;
    let symbols = config.get("DEBUG_INFO") == Value::Yes;
    // What decodes the stacks of splats: UML's is in the program that boots, a bzImage has none.
    if symbols && make.arch == Arch::X86_64 {
        make.take(VMLINUX, &entry.join(VMLINUX))?;
    }
    make.take(CONFIG, &entry.join("config"))?;
    let release = release_of(&make.made(RELEASE)?)?;
    let mut modules = false;
    if config.get("MODULES") == Value::Yes {
        let into = work.join("modules");
        let path = format!("INSTALL_MOD_PATH={}", into.display());
        // To make, an empty variable is an undefined one.
        let strip = if symbols { "INSTALL_MOD_STRIP=" } else { "INSTALL_MOD_STRIP=1" };
        let arguments = [path.as_str(), strip, "DEPMOD=true", "modules_install"];
        std::fs::create_dir_all(&into).map_err(io("make", &into))?;
        // Not to all of `work`: the entry is in it.
        let make = &make.writing_to(&into);
        make.configure(&arguments, "install the kernel's modules", watch)?;
        let built = into.join("lib/modules").join(&release);
        installed::check(&into, &release)?;
        external::install(make, external, strip, &into, &built, watch)?;
        installed::check(&into, &release)?;
        if built.join("kernel").is_dir() || !external.is_empty() {
            // Links to the build folder: it changes with the next build.
            for link in installed::LINKS {
                let _ = std::fs::remove_file(built.join(link));
            }
            let target = entry.join("modules").join(&release);
            std::fs::create_dir_all(entry.join("modules")).map_err(io("make", entry))?;
            std::fs::rename(&built, &target).map_err(io("move", &built))?;
            super::index_modules(&target)?;
            modules = true;
        }
    }
    Ok(Made { release, libraries: false, modules })
}
