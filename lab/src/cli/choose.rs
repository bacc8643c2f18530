//! Which kernels a command line means: names and globs of lab.toml, `path:FILE-OR-TREE`, the built
//! tree that one stands in; each with one-off patches and options.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::edge;
use super::environment::Context;
use crate::kernel::{KernelSpec, PullError, detect_tree};
use crate::manifest::{Diagnostic, Result};

/// One-off changes of kernels from source.
#[derive(Clone, Debug, Default, Args)]
pub struct Variation {
    /// Build the kernel with this patch, mbox or series too; may be repeated.
    #[arg(long = "patch", value_name = "FILE")]
    pub patches: Vec<String>,
    /// Build the kernel with this option, over its fragments; may be repeated.
    #[arg(long = "config", value_name = "SYMBOL=VALUE")]
    pub config: Vec<String>,
}

/// The kernels that `names` mean. Without names: the built kernel tree that the command was called
/// in, else the project's default.
///
/// # Errors
/// An unknown name, a path that is no kernel, a variation of a kernel that is not built here.
pub fn kernels(
    context: &Context,
    names: &[String],
    variation: &Variation,
) -> Result<Vec<KernelSpec>> {
    let mut specs = Vec::new();
    let mut named = Vec::new();
    for name in names {
        match name.strip_prefix("path:") {
            Some(path) => specs.push(at_path(context, Path::new(path))?),
            None => named.push(name.clone()),
        }
    }
    if names.is_empty()
        && variation.patches.is_empty()
        && let Some(tree) = std::env::current_dir().ok().and_then(|here| detect_tree(&here))
    {
        edge::aside(&format!("the kernel of this tree: {}", tree.display()));
        specs.push(at_path(context, &tree)?);
    }
    if !named.is_empty() || specs.is_empty() {
        specs.extend(context.project.select_kernels(&named)?.into_iter().cloned());
    }
    // Runs, snapshots and known failures go by the name.
    let others = |at: usize| specs[..at].iter().map(|spec| (&spec.name, &spec.provider));
    let double = specs.iter().enumerate().find(|(at, spec)| {
        others(*at).any(|(name, provider)| *name == spec.name && *provider != spec.provider)
    });
    if let Some((_, spec)) = double {
        return Err(Diagnostic::usage(format!("two different kernels are called {}", spec.name))
            .help("run the case on one after the other"));
    }
    if variation.patches.is_empty() && variation.config.is_empty() {
        return Ok(specs);
    }
    let patches: Vec<String> = variation.patches.iter().map(|name| patches(name)).collect();
    specs.iter().map(|spec| spec.varied(&patches, &variation.config)).collect()
}

/// The name of a patch or a series: a file is meant as it is written here, a series is one of the
/// project's.
pub fn patches(name: &str) -> String {
    let file = std::env::current_dir().unwrap_or_default().join(name);
    if file.is_file() { file.display().to_string() } else { name.to_string() }
}

fn at_path(context: &Context, path: &Path) -> Result<KernelSpec> {
    let path: PathBuf = std::env::current_dir().unwrap_or_default().join(path);
    let nobody = AtomicBool::new(false);
    context.kernels()?.at_path(&path, &nobody).map_err(PullError::into_diagnostic)
}
