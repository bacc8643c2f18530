//! Why a patch does not apply: the file, the hunk, and what the source has there.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::Patch;
use super::diff::{Hunk, hunks};
use crate::manifest::{Diagnostic, nearest};

/// Lines of the source that a message shows at most.
const SHOWN: usize = 12;

/// The error of a patch that `git apply` refused in `scratch`, after the `earlier` ones.
/// `checks("-R")` says whether it could be taken back there.
pub(super) fn failure(
    tree: &Path,
    scratch: &Path,
    patch: &Patch,
    earlier: &[Patch],
    checks: impl Fn(&str) -> bool,
) -> Diagnostic {
    let file = patch.file.display();
    let name = match patch.name.contains('#') {
        true => format!(
            "{file} (mail {}: {})",
            patch.name.rsplit('#').next().unwrap_or(""),
            patch.subject
        ),
        false => file.to_string(),
    };
    if checks("-R") {
        let by = earlier.iter().find(|other| other.text == patch.text);
        let error = Diagnostic::usage(format!("the patch {name} is already applied"));
        return match by {
            Some(_) => error.help("it is in the list twice"),
            None => error.help("the source has this change; leave the patch away"),
        };
    }
    let after = match earlier.len() {
        0 => String::new(),
        1 => format!(" after {}", earlier[0].name),
        n => format!(" after {} and {} before it", earlier[n - 1].name, n - 1),
    };
    let begin = format!("the patch {name} does not apply{after}");
    for hunk in hunks(&patch.text, patch.strip) {
        let Some(target) = hunk.old.clone() else {
            if let Some(new) = &hunk.new
                && scratch.join(new).exists()
            {
                let message = format!("{begin}: it makes {}, which is there", new.display());
                return Diagnostic::usage(message)
                    .help("the source may be newer than the patch, or have it already");
            }
            continue;
        };
        let Ok(text) = std::fs::read(scratch.join(&target)) else {
            return missing(tree, &begin, &target);
        };
        let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        if find(&lines, &hunk.before).is_some() {
            continue;
        }
        return mismatch(&begin, &target, &hunk, &lines);
    }
    Diagnostic::usage(begin).help("git apply --check in a copy of the source says more")
}

/// Whether each hunk that does not match to the letter fits one place, and one only, when `context`
/// lines around its changes have to match, and is not there already.
pub(super) fn has_one_place(scratch: &Path, patch: &Patch, context: usize) -> bool {
    hunks(&patch.text, patch.strip).iter().all(|hunk| {
        let Some(target) = &hunk.old else { return true };
        let Ok(text) = std::fs::read(scratch.join(target)) else { return false };
        let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        if find(&lines, &hunk.before).is_some() {
            return true;
        }
        let ahead = hunk.before.iter().zip(&hunk.after).take_while(|(a, b)| a == b).count();
        let pairs = hunk.before.iter().rev().zip(hunk.after.iter().rev());
        let behind = pairs.take_while(|(a, b)| a == b).count();
        let from = ahead.saturating_sub(context);
        let to = hunk.before.len() - behind.saturating_sub(context).min(hunk.before.len());
        let Some(wanted) = hunk.before.get(from..to).filter(|wanted| !wanted.is_empty()) else {
            return false;
        };
        let fits = |window: &&[&[u8]]| window.iter().zip(wanted).all(|(a, b)| *a == b);
        let places = lines.windows(wanted.len()).filter(fits).take(2).count();
        places == 1 && find(&lines, &hunk.after).is_none()
    })
}

/// The target is not there: perhaps it moved.
fn missing(tree: &Path, begin: &str, target: &Path) -> Diagnostic {
    let message = format!("{begin}: the source has no {}", target.display());
    let error = Diagnostic::usage(message);
    match elsewhere(tree, target) {
        Some(near) => error.help(format!("did it move? {} is there", near.display())),
        None => error.help("the patch is for another version, or wants another -p in its series"),
    }
}

