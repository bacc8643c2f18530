//! Patches in mails: a mailbox of a series as `git format-patch --stdout` and mail archives give it.
//! git's own mailsplit and mailinfo undo the encodings; what is left here is which mails count and
//! in which order.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::source::git;
use super::{Patch, diff};
use crate::manifest::{Diagnostic, Result};

/// A mail with a diff.
struct Mail {
    subject: String,
    /// `2` and `5` of `[PATCH v3 2/5]`; 1 where there is no number.
    number: (u32, u32),
    /// `3` of `[PATCH v3 2/5]`; 1 without.
    version: u32,
    reply: bool,
    text: Vec<u8>,
}

/// Whether a file is a mailbox, or a mail whose body is encoded: others are read as they are.
pub(super) fn is_mail(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"From ") {
        return true;
    }
    let head = &bytes[..bytes.len().min(1 << 16)];
    let head = String::from_utf8_lossy(head);
    let head = head.split("\n\n").next().unwrap_or_default().replace('\r', "").to_lowercase();
    let has = |field: &str| head.starts_with(field) || head.contains(&format!("\n{field}"));
    let encoded = has("content-transfer-encoding: base64")
        || has("content-transfer-encoding: quoted-printable")
        || has("content-type: multipart/");
    encoded && has("from:") && has("subject:")
}

/// The patches in the mails of a file, in the order of their numbers.
pub(super) fn read(file: &Path, name: &str, bytes: &[u8], strip: u32) -> Result<Vec<Patch>> {
    let work = tempfile::tempdir()
        .map_err(|e| Diagnostic::io("make a folder in", &std::env::temp_dir(), &e))?;
    let folder = work.path();
    let prefix = format!("-o{}", folder.display());
    let mut split = git(folder);
    split.args(["mailsplit", "-b", "-d4", &prefix]);
    let said = piped(split, bytes, file)?;
    let count: usize = String::from_utf8_lossy(&said).trim().parse().unwrap_or(0);
    let mut mails = Vec::new();
    for number in 1..=count {
        let one = folder.join(format!("{number:04}"));
        let bytes = std::fs::read(&one).map_err(|e| Diagnostic::io("read", &one, &e))?;
        let mut info = git(folder);
        let (message, body) = (folder.join("message"), folder.join("body"));
        // -k keeps the subject as it is: the numbers are in it.
        info.args(["mailinfo", "-k", "--encoding=UTF-8"]).arg(&message).arg(&body);
        let said = piped(info, &bytes, file)?;
        let said = String::from_utf8_lossy(&said).into_owned();
        let body = std::fs::read(&body).map_err(|e| Diagnostic::io("read", &body, &e))?;
        let Some((_, text)) = diff::split(&body) else { continue };
        let field =
            |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        mails.push(Mail::new(field("Subject: "), text));
    }
    let mails = chosen(mails);
    if mails.is_empty() {
        return Err(Diagnostic::usage(format!(
            "{} is not a patch: it is a mailbox without a diff in any of its {count} mails",
            file.display()
        ))
        .help("take the mails of the thread that carry the patches, not only the cover letter"));
    }
    let several = mails.len() > 1;
    let patch = |(at, mail): (usize, Mail)| {
        let name = if several { format!("{name}#{}", at + 1) } else { name.to_string() };
        let subject = if mail.subject.is_empty() { name.clone() } else { mail.subject };
        Patch::new(name, subject, file, strip, mail.text)
    };
    mails.into_iter().enumerate().map(patch).collect()
}

/// Without answers, older versions of the series and second copies, in the order of the numbers.
fn chosen(mut mails: Vec<Mail>) -> Vec<Mail> {
    // A thread may hold a patch in an answer only; then it is meant.
    if mails.iter().any(|mail| !mail.reply) {
        mails.retain(|mail| !mail.reply);
    }
    let newest = mails.iter().map(|mail| mail.version).max().unwrap_or(1);
    mails.retain(|mail| mail.version == newest);
    let mut kept: Vec<Mail> = Vec::new();
    for mail in mails {
        if !kept.iter().any(|other| other.text == mail.text) {
            kept.push(mail);
        }
    }
    // Numbers order the mails of one series; two series in a file stay as they stand.
    if kept.windows(2).all(|pair| pair[0].number.1 == pair[1].number.1) {
        kept.sort_by_key(|mail| mail.number.0);
    }
    kept
}

impl Mail {
    fn new(subject: &str, text: &[u8]) -> Self {
        let (subject, tag, reply) = taken_apart(subject);
        let words = || tag.split([' ', ',']).filter(|word| !word.is_empty());
        let number = words().find_map(|word| {
            let (number, of) = word.split_once('/')?;
            Some((number.parse().ok()?, of.parse().ok()?))
        });
        let version = words().find_map(|word| {
            word.strip_prefix(['v', 'V']).or(word.strip_prefix("PATCHv"))?.parse().ok()
        });
        let text = text.to_vec();
        Self {
            subject,
            number: number.unwrap_or((1, 1)),
            version: version.unwrap_or(1),
            reply,
            text,
        }
    }
}

/// A subject without what stands in brackets before it, that, and whether it answers another mail.
pub(super) fn taken_apart(subject: &str) -> (String, String, bool) {
    let (mut rest, mut tags, mut reply) = (subject.trim(), String::new(), false);
    loop {
        if let Some((tag, after)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            tags = format!("{tags} {tag}");
            rest = after.trim_start();
        } else if rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("re:")) {
            reply = true;
            rest = rest[3..].trim_start();
        } else {
            return (rest.to_string(), tags, reply);
        }
    }
}

