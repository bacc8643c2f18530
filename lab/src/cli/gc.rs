//! `lab gc`: frees what is no longer needed, and says what it was.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::args::GcArgs;
use super::edge;
use super::environment::{Cancel, Context};
use crate::case::RunNames;
use crate::gc::{self, Freed, Waste};
use crate::manifest::{Bounds, Diagnostic, Result};
use crate::report::text::{self, BOLD, DIM, paint};

/// Does what `args` say. What cannot be removed is said, the rest goes, and the exit code is 3.
///
/// # Errors
/// Runs or cache cannot be read.
pub fn gc(context: &Context, args: &GcArgs) -> Result<u8> {
    let cancel = Cancel::install()?;
    let waste = find(context, args, &cancel.flag)?;
    let mut freed = Vec::new();
    let mut troubles: Vec<Diagnostic> = Vec::new();
    for waste in waste {
        if cancel.flag.load(Ordering::SeqCst) {
            break;
        }
        let gone = match args.dry_run {
            true => Ok(Some(waste.measured())),
            false => waste.remove(),
        };
        match gone {
            Ok(Some(gone)) => {
                edge::print(&line(&gone));
                freed.push(gone);
            }
            Ok(None) => {}
            Err(error) => troubles.push(error),
        }
    }
    edge::print(&format!("{}\n", sum(&freed, args.dry_run)));
    troubles.iter().for_each(|error| edge::aside(&edge::paragraph(error)));
    Ok(match (cancel.flag.load(Ordering::SeqCst), troubles.is_empty()) {
        (true, _) => 130,
        (false, true) => 0,
        (false, false) => 3,
    })
}

fn find(context: &Context, args: &GcArgs, cancel: &AtomicBool) -> Result<Vec<Waste>> {
    let (dirs, bounds) = (&context.dirs, &context.project.bounds);
    let now = SystemTime::now();
    let unused_for = args.days.map_or(bounds.cache_age, |days| Bounds::DAY * days);
    let kernels = context.kernels()?;
    // All runs, not only those that carry a mark: an older lab set none.
    let runs = RunNames::of(&dirs.runs)?.runs;
    let mut waste = gc::left_by_killed_labs(&dirs.runs, &runs, &dirs.runtime);
    waste.extend(gc::left_in_cache(&kernels, &dirs.cache)?);
    waste.extend(gc::old_runs(&dirs.runs, bounds, now, &|_| false)?);
    waste.extend(gc::unused_images(&dirs.cache, unused_for, now)?);
    if args.kernels {
        let specs = context.project.kernels.values();
        waste.extend(gc::kernels(&kernels, specs, (unused_for, args.all), now, cancel)?);
    }
    Ok(waste)
}

/// One line of what went: it stands there as soon as it is gone.
fn line(freed: &Freed) -> String {
    let kind = paint(BOLD, &format!("{:<9}", freed.kind));
    let size = format!("{:>8}", text::size(freed.bytes));
    format!("{kind}  {size}  {}  {}\n", freed.what, paint(DIM, &freed.why.to_string()))
}

fn sum(freed: &[Freed], dry: bool) -> String {
    let bytes: u64 = freed.iter().map(|freed| freed.bytes).sum();
    match (freed.is_empty(), dry) {
        (true, _) => "nothing to free".to_string(),
        (false, false) => format!("freed {}: {}", text::size(bytes), counts(freed)),
        (false, true) => format!("would free {}: {}", text::size(bytes), counts(freed)),
    }
}

/// `3 runs, 1 image`, in the order of the lines.
fn counts(freed: &[Freed]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for one in freed {
        match kinds.iter_mut().find(|(kind, _)| *kind == one.kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((one.kind, 1)),
        }
    }
    let word = |(kind, count): &(&str, usize)| match (*kind, *count) {
        ("disks", _) => format!("disks of {}", text::count(*count, "run")),
        ("scratch" | "half-made" | "build" | "path", _) => {
            text::count(*count, &format!("{kind} folder"))
        }
        _ => text::count(*count, kind),
    };
    kinds.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// What a command says when it cleared up behind a killed lab; nothing if it had nothing to do.
pub fn say_cleared(cleared: &[Freed]) {
    if cleared.is_empty() {
        return;
    }
    let bytes: u64 = cleared.iter().map(|freed| freed.bytes).sum();
    edge::aside(&format!(
        "lab: cleared what a killed lab left: {} ({})",
        counts(cleared),
        text::size(bytes)
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::Why;

    #[test]
    fn a_sum_counts_what_went() {
        let freed = |kind, bytes| Freed { kind, what: "x".into(), bytes, why: Why::LeftBehind };
        let all =
            [freed("run", 4096), freed("run", 4096), freed("disks", 1 << 30), freed("scratch", 0)];
        assert_eq!(sum(&all, false), "freed 1.0 GiB: 2 runs, disks of 1 run, 1 scratch folder");
        assert_eq!(sum(&all[..1], true), "would free 4.0 KiB: 1 run");
        assert_eq!(sum(&[], true), "nothing to free");
        let text = anstream::adapter::strip_str(&line(&all[2])).to_string();
        assert_eq!(text, "disks       1.0 GiB  x  left by a killed lab\n");
    }
}
