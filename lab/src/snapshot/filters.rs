//! What makes a transcript stable: regular expressions on its bytes, by name for the values that
//! differ from run to run on every machine.

use std::borrow::Cow;

use regex::bytes::{Captures, Regex};

use crate::manifest::{Diagnostic, Filter, NamedFilter, Result};

/// The filters of a case, ready to use.
#[derive(Clone, Debug, Default)]
pub struct Filters(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    regex: Regex,
    to: String,
    /// Whether the group `keep` leaves a match alone: in the named sets only.
    keeps: bool,
}

impl Filters {
    /// Prepares a case's list. Fails on a pattern that the regex crate does not take.
    pub fn compile(list: &[Filter]) -> Result<Self> {
        let mut rules = Vec::new();
        for filter in list {
            match filter {
                Filter::Named(name) => {
                    for (pattern, to) in named(*name) {
                        rules.push(Rule::new(&format!("(?-u){pattern}"), to, true)?);
                    }
                }
                Filter::Replace { regex, to } => rules.push(Rule::new(regex, to, false)?),
            }
        }
        Ok(Self(rules))
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes with every filter applied, in the order of the list.
    pub fn apply<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut now = Cow::Borrowed(bytes);
        for rule in &self.0 {
            if let Cow::Owned(changed) = rule.apply(&now) {
                now = Cow::Owned(changed);
            }
        }
        now
    }
}

impl Rule {
    fn new(pattern: &str, to: &str, keeps: bool) -> Result<Self> {
        match Regex::new(pattern) {
            Ok(regex) => Ok(Self { regex, to: to.into(), keeps }),
            Err(error) => {
                let words = error.to_string();
                let last = words.lines().last().unwrap_or_default();
                Err(Diagnostic::usage(format!("the filter /{pattern}/ is not a pattern: {last}"))
                    .help("the syntax is the regex crate's: no look-around, no backreferences"))
            }
        }
    }

    fn apply<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        self.regex.replace_all(bytes, |found: &Captures<'_>| {
            let mut with = Vec::new();
            match found.name("keep") {
                Some(_) if self.keeps => with.extend_from_slice(&found[0]),
                _ => found.expand(self.to.as_bytes(), &mut with),
            }
            with
        })
    }
}

/// Pattern and replacement of each named set, in order: longer forms first. What the group `keep`
/// takes part in is left alone (the regex crate has no look-around).
fn named(name: NamedFilter) -> &'static [(&'static str, &'static str)] {
    match name {
        NamedFilter::Addresses => ADDRESSES,
        NamedFilter::Uuids => UUIDS,
        NamedFilter::Times => TIMES,
    }
}

const ADDRESSES: &[(&str, &str)] = &[
    (r"\b0[xX][0-9a-fA-F]{8,16}\b", "ADDR"),
    // Call traces of older kernels, and symbol-less return addresses.
    (r"\[<[0-9a-fA-F]{8,16}>\]", "[<ADDR>]"),
    // Bare kernel pointers of the upper half, as in register dumps of 64 bits.
    (r"\bffff[0-9a-f]{12}\b", "ADDR"),
];

const UUIDS: &[(&str, &str)] = &[
    (r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "UUID"),
    // mdadm's way to write one.
    (r"\b[0-9a-fA-F]{8}(?::[0-9a-fA-F]{8}){3}\b", "UUID"),
    // LVM's identifiers: base 62, in groups of 6-4-4-4-4-4-6.
    (r"\b[0-9A-Za-z]{6}(?:-[0-9A-Za-z]{4}){5}-[0-9A-Za-z]{6}\b", "UUID"),
];

