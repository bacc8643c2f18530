//! What a case cannot do without, held against a kernel: a reason to skip, or nothing.

use crate::kernel::{Kconfig, Kernel, Value};
use crate::manifest::{Action, Backend, Case, Clock, MachineOp, Result, ShareMode};
use crate::sandbox::Isolation;

/// Why `case` cannot run on `kernel`; `None` where it can.
///
/// # Errors
/// The kernel's configuration cannot be read.
pub fn missing(case: &Case, kernel: &Kernel) -> Result<Option<String>> {
    let backend = kernel.arch.backend();
    if !case.needs.backend.is_empty() && !case.needs.backend.contains(&backend) {
        let wanted: Vec<_> =
            case.needs.backend.iter().map(|b| format!("{b:?}").to_lowercase()).collect();
        return Ok(Some(format!("it runs on {} only", wanted.join(" or "))));
    }
    let config = kernel.config()?;
    for symbol in &case.needs.kconfig {
        match config.get(symbol) {
            Value::Yes | Value::Module | Value::Text(_) => {}
            Value::No => {
                return Ok(Some(format!(
                    "CONFIG_{symbol} is not set in {} ({})",
                    kernel.name, kernel.release
                )));
            }
        }
    }
    let has = kernel.detectors()?;
    if let Some(detector) = case.needs.detectors.iter().find(|d| !has.contains(d)) {
        return Ok(Some(format!("{} has no detector {detector:?}", kernel.name).to_lowercase()));
    }
    for step in &case.steps {
        if let Action::Machine(op) = &step.action
            && let Some(reason) = cannot(op, backend, config)
        {
            return Ok(Some(reason));
        }
    }
    if case.machine.clock == Clock::Virtual {
        return Ok(Some("the virtual clock is not there yet".into()));
    }
    if !case.asserts.is_empty() {
        return Ok(Some("assertions on measures are not there yet".into()));
    }
    if case.machine.cpus > 1 && backend == Backend::Uml {
        return Ok(Some(format!("it wants {} processors, and UML has one", case.machine.cpus)));
    }
    if !case.machine.trace.is_empty() {
        return Ok(Some("traces are not there yet".into()));
    }
    Ok(None)
}

/// Why a machine of this backend cannot do `op`.
fn cannot(op: &MachineOp, backend: Backend, config: &Kconfig) -> Option<String> {
    match (op, backend) {
        (MachineOp::PowerCut | MachineOp::Reboot, _) => None,
        (MachineOp::Sysrq(_), Backend::Uml) => {
            let missing =
                ["MCONSOLE", "MAGIC_SYSRQ"].iter().find(|s| config.get(s) == Value::No)?;
            Some(format!("CONFIG_{missing} is not set, which \"{op}\" needs"))
        }
        (MachineOp::Sysrq(_), Backend::Qemu) => None,
        _ => Some(format!("\"{op}\": disks that come, go and grow are not there yet")),
    }
}

/// Why these walls cannot hold a guest of `case` to what it declares; `None` where they can.
///
/// Under `landlock` a share is read-only: Landlock governs neither chmod nor chown, and a machine that
/// may write a folder would have to be allowed both for the guest to see what it does elsewhere.
pub fn unheld(case: &Case, isolation: Isolation) -> Option<String> {
    let writable = case.machine.shares.iter().find(|share| share.mode == ShareMode::Rw)?;
    (isolation == Isolation::Landlock).then(|| {
        format!(
            "its share {} is writable, and isolation landlock has none that are (lab doctor says \
             what isolation full wants)",
            writable.guest.display()
        )
    })
}

/// Modules that a case's kconfig symbols stand for on this kernel, then those that it names.
///
/// # Errors
/// The kernel's configuration cannot be read.
pub fn modules(case: &Case, kernel: &Kernel) -> Result<Vec<String>> {
    let config = kernel.config()?;
    let implied = case
        .needs
        .kconfig
        .iter()
        .filter(|symbol| config.get(symbol) == Value::Module)
        .filter_map(|symbol| crate::kernel::module_for(symbol))
        .map(str::to_string);
    Ok(implied.chain(case.needs.modules.iter().cloned()).collect())
}
