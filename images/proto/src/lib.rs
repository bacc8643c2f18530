//! The control protocol between `lab` on the host and PID 1 in the guest.
//!
//! One record is one line, `lab SEQ MAC JSON`. SEQ counts from 0 in each direction, so that a lost
//! record shows; MAC is keyed with the run's nonce, so that bytes which some program of the guest
//! writes to the device by accident are never taken for a record. (Guest root can read PID 1's
//! memory and forge its own case's verdict: docs/architecture.md says what is promised.)
//!
//! The dialogue: the guest opens its control device, makes it raw and says `Hello` under the zero
//! nonce; the host answers with `Plan` under the zero nonce too, which carries the run's nonce, and
//! from then on both sides use that one.
//!
//! A machine that boots several times in one run has a nonce for each boot ([`Nonce::of_boot`]), so
//! that what was said in one boot is not authentic in another although the numbers start again.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the protocol; PID 1 and the host must agree exactly, as they are built together.
pub const VERSION: u32 = 2;

/// The longest line that either side accepts, in bytes. A plan carries every step's text.
pub const MAX_LINE: usize = 4 << 20;

/// The secret of one run: 16 random bytes. All zero until the plan has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 16]);

impl Nonce {
    /// The nonce of a boot: the run's own is never on the wire.
    pub fn of_boot(&self, boot: u32) -> Self {
        let mut nonce = Self::default();
        nonce.0.copy_from_slice(&self.derive("boot", u64::from(boot))[..16]);
        nonce
    }

    /// Bytes that only the holders of the nonce can know: one block a purpose and number.
    pub fn derive(&self, purpose: &str, number: u64) -> [u8; 32] {
        let key = blake3::derive_key("lab derived bytes 1", &self.0);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&number.to_le_bytes());
        hasher.update(purpose.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// Which way a record goes; part of what the MAC covers, so that an echo is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lab to PID 1.
    ToGuest,
    /// From PID 1 to the lab.
    FromGuest,
}

/// One control record, numbered and authenticated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<T> {
    /// Counts from 0 in each direction and each boot.
    pub seq: u64,
    /// What is said.
    pub body: T,
}

/// What the host says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostMessage {
    /// All that the guest has to do; the answer to `Hello`. Under the zero nonce.
    Plan(Box<GuestPlan>),
    /// Are you alive? Answered by `Pong` with the same number.
    Ping(u64),
    /// The host has done what the step of this index asks of it; the answer to `Reached`.
    Proceed(u32),
    /// The size of the user's terminal (shell only).
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
}

/// What the guest says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestMessage {
    /// PID 1 runs and its control device is raw. Under the zero nonce.
    Hello {
        /// [`VERSION`] of the guest's side.
        version: u32,
        /// `uname -r` of the kernel that runs.
        release: String,
    },
    /// Mounts, modules and disks are as planned; the steps begin.
    Ready {
        /// [`GuestPlan::boot`], as PID 1 has it.
        boot: u32,
    },
    /// Something could not be done (a mount, a module, a disk, the shell); PID 1 powers off without
    /// an end record. Under the zero nonce if the plan has not come yet.
    Trouble {
        /// What, and the errno's words.
        what: String,
    },
    /// A step begins.
    StepStarted {
        /// Index into [`GuestPlan::steps`].
        index: u32,
        /// Bytes that reached the terminal between the end of the step before and now.
        late: u64,
    },
    /// A step ended.
    StepEnded {
        /// Index into [`GuestPlan::steps`].
        index: u32,
        /// The shell's `$?`; of the shell itself where `shell_gone`.
        status: i32,
        /// Duration in microseconds of the guest's monotonic clock.
        micros: u64,
        /// Bytes on the terminal channel that belong to this step.
        bytes: u64,
        /// The step ended the shell (`exit`, `exec`, `set -e`, a signal).
        shell_gone: bool,
    },
    /// A step has come that the host does. Before a power cut PID 1 does nothing any more when it has
    /// said this, and all bytes that the records count are on the terminal channel; before a reboot
    /// it goes on to the end record; else it waits for `Proceed`, and then says `StepEnded`.
    Reached {
        /// Index into [`GuestPlan::steps`].
        index: u32,
        /// Bytes that reached the terminal between the end of the step before and now.
        late: u64,
        /// /proc/sys/kernel/tainted, where it could be read.
        tainted: Option<u64>,
    },
    /// The answer to `Ping`.
    Pong(u64),
    /// The last record: steps are over, processes killed, file systems synced and unmounted.
    End {
        /// How many steps ended in this boot.
        steps: u32,
        /// Bytes on the terminal channel after the last step's end.
        late: u64,
        /// Mounts that could not be undone, with the errno's words. Not an error in itself.
        left_mounted: Vec<String>,
        /// /proc/sys/kernel/tainted, where it could be read.
        tainted: Option<u64>,
    },
}