const TIMES: &[(&str, &str)] = &[
    // ISO 8601, with or without time of day and zone: ls --full-time, stat, date -Is.
    (
        r"\b\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d{2}:?\d{2}))?)?\b",
        "TIME",
    ),
    // The C locale's: date, ls -l, dumpe2fs.
    (
        r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d (?:\d{2}:\d{2}:\d{2}(?: (?:UTC|GMT))?(?: \d{4})?| ?\d{4}|\d{2}:\d{2})\b",
        "TIME",
    ),
    // printk's stamps.
    (r"\[ *\d+\.\d{6}\]", "[TIME]"),
    // Time of day; not the pairs of a MAC address or a longer chain.
    (
        r"(?P<keep>\b(?:[0-9a-fA-F]{2}:){3,}[0-9a-fA-F]{2}\b)|\b\d{2}:[0-5]\d:[0-5]\d(?:[.,]\d+)?\b",
        "TIME",
    ),
    // dd, hdparm, mdadm, fio.
    (r"\b(?:\d+(?:\.\d+)?|Infinity) ?(?:bytes|[kKMGTP]?i?B|[kKMGT]?bit)/s(?:ec)?\b", "RATE"),
    // time of bash, then time -p.
    (r"\b\d+m ?\d+\.\d+s\b", "TIME"),
    (r"(?m)^(real|user|sys)([ \t]+)\d+\.\d+$", "${1}${2}TIME"),
    // Durations with a unit; a bare `20s` without a fraction is more often a setting.
    (
        r"\b\d+(?:\.\d+)?(?:e[+-]?\d+)?(?: s| ?(?:secs?|seconds?|[mnu]s|[mnu]sec|\xc2\xb5s))\b|\b\d+\.\d+(?:e[+-]?\d+)?s\b",
        "TIME",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: NamedFilter, text: &str) -> String {
        let filters = Filters::compile(&[Filter::Named(name)]).unwrap();
        String::from_utf8(filters.apply(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn own_patterns_come_in_order_and_take_groups() {
        let rule = |regex: &str, to: &str| Filter::Replace { regex: regex.into(), to: to.into() };
        let list = [rule("a+(b)", "${1}c"), rule("(?P<keep>bc)", "d"), rule(r"(?-u)\xff", "e")];
        let filters = Filters::compile(&list).unwrap();
        assert_eq!(&*filters.apply(b"aab \xff aa"), b"d e aa");
        assert!(matches!(filters.apply(b"nothing"), Cow::Borrowed(b"nothing")));
        let error = Filters::compile(&[rule("a(", "")]).unwrap_err();
        assert_eq!(error.message(), "the filter /a(/ is not a pattern: error: unclosed group");
    }

    #[test]
    fn dd() {
        let dd = "8+0 records in\n8+0 records out\n\
            8388608 bytes (8.4 MB, 8.0 MiB) copied, 0.0190207 s, 441 MB/s\n\
            1 byte copied, 3.4561e-05 s, 28.9 kB/s\n0 bytes copied, 0 s, Infinity B/s\n\
            8388608 bytes (8.0MB) copied, 0.019020 seconds, 420.6MB/s\n";
        let expected = "8+0 records in\n8+0 records out\n\
            8388608 bytes (8.4 MB, 8.0 MiB) copied, TIME, RATE\n\
            1 byte copied, TIME, RATE\n0 bytes copied, TIME, RATE\n\
            8388608 bytes (8.0MB) copied, TIME, RATE\n";
        assert_eq!(with(NamedFilter::Times, dd), expected);
    }

    #[test]
    fn a_real_dd_says_the_same_twice() {
        let say = || {
            let args = ["if=/dev/zero", "of=/dev/null", "bs=4k", "count=3"];
            let run = std::process::Command::new("dd").args(args).env("LC_ALL", "C").output();
            with(NamedFilter::Times, &String::from_utf8(run.unwrap().stderr).unwrap())
        };
        assert!(say().ends_with("copied, TIME, RATE\n"), "{}", say());
        assert_eq!(say(), say());
    }

    #[test]
    fn listings() {
        let ls = "-rw-r--r-- 1 root root 8388608 2026-11-21 09:08:28.482604268 +0000 a\n\
            -rw-r--r-- 1 root root 8388608 Nov 21 09:08 2026\n\
            -rw-r--r-- 1 root root       1 Nov  1  2025 b\n\
            Modify: 2026-11-21 09:08:28.501866074 +0000\n2026-11-21T09:08:28Z 2026-11-21\n";
        let expected = "-rw-r--r-- 1 root root 8388608 TIME a\n\
            -rw-r--r-- 1 root root 8388608 TIME 2026\n\
            -rw-r--r-- 1 root root       1 TIME b\n\
            Modify: TIME\nTIME TIME\n";
        assert_eq!(with(NamedFilter::Times, ls), expected);
    }

    #[test]
    fn filesystems() {
        let mkfs = "mke2fs 1.47.0 (5-Feb-2023)\nCreating filesystem with 8192 1k blocks\n\
            Filesystem UUID:          ab89542b-9cb9-4622-b77a-6a8a3b5b0810\n\
            Filesystem created:       Sat Nov 21 09:08:28 2026\nCheck interval:           0 (<none>)\n\
            no label, UUID=f7488c9a-61cb-4978-843f-b56c2710a524\n\
            UUID : 3aaa0122:29827cfa:5331ad66:ca767371\nPV UUID  Zp3Zbl-9k1q-AbCd-0000-zzzz-1111-dm9fqE\n";
        let expected = "mke2fs 1.47.0 (5-Feb-2023)\nCreating filesystem with 8192 1k blocks\n\
            Filesystem UUID:          UUID\n\
            Filesystem created:       TIME\nCheck interval:           0 (<none>)\n\
            no label, UUID=UUID\nUUID : UUID\nPV UUID  UUID\n";
        assert_eq!(with(NamedFilter::Times, &with(NamedFilter::Uuids, mkfs)), expected);
    }

    #[test]
    fn kernel_log() {
        let dmesg = "[    0.000000] Linux version 6.1.176\n[12345.678901] EXT4-fs (ubda): mounted\n\
            link/ether 52:54:00:12:34:56\n [<ffffffff81234567>] ? foo+0x1/0x20\n\
            RIP: 0010:foo+0x1a/0x2b0\nRSP: 0000:ffffc900001b7d28 CR2: 0x00007f0012345678\n\
            sha 0x0123456789abcdef0\n10:20:30.5 took 12 ms, 7us, 1.5s\n";
        let expected = "[TIME] Linux version 6.1.176\n[TIME] EXT4-fs (ubda): mounted\n\
            link/ether 52:54:00:12:34:56\n [<ADDR>] ? foo+0x1/0x20\n\
            RIP: 0010:foo+0x1a/0x2b0\nRSP: 0000:ADDR CR2: ADDR\n\
            sha 0x0123456789abcdef0\nTIME took TIME, TIME, TIME\n";
        assert_eq!(with(NamedFilter::Times, &with(NamedFilter::Addresses, dmesg)), expected);
    }

    #[test]
    fn shells_time() {
        let time = "real\t0m0.003s\nuser 0.00\nsettings: timeout 20s, 3 slots, 4 sectors\n";
        let expected = "real\tTIME\nuser TIME\nsettings: timeout 20s, 3 slots, 4 sectors\n";
        assert_eq!(with(NamedFilter::Times, time), expected);
    }
}
