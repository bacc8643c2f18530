//! What goes and what stays, decided from times alone: no file is looked at here.

use std::time::{Duration, SystemTime};

use crate::manifest::Bounds;

/// A thing as the rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Aged {
    /// When a run began; when something in the cache was last used.
    pub at: SystemTime,
    /// It is in use, or must stay for another reason.
    pub held: bool,
    /// The project's lab.toml asks for it.
    pub wanted: bool,
}

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its lab was killed.
    LeftBehind,
    /// There are so many newer runs that it is beyond what is kept.
    Surplus {
        /// How many are kept.
        keep: usize,
    },
    /// A run of so long ago.
    Old {
        /// Its age, in whole days.
        days: u64,
    },
    /// Nothing used it for so long.
    Unused {
        /// In whole days.
        days: u64,
        /// The project's lab.toml asks for it all the same.
        wanted: bool,
    },
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let days = |days: &u64| if *days == 1 { "1 day".into() } else { format!("{days} days") };
        match self {
            Self::LeftBehind => f.write_str("left by a killed lab"),
            Self::Surplus { keep } => write!(f, "beyond the newest {keep}"),
            Self::Old { days: age } => write!(f, "{} old", days(age)),
            Self::Unused { days: age, wanted: false } => write!(f, "unused for {}", days(age)),
            Self::Unused { days: age, wanted: true } => {
                write!(f, "unused for {}, although lab.toml names it", days(age))
            }
        }
    }
}

/// Which runs go: those beyond the newest `bounds.runs`, and those older than `bounds.run_age`. What
/// is held stays, and is counted. The newest of all always stays, whatever its age: `lab runs log`
/// without a name means it.
pub fn surplus_runs(runs: &[Aged], bounds: &Bounds, now: SystemTime) -> Vec<Option<Why>> {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    // Stable: of two that began at once, the one that is listed later is the newer.
    order.sort_by_key(|&at| runs[at].at);
    let mut fates = vec![None; runs.len()];
    for (newer, &at) in order.iter().rev().enumerate() {
        let age = age(runs[at].at, now);
        fates[at] = if runs[at].held || newer == 0 {
            None
        } else if newer >= bounds.runs {
            Some(Why::Surplus { keep: bounds.runs })
        } else if age > bounds.run_age {
            Some(Why::Old { days: days(age) })
        } else {
            None
        };
    }
    fates
}

/// What goes from the cache, which all projects of a user share: what nobody used for `age`. What
/// the project's lab.toml asks for stays even so, unless `all`; what is in use always stays.
pub fn unused(
    things: &[Aged],
    unused_for: Duration,
    all: bool,
    now: SystemTime,
) -> Vec<Option<Why>> {
    let fate = |thing: &Aged| {
        let age = age(thing.at, now);
        let goes = !thing.held && age > unused_for && (all || !thing.wanted);
        goes.then(|| Why::Unused { days: days(age), wanted: thing.wanted })
    };
    things.iter().map(fate).collect()
}

/// None for what is of the future: a clock was set back.
fn age(at: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(at).unwrap_or_default()
}

fn days(age: Duration) -> u64 {
    age.as_secs() / Bounds::DAY.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { runs: 3, run_age: Duration::from_secs(864_000), cache_age: Duration::ZERO };

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Bounds::DAY * 20_000
    }

    fn aged(days: &[u32]) -> Vec<Aged> {
        let of = |days: &u32| Aged { at: now() - Bounds::DAY * *days, held: false, wanted: false };
        days.iter().map(of).collect()
    }

    /// `s` for surplus, `o` for old, `.` for what stays.
    fn fates(runs: &[Aged]) -> String {
        let letter = |fate: Option<Why>| match fate {
            Some(Why::Surplus { .. }) => 's',
            Some(Why::Old { .. }) => 'o',
            None => '.',
            other => panic!("{other:?}"),
        };
        surplus_runs(runs, &BOUNDS, now()).into_iter().map(letter).collect()
    }

    #[test]
    fn runs_are_bounded_by_count_and_age() {
        assert_eq!(fates(&aged(&[])), "");
        assert_eq!(fates(&aged(&[1, 2, 3])), "...");
        assert_eq!(fates(&aged(&[4, 1, 3, 2])), "s...");
        assert_eq!(fates(&aged(&[1, 11, 10])), ".o.");
        assert_eq!(fates(&aged(&[99, 98, 97, 96])), "soo.", "the newest stays at any age");
        assert_eq!(fates(&aged(&[5, 5, 5, 5, 5])), "ss...", "the first of equals are the oldest");
        assert_eq!(Why::Old { days: 11 }.to_string(), "11 days old");
    }

    #[test]
    fn what_is_held_stays_and_counts() {
        let mut runs = aged(&[4, 3, 2, 1, 99]);
        assert_eq!(fates(&runs), "s...s");
        runs[0].held = true;
        runs[4].held = true;
        assert_eq!(fates(&runs), ".....");
        // Running ones take the places of finished ones.
        let mut runs = aged(&[3, 2, 1, 0, 0, 0]);
        runs[3..].iter_mut().for_each(|run| run.held = true);
        assert_eq!(fates(&runs), "sss...");
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing() {
        let mut runs = aged(&[1, 2]);
        runs[0].at = now() + Bounds::DAY * 400;
        assert_eq!(fates(&runs), "..");
        assert_eq!(unused(&runs, Bounds::DAY * 30, true, now()), [None, None]);
    }

    #[test]
    fn the_cache_loses_what_is_unused_and_not_asked_for() {
        let mut things = aged(&[31, 30, 0, 400, 31, 400]);
        things[3].wanted = true;
        things[4].held = true;
        things[5].held = true;
        things[5].wanted = true;
        let gone = |all: bool| {
            let fates = unused(&things, Bounds::DAY * 30, all, now());
            let at = fates.iter().enumerate().filter(|(_, fate)| fate.is_some());
            at.map(|(at, _)| at).collect::<Vec<_>>()
        };
        assert_eq!(gone(false), [0]);
        assert_eq!(gone(true), [0, 3], "in use is in use");
        let why = unused(&things, Bounds::DAY * 30, true, now())[3].unwrap();
        assert_eq!(why.to_string(), "unused for 400 days, although lab.toml names it");
    }
}
