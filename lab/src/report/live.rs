//! The live display below the lines: what runs, at which step, for how long.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::event::{Event, RunRef, What};

/// One line for each run or download under way, on standard error.
#[derive(Debug)]
pub struct Live {
    screen: MultiProgress,
    runs: HashMap<usize, (RunRef, ProgressBar)>,
    pulls: HashMap<String, ProgressBar>,
}

impl Live {
    /// An empty display.
    pub fn new() -> Self {
        // Ten frames a second: a run of 0.3 s shows, and drawing costs nothing.
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        Self { screen, runs: HashMap::new(), pulls: HashMap::new() }
    }

    /// Follows an event.
    pub fn see(&mut self, event: &Event) {
        match &event.what {
            What::Pulling { kernel, phase } => {
                let screen = &self.screen;
                let bar = self.pulls.entry(kernel.clone()).or_insert_with(|| line(screen, kernel));
                bar.set_message(phase.clone());
            }
            What::Pulled { kernel, .. } => {
                if let Some(bar) = self.pulls.remove(kernel) {
                    bar.finish_and_clear();
                }
            }
            What::RunStarted { run } => {
                // Downloads come before all runs; what is left of one failed.
                self.pulls.drain().for_each(|(_, bar)| bar.finish_and_clear());
                let bar = line(&self.screen, &format!("{} on {}", run.title(), run.kernel));
                bar.set_message("boots");
                self.runs.insert(run.number, (run.clone(), bar));
            }
            What::StepStarted { number, step, of, title } => {
                if let Some((_, bar)) = self.runs.get(number) {
                    bar.set_message(format!("step {}/{of}: {title}", step + 1));
                }
            }
            What::RunEnded { result } => {
                if let Some((_, bar)) = self.runs.remove(&result.run.number) {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
    }

    /// Writes something with the display out of the way.
    pub fn suspend(&self, write: impl FnOnce()) {
        self.screen.suspend(write);
    }

    /// Takes the display away.
    pub fn clear(self) {
        let _ = self.screen.clear();
    }
}

impl Default for Live {
    fn default() -> Self {
        Self::new()
    }
}

fn line(screen: &MultiProgress, name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed:>3}  {wide_msg}")
        .expect("the template is tested by every use");
    let bar = screen.add(ProgressBar::new_spinner().with_style(style));
    bar.set_prefix(name.to_string());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