/// All that the guest has to do in one boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestPlan {
    /// Keys every later record.
    pub nonce: Nonce,
    /// The wall clock to set, nanoseconds since the epoch; `None` leaves the kernel's.
    pub clock_ns: Option<u64>,
    /// How many times this run's machine has booted before.
    pub boot: u32,
    /// The environment of the shell, complete.
    pub env: Vec<(String, String)>,
    /// Where the kernel's module tree is, to be mounted on /lib/modules/RELEASE.
    pub modules_from: Option<GuestShare>,
    /// Modules (names or aliases) to load before the first step, in this order.
    pub modules: Vec<String>,
    /// Disks, for their /dev/lab/NAME links.
    pub disks: Vec<GuestDisk>,
    /// Host folders to mount.
    pub shares: Vec<GuestShare>,
    /// What to run.
    pub work: Work,
}

/// What the guest runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// The steps of a case, in one shell, each reported.
    Steps(Vec<GuestStep>),
    /// An interactive shell, reported as step 0; bytes of the terminal channel go both ways.
    Shell {
        /// Columns of the user's terminal.
        cols: u16,
        /// Rows of the user's terminal.
        rows: u16,
    },
}

/// One step of a boot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestStep {
    /// A command for the shell.
    Run {
        /// Shell text, possibly of several lines.
        run: String,
        /// Any other status than this ends the case (a set-up step).
        stop_unless: Option<i32>,
    },
    /// The host does something to the machine, which goes on.
    Wait,
    /// The host cuts the power: nothing is synced or unmounted. The last step of its boot.
    PowerCut,
    /// An orderly end, after which the host starts the machine again. The last step of its boot.
    Reboot,
}

impl GuestStep {
    /// A command whose status is no reason to stop.
    pub fn run(text: impl Into<String>) -> Self {
        Self::Run { run: text.into(), stop_unless: None }
    }
}

/// A disk as the guest sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestDisk {
    /// The case's name: the link is /dev/lab/NAME.
    pub name: String,
    /// The kernel's node, for example `/dev/ubda`.
    pub device: String,
}

/// A host folder as the guest mounts it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestShare {
    /// `hostfs` or `virtiofs`.
    pub fstype: String,
    /// The source argument of mount(2).
    pub source: String,
    /// Its data argument; for hostfs the folder on the host's side.
    pub data: String,
    /// Where in the guest; made if missing.
    pub guest: String,
    /// Mounted read-only.
    pub readonly: bool,
}

/// Why a line is not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Not of the form `lab SEQ MAC JSON`, or longer than [`MAX_LINE`]; the start of the line.
    NotARecord(String),
    /// The MAC is wrong: somebody else wrote it.
    Mac(String),
    /// Authentic but out of order: records were lost or repeated.
    Sequence {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// Authentic, in order, and yet not of this protocol.
    Body(String),
}

impl std::fmt::Display for Forgery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotARecord(line) => write!(f, "not a control record: {line:?}"),
            Self::Mac(line) => write!(f, "control record with a wrong authentication: {line:?}"),
            Self::Sequence { expected, got } => {
                write!(f, "control record {got} came where {expected} was due")
            }
            Self::Body(why) => write!(f, "control record not understood: {why}"),
        }
    }
}