/// What the words before a diff call it: the field `Subject` or `Description`, else their first line.
pub(super) fn subject_of(head: &str) -> Option<String> {
    let mut lines = head.lines().peekable();
    let mut first = None;
    while let Some(line) = lines.next() {
        let field = line.strip_prefix("Subject:").or_else(|| line.strip_prefix("Description:"));
        if let Some(text) = field {
            let mut text = text.trim().to_string();
            while let Some(more) = lines.next_if(|l| l.starts_with(' ') && !l.trim().is_empty()) {
                text = format!("{text} {}", more.trim());
            }
            return Some(taken_apart(&text).0).filter(|text| !text.is_empty());
        }
        let plain = line.trim_start_matches(['#', ' ']).trim_end();
        let is_field = plain.split_once(": ").is_some_and(|(name, _)| !name.contains(' '));
        if first.is_none() && !plain.is_empty() && !is_field && !plain.starts_with("---") {
            first = Some(plain.to_string());
        }
    }
    first
}

/// Runs a program of git on bytes; its standard output.
fn piped(mut git: Command, bytes: &[u8], file: &Path) -> Result<Vec<u8>> {
    git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("LC_ALL", "C");
    let failed = |e: &std::io::Error| super::super::tool::not_started(git_name(), e);
    let mut child = git.spawn().map_err(|e| failed(&e))?;
    let mut input = child.stdin.take();
    let output = std::thread::scope(|scope| {
        let feed = scope.spawn(move || {
            // A program that has seen enough hangs up.
            let _ = input.as_mut().map(|input| input.write_all(bytes));
        });
        let output = child.wait_with_output();
        let _ = feed.join();
        output
    });
    let output = output.map_err(|e| failed(&e))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Diagnostic::usage(format!("the mails in {} cannot be read: {words}", file.display())))
}

fn git_name() -> &'static std::ffi::OsStr {
    std::ffi::OsStr::new("git")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "diff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1 +1 @@\n-=x\n+From y\n";

    fn from(subject: &str, extra: &str, body: &str) -> String {
        format!(
            "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n\
             From: =?UTF-8?q?J=C3=B6rg?= <j@example.org>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\
             Subject: {subject}\n{extra}\n{body}\n"
        )
    }

    fn load(text: &str) -> Result<Vec<Patch>> {
        Patch::parse(Path::new("x.mbox"), text.as_bytes(), 1)
    }

    #[test]
    fn a_thread_becomes_a_series_in_order() {
        let second = DIFF.replace("+From y", "+two");
        let text = [
            from("[PATCH v2 0/2] cover", "", "Hello\n\n a.c | 2 +-\n"),
            from("[PATCH v2 2/2] second thing", "", &format!("why\n---\n{second}-- \n2.39\n")),
            from("Re: [PATCH v2 1/2] first thing", "", &DIFF.replace("+From", "+no")),
            from("[PATCH v2 1/2] first\n thing", "", &format!("why\n>From here on\n---\n{DIFF}")),
            from("[PATCH 1/2] first thing", "", &DIFF.replace("+From y", "+old")),
            from("Re: [PATCH v2 2/2] second thing", "", "> diff --git a/a.c b/a.c\nnak\n"),
        ]
        .concat();
        let patches = load(&text).unwrap();
        let said: Vec<_> = patches.iter().map(|p| (p.name.as_str(), p.subject.as_str())).collect();
        assert_eq!(said, [("x.mbox#1", "first thing"), ("x.mbox#2", "second thing")]);
        assert!(
            patches[0].text.ends_with(b"+From y\n\n"),
            "{:?}",
            String::from_utf8_lossy(&patches[0].text)
        );
        assert!(String::from_utf8_lossy(&patches[1].text).trim_end().ends_with("+two"));
    }

    #[test]
    fn encodings_are_undone() {
        let quoted = DIFF.replace('=', "=3D").replace("a/a.c\n+++", "a/a=\n.c\n+++");
        let mail = from(
            "[PATCH] x",
            "Content-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=utf-8\nMIME-Version: 1.0\n",
            &quoted,
        );
        let patch = &load(&mail).unwrap()[0];
        assert_eq!(String::from_utf8_lossy(&patch.text).trim_end(), DIFF.trim_end());

        // The same without the line of a mailbox before it, as a mail program saves it.
        let (_, alone) = mail.split_once('\n').unwrap();
        assert_eq!(load(alone).unwrap()[0].text, patch.text);

        let base64 = "ZGlmZiAtLWdpdCBhL2EuYyBiL2EuYwotLS0gYS9hLmMKKysrIGIvYS5jCkBAIC0xICsxIEBACi09\neAorRnJvbSB5Cg==";
        let mail = from(
            "[PATCH] x",
            "Content-Transfer-Encoding: base64\nContent-Type: text/plain; charset=utf-8\nMIME-Version: 1.0\n",
            base64,
        );
        assert_eq!(
            String::from_utf8_lossy(&load(&mail).unwrap()[0].text).trim_end(),
            DIFF.trim_end()
        );
    }

    #[test]
    fn mails_without_a_diff_are_no_patch() {
        let error = load(&from("[PATCH 0/3] cover", "", "words\n")).unwrap_err().to_string();
        assert!(error.contains("without a diff in any of its 1 mails"), "{error}");
    }

    #[test]
    fn words_before_a_diff_have_a_subject() {
        assert_eq!(
            subject_of("From: x\nSubject: [PATCH 1/2] do\n it\n\nmore"),
            Some("do it".into())
        );
        assert_eq!(subject_of("\nMake it work.\nmore\n"), Some("Make it work.".into()));
        assert_eq!(subject_of("Origin: upstream\nDescription: fix\n"), Some("fix".into()));
        assert_eq!(subject_of("\n"), None);
    }
}
