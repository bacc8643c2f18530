//! The run loop: one poll(2) loop that reads a machine's channels, answers PID 1, watches the
//! deadlines, and ends with complete [`Evidence`] or with what is missing from it.

mod boots;
mod deadlines;
mod guest;
mod last_look;
mod printed;
mod records;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_boots;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use lab_proto::{HostMessage, Nonce};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::evidence::{Evidence, Left};
use super::plan::Instance;
use crate::console::{Control, Flow, Incoming, Log, Terminal, drain};
use crate::machine::{Ending, LogEnd, Machine, MachineOp};
use crate::manifest::{Result, Step};
use crate::snapshot::{Filters, Transcript};
use deadlines::{Deadlines, Due};
use printed::{Owner, Printed};

/// Channels close with the machine; a moment is for bytes under way.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// What the loop needs beside the machine.
pub struct Watch<'a> {
    /// The case and its parameters.
    pub instance: &'a Instance,
    /// The run's folder: logs go there as they come.
    pub folder: &'a Path,
    /// The run's secret.
    pub nonce: Nonce,
    /// How long a boot may take: see [`crate::case::BootTimes`].
    pub boot: Duration,
    /// Modules to load before the first step.
    pub modules: Vec<String>,
    /// Readable when the lab is asked to stop.
    pub cancel: BorrowedFd<'a>,
    /// What the case takes out of what its steps print.
    pub filters: &'a Filters,
    /// Told about every step as it happens.
    pub progress: &'a dyn Fn(Progress),
}

/// What happens during a run.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// The guest is ready in this boot, from 0, so many milliseconds after the machine's start.
    Ready(u32, u64),
    /// A step began.
    StepStarted(usize),
    /// A step ended with a status, after so many microseconds of the guest's clock.
    StepEnded(usize, i32, u64),
}

/// Evidence, and the transcript that it is about.
#[derive(Debug)]
pub struct Observation {
    /// What was seen. Its `transcript` is still empty: rendering is for the caller.
    pub evidence: Evidence,
    /// What the steps printed.
    pub transcript: Transcript,
}

/// Runs the case's steps on `machine`, which is started again where they say so, and watches until
/// it is gone for good.
///
/// # Errors
/// The run's own files cannot be made; trouble later is evidence.
pub fn observe(machine: &mut dyn Machine, watch: &Watch<'_>) -> Result<Observation> {
    let mut observer = Observer {
        control: Control::create(&watch.folder.join("control"))?,
        log: Log::create(&watch.folder.join("kernel.log"))?,
        terminal: Terminal::create(&watch.folder.join("terminal"))?,
        printed: Printed::new(watch.filters),
        words: Vec::new(),
        evidence: Evidence::default(),
        accounted: 0,
        started: Instant::now(),
        boot_started: Instant::now(),
        first: 0,
        due: None,
        leaving: None,
        deadlines: Deadlines::new(&watch.instance.case.machine, watch.boot),
        open: [true; 4],
        gone: None,
        watch,
    };
    loop {
        let outcome = observer.run(machine);
        machine.kill();
        if let Err(error) = outcome {
            observer.evidence.host_trouble.push(crate::manifest::errno_words(&error));
        }
        if !observer.next_boot(machine) {
            return Ok(observer.finish());
        }
    }
}

struct Observer<'a> {
    control: Control,
    log: Log,
    terminal: Terminal,
    printed: Printed<'a>,
    words: Vec<u8>,
    evidence: Evidence,
    /// Terminal bytes that records have accounted for so far.
    accounted: u64,
    started: Instant,
    /// The same of the boot that is under way.
    boot_started: Instant,
    /// The first step of this boot.
    first: usize,
    /// A step that has come and that the machine must do.
    due: Option<(usize, MachineOp)>,
    /// The step that ends this boot, and how.
    leaving: Option<(usize, Left)>,
    deadlines: Deadlines,
    open: [bool; 4],
    /// When the machine was seen to have ended.
    gone: Option<Instant>,
    watch: &'a Watch<'a>,
}

/// How much of a channel is read in one turn of the loop, in bytes, before the records are: see
/// [`Printed`].
const TURN: usize = 256 << 10;
/// As [`TURN`], for what no record counts.
const LOG_TURN: usize = 4 << 20;

