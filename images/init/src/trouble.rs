//! The one error of PID 1: words for the host, because nobody in the guest could act on more.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// What went wrong, as the host's report will show it.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble(pub String);

/// Results of what PID 1 does.
pub type Result<T, E = Trouble> = std::result::Result<T, E>;

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds what was being done to an errno.
pub trait Context<T> {
    /// `WHAT: words of the errno`.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Trouble(format!("{what}: {}", errno.desc())))
    }
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Trouble(format!("{what}: {}", Errno::from_raw(errno).desc())),
            None => Trouble(format!("{what}: {error}")),
        })
    }
}