impl std::error::Error for Forgery {}

/// Writes records of one direction.
#[derive(Debug)]
pub struct Encoder {
    direction: Direction,
    nonce: Nonce,
    seq: u64,
}

impl Encoder {
    /// Starts at number 0 under the zero nonce.
    pub fn new(direction: Direction) -> Self {
        Self { direction, nonce: Nonce::default(), seq: 0 }
    }

    /// The run's nonce, from the next record on.
    pub fn set_nonce(&mut self, nonce: Nonce) {
        self.nonce = nonce;
    }

    /// The next record as a line with its newline.
    pub fn encode<T: Serialize>(&mut self, body: &T) -> Vec<u8> {
        let json = serde_json::to_string(body).expect("protocol types have no failing serializer");
        let mac = mac(&self.nonce, self.direction, self.seq, &json);
        let line = format!("lab {} {mac} {json}\n", self.seq);
        self.seq += 1;
        line.into_bytes()
    }
}

/// Reads records of one direction from a stream of bytes.
#[derive(Debug)]
pub struct Decoder {
    direction: Direction,
    nonce: Nonce,
    /// What records may still come under: the far side may not have seen the new nonce yet.
    previous: Option<Nonce>,
    next: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` is done with.
    taken: usize,
    /// How much of `buffer` is known to hold no newline.
    scanned: usize,
    /// Longer lines are forgeries: [`MAX_LINE`].
    longest: usize,
    /// Within such a line, which has been reported: the rest of it is nothing new.
    skipping: bool,
}

impl Decoder {
    /// Expects number 0 under the zero nonce first.
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            nonce: Nonce::default(),
            previous: None,
            next: 0,
            buffer: Vec::new(),
            taken: 0,
            scanned: 0,
            longest: MAX_LINE,
            skipping: false,
        }
    }

    /// Takes no line of more than `longest` bytes, its newline not counted.
    #[must_use]
    pub fn with_longest(mut self, longest: usize) -> Self {
        self.longest = longest;
        self
    }

    /// The run's nonce, from the next record on. What the far side said before it had this one is
    /// still taken, until the first record under it.
    pub fn set_nonce(&mut self, nonce: Nonce) {
        self.previous = Some(std::mem::replace(&mut self.nonce, nonce));
    }

    /// Takes bytes as they come off the channel.
    pub fn feed(&mut self, bytes: &[u8]) {
        // Once a read, not once a line: a flood of short lines stays linear.
        self.buffer.drain(..self.taken);
        self.scanned -= self.taken;
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether bytes of an unfinished line are left: at the end of the channel that is a forgery.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The next record, `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`Forgery`] for a line that is not the next record; the line is consumed.
    pub fn next_record<T: DeserializeOwned>(&mut self) -> Option<Result<Record<T>, Forgery>> {
        loop {
            let Some(at) = self.buffer[self.scanned..].iter().position(|&b| b == b'\n') else {
                let long = self.buffer.len() - self.taken > self.longest;
                let shown = (long && !self.skipping).then(|| excerpt(self.rest()));
                self.skipping |= long;
                if self.skipping {
                    self.buffer.clear();
                    self.taken = 0;
                }
                self.scanned = self.buffer.len();
                return shown.map(|shown| Err(Forgery::NotARecord(shown)));
            };
            let line = self.taken..self.scanned + at;
            (self.taken, self.scanned) = (line.end + 1, line.end + 1);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let line = self.buffer[line].to_vec();
            return Some(match line.len() > self.longest {
                true => Err(Forgery::NotARecord(excerpt(&line))),
                false => self.parse(&line),
            });
        }
    }

    fn parse<T: DeserializeOwned>(&mut self, line: &[u8]) -> Result<Record<T>, Forgery> {
        let not_one = || Forgery::NotARecord(excerpt(line));
        let text = std::str::from_utf8(line).map_err(|_| not_one())?;
        let mut parts = text.splitn(4, ' ');
        let (Some("lab"), Some(seq), Some(given), Some(json)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(not_one());
        };
        // One spelling a number: "+0" or "00" would be another line with the same MAC.
        let seq: u64 = match seq.parse() {
            Ok(number) if u64::to_string(&number) == seq => number,
            _ => return Err(not_one()),
        };
        if given == mac(&self.nonce, self.direction, seq, json) {
            self.previous = None;
        } else if self.previous.is_none_or(|n| given != mac(&n, self.direction, seq, json)) {
            return Err(Forgery::Mac(excerpt(line)));
        }
        if seq != self.next {
            return Err(Forgery::Sequence { expected: self.next, got: seq });
        }
        self.next += 1;
        let body = serde_json::from_str(json).map_err(|e| Forgery::Body(e.to_string()))?;
        Ok(Record { seq, body })
    }
}

