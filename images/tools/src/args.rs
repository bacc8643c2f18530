//! Options of the tools, `--name VALUE` or `--name=VALUE`: too few for a crate in every image.

use crate::Error;

/// What was given, taken out one by one; [`Args::end`] refuses what is left.
pub struct Args(Vec<String>);

impl Args {
    /// Takes a copy of the words after the tool's name.
    pub fn new(words: &[String]) -> Self {
        Self(words.to_vec())
    }

    /// Whether a flag was given.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() != before
    }

    /// The value of an option.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, Error> {
        let Some(at) = self.0.iter().position(|word| {
            word.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        }) else {
            return Ok(None);
        };
        let word = self.0.remove(at);
        match word.split_once('=') {
            Some((_, value)) => Ok(Some(value.to_string())),
            None if at < self.0.len() => Ok(Some(self.0.remove(at))),
            None => Err(Error::Usage(format!("{name} needs a value"))),
        }
    }

    /// The value of an option as a number: decimal with an optional suffix k, M or G (powers of
    /// 1024), or hexadecimal after 0x.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        match number(&text) {
            Some(number) => Ok(Some(number)),
            None => Err(Error::Usage(format!("{name}: {text:?} is not a number like 4096 or 10M"))),
        }
    }

    /// Refuses what nobody has taken.
    pub fn end(self) -> Result<(), Error> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => Err(Error::Usage(format!("{word:?} is not known here"))),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let shift = match text.as_bytes().last()? {
        b'k' | b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_suffixes() {
        assert_eq!(number("10M"), Some(10 << 20));
        assert_eq!(number("4k"), Some(4096));
        assert_eq!(number("0x10"), Some(16));
        for bad in ["", "M", "-1", "1T", "99999999999G", "1.5k"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_spellings_and_what_is_left() {
        let words: Vec<String> = ["--a=1", "--b", "x", "--c", "--d"].map(String::from).into();
        let mut args = Args::new(&words);
        assert_eq!(args.number("--a").ok(), Some(Some(1)));
        assert_eq!(args.value("--b").ok(), Some(Some("x".into())));
        assert!(args.flag("--c"));
        assert!(!args.flag("--c"));
        assert!(matches!(args.value("--d"), Err(Error::Usage(_))));
        assert!(Args::new(&words).end().is_err());
    }
}
