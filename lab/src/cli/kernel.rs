//! `lab kernel`: what kernels there are, and which of them are here.

use serde_json::json;

use super::args::{KernelCommand, Sandbox};
use super::edge;
use super::environment::{Cancel, Context};
use super::run::format;
use crate::kernel::{Kernel, KernelSpec, Provider, PullError};
use crate::manifest::{Diagnostic, Result};
use crate::report::text::{self, BOLD, DIM, paint};
use crate::report::{Reporter, Sink, Stream, What};

/// Does what `command` says.
///
/// # Errors
/// An unknown kernel, no network, a package that fails verification, a kernel in use.
pub fn kernel(context: &Context, command: KernelCommand) -> Result<u8> {
    match command {
        KernelCommand::List { json } => list(context, json),
        KernelCommand::Pull { kernels } => pull(context, &kernels),
        KernelCommand::Rm { kernels } => remove(context, &kernels),
    }
}

fn list(context: &Context, json: bool) -> Result<u8> {
    let workshop = context.workshop(Sandbox::Full, false)?;
    let stored = workshop.store.list()?;
    let mut rows = vec![["kernel", "release", "size", "made of"].map(|h| paint(DIM, h)).to_vec()];
    let mut objects = Vec::new();
    for spec in context.project.kernels.values() {
        let here = stored.iter().find(|kernel| kernel.wanted_as.contains(&spec.provider));
        let default = context.project.default_kernels.contains(&spec.name);
        let files = match json {
            true => workshop.store.find(spec)?.map(|kernel| (kernel.boot, kernel.modules)),
            false => None,
        };
        objects.push(json!({
            "boot": files.as_ref().map(|(boot, _)| boot),
            "modules": files.as_ref().and_then(|(_, modules)| modules.as_ref()),
            "name": spec.name,
            "default": default,
            "release": here.map(|k| k.release.clone()),
            "bytes": here.map(|k| k.bytes),
            "key": here.map(|k| k.key.to_string()),
            "provider": spec.provider,
            "origin": here.map(|k| k.origin.clone()),
        }));
        rows.push(vec![
            paint(BOLD, &spec.name),
            here.map_or_else(|| paint(DIM, "not here"), |k| k.release.clone()),
            here.map_or_else(String::new, |k| text::size(k.bytes)),
            here.map_or_else(|| made_of(spec), |k| k.origin.to_string()),
        ]);
    }
    if json {
        edge::print(&format!("{}\n", json!(objects)));
    } else {
        edge::print(&text::columns(&rows));
    }
    Ok(0)
}

fn made_of(spec: &KernelSpec) -> String {
    match &spec.provider {
        Provider::Debian { suite, package } => format!("{suite}/{package}"),
        Provider::Source { source, .. } => source.clone(),
        Provider::Path { path } => path.display().to_string(),
    }
}

fn pull(context: &Context, names: &[String]) -> Result<u8> {
    let workshop = context.workshop(Sandbox::Full, false)?;
    let cancel = Cancel::install()?;
    let (reporter, events) = Reporter::start(format(false));
    let stream = Stream::new(events);
    let mut worst: Result<u8> = Ok(0);
    for spec in context.project.select_kernels(names)? {
        let started = std::time::Instant::now();
        let mut progress = |progress: crate::kernel::PullProgress| {
            let phase = progress.to_string();
            stream.emit(What::Pulling { kernel: spec.name.clone(), phase });
        };
        let pulled: Result<Kernel, PullError> =
            workshop.store.pull(spec, &workshop.apt, &mut progress, &cancel.flag);
        match pulled {
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
            Err(error) => worst = Err(error.into_diagnostic()),
        }
    }
    drop(stream);
    reporter.finish();
    worst
}

fn remove(context: &Context, names: &[String]) -> Result<u8> {
    let workshop = context.workshop(Sandbox::Full, false)?;
    for spec in context.project.select_kernels(names)? {
        let bytes = workshop.store.remove(spec)?;
        if bytes == 0 {
            edge::aside(&format!("{}: is not here", spec.name));
        } else {
            edge::print(&format!("{}: {} freed\n", spec.name, text::size(bytes)));
        }
    }
    Ok(0)
}

/// The kernel of that name, fetched if it is not here.
///
/// # Errors
/// As for a pull.
pub fn obtain(
    workshop: &crate::case::Workshop,
    spec: &KernelSpec,
    cancel: &Cancel,
) -> Result<Kernel, Diagnostic> {
    if let Some(kernel) = workshop.store.find(spec)? {
        return Ok(kernel);
    }
    let mut progress = |progress: crate::kernel::PullProgress| {
        edge::aside(&format!("{}: {progress}", spec.name));
    };
    let pulled = workshop.store.pull(spec, &workshop.apt, &mut progress, &cancel.flag);
    pulled.map_err(PullError::into_diagnostic)
}
