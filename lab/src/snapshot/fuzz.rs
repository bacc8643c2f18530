//! What must hold for any output and any snapshot file: `lab::fuzzing` calls these.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use super::file::{Info, SnapshotFile, parse};
use super::filters::Filters;
use super::inverse::{Cut, read_back_cut};
use super::output::{Output, PART, WHOLE};
use super::transcript::{Entry, Transcript, render};
use crate::fuzzing::{Input, check_error, check_words};
use crate::manifest::{Action, Filter, MachineOp, NamedFilter};

/// Ends an entry of the input (ASCII's file separator), and a field of one (its unit separator).
const ENTRY: u8 = 0x1c;
const FIELD: u8 = 0x1f;

/// The rendering: it leads back to the transcript that it was made of, so that no two transcripts
/// render alike; what is cut is told by length and digest; and it is text that editors, git and
/// insta leave as it is.
///
/// The input is a list of entries: letters for what is special about it, command, output, late
/// output. See [`entry`].
pub(crate) fn transcript(data: &[u8]) {
    transcript_of(data, render);
}

/// [`transcript`] for any way to render.
pub(crate) fn transcript_of(data: &[u8], render: impl Fn(&Transcript) -> String) {
    let entries = data.split(|b| *b == ENTRY).take(16).filter(|e| !e.is_empty()).map(entry);
    let (entries, printed): (Vec<_>, Vec<_>) = entries.unzip();
    let transcript = Transcript { entries };
    let text = render(&transcript);
    check_text(&text);
    let (back, cuts) = read_back_cut(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(back.entries.len(), transcript.entries.len(), "{text}");
    let mut cuts = cuts.into_iter().peekable();
    for (index, (back, entry)) in back.entries.iter().zip(&transcript.entries).enumerate() {
        let (output, late) = &printed[index];
        check_output(&back.output, output, cuts.next_if(|cut| cut.of == (index, false)));
        check_output(&back.late, late, cuts.next_if(|cut| cut.of == (index, true)));
        let rest = |entry: &Entry| (entry.action.clone(), entry.status, entry.shell_gone);
        assert_eq!(rest(back), rest(entry), "{text}");
    }
    assert_eq!(cuts.next(), None);

    let file = SnapshotFile::new("a", &BTreeMap::new(), Info::default(), text);
    let read = parse(Path::new("a.snap"), file.to_text().as_bytes());
    assert_eq!(read.expect("a rendering survives its file"), file);
}

/// One entry: `p` power-cut, `b` reboot, `w` sysrq, `h` hotplug, `z` resize, else a command; `g` the
/// shell is gone, `n` no status, digits a status, `-` a negative one; `L` and `M` make output and
/// late output long. Also all bytes of both.
fn entry(bytes: &[u8]) -> (Entry, (Vec<u8>, Vec<u8>)) {
    let mut input = Input(bytes);
    let letters = input.until(FIELD);
    let has = |letter: u8| letters.contains(&letter);
    let command = String::from_utf8_lossy(input.until(FIELD)).trim_end_matches('\n').to_string();
    let digits: String =
        letters.iter().filter(|b| b.is_ascii_digit()).map(|b| *b as char).collect();
    let status = digits.parse::<i32>().unwrap_or(0) * if has(b'-') { -1 } else { 1 };
    let operations = [
        (b'p', MachineOp::PowerCut),
        (b'b', MachineOp::Reboot),
        (b'w', MachineOp::Sysrq('w')),
        (b'h', MachineOp::Hotplug("a".into())),
        (b'z', MachineOp::Resize("a".into(), 512 + u64::from(status.unsigned_abs()))),
    ];
    let operation = operations.into_iter().find(|(letter, _)| has(*letter));
    let (output, late) = (input.until(FIELD), input.until(FIELD));
    let long = |bytes: &[u8], letter| match has(letter) && !bytes.is_empty() {
        true => bytes.repeat(WHOLE / bytes.len() + 1),
        false => bytes.to_vec(),
    };
    let (output, late) = (long(output, b'L'), long(late, b'M'));
    let entry = Entry {
        index: 0,
        action: operation.map_or(Action::Run(command), |(_, op)| Action::Machine(op)),
        output: Output::new(&output, &Filters::default()),
        late: Output::new(&late, &Filters::default()),
        status: (!has(b'n')).then_some(status),
        shell_gone: has(b'g'),
    };
    (entry, (output, late))
}

/// What the rendering of `is` led back to.
fn check_output(back: &Output, is: &[u8], cut: Option<Cut>) {
    let Output::Whole(back) = back else { panic!("an inverse knows no digests") };
    let Some(cut) = cut else {
        assert!(is.len() <= WHOLE);
        assert_eq!(back, is, "{:?} for {:?}", back.escape_ascii(), is.escape_ascii());
        return;
    };
    assert!(is.len() > WHOLE);
    assert_eq!((cut.length, cut.digest), (is.len(), blake3::hash(is).to_string()));
    let (head, tail) = back.split_at(cut.head);
    // A head that ends within a line is shown as one.
    let head_fits =
        is.starts_with(head) || head.strip_suffix(b"\n").is_some_and(|whole| is.starts_with(whole));
    assert!(head_fits && is.ends_with(tail), "{:?}", back.escape_ascii());
    assert!(head.len() <= PART + 1 && tail.len() <= PART);
}

/// What holds for the text of every rendering.
fn check_text(text: &str) {
    assert!(text.ends_with('\n') && !text.ends_with("\n\n") && text != "\n", "{text:?}");
    assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{text:?}");
    assert!(text.lines().all(|line| line.trim_end() == line), "{text:?}");
    // What insta does to the contents of a file.
    assert_eq!(format!("{}\n", text.trim_end()), text);
}

/// The named sets, each by itself.
static NAMED: LazyLock<[Filters; 3]> = LazyLock::new(|| {
    [NamedFilter::Addresses, NamedFilter::Uuids, NamedFilter::Times]
        .map(|name| Filters::compile(&[Filter::Named(name)]).expect("the named sets are sound"))
});

/// The filters: the named sets look at one line at a time and never join or split lines; any other
/// pattern is an error with a way out, or works; and a filtered transcript renders as the transcript
/// of the filtered outputs.
///
/// The input is a pattern, what takes its place, and an output.
pub(crate) fn filters(data: &[u8]) {
    let mut input = Input(data);
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (regex, to) = (words(input.until(FIELD)), words(input.until(FIELD)));
    let output = input.0;
    for filters in &*NAMED {
        let lines = output.split_inclusive(|b| *b == b'\n');
        let apart: Vec<u8> = lines.flat_map(|line| filters.apply(line).into_owned()).collect();
        assert_eq!(filters.apply(output), apart, "{}", output.escape_ascii());
    }
    let filters = match Filters::compile(&[Filter::Replace { regex, to }]) {
        Ok(filters) => filters,
        Err(error) => {
            check_words(&error);
            assert!(error.way_out().is_some());
            return;
        }
    };
    let rendering = |output: &[u8], filters: &Filters| {
        let entry = Entry { output: Output::new(output, filters), ..entry(b"").0 };
        render(&Transcript { entries: vec![entry] })
    };
    let filtered = filters.apply(output);
    assert_eq!(rendering(output, &filters), rendering(&filtered, &Filters::default()));
}

/// A snapshot file: any bytes are a snapshot or an error with a place; what was read, is written and
/// read again is the same; and so is what any run could have written.
pub(crate) fn snapshot_file(data: &[u8]) {
    let path = Path::new("cases/a/snapshots/transcript.snap");
    match parse(path, data) {
        Ok(file) => {
            let again = parse(path, file.to_text().as_bytes());
            assert_eq!(again.expect("what was read can be written"), file);
        }
        Err(error) => {
            check_error(&error, &String::from_utf8_lossy(data));
            assert!(error.way_out().is_some());
        }
    }
    let words = String::from_utf8_lossy(data).replace('\r', "");
    let (header, body) = words.split_once("---\n").unwrap_or((&words, ""));
    let mut lines = header.lines().map(str::to_string);
    let mut next = || lines.next().unwrap_or_default();
    let info = Info {
        kernel: next(),
        // A release has no brackets.
        release: next().replace(['(', ')'], ""),
        also: next().split_whitespace().map(str::to_string).collect(),
        programs: [(next(), next())].into(),
    };
    let params = [(next(), next())].into();
    let output = Output::new(body.as_bytes(), &Filters::default());
    let body = render(&Transcript { entries: vec![Entry { output, ..entry(b"").0 }] });
    let file = SnapshotFile::new("a", &params, info, body);
    let read = parse(path, file.to_text().as_bytes());
    assert_eq!(read.expect("what was written can be read"), file);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::tests::corpus_notices;

    #[test]
    fn a_rendering_that_loses_or_confuses_something_is_noticed() {
        let sound = render;
        assert!(!corpus_notices("transcript", |data| transcript_of(data, sound)));
        type Spoil = fn(String) -> String;
        let wrong: [(&str, Spoil); 8] = [
            ("no escapes of escapes", |text| text.replace("\\x5c", "\\")),
            ("no escapes of prompts", |text| text.replace("\\x24", "$")),
            ("no escapes of markers", |text| text.replace("\\x5b", "[")),
            ("blanks at the end", |text| text.replace("\\x20\n", " \n")),
            ("no note of a missing newline", |text| {
                text.replace("\\ no newline at end of output\n", "")
            }),
            ("statuses alike", |text| text.replace("[status 2]", "[status 1]")),
            ("digests alike", |text| match text.split_once("blake3 ") {
                Some((before, after)) => {
                    format!("{before}blake3 {}", after.replacen(['a', 'b'], "c", 64))
                }
                None => text,
            }),
            ("late output is early", |text| text.replace("[late]\n", "")),
        ];
        for (what, spoil) in wrong {
            let spoilt = |t: &Transcript| spoil(sound(t));
            assert!(corpus_notices("transcript", |data| transcript_of(data, spoilt)), "{what}");
        }
    }
}
