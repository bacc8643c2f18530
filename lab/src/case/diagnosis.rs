//! Why a machine never came to its first step, in one line: a table from the last words of kernel and
//! process to a cause and a way out. It explains, and decides nothing.

use std::sync::LazyLock;

use regex::Regex;

use super::evidence::{Evidence, Stall, Tracked};
use crate::machine::Ending;

/// A pattern on any of the last words, and what it means; the first that is found counts, so that
/// what causes the others stands first.
const TABLE: &[(&str, &str)] = &[
    (
        r"Initramfs unpacking failed|invalid magic at start of compressed archive|junk within compressed archive|broken padding|Couldn't open '.*initramfs|um_request_\w*initrd|\binitrd.*(failed|not found)",
        "the kernel could not unpack its initramfs: the image is damaged or cut short; remove the folder images in the cache, it is made again",
    ),
    (
        r"System is deadlocked on memory|Out of memory|uml_load_file: Failed to allocate",
        "the guest has too little memory to boot: raise [machine] memory",
    ),
    (
        r"check access for rdinit=|Kernel command line: [^\n]* rdinit=(?s:.*)VFS: (Unable|Cannot)",
        "the image has not the program that `rdinit=` on the kernel's command line names",
    ),
    (
        r"No working init found|Requested init .* failed|Failed to execute /|Starting init: .* failed|Run /init as init process failed",
        "the kernel found no init that it can start: is there an `init=` or `rdinit=` on its command line, and does it have BINFMT_ELF?",
    ),
    (
        r"VFS: (Unable to mount root|Cannot open root)|No filesystem could mount root|Please append a correct .root=",
        "the kernel has no root file system: it took no initramfs (BLK_DEV_INITRD, or an image that is damaged or cut short)",
    ),
    (
        r"Attempted to kill init!",
        "PID 1 died: the kernel's log has the signal or status (exitcode), and what went before",
    ),
    (
        r"lab-init: .*(lab\.control|ttyS|hvc|vport)",
        "PID 1 has no control channel: it runs, and cannot talk to the lab (SSL on UML, or `ssl0=` on the command line)",
    ),
    (r"lab-init: ", "PID 1 itself says why"),
    (
        r"Exec format error|exec .*: (Invalid argument|Permission denied)",
        "the kernel's file is no program that this host can start: cut short, of another architecture, or not executable",
    ),
    (
        r"error while loading shared libraries|No such file or directory.*ld-linux|exec .*: No such file",
        "the kernel's file wants libraries that are not there",
    ),
    (
        r"[Ii]nsufficient .*memory|No space left on device|Bus error",
        "the host has no room for the guest's memory: see the machine's own words",
    ),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let compile = |pattern: &str| Regex::new(pattern).expect("the table's patterns are tested");
    TABLE.iter().map(|(pattern, cause)| (compile(pattern), *cause)).collect()
});

/// The cause of a boot that came to nothing, from its evidence and its kernel's `log`; `None` where the
/// guest was ready, or nothing is known.
pub fn cause(evidence: &Evidence, log: &str) -> Option<String> {
    if evidence.began() || evidence.interrupted || evidence.ready {
        return None;
    }
    let words = evidence.last_words.iter().chain(&evidence.not_started);
    let words: Vec<&str> = words.map(String::as_str).chain([log]).collect();
    let said = |pattern: &Regex| words.iter().any(|text| pattern.is_match(text));
    let found = COMPILED.iter().find(|(pattern, _)| said(pattern));
    if let Some((_, cause)) = found {
        return Some((*cause).to_string());
    }
    let at_once = evidence.total_ms < 1000 && !evidence.hello;
    let text = match (&evidence.ending, &evidence.stall) {
        (Some(Ending::Signalled(4 | 7 | 11)), _) if at_once && evidence.kernel_silent => {
            "the kernel's file dies at once: is it cut short, or built for another processor?"
        }
        (_, Some(Stall::Timeout { what: Tracked::Boot, .. })) if evidence.kernel_silent => {
            "the kernel says nothing on its console: is another one named on its command line (`con0=`, `console=`)?"
        }
        (_, Some(Stall::Timeout { what: Tracked::Boot, .. })) => {
            "the kernel runs and PID 1 is not heard: does something on its command line take the control channel or PID 1's place (`ssl0=`, `rdinit=`)?"
        }
        (Some(Ending::Exited(_)), _) if !evidence.hello => {
            "the machine ended in good order before PID 1 had said a word: was another program its init?"
        }
        _ => return None,
    };
    Some(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(words: &[&str]) -> Evidence {
        let last_words = words.iter().map(|w| w.to_string()).collect();
        Evidence { last_words, total_ms: 300, ..Evidence::default() }
    }

    #[test]
    fn words_have_causes() {
        let says = |words: &[&str], part: &str| {
            let cause = cause(&dead(words), "").unwrap_or_default();
            assert!(cause.contains(part), "{words:?}: {cause}");
        };
        let root = "[    0.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(98,0)";
        says(&[root], "no root file system");
        // What causes the other comes first.
        says(
            &["[    0.1] Initramfs unpacking failed: junk within compressed archive", root],
            "damaged",
        );
        says(&["[    0.1] Kernel panic - not syncing: No working init found."], "no init");
        says(
            &["[    0.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"],
            "PID 1 died",
        );
        says(&["lab-init: /dev/ttyS0: No such device"], "no control channel");
        says(&["exec /lab/linux: Exec format error"], "no program that this host can start");
    }

    #[test]
    fn silence_has_a_cause_too() {
        let stall = Some(Stall::Timeout { what: Tracked::Boot, limit_ms: 5000 });
        let mut evidence = Evidence { stall, kernel_silent: true, total_ms: 5000, ..dead(&[]) };
        assert!(cause(&evidence, "").unwrap().contains("says nothing"));
        evidence.kernel_silent = false;
        assert!(cause(&evidence, "").unwrap().contains("PID 1 is not heard"));
        evidence.ready = true;
        assert_eq!(cause(&evidence, ""), None);
        let ending = Some(Ending::Signalled(11));
        let evidence = Evidence { ending, kernel_silent: true, ..dead(&[]) };
        assert!(cause(&evidence, "").unwrap().contains("dies at once"));
    }
}
