//! How things are put into words and columns: pure functions, used by every reporter and table.

use std::fmt::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::event::{RunResult, Tally};
use crate::case::Outcome;
use crate::machine::Isolation;
use crate::snapshot::{DiffKind, DiffLine};

/// Green, for what is right or added.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Red, for what is wrong or gone.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Yellow, for what wants a look.
pub const LOOK: Style = AnsiColor::Yellow.on_default();
/// For what is there to be found, not to be read first.
pub const DIM: Style = Style::new().dimmed();
/// For names.
pub const BOLD: Style = Style::new().bold();

/// `text` in `style`, with the codes that anstream strips where they are not wanted.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The colour of an outcome.
pub fn style_of(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Pass => GOOD,
        Outcome::Fail | Outcome::Broken => BAD.bold(),
        Outcome::Known | Outcome::Fixed | Outcome::Flaky => LOOK,
        Outcome::Skip => DIM,
    }
}

/// Text that came from a guest, fit for a terminal: control characters are escaped.
pub fn plain(text: &str) -> String {
    let shown = |c: char| match c.is_control() && c != '\n' && c != '\t' {
        true => c.escape_default().collect::<String>(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Milliseconds for people: `0.35 s`, `2 min 05 s`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{:.2} s", ms as f64 / 1000.0),
        10_000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// How long ago something was, in its largest unit: `now`, `5 min`, `3 h`, `12 days`, `2 years`.
pub fn age(age: Duration) -> String {
    let days = |n: u64| if n == 1 { "1 day".to_string() } else { format!("{n} days") };
    match age.as_secs() {
        0..60 => "now".into(),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
        // Two years are what a count of days still says something about.
        seconds @ 86_400..63_072_000 => days(seconds / 86_400),
        seconds => format!("{} years", seconds / 31_536_000),
    }
}

/// A number of things: `1 run`, `3 runs`.
pub fn count(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Bytes for people, in binary units: `14 MiB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 10.0 && unit > 0 {
        format!("{value:.1} {}", units[unit])
    } else {
        format!("{value:.0} {}", units[unit])
    }
}

/// `2 runs: 1 pass, 1 known`; the words of the outcomes in the order of their severity.
pub fn tally(tally: &Tally) -> String {
    let total: usize = tally.0.values().sum();
    let parts = tally_words(tally);
    match total {
        0 => "nothing ran".to_string(),
        1 => format!("1 run: {}", parts.join(", ")),
        _ => format!("{total} runs: {}", parts.join(", ")),
    }
}

/// `1 pass`, `1 known`: a word for each outcome that there is.
pub fn tally_words(tally: &Tally) -> Vec<String> {
    use Outcome::{Broken, Fail, Fixed, Flaky, Known, Pass, Skip};
    [Fail, Broken, Fixed, Flaky, Known, Skip, Pass]
        .into_iter()
        .filter(|outcome| tally.count(*outcome) > 0)
        .map(|outcome| {
            paint(style_of(outcome), &format!("{} {}", tally.count(outcome), outcome.name()))
        })
        .collect()
}

/// A difference, a line each, coloured.
pub fn diff(lines: &[DiffLine], indent: &str) -> String {
    let mut text = String::new();
    for line in lines {
        let (style, mark) = match line.kind {
            DiffKind::Same => (Style::new(), ' '),
            DiffKind::Removed => (BAD, '-'),
            DiffKind::Added => (GOOD, '+'),
            DiffKind::Gap => {
                let _ = writeln!(text, "{indent}{}", paint(DIM, "..."));
                continue;
            }
        };
        let _ = writeln!(text, "{indent}{}", paint(style, &format!("{mark}{}", line.text)));
    }
    text
}

/// What is printed when a run is decided: one line, and what is needed below it when not all is
/// well.
pub fn result(result: &RunResult, title_width: usize) -> String {
    let outcome = paint(style_of(result.outcome), &format!("{:<6}", result.outcome.name()));
    let title = format!("{} on {}", result.run.title(), result.run.kernel);
    let took = result.total_ms.map(duration).unwrap_or_default();
    let mut text =
        format!("{outcome} {title:<title_width$}  {}", paint(DIM, &took)).trim_end().to_string();
    if let Some(weak) = result.isolation.filter(|isolation| *isolation != Isolation::Full) {
        text.push_str(&paint(LOOK, &format!("  (isolation {})", weak.label())));
    }
    text.push('\n');
    if result.outcome == Outcome::Pass && result.run.case != super::COMMAND {
        return text;
    }
    if let Some(note) = &result.note {
        let _ = writeln!(text, "       {note}");
    }
    let unwell = matches!(result.outcome, Outcome::Fail | Outcome::Broken);
    if unwell || result.outcome == Outcome::Flaky {
        for reason in &result.reasons {
            let _ = writeln!(text, "       {}", reason.text);
            for frame in &reason.stack {
                let _ = writeln!(text, "         {}", paint(DIM, frame));
            }
        }
        for line in result.cause.iter().chain(&result.looks) {
            let _ = writeln!(text, "       {line}");
        }
    }
    if result.outcome == Outcome::Fixed {
        let _ = writeln!(text, "       it passes now: remove it from [[known]] in lab.toml");
    }
    for line in &result.versions {
        let _ = writeln!(text, "       program changed: {line}");
    }
    if !result.diff.is_empty() && (unwell || result.outcome == Outcome::Known) {
        let _ = writeln!(text, "       {}", paint(DIM, "accepted (-) and seen (+):"));
        text.push_str(&diff(&result.diff, "       "));
    } else if let Some(transcript) = &result.transcript {
        text.push_str(&excerpt(transcript, "       "));
    }
    for hint in &result.hints {
        let _ =
            writeln!(text, "       {} {}", paint(DIM, &format!("{}:", hint.what)), hint.command);
    }
    text
}

/// A transcript as it is shown whole: one that would fill screens loses its middle, and a line that
/// would fill one loses its end; the run's folder has it all.
fn excerpt(transcript: &str, indent: &str) -> String {
    const LINES: usize = 120;
    const WIDTH: usize = 400;
    let lines: Vec<&str> = transcript.lines().collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        if lines.len() > LINES && number == LINES / 2 {
            let hidden = format!("... {} lines more: lab runs log", lines.len() - LINES);
            let _ = writeln!(text, "{indent}{}", paint(DIM, &hidden));
        }
        if lines.len() > LINES && (LINES / 2..lines.len() - LINES / 2).contains(&number) {
            continue;
        }
        match line.char_indices().nth(WIDTH) {
            Some((end, _)) => {
                let _ = writeln!(text, "{indent}{}{}", &line[..end], paint(DIM, "..."));
            }
            None => {
                let _ = writeln!(text, "{indent}{line}");
            }
        }
    }
    text
}

/// Rows in aligned columns, two blanks apart; the last column is not padded. Widths count
/// characters without colour codes.
pub fn columns(rows: &[Vec<String>]) -> String {
    let width = |cell: &String| anstream::adapter::strip_str(cell).to_string().chars().count();
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count)
        .map(|i| rows.iter().filter_map(|row| row.get(i)).map(width).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if i + 1 < row.len() {
                line.push_str(&" ".repeat(widths[i] - width(cell) + 2));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_numbers() {
        assert_eq!(duration(354), "0.35 s");
        assert_eq!(duration(12_345), "12.3 s");
        assert_eq!(duration(125_000), "2 min 05 s");
        let ages = [59, 60, 7199, 86_400, 200_000, 63_072_000].map(Duration::from_secs).map(age);
        assert_eq!(ages, ["now", "1 min", "1 h", "1 day", "2 days", "2 years"]);
        assert_eq!(
            (size(512), size(1536), size(14 << 20)),
            ("512 B".into(), "1.5 KiB".into(), "14 MiB".into())
        );
    }

    #[test]
    fn long_transcripts_keep_head_and_tail() {
        let long: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let shown = anstream::adapter::strip_str(&excerpt(&long, " ")).to_string();
        assert_eq!(shown.lines().count(), 121);
        assert!(shown.contains("\n 59\n ... 880 lines more: lab runs log\n 940\n"), "{shown}");
        assert_eq!(excerpt("a\nb\n", " "), " a\n b\n");
    }

    #[test]
    fn columns_ignore_colours() {
        let rows =
            [vec![paint(GOOD, "a"), "bb".to_string()], vec!["ccc".to_string(), String::new()]];
        let text = columns(&rows);
        assert_eq!(anstream::adapter::strip_str(&text).to_string(), "a    bb\nccc\n");
    }
}
