//! `lab kernel`: fetches, builds, explains and removes kernels.

use super::args::{KernelCommand, MakeSandbox};
use super::choose::{self, Variation};
use super::edge;
use super::environment::{Cancel, Context};
use super::kernel_list;
use super::run::format;
use crate::kernel::{Kernel, KernelSpec, Kernels, Provider, PullError, PullProgress};
use crate::manifest::{Diagnostic, Result};
use crate::report::{Reporter, Sink, Stream, What, text};

/// Does what `command` says.
///
/// # Errors
/// An unknown kernel, no network, a package that fails verification, a kernel in use.
pub fn kernel(context: &Context, command: KernelCommand) -> Result<u8> {
    match command {
        KernelCommand::List { json } => kernel_list::list(context, json),
        KernelCommand::Pull { kernels } => pull(context, &kernels),
        KernelCommand::Build { kernels, variation, sandbox } => {
            build(context, &kernels, &variation, sandbox)
        }
        KernelCommand::Config { kernel, symbol } => config(context, &kernel, symbol.as_deref()),
        KernelCommand::Rm { kernels } => remove(context, &kernels),
    }
}

fn pull(context: &Context, names: &[String]) -> Result<u8> {
    let specs: Vec<_> = context.project.select_kernels(names)?.into_iter().cloned().collect();
    obtain_all(&context.kernels()?, &specs)
}

fn build(
    context: &Context,
    names: &[String],
    variation: &Variation,
    sandbox: Option<MakeSandbox>,
) -> Result<u8> {
    let specs = choose::kernels(context, names, variation)?;
    if let Some(spec) = specs.iter().find(|s| !matches!(s.provider, Provider::Source { .. })) {
        return Err(Diagnostic::usage(format!("{} is not built from source", spec.name)).help(
            "lab kernel pull fetches prebuilt kernels; lab kernel list says which is which",
        ));
    }
    let mut kernels = context.kernels()?;
    kernels.isolation = sandbox.map(Into::into);
    obtain_all(&kernels, &specs)
}

/// Fetches or builds each; all errors but the last are printed on the way.
fn obtain_all(kernels: &Kernels, specs: &[KernelSpec]) -> Result<u8> {
    let cancel = Cancel::install()?;
    let (reporter, events) = Reporter::start(format(false));
    let stream = Stream::new(events);
    let mut worst: Result<u8> = Ok(0);
    for spec in specs {
        let started = std::time::Instant::now();
        let mut progress =
            |progress: PullProgress| stream.emit(What::pulling(&spec.name, &progress));
        match kernels.obtain(spec, &mut progress, &cancel.flag) {
            Ok(kernel) => stream.emit(What::Pulled {
                kernel: spec.name.clone(),
                release: kernel.release.clone(),
                origin: kernel.origin.to_string(),
                took_ms: started.elapsed().as_millis() as u64,
            }),
            Err(PullError::Interrupted) => {
                worst = Ok(130);
                break;
            }
            Err(error) => {
                if let Err(earlier) = std::mem::replace(&mut worst, Err(error.into_diagnostic())) {
                    stream.emit(What::Note { text: edge::paragraph(&earlier) });
                }
            }
        }
    }
    drop(stream);
    reporter.finish();
    worst
}

fn config(context: &Context, name: &str, symbol: Option<&str>) -> Result<u8> {
    let specs = choose::kernels(context, &[name.to_string()], &Variation::default())?;
    let spec = specs.first().ok_or_else(|| Diagnostic::usage(format!("no kernel fits {name}")))?;
    let kernels = context.kernels()?;
    let cancel = Cancel::install()?;
    let found = kernels.find(spec, &cancel.flag).map_err(PullError::into_diagnostic)?;
    let Some(kernel) = found else {
        return Err(Diagnostic::usage(format!("{} is not here yet", spec.name))
            .help("lab kernel build makes it, lab kernel pull fetches it"));
    };
    match symbol {
        None => edge::print(&kernel.config_text()?),
        Some(symbol) => {
            let told = kernels.describe(spec, &kernel, symbol, &cancel.flag);
            edge::print(&format!("{}\n", told.map_err(PullError::into_diagnostic)?));
        }
    }
    Ok(0)
}

fn remove(context: &Context, names: &[String]) -> Result<u8> {
    let store = context.kernels()?.store;
    for spec in context.project.select_kernels(names)? {
        let bytes = store.remove(spec)?;
        if bytes == 0 {
            edge::aside(&format!("{}: is not here", spec.name));
        } else {
            edge::print(&format!("{}: {} freed\n", spec.name, text::size(bytes)));
        }
    }
    Ok(0)
}

/// The kernel that a spec asks for, fetched or built if it is not here.
///
/// # Errors
/// As for a pull or a build.
pub fn obtain(kernels: &Kernels, spec: &KernelSpec, cancel: &Cancel) -> Result<Kernel> {
    if let Some(kernel) = kernels.find(spec, &cancel.flag).map_err(PullError::into_diagnostic)? {
        return Ok(kernel);
    }
    let (reporter, events) = Reporter::start(format(false));
    let stream = Stream::new(events);
    let mut progress = |progress: PullProgress| stream.emit(What::pulling(&spec.name, &progress));
    let obtained = kernels.obtain(spec, &mut progress, &cancel.flag);
    drop(stream);
    reporter.finish();
    obtained.map_err(PullError::into_diagnostic)
}
