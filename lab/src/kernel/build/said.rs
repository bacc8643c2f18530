//! What make says while it builds: objects to count, warnings to keep, and when it fails the words
//! that explain it, with the way out where the pattern is known.

use std::collections::VecDeque;

use super::make::Make;
use crate::kernel::PullError;
use crate::manifest::Diagnostic;
use crate::sandbox::Ending;

/// What a run of make said.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Objects that it made.
    pub objects: usize,
    /// The first lines that look like errors.
    errors: Vec<String>,
    /// The last lines, whatever they say.
    tail: VecDeque<String>,
}

/// Ways of make to say that it made an object: `  CC      fs/open.o`.
const OBJECT: [&str; 6] = ["  CC ", "  AS ", "  CC [M] ", "  AS [M] ", "  LD [M] ", "  HOSTCC "];

/// Words of lines that say what went wrong: the compiler's, make's, the linker's and the shell's.
const ERROR: [&str; 8] = [
    "error: ",
    " Error ",
    "ERROR",
    "failed",
    "not found",
    "undefined reference",
    "Killed signal",
    "No space left on device",
];

/// At most so many lines of either kind.
const LINES: usize = 15;

/// What is known of failures: a piece of the compiler's words, and the way out.
const HINTS: &[(&str, &str)] = &[
    ("No space left on device", "free some room, or point LAB_CACHE to a larger file system"),
    (
        "Killed signal terminated program",
        "the host ran out of memory (its kernel log says so): build with less beside it",
    ),
    ("gelf.h: No such file", "install libelf-dev: objtool is built with it"),
    ("libelf.h: No such file", "install libelf-dev: objtool is built with it"),
    ("openssl/", "install libssl-dev: certificates are handled with it"),
    ("flex: not found", "install flex"),
    ("bison: not found", "install bison"),
    ("bc: not found", "install bc"),
    (
        "multiple definition of `yylloc'",
        "the source is older than GCC 10, which no longer merges common symbols: patch scripts/dtc \
         (Linux commit e33a814e772c), or use an older compiler",
    ),
    (
        "-Werror=",
        "the compiler warns of more than it did when this source was written: \
         --config WERROR=n, or an older compiler",
    ),
    (
        "-Werror]",
        "the compiler warns of more than it did when this source was written: \
         --config WERROR=n, or an older compiler",
    ),
    (
        "'asm goto'",
        "the compiler is too old for this source: Documentation/process/changes.rst names the oldest",
    ),
    (
        "cannot use keyword 'false' as enumeration constant",
        "the compiler takes C23 for its default, which this source predates: use GCC 14 or older",
    ),
];

/// What make and compilers say where the host is at fault, not the source.
const OF_THE_HOST: [&str; 3] =
    ["No space left on device", "Killed signal terminated program", "Cannot allocate memory"];

impl Said {
    /// A failure with whose it is: the source's, or the host's.
    pub fn trouble(&self, what: &str, ending: &Ending, make: &Make) -> PullError {
        let words = self.errors.iter().chain(&self.tail);
        let hosts =
            words.flat_map(|line| OF_THE_HOST.map(|piece| line.contains(piece))).any(|is| is);
        let failure = self.failure(what, ending, make);
        match ending {
            Ending::Exited(_) if !hosts => PullError::Compile(failure),
            _ => PullError::Other(failure),
        }
    }

    /// Takes a line of make's output.
    pub fn take(&mut self, line: &str) {
        if object_of(line).is_some() {
            self.objects += 1;
        }
        if ERROR.iter().any(|mark| line.contains(mark)) && self.errors.len() < LINES {
            self.errors.push(line.to_string());
        }
        if self.tail.len() == LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_string());
    }

    /// The error of a make that did not end well; `what` completes "cannot ...".
    pub fn failure(&self, what: &str, ending: &Ending, make: &Make) -> Diagnostic {
        // As the user's tree has them: where the working copy lies is of no use to them.
        let words = self.words(ending).replace(&format!("{}/", make.tree.display()), "");
        let hint = HINTS.iter().find(|(piece, _)| words.contains(piece)).map(|(_, hint)| *hint);
        let log = format!("the whole log is {}", make.log.display());
        Diagnostic::trouble(format!("cannot {what}:\n{words}")).help(match hint {
            Some(hint) => format!("{hint}; {log}"),
            None => log,
        })
    }

    /// What explains a failure.
    fn words(&self, ending: &Ending) -> String {
        let mut lines: Vec<&str> = match self.errors.is_empty() {
            true => self.tail.iter().map(String::as_str).collect(),
            false => self.errors.iter().map(String::as_str).collect(),
        };
        let own = format!("make: {ending}");
        // make that exits has said why.
        if lines.is_empty() || !matches!(ending, Ending::Exited(_)) {
            lines.push(&own);
        }
        lines.join("\n")
    }
}

/// The object that a line of make's says it is making, relative to the build folder.
pub(super) fn object_of(line: &str) -> Option<&str> {
    OBJECT.iter().any(|mark| line.starts_with(mark)).then(|| line.split_whitespace().last())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_errors_are_told_apart() {
        let mut said = Said::default();
        for line in [
            "  SYNC    include/config/auto.conf",
            "  CC      fs/open.o",
            "  CC [M]  fs/overlayfs/super.o",
            "fs/x.c:3:5: warning: unused variable 'y' [-Wunused-variable]",
            "  AR      fs/built-in.a",
            "/usr/bin/ld: final link failed: No space left on device",
            "fs/x.c:4:5: error: 'z' undeclared",
            "make[2]: *** [scripts/Makefile.build:250: fs/x.o] Error 1",
        ] {
            said.take(line);
        }
        assert_eq!(said.objects, 2);
        assert_eq!(said.words(&Ending::Exited(2)).lines().count(), 3);
        let words = said.words(&Ending::Signalled(9));
        assert!(words.ends_with("make: it was ended by SIGKILL"), "{words}");
    }

    #[test]
    fn known_failures_have_a_way_out() {
        let mut said = Said::default();
        said.take("cc1: error: -Werror=dangling-pointer=");
        said.take("/t/fs/x.c:1:1: error: x");
        let make = Make::of_test("/o".into());
        let error = said.failure("build the kernel", &Ending::Exited(2), &make);
        assert!(error.message().ends_with("\nfs/x.c:1:1: error: x"), "{error}");
        assert!(error.way_out().unwrap().contains("WERROR=n"));
        assert!(error.way_out().unwrap().contains("/o/log"));
    }
}
