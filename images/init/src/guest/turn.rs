//! The one poll(2) loop of PID 1: it serves the host, the terminal, the shell and the dead.

use std::os::fd::AsFd;
use std::sync::Arc;

use lab_proto::{GuestMessage, HostMessage};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::Guest;
use crate::trouble::{Context, Result, Trouble};

/// How much output may wait for a slow host, in bytes. Beyond it the pty is not read, so that the
/// program that prints is held up; nothing is ever dropped.
const TERMINAL_LIMIT: usize = 256 << 10;

/// How much output is taken in one turn of the loop, in bytes, so that pings are answered between.
const TURN: usize = 64 << 10;

/// What poll(2) reported on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Control,
    Terminal,
    Children,
    Output,
    Status,
    Script,
    Worker,
}

impl Guest<'_> {
    /// Waits for whatever is next and serves it.
    pub(super) fn turn(&mut self, timeout: PollTimeout) -> Result<()> {
        for (source, events) in self.wait(timeout)? {
            match source {
                Source::Control => self.serve_control(events)?,
                Source::Terminal => self.serve_terminal(events)?,
                Source::Children => self.reap()?,
                Source::Output => self.pass_output()?,
                Source::Status => self.session()?.read_status()?,
                Source::Script => self.session()?.feed()?,
                Source::Worker => self.worker.acknowledge(),
            }
        }
        Ok(())
    }

    fn wait(&self, timeout: PollTimeout) -> Result<Vec<(Source, PollFlags)>> {
        let (r#in, out, none) = (PollFlags::POLLIN, PollFlags::POLLOUT, PollFlags::empty());
        let when = |condition: bool, events: PollFlags| if condition { events } else { none };
        let mut wanted = vec![
            (Source::Control, self.control.channel.as_fd(), {
                r#in | when(!self.control.channel.out.is_empty(), out)
            }),
            (Source::Children, self.children.as_fd(), r#in),
            (Source::Worker, self.worker.ended(), r#in),
        ];
        let mut terminal = when(!self.terminal.out.is_empty(), out);
        if let Some(session) = &self.session {
            terminal |= when(session.wants_typing(), r#in);
            let typing = session.script.is_none() && !session.input.is_empty();
            let room = self.terminal.out.len() < TERMINAL_LIMIT;
            let output = when(room && !session.hung_up, r#in) | when(typing, out);
            wanted.push((Source::Output, session.pty.master().as_fd(), output));
            if let Some(status) = &session.status {
                wanted.push((Source::Status, status.as_fd(), r#in));
            }
            if let Some(script) = &session.script {
                wanted.push((Source::Script, script.as_fd(), when(!session.input.is_empty(), out)));
            }
        }
        wanted.push((Source::Terminal, self.terminal.as_fd(), terminal));
        // What is not wanted is left out: a descriptor in error reports without being asked.
        wanted.retain(|(_, _, events)| !events.is_empty());
        let mut fds: Vec<PollFd> =
            wanted.iter().map(|(_, fd, events)| PollFd::new(*fd, *events)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready = wanted.iter().zip(&fds).filter_map(|((source, _, _), fd)| {
            fd.revents().filter(|events| !events.is_empty()).map(|events| (*source, events))
        });
        Ok(ready.collect())
    }

    fn serve_control(&mut self, events: PollFlags) -> Result<()> {
        if events.contains(PollFlags::POLLOUT) {
            self.control.channel.flush()?;
        }
        for message in self.control.hear()? {
            match message {
                HostMessage::Ping(number) => self.control.say(&GuestMessage::Pong(number))?,
                HostMessage::Proceed(index) => self.proceed = Some(index),
                HostMessage::Resize { cols, rows } => {
                    if let Some(session) = &self.session {
                        session.pty.resize(cols, rows)?;
                    }
                }
                HostMessage::Plan(plan) if self.plan.is_none() => self.plan = Some(Arc::from(plan)),
                HostMessage::Plan(_) => return Err(Trouble("the host sent a second plan".into())),
            }
        }
        Ok(())
    }

    fn serve_terminal(&mut self, events: PollFlags) -> Result<()> {
        if events.contains(PollFlags::POLLOUT) {
            self.terminal.flush()?;
        }
        if let Some(session) = self.session.as_mut().filter(|session| session.wants_typing()) {
            let mut buffer = [0; 4096];
            let n = self.terminal.read(&mut buffer)?;
            session.input.push(&buffer[..n]);
            session.feed()?;
        }
        Ok(())
    }

    fn pass_output(&mut self) -> Result<()> {
        let Some(session) = &mut self.session else { return Ok(()) };
        if session.script.is_none() && !session.input.is_empty() {
            session.feed()?;
        }
        if self.terminal.out.len() < TERMINAL_LIMIT {
            session.read_output(TURN, self.terminal.out.tail())?;
            self.terminal.flush()?;
        }
        Ok(())
    }

    /// Takes the dead: orphans of the steps too, whose parent PID 1 has become.
    pub(super) fn reap(&mut self) -> Result<()> {
        while let Ok(Some(_)) = self.children.read_signal() {}
        loop {
            // Not nix' waitpid, which has no words for a death by a real-time signal.
            let mut raw = 0;
            // SAFETY: `raw` is where the status goes.
            let pid = match Errno::result(unsafe { libc::waitpid(-1, &mut raw, libc::WNOHANG) }) {
                Ok(0) => {
                    self.populated = true;
                    return Ok(());
                }
                Ok(pid) => Pid::from_raw(pid),
                Err(Errno::ECHILD) => {
                    self.populated = false;
                    return Ok(());
                }
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context("waitpid"),
            };
            let exited = libc::WIFEXITED(raw).then(|| libc::WEXITSTATUS(raw));
            let status = exited.unwrap_or_else(|| 128 + libc::WTERMSIG(raw));
            if let Some(session) = self.session.as_mut().filter(|session| session.pid == pid) {
                // Its last report may still be in the pipe.
                session.read_status()?;
                session.exit = Some(status);
            }
        }
    }
}
