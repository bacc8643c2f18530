//! The two devices towards the host: control (records) and terminal (the steps' output).

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab_proto::{Decoder, Direction, Encoder, GuestMessage, HostMessage};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr};
use nix::unistd::read;

use crate::queue::Queue;
use crate::trouble::{Context, Result, Trouble};

/// A device, raw and non-blocking, with what still waits to go out.
#[derive(Debug)]
pub struct Channel {
    name: String,
    fd: OwnedFd,
    /// What waits to be written.
    pub out: Queue,
}

impl Channel {
    /// Opens the device and makes it raw.
    ///
    /// # Errors
    /// No such device, or not usable.
    pub fn open(path: &str) -> Result<Self> {
        wait_for(path);
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).context(path)?;
        match tcgetattr(&fd) {
            Ok(mut modes) => {
                cfmakeraw(&mut modes);
                tcsetattr(&fd, SetArg::TCSANOW, &modes).context(path)?;
            }
            // A port that is no tty (virtio-serial) is raw by nature.
            Err(Errno::ENOTTY) => {}
            Err(errno) => return Err(errno).context(path),
        }
        Ok(Self { name: path.into(), fd, out: Queue::default() })
    }

    /// Writes what the device takes now.
    ///
    /// # Errors
    /// The host's side is gone.
    pub fn flush(&mut self) -> Result<()> {
        self.out.write_to(&self.fd).context(&self.name)
    }

    /// Reads what is there, at most a buffer full; 0 when there is nothing now.
    ///
    /// # Errors
    /// The host's side is gone.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        match read(&self.fd, buffer) {
            Ok(0) => Err(Trouble(format!("{}: closed by the host", self.name))),
            Ok(n) => Ok(n),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno).context(&self.name),
        }
    }

    /// Writes all that waits, and returns when the device has passed it on.
    ///
    /// # Errors
    /// The host's side is gone.
    pub fn drain(&mut self) -> Result<()> {
        // The end of the guest: nothing else is left to be done meanwhile.
        let flags = fcntl(&self.fd, FcntlArg::F_GETFL).context(&self.name)?;
        let blocking = OFlag::from_bits_retain(flags) - OFlag::O_NONBLOCK;
        fcntl(&self.fd, FcntlArg::F_SETFL(blocking)).context(&self.name)?;
        self.flush()?;
        match tcdrain(&self.fd) {
            Err(Errno::ENOTTY) => Ok(()),
            other => other.context(&self.name),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The control channel.
#[derive(Debug)]
pub struct Control {
    /// Its device.
    pub channel: Channel,
    encoder: Encoder,
    decoder: Decoder,
}

impl Control {
    /// Opens the device.
    ///
    /// # Errors
    /// As [`Channel::open`].
    pub fn open(path: &str) -> Result<Self> {
        Ok(Self {
            channel: Channel::open(path)?,
            encoder: Encoder::new(Direction::FromGuest),
            decoder: Decoder::new(Direction::ToGuest),
        })
    }

    /// Sends a record, or queues what the device does not take now.
    ///
    /// # Errors
    /// The host's side is gone.
    pub fn say(&mut self, message: &GuestMessage) -> Result<()> {
        self.channel.out.push(&self.encoder.encode(message));
        self.channel.flush()
    }

    /// The messages that have come. A plan's nonce is valid at once in both directions.
    ///
    /// # Errors
    /// The host's side is gone, or says what is not a record.
    pub fn hear(&mut self) -> Result<Vec<HostMessage>> {
        // The tty hands out 4 KiB at a time: a plan takes many rounds, each record is parsed once.
        let mut buffer = [0; 4096];
        loop {
            let n = self.channel.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            self.decoder.feed(&buffer[..n]);
        }
        let mut messages = Vec::new();
        while let Some(record) = self.decoder.next_record::<HostMessage>() {
            let message =
                record.map_err(|forgery| Trouble(format!("from the host: {forgery}")))?.body;
            if let HostMessage::Plan(plan) = &message {
                self.decoder.set_nonce(plan.nonce);
                self.encoder.set_nonce(plan.nonce);
            }
            messages.push(message);
        }
        Ok(messages)
    }
}

/// Which device the kernel's command line names (`KEY=DEVICE`).
///
/// # Errors
/// None.
pub fn device(key: &str) -> Result<String> {
    let cmdline = fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    let named = argument(&cmdline, key).map(str::to_string);
    named.ok_or_else(|| Trouble(format!("no {key}=DEVICE on the kernel's command line")))
}

/// Waits up to two seconds for a node that a driver may still be making. Whether it came, opening
/// it will tell. Does not sleep where the node is there: a sleep moves a virtual clock.
pub fn wait_for(path: &str) {
    let since = Instant::now();
    let mut pause = Duration::from_millis(1);
    while !Path::new(path).exists() && since.elapsed() < Duration::from_secs(2) {
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// The last one counts, as for the kernel's own.
fn argument<'a>(cmdline: &'a str, key: &str) -> Option<&'a str> {
    let mut words = cmdline.split_ascii_whitespace().rev();
    words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_a_command_line() {
        let line = "mem=256M lab.control=/dev/no lab.control=/dev/ttyS0 lab.controls=/dev/no quiet";
        assert_eq!(argument(line, "lab.control"), Some("/dev/ttyS0"));
        assert_eq!(argument(line, "lab.terminal"), None);
    }
}
