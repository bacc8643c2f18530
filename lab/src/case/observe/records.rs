//! What PID 1's records mean for the evidence. A record that does not fit the dialogue is as bad as
//! one that is not authentic: nothing that follows it could be believed.

use lab_proto::{GuestMessage, VERSION};

use super::{Observer, Owner, Progress, guest};
use crate::case::evidence::Tracked;
use crate::machine::GuestView;
use crate::manifest::Action;

impl Observer<'_> {
    pub(super) fn hear(&mut self, message: GuestMessage, view: &GuestView) {
        match message {
            GuestMessage::Hello { version, .. } if version != VERSION => {
                self.forged(format!("PID 1 speaks version {version} of the protocol"));
            }
            GuestMessage::Hello { .. } if self.control.sent_plan() => {
                self.forged("a second hello".into());
            }
            GuestMessage::Hello { .. } => {
                self.evidence.hello = true;
                self.evidence.boot_ms.get_or_insert(self.started.elapsed().as_millis() as u64);
                self.control.send_plan(guest::plan(self.watch, view, self.boot(), self.first));
                self.deadlines.wait_for(Tracked::SetUp, None);
            }
            GuestMessage::Ready { boot } if boot != self.boot() => {
                self.forged(format!("PID 1 says that this is boot {boot}"));
            }
            GuestMessage::Ready { boot } => {
                self.evidence.ready = true;
                let elapsed = self.boot_started.elapsed().as_millis() as u64;
                self.evidence.ready_ms.get_or_insert(elapsed);
                (self.watch.progress)(Progress::Ready(boot, elapsed));
                self.came_back();
                self.deadlines.wait_for_nothing();
                self.deadlines.begin_pings();
            }
            GuestMessage::Trouble { what } => self.evidence.trouble = Some(what),
            GuestMessage::StepStarted { index, late } => {
                self.step_started(self.first + index as usize, late);
            }
            GuestMessage::StepEnded { index, status, micros, bytes, shell_gone } => {
                self.step_ended(self.first + index as usize, status, micros, bytes, shell_gone);
            }
            GuestMessage::Reached { index, late, tainted } => {
                self.reached(self.first + index as usize, late, tainted);
            }
            GuestMessage::Pong(number) => {
                if !self.deadlines.pong(number) {
                    self.forged(format!("an answer to ping {number}, which was not asked"));
                }
            }
            GuestMessage::End { steps, late, left_mounted, tainted } => {
                self.late(late);
                self.evidence.left_mounted = left_mounted;
                self.evidence.tainted = tainted;
                self.evidence.end = Some(steps);
                self.deadlines.end_pings();
                self.deadlines.wait_for(Tracked::PowerOff, None);
            }
        }
    }

    fn step_started(&mut self, index: usize, late: u64) {
        self.late(late);
        match self.steps().get(index).map(|step| &step.action) {
            Some(Action::Machine(op)) => {
                self.forged(format!("step {} ({op}) is not for the shell", index + 1));
            }
            _ => drop(self.begin_step(index)),
        }
    }

    fn step_ended(&mut self, index: usize, status: i32, micros: u64, bytes: u64, gone: bool) {
        let running = self.evidence.steps.last_mut().filter(|s| s.status.is_none());
        match running {
            Some(step) if step.index == index => {
                step.status = Some(status);
                step.micros = micros;
                step.bytes = bytes;
                step.shell_gone = gone;
                self.account(Owner::Step(index), bytes);
                self.deadlines.wait_for_nothing();
                (self.watch.progress)(Progress::StepEnded(index, status, micros));
            }
            _ => self.forged(format!("step {} ended without having begun", index + 1)),
        }
    }

    pub(super) fn late(&mut self, bytes: u64) {
        match self.evidence.steps.last_mut() {
            Some(step) => {
                step.late += bytes;
                let index = step.index;
                self.account(Owner::Late(index), bytes);
            }
            None if bytes > 0 => self.forged(format!("{bytes} bytes before the first step")),
            None => {}
        }
    }

    fn account(&mut self, owner: Owner, bytes: u64) {
        self.accounted += bytes;
        if !self.printed.count(owner, bytes) {
            self.evidence.host_trouble.push(format!(
                "the records count {bytes} bytes where more had been taken for one step's"
            ));
        }
    }

    pub(super) fn forged(&mut self, what: String) {
        // The first few tell the story; a flood of noise must not fill the memory.
        if self.evidence.forgeries.len() < 8 {
            self.evidence.forgeries.push(what);
        }
    }
}
