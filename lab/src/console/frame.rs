//! A frame of a call trace, as `%pS` and `%pB` of printk write it: which function, how far in.

use std::sync::LazyLock;

use regex::Regex;

/// `fn+0x1/0x2 [module]`, alone or after an address, a question mark or a register's name. A module
/// may have its build identifier beside it (STACKTRACE_BUILD_ID).
static FRAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:\s*(?:\[<([0-9a-f]+)>\])?\s*|(RIP: )[0-9a-f]+:)(\? )?([A-Za-z_][\w.]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?: \[([\w-]+)(?: [0-9a-f]+)?\])?",
    )
    .expect("valid")
});

/// A frame of a call trace, or the place of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame<'a> {
    /// As kallsyms has it.
    pub function: &'a str,
    /// Bytes from its start.
    pub offset: u64,
    /// Bytes from its start to the next symbol, as kallsyms counts.
    pub size: u64,
    /// The module that it is of; `None`: the kernel itself.
    pub module: Option<&'a str>,
    /// The address itself, where it was printed: by User-Mode Linux, and by old kernels.
    pub address: Option<u64>,
    /// Not one that only may have been called: those have a question mark.
    pub certain: bool,
    /// The address of the instruction itself (`RIP:`). All others are where a call returns to.
    pub exact: bool,
}

impl<'a> Frame<'a> {
    /// The frame that a line begins with, if it does.
    pub fn parse(text: &'a str) -> Option<Self> {
        let found = FRAME.captures(text)?;
        let number = |group| u64::from_str_radix(found.get(group)?.as_str(), 16).ok();
        Some(Self {
            function: found.get(4)?.as_str(),
            offset: number(5)?,
            size: number(6)?,
            module: found.get(7).map(|name| name.as_str()),
            address: number(1),
            certain: found.get(3).is_none(),
            exact: found.get(2).is_some(),
        })
    }

    /// A pointer to the function that lies on the stack, no return into it: a call is never a
    /// function's first instruction.
    pub fn is_pointer(&self) -> bool {
        self.offset == 0 && !self.exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling() {
        let of = |text| {
            let f = Frame::parse(text)?;
            Some((f.function, f.offset, f.size, f.module, f.address, f.certain, f.exact))
        };
        let plain = Some(("f.cold", 0x1a, 0x60, None, None, true, false));
        assert_eq!(of("f.cold+0x1a/0x60"), plain);
        assert_eq!(of(" f.cold+0x1a/0x60\n"), plain);
        let maybe = Some(("f", 0, 2, None, Some(0x6002_d581), false, false));
        assert_eq!(of("  [<6002d581>] ? f+0x0/0x2"), maybe);
        let exact = Some(("ovl_lookup", 0x1a, 0x2b0, Some("overlay"), None, true, true));
        assert_eq!(of("RIP: 0010:ovl_lookup+0x1a/0x2b0 [overlay]"), exact);
        let built = Some(("f", 1, 2, Some("a_b"), None, true, false));
        assert_eq!(of(" f+0x1/0x2 [a_b 0123456789abcdef]"), built);
        assert_eq!(of(" #0: 00 (lock){}, at: f+0x1/0x2"), None);
        assert_eq!(of("f+0x10000000000000000/0x2"), None);
        assert!(Frame::parse("f+0x0/0x2").unwrap().is_pointer());
        assert!(!Frame::parse("RIP: 0033:f+0x0/0x2").unwrap().is_pointer());
    }
}
