//! Finds the end of a step's output: a mark that PID 1 writes through the slave after it.
//!
//! Pty output reaches the master through a workqueue, so "the shell has answered" can overtake the
//! last bytes. The mark cannot: it goes the same way, behind them.

use lab_proto::Nonce;

/// Length of a mark in bytes; with 16 possible values each it holds 128 bits of the nonce's hash.
pub const LENGTH: usize = 32;

/// One mark.
pub type Mark = [u8; LENGTH];

/// The mark of one number, which nobody without the run's nonce can write.
///
/// It consists of `0` to `?` in ASCII, which no output mode of the tty (OPOST, OLCUC, ONLCR, tabs)
/// changes, so that a step may leave the tty in any mode. Not from /dev/urandom, because that may
/// block early in a boot.
pub fn mark(nonce: &Nonce, number: u64) -> Mark {
    nonce.derive("pty mark", number).map(|byte| 0x30 | (byte & 0x0f))
}

/// Passes a stream on and takes one mark out of it; holds back only what may be its beginning.
#[derive(Debug)]
pub struct MarkScanner {
    mark: Mark,
    /// For each length of a partial match, the next shorter one to try (Knuth, Morris, Pratt).
    shorter: [u8; LENGTH],
    matched: usize,
}

impl MarkScanner {
    /// Looks for this mark.
    pub fn new(mark: Mark) -> Self {
        let mut shorter = [0u8; LENGTH];
        let mut k = 0;
        for at in 1..LENGTH {
            while k > 0 && mark[at] != mark[k] {
                k = usize::from(shorter[k - 1]);
            }
            k += usize::from(mark[at] == mark[k]);
            shorter[at] = k as u8;
        }
        Self { mark, shorter, matched: 0 }
    }

    /// Takes bytes and appends those in front of the mark to `passed`. Returns how many were taken
    /// when the mark is complete: what follows belongs to the time after it.
    pub fn feed(&mut self, bytes: &[u8], passed: &mut Vec<u8>) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            while self.matched > 0 && self.mark[self.matched] != byte {
                let next = usize::from(self.shorter[self.matched - 1]);
                passed.extend_from_slice(&self.mark[..self.matched - next]);
                self.matched = next;
            }
            if self.mark[self.matched] == byte {
                self.matched += 1;
            } else {
                passed.push(byte);
            }
            if self.matched == LENGTH {
                self.matched = 0;
                return Some(at + 1);
            }
        }
        None
    }

    /// The bytes held back, when no mark will come any more.
    pub fn held(&self) -> &[u8] {
        &self.mark[..self.matched]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(mark: Mark, chunks: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut scanner = MarkScanner::new(mark);
        let mut passed = Vec::new();
        for (n, chunk) in chunks.iter().enumerate() {
            if let Some(end) = scanner.feed(chunk, &mut passed) {
                let mut rest = chunk[end..].to_vec();
                rest.extend(chunks[n + 1..].iter().copied().flatten());
                return (passed, Some(rest));
            }
        }
        passed.extend_from_slice(scanner.held());
        (passed, None)
    }

    #[test]
    fn any_split_of_any_near_miss_passes_all_but_the_mark() {
        // Repeats itself, which is the hard case of a search.
        let mut repeating = [b'0'; LENGTH];
        repeating[LENGTH - 1] = b'1';
        for mark in [mark(&Nonce([7; 16]), 3), repeating] {
            let near = [&mark[..LENGTH - 1], b"x", &mark[..5], &mark[..LENGTH - 1]].concat();
            let all = [&near[..], &mark[..], b"late"].concat();
            for cut in 0..all.len() {
                let (passed, rest) = scan(mark, &[&all[..cut], &all[cut..]]);
                // Of a repeating mark an earlier zero may begin it: what matters is that only the
                // mark's 32 bytes are missing and the last bytes are late.
                assert_eq!(passed.len(), near.len());
                assert_eq!(passed, near);
                assert_eq!(rest.as_deref(), Some(&b"late"[..]));
            }
        }
    }

    #[test]
    fn without_the_mark_nothing_is_lost() {
        let mark = mark(&Nonce([7; 16]), 3);
        let all = [&mark[..20], &mark[..31]].concat();
        assert_eq!(scan(mark, &[&all]), (all, None));
    }

    #[test]
    fn marks_differ_and_survive_output_processing() {
        let nonce = Nonce([1; 16]);
        assert_ne!(mark(&nonce, 0), mark(&nonce, 1));
        assert_ne!(mark(&nonce, 0), mark(&Nonce([2; 16]), 0));
        assert!(mark(&nonce, 0).iter().all(|b| (b'0'..=b'?').contains(b)));
    }
}
