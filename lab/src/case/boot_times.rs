//! How long each kernel takes to boot here, so that a boot that will never end is given up early and
//! a slow one is not.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::kernel::KernelKey;

/// So many boots are remembered; the slowest of them counts.
const REMEMBERED: usize = 16;
/// Where nothing is known of a kernel. Debian's slowest UML kernel needs two seconds.
const UNKNOWN: Duration = Duration::from_secs(30);
/// However fast a kernel is: a host may be busy.
const LEAST: Duration = Duration::from_secs(5);
/// So many times the slowest boot is no slowness any more.
const TIMES: u32 = 10;

/// The boots of one kernel: `CACHE/boots/KEY`, a line of milliseconds from start to hello each.
#[derive(Debug)]
pub struct BootTimes {
    file: PathBuf,
    millis: Vec<u64>,
}

impl BootTimes {
    /// What is remembered of a kernel; nothing where that cannot be read.
    pub fn of(cache: &Path, kernel: &KernelKey) -> Self {
        let file = cache.join("boots").join(kernel.to_string());
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        Self { file, millis: text.lines().filter_map(|line| line.parse().ok()).collect() }
    }

    /// How long the next boot may take: ten times the slowest, 5 s at least, and 30 s at most unless
    /// three times the slowest are more.
    pub fn deadline(&self) -> Duration {
        let Some(slowest) = self.millis.iter().max().map(|ms| Duration::from_millis(*ms)) else {
            return UNKNOWN;
        };
        (slowest * TIMES).clamp(LEAST, UNKNOWN).max(slowest * 3)
    }

    /// Remembers a boot. Labs that do so at once may forget each other's: it is a help, no record.
    pub fn add(mut self, millis: u64) {
        self.millis.push(millis);
        let from = self.millis.len().saturating_sub(REMEMBERED);
        let text: String = self.millis[from..].iter().map(|ms| format!("{ms}\n")).collect();
        let write = || -> std::io::Result<()> {
            let folder = self.file.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.persist(&self.file)?;
            Ok(())
        };
        // A cache that cannot be written costs patience, not runs.
        let _ = write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_the_last_boots_counts() {
        let folder = tempfile::tempdir().unwrap();
        let key = serde_json::from_str::<KernelKey>("\"0123456789abcdef\"").unwrap();
        let times = || BootTimes::of(folder.path(), &key);
        assert_eq!(times().deadline(), UNKNOWN);
        times().add(100);
        assert_eq!(times().deadline(), LEAST);
        times().add(1500);
        assert_eq!(times().deadline(), Duration::from_secs(15));
        times().add(20_000);
        assert_eq!(times().deadline(), Duration::from_secs(60));
        (0..REMEMBERED).for_each(|_| times().add(100));
        assert_eq!((times().deadline(), times().millis.len()), (LEAST, REMEMBERED));
        std::fs::write(folder.path().join("boots").join(key.to_string()), "soon\n\n\0").unwrap();
        assert_eq!(times().deadline(), UNKNOWN);
    }
}
