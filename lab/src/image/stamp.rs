//! Has a file changed? Answered by lstat(2) alone, so that a cached image costs no reading.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What lstat(2) said of one path: of the link itself where it is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Absolute.
    pub path: String,
    /// Bytes; of folders and links whatever the file system says.
    size: u64,
    /// Nanoseconds since the epoch.
    mtime_ns: i64,
    /// Nanoseconds since the epoch; catches what sets mtime back.
    ctime_ns: i64,
    /// Inode number; catches a replacement of the same age.
    inode: u64,
}

/// Timestamps are taken from a clock that ticks at least this often, so that a file changed twice
/// within it can look unchanged.
const TICK: Duration = Duration::from_millis(20);

impl Stamp {
    /// Takes the stamp of a path.
    pub fn of(path: &str) -> io::Result<Self> {
        let meta = Path::new(path).symlink_metadata()?;
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Ok(Self {
            path: path.to_string(),
            size: meta.size(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        })
    }

    /// The path is as it was.
    pub fn holds(&self) -> bool {
        Self::of(&self.path).is_ok_and(|now| now == *self)
    }

    /// The path had changed so shortly before `when` that another change may hide behind the stamp.
    pub fn is_fresh(&self, when: SystemTime) -> bool {
        let when = when.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.ctime_ns).map(Duration::from_nanos).unwrap_or_default();
        changed + TICK > when
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn every_kind_of_change_shows() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let path = file.to_str().unwrap();
        fs::write(&file, "one").unwrap();
        let before = Stamp::of(path).unwrap();
        assert!(before.holds());
        assert!(before.is_fresh(SystemTime::now()));
        assert!(!before.is_fresh(SystemTime::now() + Duration::from_secs(1)));
        // Same size and name, another inode.
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(folder.path().join("g"), "two").unwrap();
        fs::File::options()
            .write(true)
            .open(folder.path().join("g"))
            .unwrap()
            .set_modified(modified)
            .unwrap();
        fs::rename(folder.path().join("g"), &file).unwrap();
        assert!(!before.holds());
        let link = Stamp::of(path).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(!link.holds());
    }
}
