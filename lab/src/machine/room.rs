//! Whether the host has room for a guest's memory, asked before the machine starts: a guest whose
//! memory file cannot grow dies by SIGBUS in the middle of its work, and says nothing useful.

use crate::manifest::{Diagnostic, Result};

/// Bytes that the host can give away now: MemAvailable of /proc/meminfo (proc(5)).
///
/// # Errors
/// /proc/meminfo cannot be read.
pub fn available_memory() -> Result<u64> {
    let path = std::path::Path::new("/proc/meminfo");
    let text = std::fs::read_to_string(path).map_err(|e| Diagnostic::io("read", path, &e))?;
    parse_available(&text)
        .ok_or_else(|| Diagnostic::trouble("/proc/meminfo has no line MemAvailable"))
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes free on the file system that holds `folder`.
///
/// # Errors
/// statvfs(3) fails.
pub fn free_space(folder: &std::path::Path) -> Result<u64> {
    let stat = nix::sys::statvfs::statvfs(folder)
        .map_err(|e| Diagnostic::io("look at", folder, &std::io::Error::from(e)))?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meminfo() {
        let text = "MemTotal:       24684092 kB\nMemAvailable:   24000000 kB\nBuffers: 1 kB\n";
        assert_eq!(parse_available(text), Some(24_000_000 * 1024));
        assert_eq!(parse_available("MemTotal: 5 kB\n"), None);
        assert!(available_memory().unwrap() > 1 << 20);
    }
}
