//! When waiting is over: the run's own deadline, that of what is waited for, and PID 1's answers. All
//! in the host's monotonic time, less the time in which the host did not let lab or machine run.

use std::time::{Duration, Instant};

use crate::case::evidence::{Stall, Tracked};
use crate::manifest::{Clock, MachineSpec};

/// How often PID 1 is asked, where its deadline is not shorter than twice this.
const PING: Duration = Duration::from_secs(1);
/// From the end record to the machine's end.
const POWER_OFF: Duration = Duration::from_secs(10);
/// A loop that wakes up so much later than it wanted to was not run.
const OVERSLEPT: Duration = Duration::from_millis(250);

/// The deadlines of a run.
#[derive(Debug)]
pub(super) struct Deadlines {
    end: Instant,
    total: Duration,
    hang: Duration,
    boot: Duration,
    /// With a virtual clock only the whole run has a deadline: the guest does not wait for the
    /// host, and the host does not ask.
    only_total: bool,
    waiting: Option<Waiting>,
    pings: Option<Pings>,
}

/// What is waited for.
#[derive(Debug)]
struct Waiting {
    what: Tracked,
    until: Instant,
    limit: Duration,
    /// What [`Starved`] said when that was last asked.
    starved: Duration,
}

/// The last ping; an answered one leaves the time of the next.
#[derive(Debug)]
struct Pings {
    number: u64,
    sent: Instant,
    /// When an answer is overdue.
    until: Instant,
    answered: bool,
    starved: Duration,
}

/// What a look at the deadlines found.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    Nothing,
    /// PID 1 is to be asked, with this number.
    Ping(u64),
    Stalled(Stall),
}

/// How long the machine's processes have waited for a processor of the host so far; zero where that
/// cannot be told.
pub(super) type Starved<'a> = &'a dyn Fn() -> Duration;

impl Deadlines {
    /// Of a machine that starts now; `boot` is how long it may take to say hello, and then to be
    /// ready.
    pub(super) fn new(spec: &MachineSpec, boot: Duration) -> Self {
        let now = Instant::now();
        let mut deadlines = Self {
            end: now + spec.timeout,
            total: spec.timeout,
            hang: spec.hang,
            boot,
            only_total: spec.clock == Clock::Virtual,
            waiting: None,
            pings: None,
        };
        deadlines.wait_for(Tracked::Boot, None);
        deadlines
    }

    /// From now on this is waited for: at most `limit`, or as long as such a thing may take.
    pub(super) fn wait_for(&mut self, what: Tracked, limit: Option<Duration>) {
        let usual = match what {
            Tracked::PowerOff => POWER_OFF,
            _ => self.boot,
        };
        let limit = limit.unwrap_or(usual);
        let until = Instant::now() + limit;
        let waiting = Waiting { what, until, limit, starved: Duration::ZERO };
        self.waiting = (!self.only_total).then_some(waiting);
    }

    /// Nothing but the whole run has a deadline now.
    pub(super) fn wait_for_nothing(&mut self) {
        self.waiting = None;
    }

    /// How long a boot may take.
    pub(super) fn boot(&self) -> Duration {
        self.boot
    }

    /// PID 1 can be asked from now on.
    pub(super) fn begin_pings(&mut self) {
        let now = Instant::now();
        let pings =
            Pings { number: 0, sent: now, until: now, answered: true, starved: Duration::ZERO };
        self.pings = (!self.only_total).then_some(pings);
    }

    /// PID 1 has other things to do, or is gone.
    pub(super) fn end_pings(&mut self) {
        self.pings = None;
    }

    /// Takes an answer; false where that was not asked.
    #[must_use]
    pub(super) fn pong(&mut self, number: u64) -> bool {
        match &mut self.pings {
            Some(pings) if pings.number == number && !pings.answered => {
                pings.answered = true;
                true
            }
            _ => false,
        }
    }

    /// When to look again at the latest.
    pub(super) fn next(&self) -> Instant {
        let pings = self.pings.as_ref().map(|pings| match pings.answered {
            true => pings.sent + self.interval(),
            false => pings.until,
        });
        let waiting = self.waiting.as_ref().map(|waiting| waiting.until);
        [pings, waiting].into_iter().flatten().fold(self.end, Instant::min)
    }

    /// The loop wanted to wake up at `wanted` and did at `woke`. If that is far apart, nobody ran:
    /// the lab was stopped, or the host was suspended or busy. Nobody is blamed for that time.
    pub(super) fn woke(&mut self, wanted: Instant, woke: Instant) {
        let lost = woke.saturating_duration_since(wanted);
        if lost > OVERSLEPT {
            self.end += lost;
            self.waiting.iter_mut().for_each(|waiting| waiting.until += lost);
            self.pings.iter_mut().for_each(|pings| pings.until += lost);
        }
    }

