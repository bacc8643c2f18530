//! How one patch of a series did, as an event tells it and as a line shows it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::event::Tally;
use super::text::{BAD, DIM, GOOD, LOOK, duration, paint, tally_words};
use crate::case::Outcome;

/// Which patch is meant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PatchRef {
    /// From 1; 0 is the kernel without the series.
    pub number: usize,
    /// How many patches there are.
    pub of: usize,
    /// The file's name, or the kernel's.
    pub name: String,
    /// What it says it does.
    pub subject: String,
}

/// How far a patch came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PatchResult {
    /// Which.
    pub patch: PatchRef,
    /// It applies on those before it.
    pub applies: bool,
    /// It compiles.
    pub builds: bool,
    /// Milliseconds of the build; `None` where the kernel was in the store.
    pub built_ms: Option<u64>,
    /// Milliseconds until the first machine was ready; `None`: none was.
    pub ready_ms: Option<u64>,
    /// How the runs on it ended.
    pub tally: Tally,
    /// Warnings of the compiler that the kernel before it has not; `None` where those of either are not
    /// known.
    pub warnings: Option<Vec<String>>,
    /// Why it does not apply or build.
    pub trouble: Option<String>,
    /// The first that fails.
    pub first_failure: bool,
}

impl PatchResult {
    /// Whether anything about it is wrong, or could not be told.
    pub fn failed(&self) -> bool {
        let wrong = [Outcome::Fail, Outcome::Broken].map(|outcome| self.tally.count(outcome));
        !self.builds || wrong.iter().any(|&count| count > 0)
    }
}

/// Widths of the columns but the last.
const COLUMNS: [usize; 4] = [6, 9, 14, 8];

/// What stands above the lines.
pub fn header(patch: &PatchRef) -> String {
    let patches = if patch.of == 1 { "1 patch".into() } else { format!("{} patches", patch.of) };
    let [number, applies, builds, boots] = COLUMNS;
    let line = format!(
        "{:number$}{:applies$}{:builds$}{:boots$}cases, {patches}",
        "patch", "applies", "builds", "boots"
    );
    format!("{}\n", paint(DIM, &line))
}

/// One line, and below it what a person needs when not all is well.
pub fn line(result: &PatchResult) -> String {
    let cell = |text: String, style, width: usize| {
        format!("{}{}", paint(style, &text), " ".repeat(width.saturating_sub(text.len())))
    };
    let ran = result.tally.0.iter().any(|(outcome, &n)| *outcome != Outcome::Skip && n > 0);
    let [number, applies, builds, boots] = COLUMNS;
    let mut text = match result.patch.number {
        0 => cell("base".into(), DIM, number),
        n => cell(n.to_string(), DIM, number),
    };
    text.push_str(&match (result.patch.number, result.applies) {
        (0, _) => cell("-".into(), DIM, applies),
        (_, true) => cell("yes".into(), GOOD, applies),
        (_, false) => cell("NO".into(), BAD, applies),
    });
    text.push_str(&match (result.applies, result.builds, result.built_ms) {
        (false, ..) => cell(String::new(), DIM, builds),
        (true, false, _) => cell("NO".into(), BAD, builds),
        (true, true, Some(ms)) => cell(duration(ms), GOOD, builds),
        (true, true, None) => cell("in the store".into(), GOOD, builds),
    });
    text.push_str(&match result.ready_ms {
        Some(ms) => cell(duration(ms), GOOD, boots),
        None if result.builds && ran => cell("NO".into(), BAD, boots),
        None => cell(String::new(), DIM, boots),
    });
    if result.builds {
        let _ = write!(text, "{}  ", tally_words(&result.tally).join(", "));
    }
    text.push_str(&super::text::plain(&result.patch.subject));
    if result.first_failure {
        text.push_str(&paint(BAD.bold(), "  <- first failure"));
    }
    text.push('\n');
    if let Some(trouble) = &result.trouble {
        trouble.lines().for_each(|line| {
            let _ = writeln!(text, "       {}", super::text::plain(line));
        });
    }
    for warning in result.warnings.iter().flatten() {
        let _ = writeln!(text, "       {} {warning}", paint(LOOK, "new:"));
    }
    // The base has no kernel before it.
    if result.warnings.is_none() && result.builds && result.patch.number > 0 {
        let _ = writeln!(text, "       {}", paint(DIM, "warnings not known"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(change: impl FnOnce(&mut PatchResult)) -> String {
        let mut result = PatchResult {
            patch: PatchRef { number: 2, of: 3, name: "b.patch".into(), subject: "fs: b".into() },
            applies: true,
            builds: true,
            built_ms: Some(7_100),
            ready_ms: Some(120),
            tally: Tally([(Outcome::Pass, 2)].into()),
            warnings: Some(Vec::new()),
            trouble: None,
            first_failure: false,
        };
        change(&mut result);
        anstream::adapter::strip_str(&line(&result)).to_string()
    }

    #[test]
    fn a_line_says_how_far_it_came() {
        assert_eq!(result(|_| {}), "2     yes      7.10 s        0.12 s  2 pass  fs: b\n");
        let text = result(|r| {
            r.applies = false;
            r.builds = false;
            (r.built_ms, r.ready_ms) = (None, None);
            r.tally = Tally::default();
            r.trouble = Some("fs/b.c: hunk 1".into());
            r.first_failure = true;
            assert!(r.failed());
        });
        assert!(text.starts_with("2     NO "), "{text}");
        assert!(text.contains("fs: b  <- first failure\n       fs/b.c: hunk 1\n"), "{text}");
        let text = result(|r| {
            r.ready_ms = None;
            r.tally = Tally([(Outcome::Broken, 1)].into());
            r.warnings = Some(vec!["fs/b.c:1:2: warning: w".into()]);
        });
        assert!(text.contains("NO      1 broken  fs: b\n       new: fs/b.c:1:2"), "{text}");
        // That none is known is not that there is none; of the base nobody asks.
        let text = result(|r| r.warnings = None);
        assert!(text.ends_with("fs: b\n       warnings not known\n"), "{text}");
        let text = result(|r| (r.warnings, r.patch.number) = (None, 0));
        assert!(!text.contains("not known"), "{text}");
        let text = result(|r| (r.warnings, r.builds) = (None, false));
        assert!(!text.contains("not known"), "{text}");
        // Where all runs are skipped, nothing is known of the boot.
        let text = result(|r| {
            r.ready_ms = None;
            r.tally = Tally([(Outcome::Skip, 1)].into());
        });
        assert!(!text.contains("NO"), "{text}");
    }
}
