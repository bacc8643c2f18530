//! Matches names of modules against the patterns of modules.alias, as kmod does.

/// `-` and `_` are the same in module names; a pattern's bracket expressions keep theirs.
pub fn normalise(name: &str) -> String {
    let mut bracket = false;
    name.chars()
        .map(|c| {
            match c {
                '[' => bracket = true,
                ']' => bracket = false,
                _ => {}
            }
            if c == '-' && !bracket { '_' } else { c }
        })
        .collect()
}

/// Whether the pattern (`*`, `?`, `[a-z]`, `[!x]`, `\` before a literal) matches the whole name.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on when the characters after the last star do not fit: one character further.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(length) = one(&pattern[p..], name[n]) {
            p += length;
            n += 1;
        } else if let Some((after, from)) = star {
            star = Some((after, from + 1));
            (p, n) = (after, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Matches one character; the length of the pattern's part that did.
fn one(pattern: &[u8], c: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => bracket(pattern, c),
        b'\\' if pattern.len() > 1 => (pattern[1] == c).then_some(2),
        &literal => (literal == c).then_some(1),
    }
}

fn bracket(pattern: &[u8], c: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let first = if negated { 2 } else { 1 };
    // A bracket that directly follows the opening is a literal (fnmatch(3)).
    let close = first + 1 + pattern.get(first + 1..)?.iter().position(|&b| b == b']')?;
    let mut at = first;
    let mut found = false;
    while at < close {
        if at + 2 < close && pattern[at + 1] == b'-' {
            found |= (pattern[at]..=pattern[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= pattern[at] == c;
            at += 1;
        }
    }
    (found != negated).then_some(close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_real_alias_files() {
        for (pattern, name, expected) in [
            ("fs-overlay", "fs-overlay", true),
            ("block-major-7-*", "block-major-7-0", true),
            ("block-major-7-*", "block-major-71-0", false),
            ("md-raid1", "md-raid10", false),
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4", true),
            (
                "usb:v04E8p5011d*dc*dsc*dp*ic*isc*ip*in*",
                "usb:v04E8p5011d0100dcFFdscFFdpFFicFFiscFFipFFin00",
                true,
            ),
            ("usb:v*p*d000[0-9a]*dc*", "usb:v1p2d000adcx", true),
            ("usb:v*p*d000[0-9a]*dc*", "usb:v1p2d000bdcx", false),
            ("a[!b]c", "axc", true),
            ("a[!b]c", "abc", false),
            ("a[]b]c", "a]c", true),
            ("a?c*", "abc", true),
            ("*a*b*c*", "xxaxxbxx", false),
            ("", "", true),
            ("a[b", "a[b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn dashes_are_underscores_outside_brackets() {
        assert_eq!(normalise("dm-thin-pool"), "dm_thin_pool");
        assert_eq!(normalise("a-b[0-9]-c"), "a_b[0-9]_c");
    }
}
