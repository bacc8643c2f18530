//! What is looked at before a machine that stands still is killed: the kernel's own view of its tasks
//! where it takes interrupts, else the host's view of its process. For people; nothing of it decides.

use super::{LOG, Observer};
use crate::machine::Machine;

/// The host's view, in the run's folder.
const HOST_VIEW: &str = "host-view";

impl Observer<'_> {
    /// Collects what there is, in some seconds at most, and takes down where it is.
    pub(super) fn last_look(&mut self, machine: &mut dyn Machine, buffer: &mut [u8]) {
        // What came before counts. What comes now was asked for.
        while self.open[LOG] {
            let before = self.log.length();
            let channel = &machine.channels().log;
            if self.log.read(channel, buffer, super::LOG_TURN, false).is_err()
                || self.log.length() == before
            {
                break;
            }
        }
        self.log.stop_believing();
        let line = self.log.lines() + 1;
        // First, because the machine may die of the question.
        let mut view = machine.host_view(false);
        let asked = machine.ask_for_tasks();
        if asked.is_err() {
            view = machine.host_view(true).or(view);
        }
        let (looks, folder) = (&mut self.evidence.looks, self.watch.folder);
        match &asked {
            Ok(()) => looks.push(format!(
                "the kernel's tasks: kernel.log from line {line} on (sysrq w, p, t; t itself may end \
                 in a panic)"
            )),
            Err(why) => looks.push(format!("the kernel was asked for its tasks: {}", why.message())),
        }
        if let Some(view) = view {
            match std::fs::write(folder.join(HOST_VIEW), view) {
                Ok(()) => looks.push(format!("its process as the host sees it: {HOST_VIEW}")),
                Err(error) => {
                    looks.push(format!("{HOST_VIEW}: {}", crate::manifest::errno_words(&error)));
                }
            }
        }
    }
}
