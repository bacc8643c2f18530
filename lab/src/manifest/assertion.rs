//! The grammar of `assert`: one parser for the manifest's check and for the judge.

/// One entry of `assert`: `TERM cmp [NUMBER *] TERM`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// Left of the comparison.
    pub left: Term,
    /// How the two are compared.
    pub comparison: Comparison,
    /// What the right side is multiplied with; 1 where nothing is written.
    pub factor: f64,
    /// Right of the comparison.
    pub right: Term,
}

/// A side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A measure's name, words of letters, digits, `_` and `-` joined by dots.
    Measure(String),
    /// A number, for a fixed bound.
    Number(f64),
}

/// How two sides of an assertion are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Comparison {
    /// Whether it holds.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
            Self::Equal => left == right,
            Self::NotEqual => left != right,
        }
    }
}

impl Assertion {
    /// Reads one; the error is a sentence that names the word at fault.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Two-character signs first: `<` is the beginning of `<=`.
        const SIGNS: [(&str, Comparison); 6] = [
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let at = text.find(['<', '>', '=', '!']).ok_or("there is no comparison in it")?;
        let (left, rest) = text.split_at(at);
        let (sign, comparison) = SIGNS
            .into_iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or("the comparison is one of <, <=, >, >=, ==, !=")?;
        let right = &rest[sign.len()..];
        let (factor, right) = match right.split_once('*') {
            Some((factor, right)) => (number(factor)?, right),
            None => (1.0, right),
        };
        let (left, right) = (term(left)?, term(right)?);
        if let (Term::Number(_), Term::Number(_)) = (&left, &right) {
            return Err("it compares no measure".into());
        }
        Ok(Self { left, comparison, factor, right })
    }
}

fn number(text: &str) -> Result<f64, String> {
    let text = text.trim();
    match text.parse::<f64>() {
        // parse() also takes "inf" and "nan".
        Ok(number)
            if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
                && number.is_finite() =>
        {
            Ok(number)
        }
        _ => Err(format!("`{text}` is not a number")),
    }
}

fn term(text: &str) -> Result<Term, String> {
    let text = text.trim();
    if let Ok(number) = number(text) {
        return Ok(Term::Number(number));
    }
    let word = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && super::values::is_word(part, "_-")
    };
    match text {
        "" => Err("a side of it is empty".into()),
        _ if text.split('.').all(word) => Ok(Term::Measure(text.into())),
        _ => Err(format!("`{text}` is not the name of a measure")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_design_example_parses() {
        let parsed = Assertion::parse("read_bw.sockets4 > 0.95 * read_bw.sockets1").unwrap();
        assert_eq!(parsed.left, Term::Measure("read_bw.sockets4".into()));
        assert_eq!((parsed.comparison, parsed.factor), (Comparison::Greater, 0.95));
        assert_eq!(parsed.right, Term::Measure("read_bw.sockets1".into()));
        assert!(parsed.comparison.holds(2.0, 1.0) && !parsed.comparison.holds(1.0, 1.0));
    }

    #[test]
    fn fixed_bounds_parse_and_slips_do_not() {
        let parsed = Assertion::parse("errors<=0").unwrap();
        assert_eq!((parsed.comparison, parsed.right), (Comparison::LessOrEqual, Term::Number(0.0)));
        for bad in [
            "",
            "a",
            "a = b",
            "a => b",
            "a > ",
            "> b",
            "a > x * b",
            "a > b > c",
            "a > 2 * 3 * b",
            "1 < 2",
            "a b > c",
            "a..b > c",
            "a > inf * b",
        ] {
            assert!(Assertion::parse(bad).is_err(), "{bad}");
        }
    }
}
