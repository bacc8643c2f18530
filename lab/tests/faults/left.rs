//! What a fault may leave behind: nothing. Checked by looking at the host, not by asking the lab.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::Lab;

/// What the host had before: others may use it too.
pub struct Before {
    shm: BTreeSet<String>,
}

/// Gives this process a mount namespace with a /dev/shm of its own, where only root can do that:
/// what is found there then is ours. Before any thread is started.
pub fn own_shared_memory() {
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let done = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, private, none))
        .and_then(|()| mount(none, "/dev/shm", Some("tmpfs"), MsFlags::empty(), Some("mode=1777")));
    if done.is_err() {
        eprintln!("/dev/shm is shared with others, who may leave something there too");
    }
}

impl Before {
    /// Looks.
    pub fn look() -> Self {
        Self { shm: names(Path::new("/dev/shm")) }
    }

    /// Asserts that no process, mount, socket, shared memory or temporary file is left of `lab`.
    pub fn nothing_is_left(&self, lab: &Lab) {
        lab.nothing_is_left();
        let folder = lab.folder().to_string_lossy().into_owned();
        // The helpers' mounts are in namespaces that end with them; none may get out.
        for (file, what) in [("/proc/self/mountinfo", "mount"), ("/proc/net/unix", "socket")] {
            let text = fs::read_to_string(file).unwrap();
            let left: Vec<_> = text.lines().filter(|line| line.contains(&folder)).collect();
            assert!(left.is_empty(), "a {what} is left: {left:#?}");
        }
        // UML's state and memory go to these where nobody tells it otherwise.
        let home = names(&lab.folder().join("home"));
        assert!(home.is_empty(), "left in the home folder: {home:?}");
        let begun = Instant::now();
        loop {
            let new: Vec<_> = names(Path::new("/dev/shm")).difference(&self.shm).cloned().collect();
            if new.is_empty() {
                break;
            }
            // Another program's, perhaps, which is gone in a moment.
            assert!(begun.elapsed() < Duration::from_secs(5), "left in /dev/shm: {new:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Half-written things of the cache have names of their own.
        for room in ["images", "kernels"] {
            let half: Vec<_> = names(&lab.folder().join("cache").join(room))
                .into_iter()
                .filter(|name| name.starts_with(".new-") || name.starts_with(".old-"))
                .collect();
            assert!(half.is_empty(), "left in the cache: {half:?}");
        }
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
