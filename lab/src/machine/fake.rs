//! A scripted machine for tests of the run loop: a thread plays the guest, so that lies, silence
//! and sudden deaths can be played exactly. It proves nothing about kernels; real boots do that.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use lab_proto::{Decoder, Direction, Encoder, GuestMessage, GuestPlan, HostMessage, VERSION};

use super::{Channels, Ending, GuestView, LogEnd, Machine};
use crate::manifest::{Diagnostic, MachineOp, Result};

/// A machine whose guest is a closure on a thread.
#[derive(Debug)]
pub struct Fake {
    channels: Channels,
    ending: UnixStream,
    seen: Option<Ending>,
    guest: Option<JoinHandle<Ending>>,
    /// Of the boots that follow.
    scripts: VecDeque<Script>,
}

/// What a guest does in one boot.
struct Script(Box<dyn FnOnce(FakeGuest) -> Ending + Send>);

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

/// The guest's side of a [`Fake`].
#[derive(Debug)]
pub struct FakeGuest {
    /// printk.
    pub log: UnixStream,
    /// The steps' terminal.
    pub terminal: UnixStream,
    /// The raw control channel, for forgeries.
    pub control: UnixStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Fake {
    /// Starts `guest`; what it returns is how the machine ended.
    ///
    /// # Panics
    /// If no sockets can be had.
    pub fn start(guest: impl FnOnce(FakeGuest) -> Ending + Send + 'static) -> Self {
        Self::play(Script(Box::new(guest)))
    }

    /// What the next boot does.
    pub fn then(mut self, guest: impl FnOnce(FakeGuest) -> Ending + Send + 'static) -> Self {
        self.scripts.push_back(Script(Box::new(guest)));
        self
    }

    fn play(guest: Script) -> Self {
        let pair = || UnixStream::pair().expect("socketpair");
        let ((log, l), (terminal, t), (control, c), (words, _)) = (pair(), pair(), pair(), pair());
        let (ending, done) = pair();
        for stream in [&log, &terminal, &control, &words] {
            stream.set_nonblocking(true).expect("fcntl");
        }
        let guest = std::thread::spawn(move || {
            let ending = (guest.0)(FakeGuest {
                log: l,
                terminal: t,
                control: c,
                encoder: Encoder::new(Direction::FromGuest),
                decoder: Decoder::new(Direction::ToGuest),
            });
            drop(done);
            ending
        });
        let channels = Channels {
            log: LogEnd::Stream(OwnedFd::from(log)),
            terminal: OwnedFd::from(terminal),
            control: OwnedFd::from(control),
            words: OwnedFd::from(words),
        };
        Self { channels, ending, seen: None, guest: Some(guest), scripts: VecDeque::new() }
    }
}

impl FakeGuest {
    /// Says hello, and takes the plan.
    ///
    /// # Panics
    /// If the host's answer is not a plan.
    pub fn hello(&mut self) -> GuestPlan {
        self.say(&GuestMessage::Hello { version: VERSION, release: "fake".into() });
        match self.hear() {
            Some(HostMessage::Plan(plan)) => {
                self.encoder.set_nonce(plan.nonce);
                self.decoder.set_nonce(plan.nonce);
                *plan
            }
            other => panic!("a plan was due, not {other:?}"),
        }
    }

    /// Sends a record.
    pub fn say(&mut self, message: &GuestMessage) {
        let line = self.encoder.encode(message);
        let _ = self.control.write_all(&line);
    }

    /// The next record of the host; `None` when its end is closed.
    pub fn hear(&mut self) -> Option<HostMessage> {
        loop {
            if let Some(record) = self.decoder.next_record() {
                return record.ok().map(|r| r.body);
            }
            let mut buffer = [0; 4096];
            match self.control.read(&mut buffer) {
                Ok(n) if n > 0 => self.decoder.feed(&buffer[..n]),
                _ => return None,
            }
        }
    }

    /// Waits until the host is done with this machine, as a guest does whose power is to be cut.
    pub fn wait_for_the_end(&mut self) -> Ending {
        while self.hear().is_some() {}
        Ending::Signalled(9)
    }

    /// A whole step: start, output, end with `status`.
    pub fn step(&mut self, index: u32, output: &[u8], status: i32) {
        self.say(&GuestMessage::StepStarted { index, late: 0 });
        let _ = self.terminal.write_all(output);
        let bytes = output.len() as u64;
        self.say(&GuestMessage::StepEnded { index, status, micros: 1, bytes, shell_gone: false });
    }
}

impl Machine for Fake {
    fn channels(&self) -> &Channels {
        &self.channels
    }

    fn guest_view(&self) -> GuestView {
        GuestView::default()
    }

    fn ending_fd(&self) -> BorrowedFd<'_> {
        self.ending.as_fd()
    }

    fn ending(&mut self) -> Option<Ending> {
        if self.guest.as_ref().is_some_and(JoinHandle::is_finished) {
            let guest = self.guest.take()?;
            self.seen = Some(guest.join().unwrap_or(Ending::HelperGone));
        }
        self.seen.clone()
    }

    fn request(&mut self, op: &MachineOp) -> Result<()> {
        Err(Diagnostic::trouble(format!("a fake machine cannot do \"{op}\"")))
    }

    fn freeze(&mut self) -> Result<()> {
        match self.ending() {
            None => Ok(()),
            Some(_) => Err(Diagnostic::trouble("the script had ended")),
        }
    }

    fn start_again(&mut self) -> Result<()> {
        self.kill();
        let Some(script) = self.scripts.pop_front() else {
            return Err(Diagnostic::trouble("there is no script for another boot"));
        };
        let scripts = std::mem::take(&mut self.scripts);
        *self = Self::play(script);
        self.scripts = scripts;
        Ok(())
    }

    fn kill(&mut self) {
        // A thread cannot be killed; closing its channels makes a well-written script end.
        let Channels { log, terminal, control, .. } = &self.channels;
        for fd in [log.poll_fd(), Some(terminal.as_fd()), Some(control.as_fd())] {
            use std::os::fd::AsRawFd;
            let raw = fd.map_or(-1, |fd| fd.as_raw_fd());
            let _ = nix::sys::socket::shutdown(raw, nix::sys::socket::Shutdown::Both);
        }
    }
}
