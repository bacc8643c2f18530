//! What the programs of this folder share: where things are, what this host is, and how figures are
//! told.
#![allow(dead_code)] // each of them uses a part

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The repository's folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("lab/ has a parent")
}

/// The cache of kernels and images, as the lab itself finds it.
pub fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("LAB_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("lab")))
        .unwrap_or_else(|| set("HOME").expect("a home folder").join(".cache/lab"))
}

/// The middle one; sorts them.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The smallest that `percent` of `sorted` do not exceed (the nearest rank).
pub fn percentile<T: Copy>(sorted: &[T], percent: usize) -> T {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// Today, as `2026-11-29`.
pub fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_string()
}

/// The commit that was built, and whether the working tree is another: `but` is left out of that.
pub fn commit(but: &str) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(repository()).args(args).output();
        String::from_utf8_lossy(&output.expect("git runs").stdout).trim().to_string()
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"]);
    let exclude = format!(":(exclude){but}");
    match git(&["status", "--porcelain", "--", ".", &exclude]).as_str() {
        "" => head,
        _ => format!("{head} with changes"),
    }
}

/// This host in a line: processors, memory, kernel.
pub fn host() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches([' ', '\t', ':']).trim().to_string()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    let release = release.split('-').next().unwrap_or_default().trim();
    format!("{cores} cores ({model}), {} GiB, Linux {release}", kib.div_ceil(1 << 20))
}