    /// What is due at `now`, when all that had come by then has been read. `step` is the one that
    /// runs.
    pub(super) fn look(&mut self, now: Instant, step: Option<usize>, starved: Starved<'_>) -> Due {
        let interval = self.interval();
        if let Some(pings) = &mut self.pings {
            if !pings.answered && now >= pings.until {
                match excuse(&mut pings.starved, starved()) {
                    Some(excused) => pings.until = now + excused.min(self.hang),
                    None => {
                        let seconds = self.hang.as_secs_f64().ceil() as u64;
                        return Due::Stalled(Stall::Hang { seconds, step });
                    }
                }
            }
            if pings.answered && now >= pings.sent + interval {
                *pings = Pings {
                    number: pings.number + 1,
                    sent: now,
                    until: now + self.hang,
                    answered: false,
                    starved: starved(),
                };
                return Due::Ping(pings.number);
            }
        }
        let (what, limit) = match &mut self.waiting {
            Some(waiting) if now >= waiting.until => {
                // What a case allows its step is the case's to say.
                let ours = !matches!(waiting.what, Tracked::Step(_));
                match excuse(&mut waiting.starved, starved()).filter(|_| ours) {
                    Some(excused) => {
                        waiting.until = now + excused.min(waiting.limit);
                        return Due::Nothing;
                    }
                    None => (waiting.what, waiting.limit),
                }
            }
            _ if now >= self.end => (Tracked::Run, self.total),
            _ => return Due::Nothing,
        };
        Due::Stalled(Stall::Timeout { what, limit_ms: limit.as_millis() as u64 })
    }

    fn interval(&self) -> Duration {
        PING.min(self.hang / 2)
    }
}

/// How much longer to wait because the machine wanted a processor and had none; `None` where it had.
/// Each time it is less, so that a kernel that spins on a busy host is found out all the same.
fn excuse(before: &mut Duration, now: Duration) -> Option<Duration> {
    let since = now.saturating_sub(*before);
    *before = now;
    (since > Duration::from_millis(200)).then_some(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn deadlines(clock: Clock) -> Deadlines {
        let spec = MachineSpec { clock, timeout: 60 * SECOND, ..MachineSpec::default() };
        Deadlines::new(&spec, 10 * SECOND)
    }

    fn stall(due: Due) -> Stall {
        let Due::Stalled(stall) = due else { panic!("{due:?}") };
        stall
    }

    #[test]
    fn what_is_not_answered_hangs_and_what_takes_long_times_out() {
        let never: Starved<'_> = &|| Duration::ZERO;
        let mut it = deadlines(Clock::Real);
        let now = Instant::now();
        assert_eq!(it.look(now + 9 * SECOND, None, never), Due::Nothing);
        let boot = Stall::Timeout { what: Tracked::Boot, limit_ms: 10_000 };
        assert_eq!(stall(it.look(now + 10 * SECOND, None, never)), boot);

        it.wait_for_nothing();
        it.begin_pings();
        let now = Instant::now() + SECOND;
        assert_eq!(it.look(now, None, never), Due::Ping(1));
        assert!(!it.pong(0) && it.pong(1) && !it.pong(1));
        let now = now + SECOND;
        assert_eq!(it.look(now, None, never), Due::Ping(2));
        assert_eq!(it.look(now + 4 * SECOND, None, never), Due::Nothing);
        let hang = Stall::Hang { seconds: 5, step: Some(3) };
        assert_eq!(stall(it.look(now + 5 * SECOND, Some(3), never)), hang);
    }

    #[test]
    fn with_a_virtual_clock_only_the_total_counts() {
        let never: Starved<'_> = &|| Duration::ZERO;
        let mut it = deadlines(Clock::Virtual);
        it.begin_pings();
        it.wait_for(Tracked::Step(0), Some(SECOND));
        let now = Instant::now();
        assert_eq!(it.look(now + 59 * SECOND, None, never), Due::Nothing);
        let run = Stall::Timeout { what: Tracked::Run, limit_ms: 60_000 };
        assert_eq!(stall(it.look(now + 60 * SECOND, None, never)), run);
    }

    #[test]
    fn time_in_which_nobody_ran_does_not_count() {
        let never: Starved<'_> = &|| Duration::ZERO;
        let mut it = deadlines(Clock::Real);
        let now = Instant::now();
        it.woke(now, now + 8 * SECOND);
        assert_eq!(it.look(now + 17 * SECOND, None, never), Due::Nothing);
        it.woke(now, now + Duration::from_millis(100));
        assert!(matches!(it.look(now + 19 * SECOND, None, never), Due::Stalled(_)));
    }

    #[test]
    fn a_machine_without_a_processor_is_waited_for() {
        let mut it = deadlines(Clock::Real);
        let now = Instant::now() + 10 * SECOND;
        // It ran a third of the time.
        assert_eq!(it.look(now, None, &|| 7 * SECOND), Due::Nothing);
        assert!(it.next() > now + 6 * SECOND);
        // And then all the time, and still did not come.
        let later = now + 8 * SECOND;
        assert!(matches!(it.look(later, None, &|| 7 * SECOND), Due::Stalled(_)));
    }
}
