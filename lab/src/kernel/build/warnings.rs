//! What the compiler warned of, of a whole kernel. A build says the warnings only of what it compiles,
//! and a build folder is used again and again: those of the objects that stayed are remembered here,
//! in a journal that survives an interrupt, so that a patch can be told which warnings it brought.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::said::object_of;
use crate::kernel::Kernel;
use crate::manifest::{Diagnostic, Result};

/// The journal's first line, where it has seen every object of the build folder being made.
const WHOLE: &str = "whole";

/// Its first line instead while make is read: where the build is cut off, what make had said last was
/// read by nobody. It is whole again when what was made since [`unread`] is made anew.
const READING: &str = "reading";

/// How much later than make said it a line may be in the journal, on a loaded host.
const LAG: Duration = Duration::from_secs(2);

/// Since when the words of make in the build folder `folder` may be lost, if they may be.
pub(super) fn unread(folder: &Path) -> Option<SystemTime> {
    let mut journal = File::open(folder.join(JOURNAL)).ok()?;
    let mut first = [0; READING.len()];
    journal.read_exact(&mut first).ok()?;
    if first != READING.as_bytes() {
        return None;
    }
    Some(journal.metadata().ok()?.modified().ok()? - LAG)
}

/// The journal's name in a build folder.
const JOURNAL: &str = "warnings";

/// The warnings of a build folder, kept up to date line by line.
#[derive(Debug)]
pub(super) struct Warnings {
    journal: PathBuf,
    file: File,
    whole: bool,
    /// All that make said was taken.
    ended: bool,
    /// By the source file that they are in, as make prints them but for the tree's path.
    of: BTreeMap<String, Vec<String>>,
    tree: String,
}

impl Warnings {
    /// Takes up the journal in `folder`, where what was made since [`unread`] is gone. `fresh`: nothing
    /// has been built there yet.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn open(folder: &Path, tree: &Path, fresh: bool) -> Result<Self> {
        let journal = folder.join(JOURNAL);
        let text = match fresh {
            true => String::from(WHOLE),
            false => std::fs::read_to_string(&journal).unwrap_or_default(),
        };
        let mut lines = text.lines().peekable();
        let whole = lines.next_if(|line| [WHOLE, READING].contains(line)).is_some();
        let mut of = BTreeMap::new();
        lines.for_each(|line| take(&mut of, line));
        let first = whole.then_some(READING);
        let file =
            write(&journal, first, &of).map_err(|e| Diagnostic::io("write", &journal, &e))?;
        Ok(Self { journal, file, whole, ended: false, of, tree: format!("{}/", tree.display()) })
    }

    /// Takes a line of make's; a warning about a line of the source comes back, without the tree's
    /// path. Those of the linker are only kept: a new binutils says the same of every old kernel.
    pub fn take(&mut self, line: &str) -> Option<String> {
        let warning = line.contains(": warning: ");
        if !warning && object_of(line).is_none() {
            return None;
        }
        let line = line.replace(&self.tree, "");
        // A journal that cannot be written is a full disk, which make will say itself.
        let _ = writeln!(self.file, "{line}");
        take(&mut self.of, &line);
        (warning && without_place(&line) != line).then_some(line)
    }

    /// make came to its end, well or not, and was heard to its last word.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    /// All warnings of the kernel, sorted; `None` where some objects were made before they were
    /// taken down.
    pub fn all(&self) -> Option<String> {
        let lines = self.of.values().flatten().map(|line| format!("{line}\n"));
        self.whole.then(|| lines.collect())
    }
}

impl Drop for Warnings {
    /// Leaves a journal of the warnings alone: it would grow by thousands of lines a build. After a build
    /// that was cut off its time says until when make was heard, so that it stays.
    fn drop(&mut self) {
        if self.ended {
            let _ = write(&self.journal, self.whole.then_some(WHOLE), &self.of);
        }
    }
}

/// The name of a kernel's warnings in its entry of the store.
pub(super) const IN_ENTRY: &str = "warnings";

impl Kernel {
    /// Warnings of the compiler in all of it, `FILE:LINE:COLUMN: warning: WORDS` a line; `None` where
    /// they are not known: it was not built here, or by a lab that did not keep them.
    pub fn warnings(&self) -> Option<Vec<String>> {
        let file = self.config_file.with_file_name(IN_ENTRY);
        Some(std::fs::read_to_string(file).ok()?.lines().map(str::to_string).collect())
    }
}

