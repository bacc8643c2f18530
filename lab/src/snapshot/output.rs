//! What one step printed, as much of it as a transcript shows: whole where it is short, else head,
//! tail, length and digest. It is made while the bytes come, so that a flood costs no memory.

use super::filters::Filters;

/// Outputs of more bytes than this, after filters, are shown by head, tail, length and digest.
pub(super) const WHOLE: usize = 64 << 10;
/// The most that head and tail of a longer one show, in bytes each.
pub(super) const PART: usize = 1 << 10;

/// Filters see an output in pieces of at most this many bytes, cut at line ends.
const PIECE: usize = 1 << 20;

/// A step's output after the filters.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// All of it.
    Whole(Vec<u8>),
    /// What is left of one that is too long.
    Cut {
        /// Its first bytes, one more than are shown.
        head: Vec<u8>,
        /// Its last bytes, one more than are shown.
        tail: Vec<u8>,
        /// Bytes in all.
        length: u64,
        /// BLAKE3 of all of them.
        digest: blake3::Hash,
    },
}

impl Default for Output {
    fn default() -> Self {
        Self::Whole(Vec::new())
    }
}

impl Output {
    /// Of bytes that are all there.
    pub fn new(bytes: &[u8], filters: &Filters) -> Self {
        let mut stream = OutputStream::new(filters);
        stream.feed(bytes);
        stream.finish()
    }

    /// Whether nothing was printed.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }
}

/// An output that is still coming.
#[derive(Debug)]
pub struct OutputStream<'a> {
    filters: &'a Filters,
    /// Waits for its line's end, so that the filters see whole lines.
    raw: Vec<u8>,
    /// All so far while that is short; then only the head.
    first: Vec<u8>,
    /// The last bytes of a long one, and some more.
    last: Vec<u8>,
    hasher: Option<blake3::Hasher>,
    length: u64,
}

impl<'a> OutputStream<'a> {
    /// Nothing yet.
    pub fn new(filters: &'a Filters) -> Self {
        Self {
            filters,
            raw: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
            hasher: None,
            length: 0,
        }
    }

    /// Takes bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.filters.is_empty() {
            return self.keep(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE - self.raw.len()));
            self.raw.extend_from_slice(now);
            rest = later;
            if self.raw.len() == PIECE {
                let end = self.raw.iter().rposition(|b| *b == b'\n').map_or(PIECE, |at| at + 1);
                self.filter(end);
            }
        }
    }

    /// No more comes.
    pub fn finish(mut self) -> Output {
        self.filter(self.raw.len());
        match self.hasher {
            None => Output::Whole(self.first),
            Some(hasher) => {
                let from = self.last.len() - (PART + 1);
                Output::Cut {
                    head: self.first,
                    tail: self.last.split_off(from),
                    length: self.length,
                    digest: hasher.finalize(),
                }
            }
        }
    }

    fn filter(&mut self, end: usize) {
        let filters = self.filters;
        let raw = std::mem::take(&mut self.raw);
        self.keep(&filters.apply(&raw[..end]));
        self.raw = raw;
        self.raw.drain(..end);
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
            self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(PART + 1)..]);
            if self.last.len() > WHOLE {
                self.last.drain(..self.last.len() - (PART + 1));
            }
            return;
        }
        self.first.extend_from_slice(bytes);
        if self.first.len() > WHOLE {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&self.first);
            self.hasher = Some(hasher);
            self.last = self.first.split_off(self.first.len() - (PART + 1));
            self.first.truncate(PART + 1);
            self.first.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Filter;

    #[test]
    fn pieces_make_no_difference() {
        let lines: Vec<u8> =
            (0..300_000).flat_map(|n| format!("at {n} ms\n").into_bytes()).collect();
        let rule = Filter::Replace { regex: "at [0-9]+".into(), to: "at N".into() };
        let filters = Filters::compile(&[rule]).unwrap();
        for filters in [&Filters::default(), &filters] {
            for length in [0, 1, WHOLE, WHOLE + 1, lines.len()] {
                let whole = Output::new(&lines[..length], filters);
                for piece in [1000, 4096, 65_537] {
                    let mut stream = OutputStream::new(filters);
                    lines[..length].chunks(piece).for_each(|part| stream.feed(part));
                    assert_eq!(stream.finish(), whole, "{length} bytes by {piece}");
                }
            }
        }
        // Whole lines at a time: as if all had been filtered at once.
        let Output::Cut { length, digest, .. } = Output::new(&lines, &filters) else { panic!() };
        let all = filters.apply(&lines);
        assert_eq!((length, digest), (all.len() as u64, blake3::hash(&all)));
        assert!(lines.len() > 3 * PIECE);
    }

    #[test]
    fn a_line_without_end_is_filtered_too() {
        let rule = Filter::Replace { regex: "a".into(), to: "b".into() };
        let filters = Filters::compile(&[rule]).unwrap();
        let Output::Cut { length, digest, head, tail } =
            Output::new(&vec![b'a'; 3 * PIECE + 5], &filters)
        else {
            panic!()
        };
        assert_eq!(
            (length, digest),
            (3 * PIECE as u64 + 5, blake3::hash(&vec![b'b'; 3 * PIECE + 5]))
        );
        assert_eq!((head, tail), (vec![b'b'; PART + 1], vec![b'b'; PART + 1]));
    }
}
