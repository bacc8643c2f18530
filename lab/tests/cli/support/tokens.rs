//! At most two machines boot at once on this host, whatever runs the tests: a guest that waits for
//! a processor would look like one that hangs. The tokens are locks on files, so that they hold
//! between the processes of nextest as well.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

const COUNT: usize = 2;

/// The right to boot one machine, until dropped.
pub struct Token {
    _lock: Flock<File>,
}

thread_local! {
    /// How many this test holds. One that holds some and waits for more could wait for ever.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Waits for `count` tokens.
pub fn tokens(count: usize) -> Vec<Token> {
    assert_eq!(HELD.get(), 0, "end what was started before starting more");
    let mut held = Vec::new();
    // In the order of their numbers: two who want both do not take one each and wait for ever.
    let mut from = 0;
    while held.len() < count {
        let last = COUNT - (count - held.len()) + 1;
        match (from..last).find_map(|number| Some((number, take(number)?))) {
            Some((number, token)) => {
                held.push(token);
                from = number + 1;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    held
}

fn take(number: usize) -> Option<Token> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("boot.{number}"));
    let file = File::create(path).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    HELD.set(HELD.get() + 1);
    Some(Token { _lock: lock })
}

impl Drop for Token {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}