const LOG: usize = 0;
const TERMINAL: usize = 1;
const CONTROL: usize = 2;
const WORDS: usize = 3;
const CANCEL: usize = 5;

impl Observer<'_> {
    /// Returns when the machine is gone and its channels are read, or when it must be killed.
    fn run(&mut self, machine: &mut dyn Machine) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut killed = false;
        loop {
            let (ready, woke) = self.wait(machine)?;
            if ready[CANCEL] {
                self.evidence.interrupted = true;
            }
            let ended = self.gone.is_some();
            self.read(machine, &ready, ended, &mut buffer)?;
            self.act(machine, &mut buffer)?;
            if self.gone.is_none() && machine.ending().is_some() {
                self.gone = Some(Instant::now());
            }
            if let Some(gone) = self.gone {
                let closed = self.open.iter().all(|open| !open);
                // A log in memory is there to its end, however long that takes to read.
                let log = self.open[LOG] && machine.channels().log.poll_fd().is_none();
                if closed || (gone.elapsed() > LAST_BYTES && !log) {
                    self.evidence.ending = machine.ending().filter(|_| !self.is_cut());
                    return Ok(());
                }
                continue;
            }
            self.check_deadlines(machine, woke);
            if !killed && (self.evidence.interrupted || self.evidence.stall.is_some()) {
                // What is under way is still read: the loop goes on until the channels close.
                killed = true;
                if self.evidence.stall.is_some() {
                    self.last_look(machine, &mut buffer);
                }
                self.evidence.killed_by_lab = true;
                machine.kill();
                self.gone = Some(Instant::now());
            }
        }
    }

    /// What is ready, and since when that is known.
    fn wait(&mut self, machine: &dyn Machine) -> std::io::Result<([bool; 6], Instant)> {
        let channels = machine.channels();
        let write =
            if self.control.wants_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let log = channels.log.poll_fd();
        let fds = [
            (log.unwrap_or(self.watch.cancel), PollFlags::POLLIN, self.open[LOG] && log.is_some()),
            (channels.terminal.as_fd(), PollFlags::POLLIN, self.open[TERMINAL]),
            (channels.control.as_fd(), PollFlags::POLLIN | write, self.open[CONTROL]),
            (channels.words.as_fd(), PollFlags::POLLIN, self.open[WORDS]),
            (machine.ending_fd(), PollFlags::POLLIN, self.gone.is_none()),
            (self.watch.cancel, PollFlags::POLLIN, !self.evidence.interrupted),
        ];
        let wanted: Vec<usize> = (0..fds.len()).filter(|&i| fds[i].2).collect();
        let mut set: Vec<PollFd> =
            wanted.iter().map(|&i| PollFd::new(fds[i].0, fds[i].1)).collect();
        // Rounded up: a deadline that is a fraction of a millisecond away must not spin.
        let began = Instant::now();
        let timeout = self.next_deadline().saturating_duration_since(began);
        let timeout = timeout + Duration::from_millis(1);
        let timeout = match channels.log.look_every() {
            // Nothing more comes: what is there is read at once.
            Some(_) if self.gone.is_some() && self.open[LOG] => Duration::ZERO,
            Some(look) => timeout.min(look),
            None => timeout,
        };
        let timeout = timeout.min(Duration::from_secs(60));
        match poll(&mut set, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let woke = Instant::now();
        self.deadlines.woke(began + timeout, woke);
        let mut ready = [false; 6];
        for (fd, index) in set.iter().zip(wanted) {
            ready[index] = fd.any() == Some(true);
        }
        Ok((ready, woke))
    }

    fn read(
        &mut self,
        machine: &mut dyn Machine,
        ready: &[bool; 6],
        ended: bool,
        buffer: &mut [u8],
    ) -> std::io::Result<()> {
        let channels = machine.channels();
        let closed = |flow: Flow| flow == Flow::Open;
        let looks = channels.log.poll_fd().is_none();
        if self.open[LOG] && (ready[LOG] || looks) {
            let flow = match (self.is_cut(), &channels.log) {
                (false, end) => self.log.read(end, buffer, LOG_TURN, ended)?,
                (true, LogEnd::Memory(_)) => Flow::Closed,
                (true, LogEnd::Stream(fd)) => {
                    let words = &mut self.words;
                    drain(fd.as_fd(), buffer, LOG_TURN, |b| std::io::Write::write_all(words, b))?
                }
            };
            self.open[LOG] = closed(flow);
        }
        if ready[TERMINAL] {
            let (terminal, printed) = (&mut self.terminal, &mut self.printed);
            let flow = drain(channels.terminal.as_fd(), buffer, TURN, |bytes| {
                printed.feed(bytes);
                terminal.feed(bytes)
            })?;
            self.open[TERMINAL] = closed(flow);
        }
        if ready[WORDS] {
            let words = &mut self.words;
            let flow = drain(channels.words.as_fd(), buffer, TURN, |bytes| {
                // The process' own words are few; what floods here is not worth keeping.
                if words.len() < 256 << 10 {
                    words.extend_from_slice(bytes);
                }
                Ok(())
            })?;
            self.open[WORDS] = closed(flow);
        }
        if ready[CONTROL] {
            let mut incoming = Vec::new();
            let flow = self.control.read(channels.control.as_fd(), buffer, &mut incoming)?;
            self.open[CONTROL] = closed(flow);
            let view = machine.guest_view();
            for message in incoming {
                match message {
                    Incoming::Record(record) => self.hear(record.body, &view),
                    Incoming::Forged(forgery) => self.forged(forgery.to_string()),
                }
            }
        }
        if self.open[CONTROL] && self.control.wants_write() {
            self.control.flush(machine.channels().control.as_fd())?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        match self.gone {
            Some(gone) => gone + LAST_BYTES,
            None => self.deadlines.next(),
        }
    }

    /// `now` is when all had come that has been read: what a slow lab has not read yet is not late.
    fn check_deadlines(&mut self, machine: &dyn Machine, now: Instant) {
        if self.evidence.stall.is_some() {
            return;
        }
        let step = self.evidence.steps.last().filter(|s| s.status.is_none()).map(|s| s.index);
        match self.deadlines.look(now, step, &|| machine.waited_for_cpu()) {
            Due::Nothing => {}
            Due::Ping(number) => self.control.send(&HostMessage::Ping(number)),
            Due::Stalled(stall) => self.evidence.stall = Some(stall),
        }
    }

    fn steps(&self) -> &[Step] {
        &self.watch.instance.case.steps
    }

    fn finish(mut self) -> Observation {
        if self.log.is_silent()
            && let Err(error) = self.log.feed(&guest::dumped(&self.words))
        {
            self.evidence.host_trouble.push(crate::manifest::errno_words(&error));
        }
        for finished in [self.log.finish(), self.terminal.finish(), self.control.finish()] {
            if let Err(error) = finished {
                self.evidence.host_trouble.push(crate::manifest::errno_words(&error));
            }
        }
        if let Some(forgery) = self.control.unfinished() {
            // A record cut short by the machine's death is no forgery; noise without an end is.
            if self.evidence.end.is_some()
                || !matches!(self.evidence.ending, Some(Ending::Signalled(_)))
            {
                self.forged(forgery.to_string());
            }
        }
        let evidence = &mut self.evidence;
        if let Some(Ending::NotStarted(why)) = &evidence.ending {
            evidence.not_started = Some(why.clone());
        }
        evidence.splats = self.log.splats().to_vec();
        evidence.halted = self.log.is_halted();
        evidence.log_complete = !self.open[LOG] && !self.log.is_silent() && !self.log.has_gaps();
        evidence.kernel_silent = self.log.is_silent();
        evidence.terminal_complete = !self.open[TERMINAL];
        evidence.terminal_expected = self.accounted;
        evidence.terminal_seen = self.terminal.length();
        evidence.total_ms = self.started.elapsed().as_millis() as u64;
        evidence.last_words = guest::last_words(&self.words, &self.log);
        let _ = std::fs::write(self.watch.folder.join("words"), &self.words);
        let runs = self.evidence.steps.last().filter(|step| step.status.is_none());
        let printed = self.printed.finish(runs.map(|step| step.index));
        let steps = &self.watch.instance.case.steps;
        let transcript = guest::transcript(steps, &self.evidence, printed);
        Observation { evidence: self.evidence, transcript }
    }
}
