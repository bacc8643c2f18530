//! The small grammars inside strings: sizes, durations, globs, names.

use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};

/// Bytes from `"64M"`, `"1G"`, `"512K"`, `"4096"`: binary units K, M, G, T, each with an optional
/// `iB`. The error is a sentence without its subject, for example "is not a size".
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.strip_suffix("iB").filter(|unit| !unit.is_empty()).unwrap_or(unit) {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("is not a size".into()),
    };
    if number.is_empty() {
        return Err("is not a size".into());
    }
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    match bytes {
        Some(0) => Err("is nothing".into()),
        // Offsets are signed 64-bit numbers everywhere below.
        Some(bytes) if bytes <= i64::MAX as u64 => Ok(bytes),
        _ => Err("is too much for a file".into()),
    }
}

/// What [`parse_size`] takes, for the help of an error.
pub(super) const SIZE_HELP: &str =
    "a number of bytes with a binary unit: \"512K\", \"64M\", \"1G\"";

/// A time from `"20s"`, `"1m 30s"`, `"500ms"` (humantime's words): positive, at most 30 days. The
/// error is a sentence without its subject.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("is no time at all".into()),
        // A deadline is an Instant plus this: it must not overflow.
        Ok(time) if time <= Duration::from_secs(30 * 24 * 3600) => Ok(time),
        Ok(_) => Err("is more than 30 days".into()),
        Err(_) => Err("is not a duration".into()),
    }
}

/// What [`parse_duration`] takes, for the help of an error.
pub(super) const DURATION_HELP: &str = "for example \"20s\", \"1m 30s\", \"500ms\"";

/// A glob of names (`*`, `?`, `[ab]`, `{a,b}`); the error is a sentence without its subject.
pub(super) fn glob(text: &str) -> Result<GlobMatcher, String> {
    match GlobBuilder::new(text).literal_separator(true).build() {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => Err(format!("is not a glob: {}", error.kind())),
    }
}

/// Whether a word has the signs of a glob; names cannot have them.
pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// Whether any of these globs (validated before) or names fits.
pub(super) fn any_fits(globs: &[String], name: &str) -> bool {
    globs.iter().any(|text| text == name || glob(text).is_ok_and(|glob| glob.is_match(name)))
}

/// `[a-z0-9][a-z0-9._-]*`: names of cases and variants, which become file names.
pub(super) fn is_file_name(text: &str) -> bool {
    let mut chars = text.chars();
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    chars.next().is_some_and(lower) && chars.all(|c| lower(c) || "._-".contains(c))
}

/// As [`is_file_name`], in either case: names of kernels, images and matrices.
pub(super) fn is_name(text: &str) -> bool {
    is_file_name(&text.to_ascii_lowercase().replace('+', "-"))
}

/// A name that a shell takes for a variable.
pub(super) fn is_identifier(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit()) && is_word(text, "_")
}

/// Letters, digits and `more`, at least one of them.
pub(super) fn is_word(text: &str, more: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// An absolute path of the guest without `.`, `..`, doubled or trailing slashes; not the root.
pub(super) fn is_guest_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_positive() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("512K"), Ok(512 << 10));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1G"), Ok(1 << 30));
        assert_eq!(parse_size("2T"), Ok(2 << 40));
        for bad in ["", "M", "64MB", "64m", "1.5G", "-1M", "0", "0K", "iB", "4iB", " 1M"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_size("99999999T"), Err("is too much for a file".into()));
    }

    #[test]
    fn durations_are_positive_and_bounded() {
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "20", "0s", "31d", "soon", "-1s", "99999999999999999y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn globs_and_names() {
        let globs = ["uml-5.*".to_string(), "cloud-6.1".to_string()];
        assert!(any_fits(&globs, "uml-5.10") && any_fits(&globs, "cloud-6.1"));
        assert!(!any_fits(&globs, "uml-6.1"));
        assert!(glob("uml-[").is_err());
        assert!(is_file_name("dm-linear.2") && !is_file_name("Dm") && !is_file_name(".x"));
        assert!(is_identifier("cluster_2") && !is_identifier("2x") && !is_identifier("a-b"));
        assert!(is_guest_path("/mnt/x"));
        for bad in ["mnt", "/", "/a//b", "/a/", "/a/../b"] {
            assert!(!is_guest_path(bad), "{bad}");
        }
    }
}
