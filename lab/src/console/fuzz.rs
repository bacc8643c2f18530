//! What must hold for any bytes on the control and the log channel: `lab::fuzzing` calls these.

use std::path::Path;

use lab_proto::{
    Decoder, Direction, Encoder, Forgery, GuestMessage, GuestPlan, GuestStep, HostMessage, Nonce,
    Record, Work,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::log::Log;
use super::splat::{Splat, signature_of};
use crate::fuzzing::Input;

/// Lines of more bytes are forgeries here, so that small inputs reach that.
const LONGEST: usize = 512;

/// The reader of records under test.
pub(crate) trait Reader {
    fn set_nonce(&mut self, nonce: Nonce);
    fn feed(&mut self, bytes: &[u8]);
    fn rest(&self) -> &[u8];
    fn next<T: DeserializeOwned>(&mut self) -> Option<Result<Record<T>, Forgery>>;
}

impl Reader for Decoder {
    fn set_nonce(&mut self, nonce: Nonce) {
        Decoder::set_nonce(self, nonce);
    }
    fn feed(&mut self, bytes: &[u8]) {
        Decoder::feed(self, bytes);
    }
    fn rest(&self) -> &[u8] {
        Decoder::rest(self)
    }
    fn next<T: DeserializeOwned>(&mut self) -> Option<Result<Record<T>, Forgery>> {
        self.next_record()
    }
}

/// The control channel: whatever comes, in whatever pieces, the decoder says of each line what a
/// plain reading of the protocol's documentation says; what it takes for a record is, byte for byte,
/// what the encoder writes for it; and it never holds more than a line.
///
/// The input is a script: a byte for the direction, a byte for the size of the pieces, and then what
/// [`Script::perform`] knows.
pub(crate) fn control(data: &[u8]) {
    control_of(data, |direction| Decoder::new(direction).with_longest(LONGEST));
}

/// [`control`] for any reader.
pub(crate) fn control_of<R: Reader>(data: &[u8], reader: impl Fn(Direction) -> R) {
    let mut input = Input(data);
    let guest = input.byte().is_none_or(|b| b.is_multiple_of(2));
    match guest {
        true => Script::new(Direction::FromGuest, &reader).play::<GuestMessage>(input, guest_says),
        false => Script::new(Direction::ToGuest, &reader).play::<HostMessage>(input, host_says),
    }
}

struct Script<R> {
    direction: Direction,
    reader: R,
    model: Model,
    encoder: Encoder,
    nonce: Nonce,
    /// The last genuine line, for a replay.
    last: Vec<u8>,
    piece: usize,
}

impl<R: Reader> Script<R> {
    fn new(direction: Direction, reader: &impl Fn(Direction) -> R) -> Self {
        Self {
            direction,
            reader: reader(direction),
            model: Model::new(direction),
            encoder: Encoder::new(direction),
            nonce: Nonce::default(),
            last: Vec::new(),
            piece: 1,
        }
    }

    fn play<T>(mut self, mut input: Input<'_>, says: fn(u8, u8) -> T)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        self.piece = usize::from(input.byte().unwrap_or(255)).max(1);
        while let Some(what) = input.byte() {
            self.perform(what, &mut input, says);
        }
    }

    fn perform<T>(&mut self, what: u8, input: &mut Input<'_>, says: fn(u8, u8) -> T)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let mut number = || input.byte().unwrap_or(0);
        match what {
            // The next record.
            b'g' => {
                self.last = self.encoder.encode(&says(number(), number()));
                self.pass::<T>(&self.last.clone());
            }
            // The next record, lost.
            b'l' => drop(self.encoder.encode(&says(number(), number()))),
            // The next record with a byte changed, or with one more.
            b'c' | b'i' => {
                let mut line = self.encoder.encode(&says(number(), number()));
                let at = usize::from(number()) % line.len();
                match what {
                    b'c' => line[at] ^= number(),
                    _ => line.insert(at, number()),
                }
                self.pass::<T>(&line);
            }
            // A replay.
            b'r' => self.pass::<T>(&self.last.clone()),
            // An echo: the first record of the other direction, under the same nonce.
            b'o' => {
                let mut other = Encoder::new(match self.direction {
                    Direction::FromGuest => Direction::ToGuest,
                    Direction::ToGuest => Direction::FromGuest,
                });
                other.set_nonce(self.nonce);
                self.pass::<T>(&other.encode(&says(number(), number())));
            }
            // A nonce for both sides, for this one only (the far side has not seen it yet), and for
            // the far side.
            b'n' | b'd' | b'e' => {
                let nonce = Nonce([number(); 16]);
                if what != b'e' {
                    self.reader.set_nonce(nonce);
                    self.model.set_nonce(nonce);
                }
                if what != b'd' {
                    self.encoder.set_nonce(nonce);
                    self.nonce = nonce;
                }
            }
            // Bytes of somebody else; the last of them ends no line.
            b't' => self.pass::<T>(input.until(0)),
            _ => {}
        }
    }

    /// Feeds reader and model, and compares what they say.
    fn pass<T>(&mut self, bytes: &[u8])
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        for piece in bytes.chunks(self.piece) {
            self.reader.feed(piece);
            let mut due = self.model.feed::<T>(piece).into_iter();
            while let Some(said) = self.reader.next::<T>() {
                assert_eq!(Some(&said), due.next().as_ref(), "the first is the decoder's");
                if let Ok(record) = said {
                    self.model.check_bytes(&record);
                }
            }
            assert_eq!(due.next(), None, "the decoder is silent");
            assert_eq!(self.reader.rest(), self.model.unfinished());
            assert!(self.reader.rest().len() <= LONGEST);
        }
    }
}

