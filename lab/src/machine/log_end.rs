//! The host's end of the log channel. What the kernel prints must not be lost, and where its
//! console cannot wait for a reader, the channel has to take whatever comes.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::manifest::{Diagnostic, Result};

/// How often a log in memory is looked at: nothing announces its growth. Ten looks a second cost
/// nothing that could be measured; a kernel that prints as fast as it can writes 10 MB meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// How much that has been read may stay in memory, in bytes.
const SPENT: u64 = 1 << 20;

/// Where the lab reads what the kernel prints.
#[derive(Debug)]
pub enum LogEnd {
    /// A socket or pipe, for consoles that wait until it takes more; non-blocking.
    Stream(OwnedFd),
    /// A file in memory, for UML's console, which does not wait.
    Memory(LogMemory),
}

/// A file in memory that the machine writes and the lab reads after it.
///
/// UML's console gives up where its descriptor would block (`generic_console_write()` of
/// arch/um/drivers/chan_user.c makes one write(2), the descriptor is non-blocking), and says
/// nothing of it, not even "messages dropped". Through a pipe of 1 MiB, on a host with three
/// runnable processes a core, 56,408 of 200,000 lines came. A file never blocks.
#[derive(Debug)]
pub struct LogMemory {
    file: File,
    /// Up to where it has been read.
    read: AtomicU64,
    /// Up to where its pages have been given back.
    freed: AtomicU64,
    /// Where the machine's writes fail, because no file of its may be longer.
    end: u64,
}

/// What the kernel's console writes at once, and more: as near to the end as this a line may be lost.
const LAST_LINE: u64 = 64 << 10;

impl LogMemory {
    /// An empty one, and the machine's descriptor for it. `file_size` is the machine's own limit of
    /// a file's length; the user's holds too.
    ///
    /// # Errors
    /// memfd_create(2) refuses.
    pub fn new(file_size: Option<u64>) -> Result<(Self, OwnedFd)> {
        let failed = |words: &str| {
            Diagnostic::trouble(format!("cannot make a channel: {words}"))
                .help("see the limit of open files: ulimit -n")
        };
        let theirs =
            memfd_create(c"lab-log", MFdFlags::MFD_CLOEXEC).map_err(|e| failed(e.desc()))?;
        let ours = theirs.try_clone().map_err(|e| failed(&crate::manifest::errno_words(&e)))?;
        let users = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE);
        let end = users.map_or(u64::MAX, |(soft, _)| soft).min(file_size.unwrap_or(u64::MAX));
        let (read, freed) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok((Self { file: File::from(ours), read, freed, end }, theirs))
    }

    /// Whether so much has been read that the file could not take what came last: beyond its limit
    /// write(2) fails, and UML's console says nothing of it. Holes do not make room.
    pub fn is_full(&self) -> bool {
        self.read.load(Ordering::Relaxed).saturating_add(LAST_LINE) > self.end
    }

    /// Reads what comes next; 0 where nothing more is there yet.
    ///
    /// # Errors
    /// pread(2)'s.
    pub fn read(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let offset = self.read.load(Ordering::Relaxed);
        let freed = self.freed.load(Ordering::Relaxed);
        if offset >= freed + SPENT {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            // Only whole pages are freed; refused, they stay until the run's end.
            let _ = fallocate(&self.file, hole, freed as i64, (offset - freed) as i64);
            self.freed.store(offset, Ordering::Relaxed);
        }
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
                other => {
                    let n = other?;
                    self.read.store(offset + n as u64, Ordering::Relaxed);
                    return Ok(n);
                }
            }
        }
    }
}

impl LogEnd {
    /// What to poll for more; `None` where only looking tells.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Stream(fd) => Some(fd.as_fd()),
            Self::Memory(_) => None,
        }
    }

    /// The longest time after which to look again, where nothing can be polled.
    pub fn look_every(&self) -> Option<Duration> {
        match self {
            Self::Stream(_) => None,
            Self::Memory(_) => Some(LOOK),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn memory_takes_everything_and_gives_back_what_was_read() {
        let (log, theirs) = LogMemory::new(None).unwrap();
        let mut writer = File::from(theirs);
        let block = [b'x'; 1 << 16];
        let mut buffer = vec![0; 1 << 16];
        let mut read = 0;
        for _ in 0..160 {
            writer.write_all(&block).unwrap();
            read += log.read(&mut buffer).unwrap() as u64;
        }
        assert_eq!((read, log.read(&mut buffer).unwrap()), (160 << 16, 0));
        let kept = log.file.metadata().unwrap().blocks() * 512;
        assert!(kept <= 2 * SPENT, "{kept} bytes of 10 MiB are still there");
    }

    #[test]
    fn a_log_as_long_as_a_file_may_be_is_not_believed_to_be_whole() {
        let (log, theirs) = LogMemory::new(Some(1 << 20)).unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut all = |bytes: usize| {
            File::from(theirs.try_clone().unwrap()).write_all(&vec![b'x'; bytes]).unwrap();
            while log.read(&mut buffer).unwrap() > 0 {}
        };
        all((1 << 20) - (LAST_LINE as usize));
        assert!(!log.is_full());
        all(1);
        assert!(log.is_full());
    }
}
