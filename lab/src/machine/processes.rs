//! A machine's processes as the host sees them in /proc: how much they were kept from running, and
//! where they stand. From outside a pid namespace its processes are ordinary ones.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The processes below `root`, each before its children, `root` left out. Where the host's kernel
/// does not list children (CONFIG_PROC_CHILDREN) there are none.
pub fn descendants(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() && found.len() < 4096 {
        let pid = found[at];
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    found.split_off(1)
}

/// How long these processes have waited for a processor, all together: the second number of
/// /proc/PID/schedstat (Documentation/scheduler/sched-stats.rst), in nanoseconds.
pub fn waited_for_cpu(pids: &[u32]) -> Duration {
    let waited = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    };
    Duration::from_nanos(pids.iter().filter_map(waited).sum())
}

/// Where each process stands, for people: state, what it waits for in the host's kernel, its system
/// call, the instruction, times and memory.
pub fn describe(pids: &[u32]) -> String {
    let mut text = String::new();
    for pid in pids {
        let read =
            |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let status = read("status");
        let wanted =
            ["Name:", "State:", "PPid:", "TracerPid:", "VmRSS:", "SigPnd:", "ShdPnd:", "SigBlk:"];
        let _ = writeln!(text, "process {pid} of the host");
        for line in status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))) {
            let _ = writeln!(text, "  {}", line.replace('\t', " "));
        }
        for name in ["wchan", "syscall", "schedstat", "stack"] {
            for line in read(name).lines() {
                let _ = writeln!(text, "  {name}: {line}");
            }
        }
    }
    text
}

/// The stack of `pid`, as gdb finds it with the symbols of the program in `file`; at most `patience`
/// is waited.
///
/// # Errors
/// In words: there is no gdb, or it did not come to an end.
pub fn backtrace(pid: u32, file: &std::path::Path, patience: Duration) -> Result<String, String> {
    let output = tempfile::tempfile().map_err(|e| format!("no temporary file: {e}"))?;
    let handle = || output.try_clone().map_err(|e| format!("no descriptor: {e}"));
    let mut gdb = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off"])
        .args(["-iex", "set sysroot /", "-ex", "info registers rip rsp", "-ex", "backtrace 64"])
        .arg(file)
        .args(["-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(handle()?)
        .stderr(handle()?)
        .spawn()
        .map_err(|e| format!("gdb: {}", crate::manifest::errno_words(&e)))?;
    let until = Instant::now() + patience;
    let ended = loop {
        match gdb.try_wait() {
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => break false,
            _ => break true,
        }
    };
    if !ended {
        let _ = gdb.kill();
        let _ = gdb.wait();
    }
    let mut text = Vec::new();
    let mut output = output;
    use std::io::{Read, Seek};
    let _ = output.rewind().and_then(|()| output.take(1 << 20).read_to_end(&mut text));
    match ended {
        true => Ok(String::from_utf8_lossy(&text).into_owned()),
        false => Err(format!("gdb did not come to an end within {} s", patience.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_and_described() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pids = descendants(std::process::id());
        assert!(pids.contains(&child.id()), "{pids:?}");
        let text = describe(&[child.id()]);
        assert!(text.contains("Name: ") && text.contains("State: "), "{text}");
        let _ = waited_for_cpu(&pids);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(describe(&[u32::MAX]), format!("process {} of the host\n", u32::MAX));
    }
}
