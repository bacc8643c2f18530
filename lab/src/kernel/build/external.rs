//! Builds modules that are no part of the kernel's tree against it (Documentation/kbuild/modules.rst),
//! from copies, so that nobody's folder is written to, and puts them beside the kernel's own, in
//! `updates/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::make::Make;
use crate::kernel::external::{External, ExternalModules, without_links};
use crate::kernel::modinfo::{canonical, files_below};
use crate::kernel::tool::Watch;
use crate::kernel::{KernelSpec, Merged, PullError, PullProgress, SourceOrigin, Value};
use crate::manifest::{Diagnostic, Result};
use crate::sandbox::read_below;

/// The modules that one source gave.
pub(super) struct Built<'a> {
    external: &'a External,
    /// Where they were built.
    copy: PathBuf,
    names: Vec<String>,
}

/// The folder of the copies, below the build's output. One for each place in the list, used again.
const COPIES: &str = "lab-modules";

/// Fails unless the kernel will be able to load modules: nothing but a fragment can see to that.
pub(super) fn loadable(spec: &KernelSpec, merged: &Merged) -> Result<()> {
    let asked = merged.of("MODULES");
    if asked.is_some_and(|asked| asked.value == Value::Yes) {
        return Ok(());
    }
    let error = Diagnostic::usage(format!(
        "kernel {} has `modules`, and its configuration has CONFIG_MODULES off: nothing could load \
         them",
        spec.name
    ))
    .help(
        "write CONFIG_MODULES=y (and CONFIG_MODULE_UNLOAD=y, for rmmod) into one of its fragments, \
         as kconfigs/uml.config does; --config MODULES=y does it once",
    );
    Err(match asked.and_then(|asked| asked.by.last()) {
        Some(place) => error.at(place.clone()),
        None => error,
    })
}

/// Builds each source against the kernel that `make` has built. A source may use what an earlier
/// one exports.
///
/// # Errors
/// The compiler's words and the log; a source that gives no module, or one that another gives.
pub(super) fn build<'a>(
    make: &Make,
    sources: &'a [External],
    watch: &mut Watch<'_>,
) -> Result<Vec<Built<'a>>, PullError> {
    let mut all: Vec<Built<'a>> = Vec::new();
    for (number, external) in sources.iter().enumerate() {
        let copy = make.out.join(COPIES).join(number.to_string());
        // What the kernel's Makefile, or an earlier module's, planted there leads to the user's files.
        without_links(&make.out.join(COPIES))?;
        external.copy_to(&copy)?;
        let source = external.source.to_string();
        (watch.progress)(PullProgress::Modules { source: source.clone() });
        let exported: Vec<String> =
            all.iter().map(|b| b.copy.join("Module.symvers").display().to_string()).collect();
        let mut arguments = folder_of(&copy);
        arguments.push(format!("KBUILD_EXTRA_SYMBOLS={}", exported.join(" ")));
        // A warning's place, which goes into signatures, must not depend on where the cache is.
        arguments.push(format!("KCFLAGS=-fmacro-prefix-map={}/=", copy.display()));
        arguments.push("modules".into());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // People know the place where they wrote it.
        let own = |text: &str| match &external.source {
            SourceOrigin::Folder { path, .. } => {
                text.replace(&copy.display().to_string(), &path.display().to_string())
            }
            _ => text.replace(&format!("{}/", copy.display()), ""),
        };
        let what = format!("build the modules of {source}");
        let mut warnings = Vec::new();
        let taken = |line: &str| line.contains(": warning: ").then(|| own(line));
        let made = make.build(&arguments, &what, watch, |_, line, _| warnings.extend(taken(line)));
        made.map_err(|error| match error {
            PullError::Compile(error) => {
                PullError::Compile(failed(&own(error.message()), &make.log))
            }
            other => other,
        })?;
        for warning in warnings {
            (watch.progress)(PullProgress::Warning(warning));
        }
        let order = Path::new(COPIES).join(number.to_string()).join("modules.order");
        let names = names(&read_below(&make.out, &order).unwrap_or_default());
        if names.is_empty() {
            let message = format!("{source} was built and gave no module");
            return Err(Diagnostic::usage(message)
                .help(
                    "obj-m := NAME.o in its Makefile makes one; obj-$(CONFIG_NAME) only where the \
                     kernel's configuration says m",
                )
                .into());
        }
        for name in &names {
            if let Some(other) = all.iter().find(|b| b.names.contains(name)) {
                let message =
                    format!("{} and {source} both give the module {name}", other.external.source);
                return Err(Diagnostic::usage(message).help("leave one of them away").into());
            }
        }
        all.push(Built { external, copy, names });
    }
    Ok(all)
}

