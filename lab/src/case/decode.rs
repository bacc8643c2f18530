//! Splats with the places in the source, for people: beside the evidence, which stays as the kernel
//! printed it. Done once, when the run is concluded: later the kernel may be another one.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write;

use crate::console::{Frame, Splat};
use crate::kernel::Symbols;
use crate::report::{ReasonLine, text::plain};

/// In a run's folder: its splats with file and line, where the kernel has debug information.
pub const DECODED: &str = "splats";

/// A flood of splats is cut: this many different frames are looked up.
const MOST: usize = 2000;

/// Adds file and line to the frames in `reasons`, and gives all splats with theirs as text; `None`
/// where there are no lines. `log` is the beginning of the kernel's log. Costs nothing without splats.
pub(super) fn decode(
    symbols: &Symbols,
    splats: &[Splat],
    log: &str,
    reasons: &mut [ReasonLine],
) -> Option<String> {
    // Those of the reasons come from the same reports, trimmed.
    let lines = || splats.iter().flat_map(|splat| &splat.report);
    let frames: BTreeSet<Frame<'_>> = lines().filter_map(|line| Frame::parse(line)).collect();
    let frames: Vec<Frame<'_>> = frames.into_iter().take(MOST).collect();
    let found = symbols.locate(&frames, log);
    if found.iter().all(Option::is_none) {
        return None;
    }
    let with_place = |line: &str| {
        let at = Frame::parse(line).and_then(|frame| frames.binary_search(&frame).ok());
        Some(format!("{} ({})", line.trim_end(), plain(found[at?].as_ref()?)))
    };
    for line in reasons.iter_mut().flat_map(|reason| &mut reason.stack) {
        if let Some(decoded) = with_place(line) {
            *line = decoded;
        }
    }
    let mut text = String::new();
    for splat in splats {
        let _ = writeln!(text, "{} (line {} of kernel.log)", splat.line, splat.number);
        for line in &splat.report {
            let _ = writeln!(text, "{}", with_place(line).map_or(Cow::from(line), Cow::from));
        }
        text.push('\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::conclude::blank;
    use crate::case::{Outcome, Reason};
    use crate::console::Log;
    use crate::kernel::symbols::tests::{LOG, Program, program};
    use crate::report::RunRef;
    use crate::report::text::result as drawn;

    fn splats(log: &str) -> Vec<Splat> {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Log::create(&folder.path().join("kernel.log")).unwrap();
        reader.feed(log.as_bytes()).unwrap();
        reader.finish().unwrap();
        reader.splats().to_vec()
    }

    /// The log of a splat, as a report shows it and as the run's folder keeps it.
    fn report(program: &Program, log: &str) -> (String, Option<String>) {
        let splats = splats(log);
        assert_eq!(splats.len(), 1, "{splats:?}");
        let run = RunRef {
            number: 0,
            case: "c".into(),
            params: std::collections::BTreeMap::new(),
            kernel: "k".into(),
            twin: None,
        };
        let mut result = blank(run);
        result.outcome = Outcome::Fail;
        result.reasons = vec![ReasonLine::from(&Reason::Splat(splats[0].clone()))];
        let text = decode(&program.symbols(true), &splats, log, &mut result.reasons);
        (anstream::adapter::strip_str(&drawn(&result, 0)).to_string(), text)
    }

    #[test]
    fn from_the_log_to_the_report() {
        let Some(program) = program() else { return };
        let stamp = "[    2.000000]";
        let (fault, module) = (program.frame("b", 0), program.frame("of_module", 0));
        let log = format!(
            "{LOG}{stamp} BUG: scheduling while atomic: sh/40/0x00000002\n{stamp} RIP: 0010:{fault}\n\
             {stamp} Call Trace:\n{stamp}  <TASK>\n{stamp}  start_kernel+0x0/0x10\n\
             {stamp}  {module} [my_mod]\n{stamp}  gone+0x1/0x2\n{stamp}  </TASK>\n"
        );
        let (shown, kept) = report(&program, &log);
        let of_module = format!("{module} [my_mod] (drivers/my-mod.c:7)");
        let of_fault = format!("RIP: 0010:{fault} (fs/b.c:");
        for line in [of_module.as_str(), &of_fault, "gone+0x1/0x2\n", "start_kernel+0x0/0x10\n"] {
            assert!(shown.contains(line), "no {line:?} in:\n{shown}");
            assert!(kept.as_ref().unwrap().contains(line), "no {line:?} in:\n{kept:?}");
        }
        let first = "BUG: scheduling while atomic: sh/40/0x00000002 (line 2 of kernel.log)\n";
        assert!(kept.unwrap().starts_with(first));

        // Another kernel's log: as it was printed, and nothing is kept.
        let (shown, kept) =
            report(&program, &log.replace("#1", "#2").replace("[my_mod]", "[gone]"));
        assert!(shown.contains(&module) && !shown.contains(".c:"), "{shown}");
        assert_eq!(kept, None);
    }
}