/// The warnings of `after` that `before` has not, whatever their lines' numbers are now.
pub fn new_warnings(before: &[String], after: &[String]) -> Vec<String> {
    let mut left: Vec<String> = before.iter().map(|line| without_place(line)).collect();
    let is_new = |line: &&String| {
        let words = without_place(line);
        match left.iter().position(|old| *old == words) {
            Some(at) => {
                left.swap_remove(at);
                false
            }
            None => true,
        }
    };
    after.iter().filter(is_new).cloned().collect()
}

/// `fs/open.c:12:3: warning: x` without the numbers: a patch moves the lines below it.
fn without_place(line: &str) -> String {
    let Some((place, words)) = line.split_once(": ") else { return line.to_string() };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut file = place;
    while let Some((rest, last)) = file.rsplit_once(':')
        && number(last)
    {
        file = rest;
    }
    format!("{file}: {words}")
}

fn take(of: &mut BTreeMap<String, Vec<String>>, line: &str) {
    if let Some(object) = object_of(line) {
        // It is about to say them again, if they are still there.
        let stem = object.trim_end_matches(".o");
        for ending in [".c", ".S"] {
            of.remove(&format!("{stem}{ending}"));
        }
        return;
    }
    let file = line.split(':').next().unwrap_or_default();
    let known = of.entry(file.to_string()).or_default();
    // A header says the same once for each file that includes it.
    if !known.iter().any(|old| old == line) {
        known.push(line.to_string());
    }
}

fn write(
    journal: &Path,
    first: Option<&str>,
    of: &BTreeMap<String, Vec<String>>,
) -> std::io::Result<File> {
    let mut file = File::create(journal)?;
    let mut text = first.map(|line| format!("{line}\n")).unwrap_or_default();
    of.values().flatten().for_each(|line| text.extend([line.as_str(), "\n"]));
    file.write_all(text.as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_compiled_again_keeps_its_warnings() {
        let folder = tempfile::tempdir().unwrap();
        let open = |fresh| Warnings::open(folder.path(), Path::new("/cache/tree"), fresh).unwrap();
        let mut first = open(true);
        assert_eq!(first.take("  CC      fs/open.o"), None);
        let shown = first.take("/cache/tree/fs/open.c:3:5: warning: unused variable 'y' [-Wx]");
        assert_eq!(shown.as_deref(), Some("fs/open.c:3:5: warning: unused variable 'y' [-Wx]"));
        for _ in 0..2 {
            first.take("/cache/tree/include/linux/fs.h:9:1: warning: in a header");
        }
        first.take("  CC [M]  fs/read.o");
        first.take("/cache/tree/fs/read.c:1:1: warning: stays");
        assert_eq!(first.take("/usr/bin/ld: warning: vmlinux has a LOAD segment"), None);
        // As after a SIGKILL: nothing is dropped, and the journal has it all.
        std::mem::forget(first);
        let heard = unread(folder.path()).expect("make may have said more");
        assert!(heard < SystemTime::now() && heard + 10 * LAG > SystemTime::now());

        let mut second = open(false);
        second.take("  CC      fs/open.o");
        second.take("  AR      fs/built-in.a");
        let all = second.all().unwrap();
        assert_eq!(
            all,
            "/usr/bin/ld: warning: vmlinux has a LOAD segment\n\
             fs/read.c:1:1: warning: stays\ninclude/linux/fs.h:9:1: warning: in a header\n"
        );
        // As after Ctrl-C: dropped, and not at make's end.
        drop(second);
        assert!(unread(folder.path()).is_some());
        let mut third = open(false);
        assert_eq!(third.all().unwrap(), all);
        third.ended();
        drop(third);
        assert_eq!(unread(folder.path()), None);
        assert_eq!(open(false).all().unwrap(), all);
    }

    #[test]
    fn a_folder_that_was_built_in_before_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Warnings::open(folder.path(), Path::new("/t"), false).unwrap().all(), None);
    }

    #[test]
    fn only_what_a_patch_brought_is_new() {
        let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
        let before = lines("fs/a.c:3:5: warning: x [-Wx]\nfs/b.c:7: warning: y\nld: warning: z");
        let after =
            lines("fs/a.c:9:5: warning: x [-Wx]\nfs/a.c:12:5: warning: x [-Wx]\nld: warning: z");
        assert_eq!(new_warnings(&before, &after), ["fs/a.c:12:5: warning: x [-Wx]"]);
        assert!(new_warnings(&after, &after).is_empty());
        assert_eq!(new_warnings(&[], &after).len(), 3);
    }
}
