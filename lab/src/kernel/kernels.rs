//! The kernels of a project, wherever they come from: found in the store, fetched, built, or taken
//! where the user has them. What the rest of the lab asks.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::build::{Recipe, several};
use super::external;
use super::path::packed::Packed;
use super::source::Sources;
use super::tool::Watch;
use super::{
    AptSource, KconfigTree, Kernel, KernelSpec, PathKernels, Provider, PullError, PullProgress,
    Store, Target, describe, merge,
};
use crate::manifest::Result;
use crate::sandbox::Isolation;

/// The store, the sources, and where to fetch from.
#[derive(Clone, Debug)]
pub struct Kernels {
    /// Kernels that were fetched or built.
    pub store: Store,
    /// Source trees.
    pub sources: Sources,
    /// Where packages come from.
    pub apt: AptSource,
    pub(super) paths: PathKernels,
    /// Build folders.
    pub(super) builds: PathBuf,
    /// The project's folder: kconfigs/ and patches/ are below it.
    pub(super) project: PathBuf,
    /// At most so many compilers at once.
    pub(super) jobs: usize,
    /// How make is kept from the host, where that was asked for by name: full walls or none. `None`:
    /// full ones, and none where the host refuses them.
    pub isolation: Option<Isolation>,
}

impl Kernels {
    /// Opens the kernels of a cache folder for a project.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(cache: &Path, project: &Path, apt: AptSource) -> Result<Self> {
        let store = Store::open(cache)?;
        let builds = store.root.with_file_name("builds");
        Ok(Self {
            store,
            sources: Sources::open(cache)?,
            paths: PathKernels::open(cache)?,
            apt,
            builds,
            project: project.to_path_buf(),
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            isolation: None,
        })
    }

    /// The kernel that a spec asks for, if it can be had without fetching or building. For a kernel
    /// from source that means: all that goes in is as it was when the store's was built.
    ///
    /// # Errors
    /// A source, fragment or patch that is not there, a path that is no kernel, a store that cannot
    /// be read.
    pub fn find(
        &self,
        spec: &KernelSpec,
        cancel: &AtomicBool,
    ) -> Result<Option<Kernel>, PullError> {
        match &spec.provider {
            Provider::Debian { .. } => Ok(self.store.find(spec)?),
            Provider::Path { path } => {
                let arch = Some(spec.arch);
                self.paths.kernel(&spec.name, path, arch, &spec.cmdline, cancel).map(Some)
            }
            Provider::Source { .. } => {
                let recipe = Recipe::load(spec, &self.project)?;
                let Some(source) = self.known_source(&recipe, cancel)? else { return Ok(None) };
                let Some(modules) = self.known_modules(&recipe, cancel)? else { return Ok(None) };
                Ok(self.store.find(&recipe.indexed(spec, &source, &modules)?)?)
            }
        }
    }

    /// The spec of a boot file or a built tree that the user has.
    ///
    /// # Errors
    /// It is no kernel, or not built.
    pub fn at_path(&self, path: &Path, cancel: &AtomicBool) -> Result<KernelSpec, PullError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // One that was packed has its own name, and is the same kernel wherever it lies.
        let (name, cmdline) = match Packed::read(path) {
            Some(packed) => (packed.name, packed.cmdline),
            None => (format!("path:{name}"), Vec::new()),
        };
        let kernel = self.paths.kernel(&name, path, None, &cmdline, cancel)?;
        Ok(KernelSpec {
            name,
            arch: kernel.arch,
            provider: Provider::Path { path: path.to_path_buf() },
            cmdline,
            asked: Some(format!("path:{}", path.display())),
        })
    }

    /// The kernel that a spec asks for, fetched or built where it is not here. Looks for a newer
    /// package even if one is here.
    ///
    /// # Errors
    /// See [`PullError`]; store and sources are then as they were.
    pub fn obtain(
        &self,
        spec: &KernelSpec,
        progress: &mut dyn FnMut(PullProgress),
        cancel: &AtomicBool,
    ) -> Result<Kernel, PullError> {
        match &spec.provider {
            Provider::Debian { .. } => self.store.pull(spec, &self.apt, progress, cancel),
            Provider::Source { .. } => self.build(spec, progress, cancel),
            Provider::Path { .. } => match self.find(spec, cancel)? {
                Some(kernel) => Ok(kernel),
                None => unreachable!("a path is a kernel or an error"),
            },
        }
    }

    /// All that is known of a symbol of a kernel, as text. For a kernel from source its Kconfig files
    /// are read, so that conditions can be named.
    ///
    /// # Errors
    /// The kernel's configuration or source cannot be read.
    pub fn describe(
        &self,
        spec: &KernelSpec,
        kernel: &Kernel,
        symbol: &str,
        cancel: &AtomicBool,
    ) -> Result<String, PullError> {
        let config = kernel.config()?;
        if !matches!(spec.provider, Provider::Source { .. }) {
            return Ok(describe(symbol, config, None, None).to_string());
        }
        let recipe = Recipe::load(spec, &self.project)?;
        let source = self.sources.look(&recipe.source, &self.apt, false, &mut |_| {}, cancel)?;
        let tree = self.sources.check_out(&source, &self.apt, &mut |_| {}, cancel)?;
        let target = Target::of_source(&tree.path(), spec.arch)?;
        let merged = merge(&recipe.fragments, target).map_err(several)?;
        let kconfig = KconfigTree::read(&tree.path(), spec.arch)?;
        Ok(describe(symbol, config, Some(&kconfig), Some(&merged)).to_string())
    }

    /// What the sources of the recipe's modules are now, unless that wants the network.
    pub(super) fn known_modules(
        &self,
        recipe: &Recipe,
        cancel: &AtomicBool,
    ) -> Result<Option<Vec<String>>, PullError> {
        let mut watch = Watch { progress: &mut |_| {}, cancel };
        let identity =
            |text: &String| external::identity(text, &self.sources, &self.apt, &mut watch);
        recipe.modules.iter().map(identity).collect()
    }

    /// What the recipe's source is now, unless that wants the network.
    pub(super) fn known_source(
        &self,
        recipe: &Recipe,
        cancel: &AtomicBool,
    ) -> Result<Option<super::Source>, PullError> {
        if recipe.source.starts_with("debian:") && !self.sources.is_known(&recipe.source) {
            return Ok(None);
        }
        self.sources.look(&recipe.source, &self.apt, false, &mut |_| {}, cancel).map(Some)
    }
}
