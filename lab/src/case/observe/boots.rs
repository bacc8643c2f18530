//! The steps that act on the machine, and the boots of a run: `power-cut` and `reboot` split a case's
//! steps into segments, one a boot.

use std::time::Instant;

use lab_proto::HostMessage;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{LOG, Observer, Progress, TERMINAL};
use crate::case::evidence::{BootEvidence, Left, StepEvidence, Tracked, is_orderly};
use crate::machine::{Machine, MachineOp};
use crate::manifest::{Action, Step};

/// The steps of the boot that begins with step `first`: up to the one that ends it.
pub(super) fn segment(steps: &[Step], first: usize) -> &[Step] {
    let rest = steps.get(first..).unwrap_or_default();
    let ends = |step: &Step| matches!(&step.action, Action::Machine(op) if op.ends_the_boot());
    match rest.iter().position(ends) {
        Some(last) => &rest[..=last],
        None => rest,
    }
}

impl Observer<'_> {
    /// PID 1 says that a step has come which is ours.
    pub(super) fn reached(&mut self, index: usize, late: u64, tainted: Option<u64>) {
        self.late(late);
        let op = match self.steps().get(index).map(|step| &step.action) {
            Some(Action::Machine(op)) => op.clone(),
            _ => return self.forged(format!("step {} is not the machine's", index + 1)),
        };
        if !self.begin_step(index) {
            return;
        }
        self.evidence.tainted = tainted;
        if op == MachineOp::PowerCut {
            self.deadlines.end_pings();
        }
        self.due = Some((index, op));
    }

    /// Takes down that a step began, if it was due.
    pub(super) fn begin_step(&mut self, index: usize) -> bool {
        let due = self.evidence.steps.len();
        let before_ended = self.evidence.steps.last().is_none_or(|s| s.status.is_some());
        if index != due || index >= self.steps().len() || !before_ended {
            self.forged(format!("step {} began where step {} was due", index + 1, due + 1));
            return false;
        }
        self.evidence.steps.push(StepEvidence {
            index,
            status: None,
            micros: 0,
            from: self.accounted,
            bytes: 0,
            late: 0,
            shell_gone: false,
        });
        let timeout = self.steps()[index].timeout;
        match timeout {
            Some(timeout) => self.deadlines.wait_for(Tracked::Step(index), Some(timeout)),
            None => self.deadlines.wait_for_nothing(),
        }
        (self.watch.progress)(Progress::StepStarted(index));
        true
    }

    /// Does what the step that has come asks of the machine.
    pub(super) fn act(
        &mut self,
        machine: &mut dyn Machine,
        buffer: &mut [u8],
    ) -> std::io::Result<()> {
        let Some((index, op)) = self.due.take() else { return Ok(()) };
        let done = match op {
            MachineOp::PowerCut => self.cut(machine, index, buffer)?,
            // PID 1 brings the machine to its end.
            MachineOp::Reboot => {
                self.leaving = Some((index, Left::Rebooted));
                Ok(())
            }
            op => machine.request(&op).map(|()| {
                let index = (index - self.first) as u32;
                self.control.send(&HostMessage::Proceed(index));
            }),
        };
        match done {
            // A machine that died of it, or before it, is no trouble of the host's: the loop sees
            // how it ended.
            Err(error) if machine.ending().is_none() => Err(std::io::Error::other(error.message())),
            _ => Ok(()),
        }
    }

    /// Cuts the power. The machine is stopped first and what its kernel has said until then is read:
    /// UML's processes share their memory, and one that outlives the others by a moment may print
    /// what looks like a panic. So a panic before the cut counts, and the noise of dying does not.
    fn cut(
        &mut self,
        machine: &mut dyn Machine,
        index: usize,
        buffer: &mut [u8],
    ) -> std::io::Result<crate::manifest::Result<()>> {
        if let Err(error) = machine.freeze() {
            return Ok(Err(error));
        }
        self.read(machine, &[true, true, true, true, false, false], true, buffer)?;
        while self.open[LOG] && machine.channels().log.poll_fd().is_none() {
            self.read(machine, &[false; 6], true, buffer)?;
        }
        machine.kill();
        self.leaving = Some((index, Left::Cut));
        self.gone = Some(Instant::now());
        Ok(Ok(()))
    }

    /// Whether the lab has cut the power: what the machine's process still says is not the kernel's.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.leaving, Some((_, Left::Cut)))
    }

    /// Starts the machine again if the boot that is over ended as planned; whether it did.
    pub(super) fn next_boot(&mut self, machine: &mut dyn Machine) -> bool {
        let Some((step, left)) = self.leaving.take() else { return false };
        let as_planned = match left {
            Left::Cut => true,
            Left::Rebooted => {
                self.evidence.end.is_some()
                    && is_orderly(self.evidence.ending.as_ref(), self.log.is_halted())
            }
        };
        if let Some(forgery) = self.control.unfinished() {
            self.forged(forgery.to_string());
        }
        let mut cancel = [PollFd::new(self.watch.cancel, PollFlags::POLLIN)];
        if matches!(poll(&mut cancel, PollTimeout::ZERO), Ok(n) if n > 0) {
            self.evidence.interrupted = true;
        }
        let e = &self.evidence;
        let in_vain = e.interrupted
            || e.stall.is_some()
            || !e.forgeries.is_empty()
            || !e.host_trouble.is_empty();
        if !as_planned || in_vain {
            return false;
        }
        self.close_boot(step, left);
        if let Err(error) = self.open_boot(machine) {
            self.evidence.host_trouble.push(error);
            return false;
        }
        let own = self.steps()[step].timeout;
        match own {
            Some(timeout) if timeout < self.deadlines.boot() => {
                self.deadlines.wait_for(Tracked::Step(step), Some(timeout));
            }
            _ => self.deadlines.wait_for(Tracked::Boot, None),
        }
        true
    }

    /// What was seen of the boot that is over, kept for the judge; the next has everything to prove.
    fn close_boot(&mut self, step: usize, left: Left) {
        self.log.end_boot();
        let earlier: usize = self.evidence.before.iter().map(|boot| boot.splats).sum();
        let e = &mut self.evidence;
        let boot = BootEvidence {
            step,
            left,
            hello: std::mem::take(&mut e.hello),
            ready: std::mem::take(&mut e.ready),
            end: e.end.take(),
            left_mounted: std::mem::take(&mut e.left_mounted),
            tainted: e.tainted.take(),
            splats: self.log.splats().len() - earlier,
            log_complete: !self.open[LOG] && !self.log.is_silent() && !self.log.has_gaps(),
            terminal_expected: self.accounted,
            terminal_seen: self.terminal.length(),
            terminal_complete: !self.open[TERMINAL],
            ending: e.ending.take(),
            halted: self.log.is_halted(),
        };
        e.before.push(boot);
    }

    fn open_boot(&mut self, machine: &mut dyn Machine) -> std::result::Result<(), String> {
        let number = self.evidence.before.len();
        machine.start_again().map_err(|error| {
            format!("the machine could not be started again: {}", error.message())
        })?;
        let words = |error: std::io::Error| crate::manifest::errno_words(&error);
        self.control.begin_boot(number).map_err(words)?;
        self.log.begin_boot(number).map_err(words)?;
        self.first = self.evidence.steps.len();
        self.boot_started = Instant::now();
        self.deadlines.end_pings();
        self.gone = None;
        self.open = [true; 4];
        Ok(())
    }

    /// The machine is there again: that is the end of the step that took it away.
    pub(super) fn came_back(&mut self) {
        if let Some(step) = self.evidence.steps.last_mut()
            && step.status.is_none()
        {
            step.status = Some(0);
            (self.watch.progress)(Progress::StepEnded(step.index, 0, 0));
        }
    }

    /// How many times the machine has booted before.
    pub(super) fn boot(&self) -> u32 {
        self.evidence.before.len() as u32
    }
}
