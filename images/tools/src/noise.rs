//! `noise`: the same hostile output on every host and kernel, for cases that test the way from a
//! terminal to a transcript. Whoever checks it computes the same bytes again.

use std::io::Write;

use crate::Error;
use crate::args::Args;

/// One line for the list of tools.
pub const ABOUT: &str = "deterministic output that is hard on terminals and on readers";

/// `noise --help`.
pub const HELP: &str = "\
Prints deterministic output that is hard on terminals and on whoever reads it.

Usage: noise [--kind KIND] [--bytes N | --count N] [--seed N] [--no-final-newline]

  --kind KIND         binary   pseudo-random bytes, all 256 values (default)
                      nul      NUL bytes
                      lines    short numbered lines: \"1\", \"2\", ...
                      escapes  terminal escape sequences: clearing, titles, alternate screen, reset
                      utf8     lines of text that is not UTF-8: overlong, surrogates, cut short
                      records  lines that look like lab's own control records and transcripts, and
                               like a kernel's last words
  --bytes N           stop after exactly N bytes; suffixes k, M, G (powers of 1024)
  --count N           stop after N lines (not for binary and nul)
  --seed N            another sequence (default 1); lines and nul have no seed
  --no-final-newline  leave out the last newline, if the output ends with one

Without --bytes and --count: 4096 bytes of binary or nul, 1000 lines of the others.
Status: 0, or 1 where the output could not be written, or 2 for wrong arguments.
";

/// Runs `noise` with the words after its name.
pub fn run(words: &[String], out: &mut dyn Write) -> Result<(), Error> {
    let mut args = Args::new(words);
    let kind = args.value("--kind")?.unwrap_or_else(|| "binary".into());
    let bytes = args.number("--bytes")?;
    let count = args.number("--count")?;
    let seed = args.number("--seed")?.unwrap_or(1);
    let cut = args.flag("--no-final-newline");
    args.end()?;
    if bytes.is_some() && count.is_some() {
        return Err(Error::Usage("--bytes and --count exclude each other".into()));
    }
    let mut random = SplitMix(seed);
    let line: &mut dyn FnMut(u64, &mut Vec<u8>) = match kind.as_str() {
        "binary" | "nul" if count.is_some() => {
            return Err(Error::Usage(format!("{kind} has no lines to --count; use --bytes")));
        }
        // Blocks of 8 bytes stand for lines here: the byte limit cuts them anyway.
        "binary" => &mut |_, line| line.extend(random.next().to_le_bytes()),
        "nul" => &mut |_, line| line.extend([0; 8]),
        "lines" => &mut |number, line| line.extend(format!("{number}\n").bytes()),
        "escapes" => &mut |number, line| one_of(ESCAPES, number, &mut random, line),
        "utf8" => &mut |number, line| one_of(INVALID_UTF8, number, &mut random, line),
        "records" => &mut |number, line| one_of(RECORDS, number, &mut random, line),
        _ => return Err(Error::Usage(format!("there is no kind {kind:?}"))),
    };
    let bytes = match kind.as_str() {
        "binary" | "nul" => Some(bytes.unwrap_or(4096)),
        _ => bytes,
    };
    let count = if bytes.is_some() { u64::MAX } else { count.unwrap_or(1000) };
    emit(line, bytes.unwrap_or(u64::MAX), count, cut, out)
}

/// Writes lines up to either limit. The last byte is held back until it is known to be the last.
fn emit(
    next: &mut dyn FnMut(u64, &mut Vec<u8>),
    bytes: u64,
    count: u64,
    cut: bool,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut left = bytes;
    let mut held: Option<u8> = None;
    let mut line = Vec::new();
    for number in 1..=count {
        if left == 0 {
            break;
        }
        line.clear();
        next(number, &mut line);
        line.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= line.len() as u64;
        out.write_all(held.as_slice())?;
        held = line.pop();
        out.write_all(&line)?;
    }
    if !(cut && held == Some(b'\n')) {
        out.write_all(held.as_slice())?;
    }
    Ok(())
}

/// Each sample in turn once, so that none is missed, then at random; always with the line's number.
fn one_of(samples: &[&[u8]], number: u64, random: &mut SplitMix, line: &mut Vec<u8>) {
    let turn = usize::try_from(number - 1).unwrap_or(usize::MAX);
    let at = if turn < samples.len() { turn } else { random.next() as usize % samples.len() };
    line.extend(samples[at]);
    line.extend(format!(" {number}\n").bytes());
}

/// Sequences of ECMA-48 and xterm's ctlseqs that move, clear, hide, rename or reset.
const ESCAPES: &[&[u8]] = &[
    b"\x1b[2J\x1b[H",                // clear the screen
    b"\x1b[?1049h",                  // alternate screen
    b"\x1b[?1049l",                  // and back
    b"\x1b]0;a title\x07",           // OSC, ended by BEL
    b"\x1b]52;c;bGFi\x1b\\",         // OSC that sets the clipboard, ended by ST
    b"\x1bP$q\"p\x1b\\",             // DCS: a question that a terminal answers
    b"\x1b[6n\x1b[c",                // where is the cursor, what are you: answered as typed input
    b"\x1bc",                        // full reset
    b"\x1b[1;31mred\x1b[0m",         // colours
    b"\x1b[?25l\x1b[8m",             // no cursor, hidden text
    b"\x1b(0lqqk\x1b(B",             // another character set
    b"\x1b[20h\x1b[4h\x1b[?7l",      // newline mode, insert mode, no wrapping
    b"\x1b[5;10r\x1b[999;999H",      // a scrolling region, and out of it
    b"\x9b2J\x90q\x9c",              // the same as single C1 bytes
    b"\r\x08\x7f\x0b\x0c\x0e\x0f",   // CR, BS, DEL, VT, FF, shifts
    b"\x03\x04\x11\x13\x15\x1a\x1c", // what a tty may take for ^C, ^D, XON, XOFF, ^U, ^Z, ^\
    b"\x1b[",                        // cut short
];

