//! Which bytes of the terminal are whose: cut into steps while they come, as PID 1's records count
//! them, so that a flood is digested and not kept.

use std::collections::VecDeque;

use crate::snapshot::{Filters, Output, OutputStream};

/// Bytes whose owner is not known yet are kept; what came before so many later ones belongs to the
/// step that runs. PID 1 says that a step has ended before it passes on more than 68 KiB of what
/// came after, and in one turn of the loop no more than [`super::TURN`] bytes are read before the
/// records are.
const UNDECIDED: usize = 1 << 20;

/// Whose bytes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A step's own output.
    Step(usize),
    /// What came after it and before the next.
    Late(usize),
}

/// The terminal's bytes on their way to the transcript.
#[derive(Debug)]
pub(super) struct Printed<'a> {
    filters: &'a Filters,
    /// Not given to `stream` yet.
    waiting: Vec<u8>,
    /// What the records have counted and what is still to come of it.
    due: VecDeque<(Owner, u64)>,
    /// The first of `due`, or what will be.
    stream: OutputStream<'a>,
    /// How much `stream` was given before its owner was known.
    ahead: u64,
    done: Vec<(Owner, Output)>,
}

impl<'a> Printed<'a> {
    pub(super) fn new(filters: &'a Filters) -> Self {
        Self {
            filters,
            waiting: Vec::new(),
            due: VecDeque::new(),
            stream: OutputStream::new(filters),
            ahead: 0,
            done: Vec::new(),
        }
    }

    /// Takes bytes as they come.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        self.pass();
    }

    /// The next `count` bytes that no record had counted are `owner`'s. False where more than that
    /// have been taken for the next owner's already: then nothing that was cut is right.
    #[must_use]
    pub(super) fn count(&mut self, owner: Owner, count: u64) -> bool {
        let Some(left) = count.checked_sub(self.ahead) else { return false };
        self.ahead = 0;
        self.due.push_back((owner, left));
        self.pass();
        true
    }

    /// What belongs to whom; what no record counted is the step's that `runs`.
    pub(super) fn finish(mut self, runs: Option<usize>) -> Vec<(Owner, Output)> {
        if self.due.is_empty()
            && let Some(step) = runs
        {
            self.stream.feed(&self.waiting);
            self.done.push((Owner::Step(step), self.stream.finish()));
        } else if let Some((owner, _)) = self.due.front() {
            // Its bytes did not all come; those that did are shown.
            self.done.push((*owner, self.stream.finish()));
        }
        self.done
    }

    fn pass(&mut self) {
        let mut used = 0;
        while let Some((owner, left)) = self.due.front_mut() {
            let there = &self.waiting[used..];
            let take = there.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            self.stream.feed(&there[..take]);
            used += take;
            *left -= take as u64;
            if *left > 0 {
                break;
            }
            let stream = std::mem::replace(&mut self.stream, OutputStream::new(self.filters));
            self.done.push((*owner, stream.finish()));
            self.due.pop_front();
        }
        if self.due.is_empty() && self.waiting.len() - used > 2 * UNDECIDED {
            let until = self.waiting.len() - UNDECIDED;
            self.stream.feed(&self.waiting[used..until]);
            self.ahead += (until - used) as u64;
            used = until;
        }
        self.waiting.drain(..used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &[u8]) -> Output {
        Output::new(text, &Filters::default())
    }

    #[test]
    fn counts_may_come_before_or_after_their_bytes() {
        use Owner::{Late, Step};
        let filters = Filters::default();
        let mut printed = Printed::new(&filters);
        printed.feed(b"one");
        assert!(printed.count(Step(0), 3) && printed.count(Late(0), 0));
        assert!(printed.count(Step(1), 2) && printed.count(Late(1), 4));
        printed.feed(b"tw");
        printed.feed(b"late-and-more");
        let seen = printed.finish(Some(2));
        let expected = [
            (Step(0), whole(b"one")),
            (Late(0), whole(b"")),
            (Step(1), whole(b"tw")),
            (Late(1), whole(b"late")),
            (Step(2), whole(b"-and-more")),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn bytes_that_never_came_leave_the_rest() {
        let filters = Filters::default();
        let mut printed = Printed::new(&filters);
        assert!(printed.count(Owner::Step(0), 9));
        printed.feed(b"some");
        assert_eq!(printed.finish(None), [(Owner::Step(0), whole(b"some"))]);
    }

    #[test]
    fn a_flood_is_digested_and_not_kept() {
        let filters = Filters::default();
        let mut printed = Printed::new(&filters);
        let block: Vec<u8> = (0..100_000u32).map(|n| (n % 253) as u8).collect();
        let mut all = Vec::new();
        for _ in 0..100 {
            printed.feed(&block);
            all.extend_from_slice(&block);
            assert!(printed.waiting.len() <= 2 * UNDECIDED + block.len());
        }
        let end = all.len() - 5;
        assert!(printed.count(Owner::Step(0), end as u64));
        assert!(printed.count(Owner::Late(0), 5));
        let seen = printed.finish(None);
        assert_eq!(seen[0], (Owner::Step(0), whole(&all[..end])));
        assert_eq!(seen[1], (Owner::Late(0), whole(&all[end..])));
    }

    #[test]
    fn a_count_that_comes_too_late_is_noticed() {
        let filters = Filters::default();
        let mut printed = Printed::new(&filters);
        printed.feed(&vec![0; 3 * UNDECIDED]);
        assert!(!printed.count(Owner::Step(0), 1));
    }
}
