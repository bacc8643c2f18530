//! Which walls this host gives, found by putting them up.

use std::path::Path;
use std::sync::OnceLock;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::child::{Child, Ending};
use super::landlock;
use super::launch::{Calls, Isolation, Launch, RootEntry};
use crate::manifest::{Diagnostic, Result};

/// The walls that a command's machines get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walls {
    /// Which.
    pub isolation: Isolation,
    /// Why not better ones, where nobody asked for these: to be said once.
    pub because: Option<String>,
}

impl Walls {
    /// As asked for.
    pub fn of(isolation: Isolation) -> Self {
        Self { isolation, because: None }
    }

    /// What has to be said of them before a machine starts; `None` where they are as asked for.
    pub fn note(&self) -> Option<String> {
        let why = self.because.as_ref()?;
        Some(format!(
            "isolation {} is all that this host gives, and it is weak: {why}; `lab doctor` says more",
            self.isolation
        ))
    }
}

/// The best walls of this host, or those that are asked for. Looks once in the life of a process.
///
/// Where there is neither `full` nor `landlock`, it is `full` all the same: the machine does not start,
/// and its run says why. Nothing but the user's word takes the walls away.
///
/// # Errors
/// `landlock` is asked for and cannot be had.
pub fn choose(asked: Option<Isolation>, scratch: &Path) -> Result<Walls> {
    static BEST: OnceLock<Walls> = OnceLock::new();
    match asked {
        None => Ok(BEST.get_or_init(|| best(scratch)).clone()),
        Some(Isolation::Landlock) => match probe(Isolation::Landlock, scratch)? {
            None => Ok(Walls::of(Isolation::Landlock)),
            Some(why) => Err(Diagnostic::trouble(format!(
                "isolation landlock cannot be had on this host: {why}"
            ))
            .help("`lab doctor` says which isolation can, and --sandbox=off runs without walls")),
        },
        Some(other) => Ok(Walls::of(other)),
    }
}

fn best(scratch: &Path) -> Walls {
    let full = Walls::of(Isolation::Full);
    let Ok(folder) = tempfile::tempdir_in(scratch) else { return full };
    match probe(Isolation::Full, folder.path()) {
        Ok(Some(why)) => match probe(Isolation::Landlock, folder.path()) {
            Ok(None) => Walls { isolation: Isolation::Landlock, because: Some(why) },
            _ => full,
        },
        _ => full,
    }
}

/// Why these walls cannot be had here, found by putting them up around nothing: unshare(2) can
/// succeed where mount(2) is refused. `None` where they can.
///
/// `scratch` is an empty folder to mount on.
///
/// # Errors
/// Only where no process can be started at all.
pub fn probe(isolation: Isolation, scratch: &Path) -> Result<Option<String>> {
    if isolation == Isolation::Landlock && landlock::version().is_none() {
        return Ok(Some(
            "the host's kernel has no Landlock, or does not switch it on (Linux 5.13 and later: \
             CONFIG_SECURITY_LANDLOCK, and landlock in lsm=)"
                .into(),
        ));
    }
    let launch = Launch {
        isolation,
        root: vec![
            RootEntry::Folder("/proc".into()),
            RootEntry::Memory { at: "/dev/shm".into(), size: 1 << 20 },
        ],
        mount_on: scratch.to_path_buf(),
        calls: Calls::Machine,
        ..Launch::default()
    };
    let null = std::fs::File::options().write(true).open("/dev/null");
    let null = null.map_err(|e| Diagnostic::io("open", Path::new("/dev/null"), &e))?;
    let mut child = Child::start(&launch, null.into())?;
    let ending = loop {
        if let Some(ending) = child.ending() {
            break ending;
        }
        let mut fds = [PollFd::new(child.ending_fd(), PollFlags::POLLIN)];
        if matches!(poll(&mut fds, PollTimeout::from(5000u16)), Ok(0)) {
            break Ending::NotStarted("no answer within 5 s".into());
        }
    };
    Ok(match ending {
        Ending::Exited(0) => None,
        Ending::NotStarted(why) => Some(why),
        other => Some(other.to_string()),
    })
}
