//! The control channel: records to and from PID 1, and a file of them for people.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::Path;

use lab_proto::{
    Decoder, Direction, Encoder, Forgery, GuestMessage, GuestPlan, HostMessage, Nonce, Record,
};
use nix::errno::Errno;

use super::bounded::{Bounded, Bounds};
use super::{Flow, drain};
use crate::manifest::Result;

/// What came over the control channel.
#[derive(Debug)]
pub enum Incoming {
    /// The next authentic record.
    Record(Record<GuestMessage>),
    /// Something that is none.
    Forged(Forgery),
}

/// The host's side of the control channel.
#[derive(Debug)]
pub struct Control {
    encoder: Encoder,
    decoder: Decoder,
    /// Bytes that the channel did not take yet.
    outgoing: VecDeque<u8>,
    file: Bounded,
    sent_plan: bool,
    /// How much of noise was taken; beyond [`ENOUGH`] nothing is read into memory or the file.
    forged: usize,
}

/// Forgeries after which a run is beyond belief and the rest of the channel is not looked at.
const ENOUGH: usize = 64;

impl Control {
    /// Starts under the zero nonce; records are written to `path` as they pass.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            encoder: Encoder::new(Direction::ToGuest),
            decoder: Decoder::new(Direction::FromGuest),
            outgoing: VecDeque::new(),
            file: Bounded::create(path, Bounds::default())?,
            sent_plan: false,
            forged: 0,
        })
    }

    /// Starts anew for the machine's next boot; its records follow in the same file, below a line
    /// that says so.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin_boot(&mut self, boot: usize) -> std::io::Result<()> {
        self.file.feed(format!("-- boot {boot} --\n").as_bytes())?;
        self.encoder = Encoder::new(Direction::ToGuest);
        self.decoder = Decoder::new(Direction::FromGuest);
        self.outgoing.clear();
        self.sent_plan = false;
        Ok(())
    }

    /// The answer to `Hello`; from here on both directions use the plan's nonce.
    pub fn send_plan(&mut self, plan: GuestPlan) {
        let nonce: Nonce = plan.nonce;
        self.send(&HostMessage::Plan(Box::new(plan)));
        self.encoder.set_nonce(nonce);
        self.decoder.set_nonce(nonce);
        self.sent_plan = true;
    }

    /// Whether the plan went out.
    pub fn sent_plan(&self) -> bool {
        self.sent_plan
    }

    /// Queues a record; [`Control::flush`] writes it.
    pub fn send(&mut self, message: &HostMessage) {
        self.outgoing.extend(self.encoder.encode(message));
    }

    /// Whether there is something to write.
    pub fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Writes as much as the channel takes.
    ///
    /// # Errors
    /// write(2)'s, other than "later"; a closed channel is no error here: reading shows it.
    pub fn flush(&mut self, fd: BorrowedFd<'_>) -> std::io::Result<()> {
        while !self.outgoing.is_empty() {
            let (bytes, _) = self.outgoing.as_slices();
            match nix::unistd::write(fd, bytes) {
                Ok(n) => drop(self.outgoing.drain(..n)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => self.outgoing.clear(),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// read(2)'s, and those of the file of records.
    pub fn read(
        &mut self,
        fd: BorrowedFd<'_>,
        buffer: &mut [u8],
        take: &mut Vec<Incoming>,
    ) -> std::io::Result<Flow> {
        let (decoder, file) = (&mut self.decoder, &mut self.file);
        let believed = self.forged < ENOUGH;
        drain(fd, buffer, 1 << 20, |bytes| {
            if !believed {
                return Ok(());
            }
            file.feed(bytes)?;
            decoder.feed(bytes);
            Ok(())
        })
        .inspect(|_| {
            // A plan that has just been sent changes the nonce only between records: the guest
            // says nothing between its Hello and the plan's arrival.
            while self.forged < ENOUGH && (take.is_empty() || self.sent_plan) {
                match self.decoder.next_record() {
                    Some(Ok(record)) => take.push(Incoming::Record(record)),
                    Some(Err(forgery)) => {
                        self.forged += 1;
                        take.push(Incoming::Forged(forgery));
                    }
                    None => break,
                }
            }
        })
    }

    /// The channel is read to its end.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.file.finish()
    }

    /// Bytes of an unfinished line: at the channel's end they are a forgery.
    pub fn unfinished(&self) -> Option<Forgery> {
        let rest = self.decoder.rest();
        (!rest.is_empty()).then(|| {
            let shown = String::from_utf8_lossy(&rest[..rest.len().min(120)]).into_owned();
            Forgery::NotARecord(shown)
        })
    }
}