/// What a lenient decoder lets through; the Unicode Standard, section 3.9, table 3-7.
const INVALID_UTF8: &[&[u8]] = &[
    b"overlong slash \xc0\xaf",
    b"overlong NUL \xc0\x80 \xe0\x80\x80 \xf0\x80\x80\x80",
    b"surrogates \xed\xa0\x80\xed\xbf\xbf",
    b"beyond the last character \xf4\x90\x80\x80 \xf8\x88\x80\x80\x80",
    b"a continuation alone \x80 \xbf",
    b"cut short \xe2\x82",
    b"cut short \xf0\x9f\x98",
    b"a start after a start \xc3\xc3\xa9",
    b"never bytes \xfe \xff",
    "valid, for contrast: \u{e9} \u{20ac} \u{1f600} \u{200f}rtl \u{feff}bom \u{2028}separator"
        .as_bytes(),
];

/// What only lab or the kernel should say.
const RECORDS: &[&[u8]] = &[
    b"lab 0 0000000000000000 \"ready\"",
    b"lab 3 0123456789abcdef {\"step-ended\":{\"index\":0,\"status\":0,\"micros\":1,\"bytes\":0,\"shell_gone\":false}}",
    b"lab 4 ffffffffffffffff {\"end\":{\"steps\":99,\"late\":0,\"left_mounted\":[]}}",
    b"lab 18446744073709551615 0 {}",
    b"$ true",
    b"[status 0]",
    b"[status 1]",
    b"---\nsource: cases/x/case.toml\nexpression: transcript\n---",
    b"BUG: kernel NULL pointer dereference, address: 0000000000000000",
    b"[    1.000000] WARNING: CPU: 0 PID: 1 at fs/inode.c:1 iput+0x1/0x2",
    b"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000",
    b"INFO: task cat:42 blocked for more than 120 seconds.",
    b"EXT4-fs error (device ubda): ext4_lookup:1: inode #2: comm cat: deleted inode referenced: 12",
    b"reboot: Power down",
];

/// Vigna's SplitMix64: every seed is good, and the sequence is easy to compute elsewhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(words: &str) -> Vec<u8> {
        let words: Vec<String> = words.split_whitespace().map(str::to_string).collect();
        let mut out = Vec::new();
        run(&words, &mut out).unwrap_or_else(|e| panic!("{words:?}: {e:?}"));
        out
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs for seed 0, as published with other implementations.
        let mut random = SplitMix(0);
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn binary_has_the_exact_length_and_all_values() {
        let bytes = noise("--bytes 100001 --seed 7");
        assert_eq!(bytes.len(), 100_001);
        assert!((0..=255).all(|value| bytes.contains(&value)));
        assert_eq!(bytes, noise("--seed=7 --bytes=100001"));
        assert_ne!(bytes, noise("--bytes 100001 --seed 8"));
        assert!(noise("--bytes 0").is_empty());
        assert_eq!(noise("--kind nul --bytes 3"), [0, 0, 0]);
    }

    #[test]
    fn lines_are_numbered_and_may_lack_the_last_newline() {
        assert_eq!(noise("--kind lines --count 3"), b"1\n2\n3\n");
        assert_eq!(noise("--kind lines --count 3 --no-final-newline"), b"1\n2\n3");
        assert_eq!(noise("--kind lines --bytes 3 --no-final-newline"), b"1\n2");
        assert!(noise("--kind lines --count 0").is_empty());
    }

    #[test]
    fn every_sample_comes_once_before_any_comes_twice() {
        for (kind, samples) in [("escapes", ESCAPES), ("utf8", INVALID_UTF8), ("records", RECORDS)]
        {
            let out = noise(&format!("--kind {kind} --count {}", samples.len()));
            for sample in samples {
                assert!(out.windows(sample.len()).any(|w| w == *sample), "{kind} {sample:?}");
            }
            let more = noise(&format!("--kind {kind} --count 100"));
            assert!(more.starts_with(&out));
            assert_eq!(more, noise(&format!("--kind {kind} --count 100 --seed 1")));
        }
        assert!(String::from_utf8(noise("--kind utf8")).is_err());
        let wrong = INVALID_UTF8.iter().filter(|s| std::str::from_utf8(s).is_err()).count();
        assert_eq!(wrong, INVALID_UTF8.len() - 1);
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (words, said) in [
            ("--kind loud", "\"loud\""),
            ("--bytes ten", "\"ten\""),
            ("--bytes 1 --count 1", "exclude"),
            ("--count 1", "use --bytes"),
            ("--size 1", "\"--size\""),
        ] {
            let words: Vec<String> = words.split_whitespace().map(str::to_string).collect();
            match run(&words, &mut Vec::new()) {
                Err(Error::Usage(message)) => assert!(message.contains(said), "{message}"),
                other => panic!("{words:?}: {other:?}"),
            }
        }
    }
}
