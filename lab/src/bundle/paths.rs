//! Paths of the host in our own records: those below the project become relative to it, and the
//! name of the user's home goes nowhere. What the guest printed is evidence and stays as it is.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

/// The folders that a record must not name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paths<'a> {
    /// The project's.
    pub root: &'a Path,
    /// The user's.
    pub home: Option<&'a Path>,
}

impl Paths<'_> {
    /// A path relative to the project if it is below it; `.` for the project itself.
    pub fn below(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(self.root) {
            Ok(below) if below.as_os_str().is_empty() => ".".into(),
            Ok(below) => below.to_path_buf(),
            Err(_) => path.to_path_buf(),
        }
    }

    /// Text without the two names.
    pub fn plain(&self, text: &str) -> String {
        let text = replaced(text, self.root, ".");
        match self.home {
            Some(home) => replaced(&text, home, "~"),
            None => text,
        }
    }

    /// A record without the two names.
    pub fn scrubbed(&self, record: &impl Serialize) -> Value {
        let mut value = serde_json::to_value(record).expect("records are plain data");
        self.scrub(&mut value);
        value
    }

    fn scrub(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.plain(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.scrub(item)),
            Value::Object(items) => items.values_mut().for_each(|item| self.scrub(item)),
            _ => {}
        }
    }
}

/// Replaces a folder's name where it stands as one: not `/home/al` in `/home/alice`.
fn replaced(text: &str, folder: &Path, by: &str) -> String {
    let Some(name) = folder.to_str().filter(|name| name.len() > 1) else { return text.into() };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let part_of_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let whole = !after.starts_with(part_of_name) && !before.ends_with(part_of_name);
        out.push_str(before);
        out.push_str(if whole { by } else { name });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_replaced_where_they_stand_alone() {
        let paths = Paths { root: Path::new("/home/al/p"), home: Some(Path::new("/home/al")) };
        assert_eq!(paths.below(Path::new("/home/al/p/cases/x")), Path::new("cases/x"));
        assert_eq!(paths.below(Path::new("/home/al/p")), Path::new("."));
        assert_eq!(paths.below(Path::new("/usr/bin")), Path::new("/usr/bin"));
        let plain = |text: &str| paths.plain(text);
        assert_eq!(plain("git:/home/al/p/linux#v6.1"), "git:./linux#v6.1");
        assert_eq!(plain("/home/al/src and /home/al: /home/alice"), "~/src and ~: /home/alice");
        assert_eq!(plain("/mnt/home/al/p-2"), "/mnt/home/al/p-2");
        let record = serde_json::json!({ "a": ["/home/al/p/x", 3], "b": { "c": "/home/al" } });
        let scrubbed = serde_json::json!({ "a": ["./x", 3], "b": { "c": "~" } });
        assert_eq!(paths.scrubbed(&record), scrubbed);
        let nowhere = Paths { root: Path::new("/"), home: None };
        assert_eq!(nowhere.plain("/usr/bin"), "/usr/bin");
    }
}