fn excerpt(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned()
}

fn mac(nonce: &Nonce, direction: Direction, seq: u64, json: &str) -> String {
    let key = blake3::derive_key("lab control record 1", &nonce.0);
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(&[direction as u8]);
    hasher.update(&seq.to_le_bytes());
    hasher.update(json.as_bytes());
    hasher.finalize().to_hex()[..16].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Encoder, Decoder) {
        (Encoder::new(Direction::FromGuest), Decoder::new(Direction::FromGuest))
    }

    #[test]
    fn records_survive_any_split() {
        let (mut enc, _) = pair();
        let mut bytes = enc.encode(&GuestMessage::Ready { boot: 0 });
        bytes.extend(enc.encode(&GuestMessage::Pong(7)));
        for cut in 0..bytes.len() {
            let mut dec = Decoder::new(Direction::FromGuest);
            let mut seen = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                dec.feed(part);
                while let Some(r) = dec.next_record::<GuestMessage>() {
                    seen.push(r.unwrap().body);
                }
            }
            assert_eq!(seen, [GuestMessage::Ready { boot: 0 }, GuestMessage::Pong(7)]);
            assert!(dec.rest().is_empty());
        }
    }

    #[test]
    fn noise_replay_loss_echo_and_other_nonces_are_forgeries() {
        let one = |bytes: &[u8], setup: fn(&mut Decoder)| {
            let (_, mut dec) = pair();
            setup(&mut dec);
            dec.feed(bytes);
            dec.next_record::<GuestMessage>().unwrap().map(|r| r.body)
        };
        let (mut enc, _) = pair();
        let first = enc.encode(&GuestMessage::Ready { boot: 0 });
        let second = enc.encode(&GuestMessage::Ready { boot: 0 });
        assert!(one(&first, |_| {}).is_ok());
        assert!(matches!(one(b"hello\n", |_| {}), Err(Forgery::NotARecord(_))));
        assert!(matches!(one(b"\xff\n", |_| {}), Err(Forgery::NotARecord(_))));
        assert!(matches!(one(b"lab 0 0000000000000000 \"ready\"\n", |_| {}), Err(Forgery::Mac(_))));
        assert_eq!(one(&second, |_| {}), Err(Forgery::Sequence { expected: 0, got: 1 }));
        let twice = |d: &mut Decoder| (1..3).for_each(|n| d.set_nonce(Nonce([n; 16])));
        assert!(matches!(one(&first, twice), Err(Forgery::Mac(_))));
        let mut echo = Encoder::new(Direction::ToGuest);
        assert!(matches!(
            one(&echo.encode(&GuestMessage::Ready { boot: 0 }), |_| {}),
            Err(Forgery::Mac(_))
        ));
        assert!(matches!(one(&enc_of("nonsense"), |_| {}), Err(Forgery::Body(_))));
    }

    #[test]
    fn derived_bytes_depend_on_all() {
        let nonce = Nonce([1; 16]);
        let all = [
            nonce.derive("a", 0),
            nonce.derive("a", 1),
            nonce.derive("b", 0),
            Nonce([2; 16]).derive("a", 0),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[n + 1..].contains(one));
        }
    }

    #[test]
    fn a_record_of_one_boot_is_forged_in_another() {
        let run = Nonce([9; 16]);
        let nonces = [run, run.of_boot(0), run.of_boot(1), Nonce([8; 16]).of_boot(1)];
        for (n, sender) in nonces.iter().enumerate() {
            for (m, receiver) in nonces.iter().enumerate() {
                let (mut enc, mut dec) = pair();
                enc.set_nonce(*sender);
                dec.set_nonce(*receiver);
                dec.feed(&enc.encode(&GuestMessage::Pong(1)));
                assert_eq!(dec.next_record::<GuestMessage>().unwrap().is_ok(), n == m);
            }
        }
    }

    #[test]
    fn the_old_nonce_holds_until_the_new_one_is_used() {
        let (mut enc, mut dec) = pair();
        dec.feed(&enc.encode(&GuestMessage::Ready { boot: 0 }));
        assert!(dec.next_record::<GuestMessage>().unwrap().is_ok());
        dec.set_nonce(Nonce([1; 16]));
        dec.feed(&enc.encode(&GuestMessage::Pong(1)));
        assert!(dec.next_record::<GuestMessage>().unwrap().is_ok());
        let mut old = Encoder::new(Direction::FromGuest);
        old.seq = 3;
        enc.set_nonce(Nonce([1; 16]));
        dec.feed(&enc.encode(&GuestMessage::Pong(2)));
        dec.feed(&old.encode(&GuestMessage::Pong(3)));
        assert!(dec.next_record::<GuestMessage>().unwrap().is_ok());
        assert!(matches!(dec.next_record::<GuestMessage>(), Some(Err(Forgery::Mac(_)))));
    }

    fn enc_of(body: &str) -> Vec<u8> {
        Encoder::new(Direction::FromGuest).encode(&body)
    }

    #[test]
    fn an_endless_line_is_one_forgery_however_it_comes() {
        let (mut enc, _) = pair();
        let mut bytes = vec![b'x'; MAX_LINE + 1];
        bytes.push(b'\n');
        bytes.extend(enc.encode(&GuestMessage::Ready { boot: 0 }));
        for chunk in [MAX_LINE / 2, MAX_LINE + 1, bytes.len()] {
            let (_, mut dec) = pair();
            let mut seen = Vec::new();
            for part in bytes.chunks(chunk) {
                dec.feed(part);
                while let Some(r) = dec.next_record::<GuestMessage>() {
                    seen.push(r.map(|r| r.body));
                }
                assert!(dec.rest().len() <= MAX_LINE);
            }
            assert!(matches!(
                &seen[..],
                [Err(Forgery::NotARecord(_)), Ok(GuestMessage::Ready { boot: 0 })]
            ));
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        let (mut enc, _) = pair();
        let line = String::from_utf8(enc.encode(&GuestMessage::Ready { boot: 0 })).unwrap();
        for other in ["lab +0 ", "lab 00 "] {
            let (_, mut dec) = pair();
            dec.feed(line.replacen("lab 0 ", other, 1).as_bytes());
            let got = dec.next_record::<GuestMessage>();
            assert!(matches!(got, Some(Err(Forgery::NotARecord(_)))), "{got:?}");
        }
    }

    /// Quadratic work would take hours here, not the fraction of a second that it does.
    #[test]
    fn a_line_that_comes_byte_by_byte_costs_linear_time() {
        let (_, mut dec) = pair();
        let begun = std::time::Instant::now();
        for _ in 0..MAX_LINE {
            dec.feed(b"x");
            assert!(dec.next_record::<GuestMessage>().is_none());
        }
        dec.feed(&b"\n".repeat(MAX_LINE));
        let lines = std::iter::from_fn(|| dec.next_record::<GuestMessage>()).count();
        assert_eq!(lines, MAX_LINE);
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }
}