/// The protocol as its documentation has it, read line by line and without any cleverness.
struct Model {
    direction: Direction,
    nonce: Nonce,
    previous: Option<Nonce>,
    next: u64,
    line: Vec<u8>,
    /// The line that was taken for a record last, with its nonce.
    taken: (Vec<u8>, Nonce),
}

impl Model {
    fn new(direction: Direction) -> Self {
        let taken = (Vec::new(), Nonce::default());
        let nonce = Nonce::default();
        Self { direction, nonce, previous: None, next: 0, line: Vec::new(), taken }
    }

    fn set_nonce(&mut self, nonce: Nonce) {
        self.previous = Some(self.nonce);
        self.nonce = nonce;
    }

    fn feed<T: DeserializeOwned>(&mut self, bytes: &[u8]) -> Vec<Result<Record<T>, Forgery>> {
        let mut said = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                // A longer one has been reported where it became too long.
                if line.len() <= LONGEST {
                    said.push(self.judge(&line));
                }
                continue;
            }
            self.line.push(*byte);
            if self.line.len() == LONGEST + 1 {
                said.push(Err(Forgery::NotARecord(beginning(&self.line))));
            }
        }
        said
    }

    /// What is left of a line that has not been reported.
    fn unfinished(&self) -> &[u8] {
        if self.line.len() > LONGEST { &[] } else { &self.line }
    }

    fn judge<T: DeserializeOwned>(&mut self, line: &[u8]) -> Result<Record<T>, Forgery> {
        let parts = || {
            let text = std::str::from_utf8(line).ok()?;
            let (seq, rest) = text.strip_prefix("lab ")?.split_once(' ')?;
            let (mac, json) = rest.split_once(' ')?;
            let number: u64 = seq.parse().ok()?;
            (number.to_string() == seq).then_some((number, mac, json))
        };
        let (got, mac, json) = parts().ok_or(Forgery::NotARecord(beginning(line)))?;
        let fits = |nonce: &Nonce| mac == self.mac(nonce, got, json);
        let nonce = if fits(&self.nonce) {
            self.previous = None;
            self.nonce
        } else {
            self.previous.filter(fits).ok_or(Forgery::Mac(beginning(line)))?
        };
        if got != self.next {
            return Err(Forgery::Sequence { expected: self.next, got });
        }
        self.next += 1;
        self.taken = (line.to_vec(), nonce);
        let body = serde_json::from_str(json).map_err(|e| Forgery::Body(e.to_string()))?;
        Ok(Record { seq: got, body })
    }

    fn mac(&self, nonce: &Nonce, seq: u64, json: &str) -> String {
        let direction = match self.direction {
            Direction::ToGuest => 0,
            Direction::FromGuest => 1,
        };
        let covered = [&[direction], &seq.to_le_bytes()[..], json.as_bytes()].concat();
        let key = blake3::derive_key("lab control record 1", &nonce.0);
        blake3::keyed_hash(&key, &covered).to_hex()[..16].to_string()
    }

    /// The record as the encoder writes it is the line that came.
    fn check_bytes<T: Serialize>(&self, record: &Record<T>) {
        let mut encoder = Encoder::new(self.direction);
        encoder.set_nonce(self.taken.1);
        for _ in 0..record.seq {
            encoder.encode(&());
        }
        let again = encoder.encode(&record.body);
        assert_eq!(again.strip_suffix(b"\n"), Some(&self.taken.0[..]));
    }
}

fn beginning(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned()
}

fn guest_says(kind: u8, number: u8) -> GuestMessage {
    let (long, n) = (u64::from(number), u32::from(number));
    let words = "\"\\\u{e9}\n".repeat(usize::from(number));
    match kind % 8 {
        0 => GuestMessage::Hello { version: n, release: words },
        1 => GuestMessage::Ready { boot: n },
        2 => GuestMessage::Trouble { what: words },
        3 => GuestMessage::StepStarted { index: n, late: long },
        4 => GuestMessage::StepEnded {
            index: n,
            status: -i32::from(number),
            micros: u64::MAX - long,
            bytes: long,
            shell_gone: number.is_multiple_of(2),
        },
        5 => GuestMessage::Pong(long),
        6 => GuestMessage::Reached { index: n, late: long, tainted: None },
        _ => GuestMessage::End {
            steps: n,
            late: long,
            left_mounted: vec![words],
            tainted: number.is_multiple_of(2).then_some(long),
        },
    }
}