/// A file of the same name, the nearest by its folders; else the nearest name in the same folder.
fn elsewhere(tree: &Path, target: &Path) -> Option<PathBuf> {
    let name = target.file_name()?;
    let mut folders = vec![PathBuf::new()];
    let mut same: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(tree.join(&folder)).into_iter().flatten().flatten() {
            let path = folder.join(item.file_name());
            match item.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(_) if item.file_name() == name => same.push(path),
                _ => {}
            }
        }
    }
    let shared = |path: &PathBuf| {
        let ahead = path.iter().zip(target).take_while(|(a, b)| a == b).count();
        // `a/fs/x.c` where `fs/x.c` was meant.
        ahead + path.iter().rev().zip(target.iter().rev()).take_while(|(a, b)| a == b).count()
    };
    if let Some(best) = same.into_iter().max_by_key(shared) {
        return Some(best);
    }
    let folder = target.parent().unwrap_or(Path::new(""));
    let items = std::fs::read_dir(tree.join(folder)).into_iter().flatten().flatten();
    let names: Vec<String> = items.map(|i| i.file_name().to_string_lossy().into_owned()).collect();
    nearest(&name.to_string_lossy(), names.iter().map(String::as_str)).map(|near| folder.join(near))
}

/// A hunk that is nowhere in its file: the place that is most like it, line by line.
fn mismatch(begin: &str, target: &Path, hunk: &Hunk, lines: &[&[u8]]) -> Diagnostic {
    let begin = format!("{begin}: hunk {} of {}", hunk.number, target.display());
    if !hunk.after.is_empty() && find(lines, &hunk.after).is_some() && hunk.after.len() > 2 {
        return Diagnostic::usage(format!("{begin} is already applied"))
            .help("the source has this change; the other hunks are to be applied by hand");
    }
    let (at, alike) = closest(lines, hunk);
    let mut message = format!("{begin} (line {}) does not match; ", hunk.start);
    let wanted = hunk.before.len();
    if alike * 3 >= wanted && alike > 0 {
        let _ = write!(message, "most like it is line {}, where the source has", at + 1);
    } else {
        let _ = write!(message, "nothing there is like it, the source has at line {}", at + 1);
    }
    let show = |line: &[u8]| String::from_utf8_lossy(line).replace('\t', "        ");
    // The first line that differs is what matters; what comes before it only leads there.
    let differs =
        (0..wanted).find(|n| lines.get(at + n).is_none_or(|l| !same(l, &hunk.before[*n])));
    let from = differs.unwrap_or(0).saturating_sub(3);
    for n in from..wanted.min(from + SHOWN) {
        let Some(line) = lines.get(at + n) else {
            message.push_str("\n        (the file ends here)");
            break;
        };
        let _ = write!(message, "\n{:7} {}", at + n + 1, show(line));
        if !same(line, &hunk.before[n]) {
            let _ = write!(message, "\n  wants {}", show(&hunk.before[n]));
        }
    }
    let blanks =
        hunk.before.iter().enumerate().all(|(n, line)| {
            lines.get(at + n).is_some_and(|there| squeezed(there) == squeezed(line))
        });
    let help = match blanks {
        true => {
            "only blanks differ: the patch was damaged on its way, take it from an archive's raw form"
        }
        false => {
            "the patch is for another version of the source: rebase it, or choose another source"
        }
    };
    Diagnostic::usage(message).help(help)
}

/// Where the lines of a hunk fit best, and how many are alike; of equal places the one nearest to
/// where the hunk should be.
fn closest(lines: &[&[u8]], hunk: &Hunk) -> (usize, usize) {
    let expected = hunk.start.saturating_sub(1);
    let alike = |at: usize| {
        let pairs = hunk.before.iter().zip(&lines[at..]);
        // Blank lines and lone braces are alike everywhere.
        pairs.filter(|(a, b)| same(a, b) && a.trim_ascii().len() > 1).count()
    };
    let places = 0..lines.len().saturating_sub(1).max(1);
    let best = places
        .map(|at| (alike(at), at))
        .max_by_key(|(alike, at)| (*alike, std::cmp::Reverse(at.abs_diff(expected))));
    match best {
        Some((alike, at)) if alike > 0 => (at, alike),
        _ => (expected.min(lines.len().saturating_sub(1)), 0),
    }
}

/// Where `wanted` stands in `lines`.
fn find(lines: &[&[u8]], wanted: &[Vec<u8>]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    lines.windows(wanted.len()).position(|window| window.iter().zip(wanted).all(|(a, b)| *a == b))
}

/// Alike for a reader: a carriage return and blanks at the end do not count.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.trim_ascii_end() == b.trim_ascii_end()
}

fn squeezed(line: &[u8]) -> Vec<u8> {
    line.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
}
