//! Who wrote a line of the log channel: printk stamps its lines, and what user space writes to the
//! console's device is no word of the kernel's.

/// A line that the kernel printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Microseconds of the kernel's clock.
    pub micros: u64,
    /// What it says, without stamp and line end.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// A line with printk's stamp.
    pub fn parse(raw: &'a str) -> Option<Self> {
        // Anywhere in the line: user space may have left one without its end on the console.
        let brackets = raw.match_indices('[').map(|(at, _)| &raw[at + 1..]);
        let (micros, rest) = brackets.into_iter().find_map(stamp)?;
        let text = rest.strip_prefix('[').and_then(caller).unwrap_or(rest);
        let text = text.strip_prefix(' ').unwrap_or(text);
        Some(Self { micros, text: text.trim_end_matches(['\r', '\n']) })
    }
}

/// What follows the bracket of printk's stamp, `    1.234567]`: microseconds, and the rest. By hand,
/// because it is done to every line of a flood.
fn stamp(text: &str) -> Option<(u64, &str)> {
    let (seconds, rest) = text.trim_start_matches(' ').split_once('.')?;
    let (fraction, rest) = (rest.get(..6)?, rest.get(6..)?.strip_prefix(']')?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) {
        return None;
    }
    let seconds: u64 = seconds.parse().ok()?;
    Some((seconds.saturating_mul(1_000_000).saturating_add(fraction.parse().ok()?), rest))
}

/// What follows the bracket of the caller, `    T1]`, where the kernel prints it: the rest.
fn caller(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(']')?;
    let number = name.trim_start_matches(' ').strip_prefix(['T', 'C'])?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(rest)
}

/// Tells the kernel's lines from those of user space.
///
/// A stamp can be written by anybody, for example by `dmesg > /dev/console`. But what goes through
/// a terminal's line discipline ends with CR and LF, and UML's console driver adds no CR to what
/// printk gives it: seen on 5.10, 6.1 and 6.12. Where printk's own lines end so too (a serial
/// port), the end tells nothing; the first stamped line, which no user space can have written,
/// shows which it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writer {
    /// Whether printk's lines end with CR, once seen.
    carriage_return: Option<bool>,
}

impl Writer {
    /// The line if it is the kernel's own.
    pub fn kernels<'a>(&mut self, raw: &'a str) -> Option<Line<'a>> {
        let line = Line::parse(raw)?;
        let ends = raw.ends_with("\r\n");
        let usual = *self.carriage_return.get_or_insert(ends);
        (usual || !ends).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_all_kinds() {
        for raw in [
            "[   12.345678] text\n",
            "[   12.345678][    T1] text",
            "[   12.345678][   C10] text\r\n",
            "[ [x] [   12.345678] text",
            "left over[   12.345678] text\n",
        ] {
            assert_eq!(Line::parse(raw), Some(Line { micros: 12_345_678, text: "text" }), "{raw}");
        }
        assert_eq!(Line::parse("Kernel panic - not syncing"), None);
        assert_eq!(Line::parse("[status 1]"), None);
    }
}