fn host_says(kind: u8, number: u8) -> HostMessage {
    let words = "'\t\u{20ac}".repeat(usize::from(number));
    match kind % 4 {
        0 => HostMessage::Ping(u64::from(number)),
        1 => HostMessage::Resize { cols: number.into(), rows: 24 },
        2 => HostMessage::Proceed(number.into()),
        _ => HostMessage::Plan(Box::new(GuestPlan {
            nonce: Nonce([number; 16]),
            clock_ns: Some(u64::MAX),
            boot: number.into(),
            env: vec![("A".into(), words.clone())],
            modules_from: None,
            modules: Vec::new(),
            disks: Vec::new(),
            shares: Vec::new(),
            work: Work::Steps(vec![GuestStep::run(words), GuestStep::Wait, GuestStep::PowerCut]),
        })),
    }
}

/// The log channel: what is found in it does not hang on the pieces in which it comes, and is found
/// only in lines that printk stamped. The first byte is the size of the pieces.
pub(crate) fn log(data: &[u8]) {
    let mut input = Input(data);
    let piece = usize::from(input.byte().unwrap_or(1)).max(1);
    let read = |size: usize| {
        let mut log = Log::create(Path::new("/dev/null")).expect("/dev/null is there");
        input.0.chunks(size).for_each(|bytes| log.feed(bytes).expect("it takes all"));
        log.finish().expect("a memory file system has room");
        log
    };
    let (log, whole) = (read(piece), read(usize::MAX));
    assert_eq!(log.splats(), whole.splats());
    assert!(log.tail().eq(whole.tail()));
    assert_eq!(log.has_gaps(), whole.has_gaps());
    assert_eq!(log.is_silent(), input.0.is_empty());

    let text = String::from_utf8_lossy(input.0);
    let lines: Vec<&str> = text.split('\n').collect();
    for splat in log.splats() {
        let line = lines[splat.number - 1].trim_end();
        let first = Splat { report: Vec::new(), ..splat.clone() };
        assert_eq!(Splat::find(line, splat.number), Some(first));
        let (before, after) = line.split_at(line.len() - splat.line.len());
        assert_eq!(after, splat.line);
        assert!(before.contains('[') && before.contains(']'), "no stamp: {line:?}");
        assert!(splat.allowed(&[splat.kind.name().to_string()]));
        assert!(signature_of(splat).starts_with(&format!("splat:{}:", splat.kind.name())));
        let json = serde_json::to_string(splat).expect("plain data");
        assert_eq!(serde_json::from_str::<Splat>(&json).expect("it is JSON"), *splat);
    }
    // Without stamps there is nothing to be believed.
    let unstamped = text.replace('[', "(");
    assert!(unstamped.lines().all(|line| Splat::find(line, 1).is_none()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::tests::corpus_notices;

    /// A decoder with one fault.
    struct Faulty {
        decoder: Decoder,
        fault: Fault,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fault {
        None,
        /// Stays with the zero nonce.
        NonceIgnored,
        /// What the far side says before it has seen the new nonce is not taken.
        PreviousForgotten,
        /// A record out of order is passed over in silence.
        OrderIgnored,
        /// So is what somebody else wrote.
        ForgeriesIgnored,
        /// Lines have no limit.
        Endless,
        /// Reads the records of either direction.
        EchoesTaken,
    }

    impl Reader for Faulty {
        fn set_nonce(&mut self, nonce: Nonce) {
            match self.fault {
                Fault::NonceIgnored => {}
                Fault::PreviousForgotten => (0..2).for_each(|_| self.decoder.set_nonce(nonce)),
                _ => self.decoder.set_nonce(nonce),
            }
        }
        fn feed(&mut self, bytes: &[u8]) {
            self.decoder.feed(bytes);
        }
        fn rest(&self) -> &[u8] {
            self.decoder.rest()
        }
        fn next<T: DeserializeOwned>(&mut self) -> Option<Result<Record<T>, Forgery>> {
            match (self.decoder.next_record()?, self.fault) {
                (Err(Forgery::Sequence { .. }), Fault::OrderIgnored) => self.next(),
                (Err(Forgery::Mac(_)), Fault::ForgeriesIgnored) => self.next(),
                (said, _) => Some(said),
            }
        }
    }

    #[test]
    fn a_decoder_with_a_fault_is_noticed() {
        let notices = |fault| {
            corpus_notices("control", |data| {
                control_of(data, |direction| {
                    let direction = match fault {
                        Fault::EchoesTaken => Direction::FromGuest,
                        _ => direction,
                    };
                    let longest = if fault == Fault::Endless { usize::MAX } else { LONGEST };
                    Faulty { decoder: Decoder::new(direction).with_longest(longest), fault }
                });
            })
        };
        assert!(!notices(Fault::None));
        for fault in [
            Fault::NonceIgnored,
            Fault::PreviousForgotten,
            Fault::OrderIgnored,
            Fault::ForgeriesIgnored,
            Fault::Endless,
            Fault::EchoesTaken,
        ] {
            assert!(notices(fault), "{fault:?}");
        }
    }
}
