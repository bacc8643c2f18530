//! The life of a guest from Hello to the power's end, told on top of the loop in `turn`.

mod turn;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab_proto::{GuestMessage, GuestPlan, GuestStep, VERSION, Work};
use nix::libc::c_int;
use nix::poll::PollTimeout;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::pause;

use crate::channels::{Channel, Control, device};
use crate::descriptors::silence;
use crate::load::release;
use crate::mark::mark;
use crate::power::{self, Mounted};
use crate::prepare::prepare;
use crate::session::Session;
use crate::trouble::{Context, Result, Trouble};
use crate::worker::Worker;
use crate::{mounts, power::last_words};

/// How long killed processes may take to die before the guest powers off without them.
const DEATH: Duration = Duration::from_secs(2);

/// PID 1 from the first instruction to the power's end.
pub fn main() -> c_int {
    let mounted = mounts::mount_table();
    let control =
        silence().context("/dev/null").and_then(|()| Control::open(&device("lab.control")?));
    let mut control = match control {
        Ok(control) => control,
        Err(trouble) => {
            // The cause of the other, where there is one.
            mounted.unwrap_or_else(|mount| last_words(&mount.0));
            last_words(&trouble.0);
            power::off();
        }
    };
    if let Err(Trouble(what)) = tell(&mut control, mounted) {
        let record = GuestMessage::Trouble { what: what.clone() };
        if control.say(&record).and_then(|()| control.channel.drain()).is_err() {
            last_words(&what);
        }
    }
    power::off()
}

/// All that the host hears, except of trouble.
fn tell(control: &mut Control, mounted: Result<()>) -> Result<()> {
    control.say(&GuestMessage::Hello { version: VERSION, release: release() })?;
    mounted?;
    let mut guest = Guest::open(control)?;
    let last = guest.live()?;
    guest.part(&last)
}

/// What the loop serves.
struct Guest<'a> {
    control: &'a mut Control,
    terminal: Channel,
    children: SignalFd,
    /// Whether any process besides PID 1 is there.
    populated: bool,
    plan: Option<Arc<GuestPlan>>,
    session: Option<Session>,
    marks: u64,
    /// The step that the host has done last.
    proceed: Option<u32>,
    worker: Worker,
}

