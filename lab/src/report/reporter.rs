//! The reporter's thread: it takes events as they come and writes lines, a live display, or JSON.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::event::{Event, What};
use super::live::Live;
use super::{patch, text};
use crate::case::Outcome;

/// How a command's events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people; with a live display below them where the terminal can show one.
    Text {
        /// Standard error is a terminal that can move its cursor.
        live: bool,
    },
    /// One event a line.
    Json,
}

/// A thread that consumes events until their sender is gone.
#[derive(Debug)]
pub struct Reporter {
    thread: JoinHandle<()>,
}

impl Reporter {
    /// Starts the thread; events go to the sender.
    pub fn start(format: Format) -> (Self, Sender<Event>) {
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || match format {
            Format::Json => json(&receiver),
            Format::Text { live } => lines(&receiver, live.then(Live::new)),
        });
        (Self { thread }, sender)
    }

    /// Waits until everything is written; all senders must be gone.
    pub fn finish(self) {
        let _ = self.thread.join();
    }
}

fn json(events: &Receiver<Event>) {
    let mut out = std::io::stdout().lock();
    for event in events {
        let line = serde_json::to_string(&event).expect("events are plain data");
        // A reader that is gone has seen enough.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

fn lines(events: &Receiver<Event>, mut live: Option<Live>) {
    let mut width = 0;
    // A series is told a line a patch; of its runs only those show that explain the first failure.
    let mut of_patch: Option<Vec<super::RunResult>> = None;
    // Lines are for what begins, not for every megabyte.
    let mut phase_of = std::collections::HashMap::new();
    let print = |live: &Option<Live>, text: &str| {
        let write = || {
            let mut out = anstream::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        };
        match live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    };
    let aside = |live: &Option<Live>, text: &str| {
        let write = || {
            let mut out = anstream::stderr().lock();
            let _ = writeln!(out, "{text}");
        };
        match live {
            Some(live) => live.suspend(write),
            None => write(),
        }
    };
    for event in events {
        if let Some(live) = &mut live {
            live.see(&event);
        }
        match event.what {
            What::Started { runs, .. } => {
                let title = |r: &super::RunRef| r.title().len() + r.kernel.len() + " on ".len();
                width = runs.iter().map(title).max().unwrap_or_default();
            }
            What::Pulling { kernel, phase } if live.is_none() => {
                let begins = phase.split(' ').next().map(str::to_string);
                if phase_of.insert(kernel.clone(), begins.clone()) != Some(begins) {
                    aside(&live, &format!("{kernel}: {phase}"));
                }
            }
            What::Pulled { kernel, release, origin, took_ms } => {
                let took = text::duration(took_ms);
                aside(&live, &format!("{kernel}: Linux {release} ({origin}), in {took}"));
            }
            What::Note { text } => aside(&live, &text),
            What::PatchStarted { patch } => {
                if patch.number == 0 {
                    print(&live, &patch::header(&patch));
                }
                of_patch = Some(Vec::new());
            }
            What::RunEnded { result } => match &mut of_patch {
                Some(results) => results.push(*result),
                None => print(&live, &text::result(&result, width)),
            },
            What::PatchTried { result } => {
                print(&live, &patch::line(&result));
                let wrong =
                    |r: &super::RunResult| matches!(r.outcome, Outcome::Fail | Outcome::Broken);
                let runs = of_patch.replace(Vec::new()).unwrap_or_default();
                for run in runs.iter().filter(|run| result.first_failure && wrong(run)) {
                    print(&live, &text::result(run, width));
                }
            }
            What::Pending { files } => {
                let files = files.len();
                let what = if files == 1 { "transcript waits" } else { "transcripts wait" };
                print(&live, &format!("{files} {what} for review: lab review\n"));
            }
            What::Ended { tally, exit } => {
                if let Some(live) = live.take() {
                    live.clear();
                }
                let runs: usize = tally.0.values().sum();
                let mut line = text::tally(&tally);
                if exit == 130 {
                    line.push_str("; interrupted");
                }
                if runs != 1 || exit == 130 {
                    let took = text::paint(text::DIM, &format!("({})", text::duration(event.ms)));
                    print(&live, &format!("{line} {took}\n"));
                }
            }
            _ => {}
        }
    }
}