/// Installs the modules below `into` (`INSTALL_MOD_PATH`), where `tree` is the kernel's module tree
/// with its own modules in it. `strip` is the INSTALL_MOD_STRIP of both.
///
/// # Errors
/// A module has the name of one of the kernel's.
pub(super) fn install(
    make: &Make,
    all: &[Built<'_>],
    strip: &str,
    into: &Path,
    tree: &Path,
    watch: &mut Watch<'_>,
) -> Result<(), PullError> {
    let own = if all.is_empty() { BTreeMap::new() } else { of_kernel(tree)? };
    for built in all {
        if let Some((name, (file, how))) =
            built.names.iter().find_map(|name| own.get_key_value(name))
        {
            let message = format!(
                "{} gives the module {name}, and the kernel has {how} of that name ({file})",
                built.external.source
            );
            return Err(Diagnostic::usage(message)
                .help(
                    "give it another name, or switch the kernel's own off in a fragment (# CONFIG_... \
                     is not set); a changed version of the kernel's own goes in as a patch",
                )
                .into());
        }
        let mut arguments = folder_of(&built.copy);
        arguments.push(format!("INSTALL_MOD_PATH={}", into.display()));
        arguments.extend(
            ["INSTALL_MOD_DIR=updates", strip, "DEPMOD=true", "modules_install"].map(String::from),
        );
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let what = format!("install the modules of {}", built.external.source);
        make.configure(&arguments, &what, watch)?;
    }
    Ok(())
}

impl Built<'_> {
    /// For the kernel's record.
    pub fn record(&self) -> ExternalModules {
        ExternalModules {
            source: self.external.source.clone(),
            identity: self.external.identity.clone(),
            names: self.names.clone(),
        }
    }
}

/// What kbuild's words about a module mean. The hints about a kernel's own sources do not fit.
fn failed(words: &str, log: &Path) -> Diagnostic {
    let log = format!("the whole log is {}", log.display());
    let help = match words.contains("] undefined!") {
        true => format!(
            "the kernel exports no such symbol: what has it is switched off (lab kernel config says \
             so), calls it otherwise in this version, or keeps it to itself; {log}"
        ),
        false => log,
    };
    Diagnostic::trouble(words).help(help)
}

fn folder_of(copy: &Path) -> Vec<String> {
    vec![format!("M={}", copy.display())]
}

/// The modules that a build made, by its modules.order, sorted. That lists them as `kernel/PATH.ko` in
/// old kernels, then as `PATH.ko`, since 6.2 as `PATH.o`.
fn names(order: &str) -> Vec<String> {
    let name = |line: &str| {
        let stem = Path::new(line.trim()).file_stem()?;
        Some(canonical(&stem.to_string_lossy()))
    };
    let mut names: Vec<String> = order.lines().filter_map(name).collect();
    names.sort();
    names.dedup();
    names
}

/// The names that the kernel's own modules have: for each its file, and whether it is built in.
fn of_kernel(tree: &Path) -> Result<BTreeMap<String, (String, &'static str)>> {
    let mut own = BTreeMap::new();
    let name = |file: &Path| canonical(&file.file_stem().unwrap_or_default().to_string_lossy());
    let builtin = std::fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
    for line in builtin.lines() {
        own.insert(name(Path::new(line)), (line.to_string(), "a built-in one"));
    }
    if tree.join("kernel").is_dir() {
        for file in files_below(&tree.join("kernel"))? {
            let shown = file.strip_prefix(tree).unwrap_or(&file).display().to_string();
            own.insert(name(&file), (shown, "one"));
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_order_is_read_in_all_its_forms() {
        for line in ["kernel//cache/out/lab-modules/0/my-mod.ko", "/cache/0/my-mod.ko", "my-mod.o"]
        {
            assert_eq!(names(&format!("{line}\n")), ["my_mod"]);
        }
    }

    #[test]
    fn the_kernels_own_names_are_known() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("kernel/fs/x")).unwrap();
        std::fs::write(tree.path().join("kernel/fs/x/dm-x.ko"), "").unwrap();
        std::fs::write(tree.path().join("modules.builtin"), "kernel/drivers/block/loop.ko\n")
            .unwrap();
        let own = of_kernel(tree.path()).unwrap();
        assert_eq!(own["dm_x"], ("kernel/fs/x/dm-x.ko".into(), "one"));
        assert_eq!(own["loop"], ("kernel/drivers/block/loop.ko".into(), "a built-in one"));
        assert_eq!(own.len(), 2);
    }
}