impl<'a> Guest<'a> {
    fn open(control: &'a mut Control) -> Result<Self> {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is installed.
        unsafe { sigaction(Signal::SIGPIPE, &ignore) }.context("SIGPIPE")?;
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        children.thread_block().context("SIGCHLD")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self {
            control,
            terminal: Channel::open(&device("lab.terminal")?)?,
            children: SignalFd::with_flags(&children, flags).context("signalfd")?,
            populated: true,
            plan: None,
            session: None,
            marks: 0,
            proceed: None,
            worker: Worker::start()?,
        })
    }

    /// From the plan to the end record, which is returned.
    fn live(&mut self) -> Result<GuestMessage> {
        let base = Mounted::now()?;
        let plan = loop {
            match &self.plan {
                Some(plan) => break Arc::clone(plan),
                None => self.turn(PollTimeout::NONE)?,
            };
        };
        let planned = Arc::clone(&plan);
        self.wait_for(move || prepare(&planned))??;
        let steps = match &plan.work {
            Work::Steps(steps) => {
                if !steps.is_empty() {
                    self.session = Some(Session::steps(&plan.env)?);
                    self.greet_shell()?;
                }
                self.control.say(&GuestMessage::Ready { boot: plan.boot })?;
                self.run_steps(steps)?
            }
            Work::Shell { cols, rows } => {
                self.session = Some(Session::interactive(&plan.env, *cols, *rows)?);
                self.control.say(&GuestMessage::Ready { boot: plan.boot })?;
                self.run_shell()?
            }
        };
        let late = self.kill_all()?;
        let left_mounted = self.wait_for(move || power::unmount_since(base))?;
        // After the unmounts, so that a warning of theirs counts.
        let tainted = power::taint();
        Ok(GuestMessage::End { steps, late, left_mounted, tainted })
    }

    /// The last record, when all that belongs before it is out.
    fn part(&mut self, last: &GuestMessage) -> Result<()> {
        // Pings are answered still while a slow host takes its bytes.
        while !self.terminal.out.is_empty() {
            self.turn(PollTimeout::NONE)?;
        }
        self.terminal.drain()?;
        self.control.say(last)?;
        self.control.channel.drain()
    }

    /// Waits until the shell reads its script, so that its start is no step's time, and a shell
    /// that cannot start no step's failure.
    fn greet_shell(&mut self) -> Result<()> {
        self.session()?.run(":")?;
        match self.answer()? {
            (_, false) => Ok(()),
            (status, true) => Err(Trouble(format!(
                "/bin/sh ended with status {status} before the first step (the terminal has its words)"
            ))),
        }
    }

    fn run_steps(&mut self, steps: &[GuestStep]) -> Result<u32> {
        for (index, step) in (0u32..).zip(steps) {
            let (text, stop_unless) = match step {
                GuestStep::Run { run, stop_unless } => (run, stop_unless),
                GuestStep::Wait => {
                    self.wait_for_host(index)?;
                    continue;
                }
                GuestStep::PowerCut => return self.await_the_cut(index),
                GuestStep::Reboot => {
                    self.reached(index)?;
                    return Ok(index);
                }
            };
            let (status, shell_gone) = self.run_step(index, text)?;
            if shell_gone || stop_unless.is_some_and(|right| status != right) {
                return Ok(index + 1);
            }
        }
        Ok(steps.len() as u32)
    }

    fn run_step(&mut self, index: u32, text: &str) -> Result<(i32, bool)> {
        let late = self.session()?.take_count();
        self.control.say(&GuestMessage::StepStarted { index, late })?;
        let began = Instant::now();
        self.session()?.run(text)?;
        let (status, shell_gone) = self.answer()?;
        self.step_ended(index, status, began, shell_gone)?;
        Ok((status, shell_gone))
    }

    /// Says that the host has its turn.
    fn reached(&mut self, index: u32) -> Result<()> {
        // On the worker: where a step unmounted /proc it must be mounted first.
        let tainted = self.wait_for(power::taint)?;
        let late = self.session()?.take_count();
        self.control.say(&GuestMessage::Reached { index, late, tainted })
    }

    /// The host does something to the machine meanwhile.
    fn wait_for_host(&mut self, index: u32) -> Result<()> {
        self.reached(index)?;
        let began = Instant::now();
        while self.proceed != Some(index) {
            self.turn(PollTimeout::NONE)?;
        }
        // What was done may have been the shell's end (`sysrq f`).
        let gone = self.session()?.exit;
        self.step_ended(index, gone.unwrap_or(0), began, gone.is_some())
    }

    /// The last that the guest does before the power fails: output that has been counted goes to the
    /// host, and from then on nothing is read, written, synced or unmounted.
    fn await_the_cut(&mut self, index: u32) -> Result<u32> {
        let tainted = self.wait_for(power::taint)?;
        let late = self.session()?.take_count();
        self.terminal.drain()?;
        self.control.say(&GuestMessage::Reached { index, late, tainted })?;
        self.control.channel.drain()?;
        loop {
            pause();
        }
    }

    /// Waits for the shell's answer or its end: the status, and whether it was the shell's own.
    fn answer(&mut self) -> Result<(i32, bool)> {
        loop {
            let session = self.session()?;
            if let Some(status) = session.answered()? {
                return Ok((status, false));
            }
            if let Some(status) = session.exit {
                return Ok((status, true));
            }
            self.turn(PollTimeout::NONE)?;
        }
    }

    fn run_shell(&mut self) -> Result<u32> {
        self.control.say(&GuestMessage::StepStarted { index: 0, late: 0 })?;
        let began = Instant::now();
        let status = loop {
            match self.session()?.exit {
                Some(status) => break status,
                None => self.turn(PollTimeout::NONE)?,
            };
        };
        self.step_ended(0, status, began, true)?;
        Ok(1)
    }

    fn step_ended(&mut self, index: u32, status: i32, began: Instant, gone: bool) -> Result<()> {
        let micros = began.elapsed().as_micros() as u64;
        let bytes = self.count_to_mark()?;
        self.control.say(&GuestMessage::StepEnded {
            index,
            status,
            micros,
            bytes,
            shell_gone: gone,
        })
    }

    /// Reads the pty up to a fresh mark; how many bytes came in front of it.
    fn count_to_mark(&mut self) -> Result<u64> {
        let Some(plan) = &self.plan else { return Err(Trouble("there is no plan".into())) };
        let mark = mark(&plan.nonce, u64::from(plan.boot) << 32 | self.marks);
        self.marks += 1;
        let worker = self.worker.clone();
        self.session()?.begin_mark(mark, &worker)?;
        loop {
            if let Some(bytes) = self.session()?.end_mark() {
                return Ok(bytes);
            }
            self.turn(PollTimeout::NONE)?;
        }
    }

    /// Kills and reaps everything; how many bytes came since the last step.
    fn kill_all(&mut self) -> Result<u64> {
        let until = Instant::now() + DEATH;
        power::kill_all();
        self.reap()?;
        // A process in an uninterruptible wait does not die: its mounts will stay, and be named.
        while self.populated && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            self.turn(PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))?;
        }
        if self.session.is_some() { self.count_to_mark() } else { Ok(0) }
    }

    fn wait_for<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let task = self.worker.begin(work)?;
        loop {
            if let Some(result) = task.poll()? {
                return Ok(result);
            }
            self.turn(PollTimeout::NONE)?;
        }
    }

    fn session(&mut self) -> Result<&mut Session> {
        self.session.as_mut().ok_or_else(|| Trouble("there is no shell".into()))
    }
}
