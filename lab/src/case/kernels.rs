//! The kernels of a command, each found or fetched once: what is wrong with one is trouble of its
//! runs, but for a slip of who asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::dispatch::Dispatcher;
use super::request::Request;
use crate::kernel::{Kernel, PullError, PullProgress};
use crate::manifest::{Diagnostic, Fault, KernelSpec, Result};
use crate::report::What;

/// A kernel that runs can use, or why they cannot.
pub(super) enum Available {
    Ready(Arc<Kernel>),
    /// The mirror no longer carries it: nobody's failure.
    Gone(String),
    Trouble(Diagnostic),
}

impl Dispatcher<'_> {
    /// Finds or fetches each kernel once. All are looked for before any is fetched: a slip must not
    /// show only when the others have been built.
    pub(super) fn kernels(&self, requests: &[Request]) -> Result<BTreeMap<String, Available>> {
        let mut kernels = BTreeMap::new();
        let mut missing: Vec<&KernelSpec> = Vec::new();
        for Request { kernel: spec, .. } in requests {
            let known = |other: &&KernelSpec| other.name == spec.name;
            if kernels.contains_key(&spec.name) || missing.iter().any(known) {
                continue;
            }
            match self.workshop.kernels.find(spec, self.cancelled) {
                Ok(Some(kernel)) => {
                    kernels.insert(spec.name.clone(), Available::Ready(Arc::new(kernel)));
                }
                Ok(None) => missing.push(spec),
                Err(error) => {
                    kernels.insert(spec.name.clone(), trouble(error)?);
                }
            }
        }
        for spec in missing {
            kernels.insert(spec.name.clone(), self.obtain(spec)?);
        }
        for kernel in kernels.values() {
            if let Available::Ready(kernel) = kernel {
                kernel.mark_used();
            }
        }
        Ok(kernels)
    }

    fn obtain(&self, spec: &KernelSpec) -> Result<Available> {
        let started = Instant::now();
        let mut progress = |progress: PullProgress| {
            self.sink.emit(What::pulling(&spec.name, &progress));
        };
        match self.workshop.kernels.obtain(spec, &mut progress, self.cancelled) {
            Ok(kernel) => {
                self.sink.emit(What::Pulled {
                    kernel: spec.name.clone(),
                    release: kernel.release.clone(),
                    origin: kernel.origin.to_string(),
                    took_ms: started.elapsed().as_millis() as u64,
                });
                Ok(Available::Ready(Arc::new(kernel)))
            }
            Err(PullError::Gone { what, .. }) => {
                self.sink.emit(What::Note { text: format!("{}: {what}", spec.name) });
                Ok(Available::Gone(what))
            }
            Err(error) => trouble(error),
        }
    }
}

/// Trouble breaks the runs on that kernel; a kernel that is asked for wrongly ends the command.
fn trouble(error: PullError) -> Result<Available> {
    let error = error.into_diagnostic();
    match error.fault() {
        Fault::Usage => Err(error),
        Fault::Trouble => Ok(Available::Trouble(error)),
    }
}
