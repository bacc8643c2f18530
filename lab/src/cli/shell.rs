//! `lab shell`: a terminal in a machine.

use std::collections::BTreeMap;
use std::io::stdin;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use lab_proto::{GuestPlan, Work};
use signal_hook::consts::SIGWINCH;

use super::args::ShellArgs;
use super::choose;
use super::edge;
use super::environment::{Cancel, Context};
use super::run::blank_case;
use crate::case::{DISKS, Instance, RunFolder, missing, new_nonce, start, unheld};
use crate::console::{Session, attach};
use crate::machine::Scratch;
use crate::manifest::{Diagnostic, Result};
use crate::sandbox;

/// Boots the machine and ties this terminal to it; the shell's status is the exit code.
///
/// # Errors
/// An unknown case or kernel, a machine that cannot be prepared or dies.
pub fn shell(context: &Context, args: &ShellArgs) -> Result<u8> {
    let project = &context.project;
    let names: Vec<String> = args.kernel.iter().cloned().collect();
    let kernels = choose::kernels(context, &names, &args.variation)?;
    let Some(spec) = kernels.first() else {
        return Err(Diagnostic::usage("no kernel is selected").help("name one with -k"));
    };
    let mut case = match &args.case {
        Some(name) => project.select_cases(std::slice::from_ref(name))?[0].clone(),
        None => blank_case(context, &[])?,
    };
    case.needs.programs.extend(args.programs.iter().cloned());
    let params = case.instances().into_iter().next().unwrap_or_default();
    let instance = Instance::new(&case, params);

    let workshop = context.workshop(args.sandbox.map(Into::into), false)?;
    workshop.walls.note().iter().for_each(|note| edge::aside(&format!("note: {note}")));
    let cancel = Cancel::install()?;
    let kernel = match super::kernel::obtain(&workshop.kernels, spec, &cancel) {
        Err(_) if cancel.flag.load(Ordering::SeqCst) => return Ok(130),
        obtained => obtained?,
    };
    let refused = unheld(&case, workshop.walls.isolation);
    if let Some(why) = &refused {
        return Err(Diagnostic::trouble(why.clone()).help("--sandbox=off runs it without walls"));
    }
    if let Some(why) = missing(&case, &kernel)? {
        edge::aside(&format!("note: the case itself would be skipped: {why}"));
    }
    kernel.mark_used();
    context.before();
    let image = workshop.image(project, &instance)?;
    let scratch = Scratch::create(&workshop.runtime)?;
    let folder = RunFolder::create(&workshop.runs, &format!("shell@{}", spec.name))?;
    let folders = (folder.path(), scratch.path());
    let prepared =
        workshop.prepare(folder.id(), &instance, spec, &kernel, image, (None, false), folders)?;

    let (resized, teller) =
        UnixStream::pair().map_err(|e| Diagnostic::io("make", "a socket".as_ref(), &e))?;
    signal_hook::low_level::pipe::register(SIGWINCH, teller)
        .map_err(|e| Diagnostic::io("watch", "the terminal's size".as_ref(), &e))?;
    let mut machine = start(kernel.arch.backend(), &prepared.machine)?;
    let nonce = new_nonce()?;
    let mut plan = |view: &crate::machine::GuestView, (cols, rows)| GuestPlan {
        nonce,
        clock_ns: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .map(|since| since.as_nanos() as u64),
        boot: 0,
        env: environment(&instance),
        modules_from: view.modules.clone(),
        modules: prepared.modules.clone(),
        disks: view.disks.clone(),
        shares: view.shares.clone(),
        work: Work::Shell { cols, rows },
    };
    edge::aside(&format!(
        "Linux {} ({}); exit or Ctrl-D ends the machine",
        kernel.release, spec.name
    ));
    let (input, output) = (stdin(), std::io::stdout());
    let session = attach(
        machine.as_mut(),
        &mut plan,
        (input.as_fd(), output.as_fd()),
        (resized.as_fd(), cancel.fd()),
        folder.path(),
    )?;
    drop(machine);
    let _ = std::fs::remove_dir_all(folder.path().join(DISKS));
    let log = folder.path().join("kernel.log");
    let died = |what: String| {
        let what = crate::report::text::plain(&what);
        let log = crate::manifest::Project::shown(&log, &project.root).display().to_string();
        Err(Diagnostic::trouble(what).help(format!("the kernel's log is in {log}")))
    };
    match session {
        Session::Ended(status) => {
            // Nobody looks for the logs of a session that went well.
            let _ = std::fs::remove_dir_all(folder.path());
            Ok(u8::try_from(status & 0xff).unwrap_or(1))
        }
        Session::Interrupted => Ok(130),
        Session::Trouble(what) => died(format!("the guest could not be prepared: {what}")),
        // There was no kernel whose log could tell more.
        Session::Died(how) if sandbox::REFUSALS.iter().any(|refused| how.contains(refused)) => {
            let _ = std::fs::remove_dir_all(folder.path());
            let way_out = "`lab doctor` says what switches them off, and --sandbox=off runs \
                           without walls";
            Err(Diagnostic::trouble(format!("the machine died: {how}")).help(way_out))
        }
        Session::Died(how) => died(format!("the machine died: {how}")),
    }
}

/// The case's environment, with the user's own terminal.
fn environment(instance: &Instance) -> Vec<(String, String)> {
    let mut env: BTreeMap<_, _> = instance.environment().into_iter().collect();
    if let Ok(term) = std::env::var("TERM") {
        env.insert("TERM".into(), term);
    }
    env.into_iter().collect()
}
