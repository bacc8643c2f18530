//! All that goes into a kernel from source, read before anything is done: fragments, patches,
//! one-off options, the compiler. The same recipe on the same source is the same kernel.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::kernel::external;
use crate::kernel::tool::on_path;
use crate::kernel::{Fragment, KernelKey, KernelSpec, Patch, Provider, Source, load_series};
use crate::manifest::{Diagnostic, Place, Result, nearest};

/// A change of this builds every kernel anew.
pub(in crate::kernel) const RECIPE: &str = "source 1";

/// A change of this builds every kernel with external modules anew.
const MODULES_RECIPE: &str = "modules 1";

/// The fragments that every lab brings along.
const EMBEDDED: [(&str, &str); 9] = [
    ("block", include_str!("../../../../kconfigs/block.config")),
    ("debug", include_str!("../../../../kconfigs/debug.config")),
    ("debug-info", include_str!("../../../../kconfigs/debug-info.config")),
    ("fault", include_str!("../../../../kconfigs/fault.config")),
    ("fs", include_str!("../../../../kconfigs/fs.config")),
    ("trace", include_str!("../../../../kconfigs/trace.config")),
    ("uml", include_str!("../../../../kconfigs/uml.config")),
    ("virtual-clock", include_str!("../../../../kconfigs/virtual-clock.config")),
    ("x86_64", include_str!("../../../../kconfigs/x86_64.config")),
];

/// What a spec with `source` asks for, its files read.
#[derive(Clone, Debug)]
pub(in crate::kernel) struct Recipe {
    /// As lab.toml has it.
    pub source: String,
    /// In order; one-off options last.
    pub fragments: Vec<Fragment>,
    /// In order.
    pub patches: Vec<Patch>,
    /// The names of the fragments, without one-off options: with the source and the architecture
    /// they name the build folder that is used again.
    pub kconfig: Vec<String>,
    /// Sources of modules that are built against the kernel, in order.
    pub modules: Vec<String>,
}

impl Recipe {
    /// Reads what `spec` names; fragments of the project stand over the embedded ones.
    ///
    /// # Errors
    /// A fragment, patch or module's source that is not there or not one.
    pub fn load(spec: &KernelSpec, project: &Path) -> Result<Self> {
        let Provider::Source { source, kconfig, patches, config, modules, .. } = &spec.provider
        else {
            return Err(Diagnostic::usage(format!("kernel {} is not built here", spec.name)));
        };
        let mut fragments = Vec::new();
        for name in kconfig {
            fragments.push(fragment(name, project, spec)?);
        }
        if !config.is_empty() {
            fragments.push(Fragment::one_offs(config).map_err(several)?);
        }
        modules.iter().try_for_each(|text| external::check(text))?;
        Ok(Self {
            source: source.clone(),
            fragments,
            patches: load_series(project, patches)?,
            kconfig: kconfig.clone(),
            modules: modules.clone(),
        })
    }

    /// The spec as the store's index knows it: with a digest of all that goes in. `modules` are
    /// the identities of the modules' sources.
    ///
    /// # Errors
    /// There is no compiler.
    pub fn indexed(
        &self,
        spec: &KernelSpec,
        source: &Source,
        modules: &[String],
    ) -> Result<KernelSpec> {
        let arch = format!("{:?}", spec.arch);
        let toolchain = toolchain()?;
        let mut parts = vec![RECIPE, &arch, &source.identity, &toolchain];
        parts.extend(self.fragments.iter().map(|fragment| fragment.text.as_ref()));
        let patches: Vec<String> = self.patches.iter().map(Patch::digest).collect();
        parts.extend(patches.iter().map(String::as_str));
        parts.extend(with_modules(modules));
        let digest = KernelKey::of(&parts).to_string();
        let mut indexed = spec.clone();
        if let Provider::Source { inputs, .. } = &mut indexed.provider {
            *inputs = Some(digest);
        }
        Ok(indexed)
    }
}

/// What modules add to a digest; nothing where there are none.
pub(in crate::kernel) fn with_modules(identities: &[String]) -> Vec<&str> {
    let mut parts = if identities.is_empty() { vec![] } else { vec![MODULES_RECIPE] };
    parts.extend(identities.iter().map(String::as_str));
    parts
}

fn fragment(name: &str, project: &Path, spec: &KernelSpec) -> Result<Fragment> {
    let shown = PathBuf::from("kconfigs").join(format!("{name}.config"));
    let file = project.join(&shown);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let embedded = EMBEDDED.iter().find(|(known, _)| *known == name);
            embedded.map(|(_, text)| (*text).to_string()).ok_or_else(|| unknown(name, spec))?
        }
        Err(e) => return Err(Diagnostic::io("read", &file, &e)),
    };
    Fragment::parse(name, shown, text).map_err(several)
}

fn unknown(name: &str, spec: &KernelSpec) -> Diagnostic {
    let error = Diagnostic::usage(format!(
        "kernel {}: there is no fragment kconfigs/{name}.config",
        spec.name
    ));
    match nearest(name, EMBEDDED.iter().map(|(known, _)| *known)) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help("write it, or name another in kconfig = [...]"),
    }
}

/// Several errors as one: the first with its place, the others below it.
pub(in crate::kernel) fn several(errors: Vec<Diagnostic>) -> Diagnostic {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Diagnostic::trouble("an error without words") };
    let rest: Vec<String> = errors.map(|error| format!("\n{error}")).collect();
    if rest.is_empty() {
        return first;
    }
    let mut all = Diagnostic::usage(format!("{}{}", first.message(), rest.concat()));
    if let Some(place) = first.place() {
        all = all.at(Place::clone(place));
    }
    match first.way_out() {
        Some(help) => all.help(help),
        None => all,
    }
}

/// What stands for the compiler and the linker in a kernel's key: which files they are. A process
/// that is asked for its version costs more than the whole look-up.
fn toolchain() -> Result<String> {
    let mut words = Vec::new();
    for program in ["gcc", "ld"] {
        let missing = || {
            Diagnostic::trouble(format!("there is no {program} to build a kernel with"))
                .help("install gcc, make, flex, bison and bc")
        };
        let file = on_path(program).ok_or_else(missing)?;
        let meta = std::fs::metadata(&file).map_err(|e| Diagnostic::io("look at", &file, &e))?;
        words.push(format!("{program} {} {}", meta.len(), meta.mtime()));
    }
    Ok(words.join("; "))
}
