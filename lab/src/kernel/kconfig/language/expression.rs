//! Kconfig's expressions: parsed, shown, and weighed against a finished `.config`.

use std::cmp::Ordering;
use std::fmt;

use super::super::config::{Kconfig, Value};
use super::super::merge::number;
use super::Tree;
use super::lexer::Token;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A symbol or constant by itself.
    Is(Operand),
    /// A comparison with one of `= != < <= > >=`.
    Compare(Operand, &'static str, Operand),
    /// `!`
    Not(Box<Expr>),
    /// `&&`: two or more.
    And(Vec<Expr>),
    /// `||`: two or more.
    Or(Vec<Expr>),
}

/// What expressions are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A symbol, number, or `y`, `m`, `n`.
    Word(String),
    /// Text in quotes.
    Text(String),
    /// A macro that only the build's own tools can answer, as written.
    Unknown(String),
}

/// What a condition comes to. The order is Kconfig's: `&&` is the least, `||` the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// n
    No,
    /// m
    Module,
    /// It hangs on a macro that is not known here.
    Unknown,
    /// y
    Yes,
}

/// How deep brackets and `!` may stand in each other; the kernel's own do not go beyond five.
const DEPTH: usize = 64;

impl Expr {
    /// Parses the whole of `tokens`.
    pub(super) fn parse(tokens: &[Token]) -> Option<Self> {
        let mut rest = tokens;
        let expr = Self::any_of(&mut rest, DEPTH)?;
        rest.is_empty().then_some(expr)
    }

    fn any_of(rest: &mut &[Token], depth: usize) -> Option<Self> {
        let mut terms = vec![Self::all_of(rest, depth)?];
        while take(rest, "||") {
            terms.push(Self::all_of(rest, depth)?);
        }
        Some(if terms.len() == 1 { terms.remove(0) } else { Self::Or(terms) })
    }

    fn all_of(rest: &mut &[Token], depth: usize) -> Option<Self> {
        let mut terms = vec![Self::one(rest, depth)?];
        while take(rest, "&&") {
            terms.push(Self::one(rest, depth)?);
        }
        Some(if terms.len() == 1 { terms.remove(0) } else { Self::And(terms) })
    }

    fn one(rest: &mut &[Token], depth: usize) -> Option<Self> {
        let deeper = depth.checked_sub(1)?;
        if take(rest, "!") {
            return Some(Self::Not(Box::new(Self::one(rest, deeper)?)));
        }
        if take(rest, "(") {
            let inner = Self::any_of(rest, deeper)?;
            return take(rest, ")").then_some(inner);
        }
        let left = Operand::take(rest)?;
        for operator in ["=", "!=", "<", "<=", ">", ">="] {
            if take(rest, operator) {
                return Some(Self::Compare(left, operator, Operand::take(rest)?));
            }
        }
        Some(Self::Is(left))
    }

    /// What it comes to with the values of `config`.
    pub fn truth(&self, config: &Kconfig, tree: &Tree) -> Truth {
        match self {
            Self::Is(operand) => operand.truth(config, tree),
            Self::Compare(left, operator, right) => compare(left, operator, right, config, tree),
            Self::Not(inner) => match inner.truth(config, tree) {
                Truth::No => Truth::Yes,
                Truth::Yes => Truth::No,
                same => same,
            },
            Self::And(terms) => {
                terms.iter().map(|t| t.truth(config, tree)).min().unwrap_or(Truth::Yes)
            }
            Self::Or(terms) => {
                terms.iter().map(|t| t.truth(config, tree)).max().unwrap_or(Truth::No)
            }
        }
    }

    /// The smallest parts that keep it below `wanted`: those of an `&&` that are too small, all of
    /// an `||`. Empty where it is not below.
    pub fn blame<'a>(&'a self, wanted: Truth, config: &Kconfig, tree: &Tree) -> Vec<&'a Expr> {
        if self.truth(config, tree) >= wanted {
            return Vec::new();
        }
        match self {
            Self::And(terms) | Self::Or(terms) => {
                terms.iter().flat_map(|term| term.blame(wanted, config, tree)).collect()
            }
            _ => vec![self],
        }
    }
}

impl Operand {
    pub(super) fn of(token: &Token) -> Option<Self> {
        match token {
            Token::Word(word) => Some(Self::Word(word.clone())),
            Token::Quoted(text) => Some(Self::Text(text.clone())),
            Token::Unknown(text) => Some(Self::Unknown(text.clone())),
            Token::Operator(_) => None,
        }
    }

    fn take(rest: &mut &[Token]) -> Option<Self> {
        let (first, after) = rest.split_first()?;
        let operand = Self::of(first)?;
        *rest = after;
        Some(operand)
    }

    fn truth(&self, config: &Kconfig, tree: &Tree) -> Truth {
        let constant = |text: &str| match text {
            "y" => Truth::Yes,
            "m" => Truth::Module,
            _ => Truth::No,
        };
        match self {
            Self::Word(name) if tree.symbol(name).is_some() => match config.get(name) {
                Value::Yes => Truth::Yes,
                Value::Module => Truth::Module,
                Value::No | Value::Text(_) => Truth::No,
            },
            Self::Word(text) | Self::Text(text) => constant(text),
            Self::Unknown(_) => Truth::Unknown,
        }
    }

    /// Its value as text: a symbol that is not defined stands for its own name, as numbers do.
    pub fn text(&self, config: &Kconfig, tree: &Tree) -> Option<String> {
        match self {
            Self::Word(name) if tree.symbol(name).is_some() => Some(match config.get(name) {
                Value::Yes => "y".into(),
                Value::Module => "m".into(),
                Value::No => "n".into(),
                Value::Text(text) => text,
            }),
            Self::Word(text) | Self::Text(text) => Some(text.clone()),
            Self::Unknown(_) => None,
        }
    }
}

fn take(rest: &mut &[Token], operator: &str) -> bool {
    match rest.split_first() {
        Some((Token::Operator(first), after)) if *first == operator => {
            *rest = after;
            true
        }
        _ => false,
    }
}

fn compare(left: &Operand, how: &str, right: &Operand, config: &Kconfig, tree: &Tree) -> Truth {
    let (Some(left), Some(right)) = (left.text(config, tree), right.text(config, tree)) else {
        return Truth::Unknown;
    };
    let order = match (number(&left), number(&right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.cmp(&right),
    };
    let holds = match how {
        "=" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    };
    if holds { Truth::Yes } else { Truth::No }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Unknown(text) => f.write_str(text),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |f: &mut fmt::Formatter<'_>, terms: &[Expr], with: &str| {
            for (index, term) in terms.iter().enumerate() {
                if index > 0 {
                    f.write_str(with)?;
                }
                match term {
                    Self::And(_) | Self::Or(_) => write!(f, "({term})")?,
                    _ => write!(f, "{term}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::Is(operand) => write!(f, "{operand}"),
            Self::Compare(left, how, right) => write!(f, "{left} {how} {right}"),
            Self::Not(inner) => match **inner {
                Self::Is(_) | Self::Not(_) => write!(f, "!{inner}"),
                _ => write!(f, "!({inner})"),
            },
            Self::And(terms) => join(f, terms, " && "),
            Self::Or(terms) => join(f, terms, " || "),
        }
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "n",
            Self::Module => "m",
            Self::Unknown => "not known here",
            Self::Yes => "y",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::lexer::tokens;
    use super::super::macros::Macros;
    use super::super::parser;
    use super::*;
    use crate::manifest::Arch;

    const FILE: &str = "config A\n\tbool \"a\"\nconfig B\n\ttristate \"b\"\nconfig N\n\tint \"n\"\n\
                        config C\n\tbool \"c\"\n";

    fn parse(text: &str) -> Expr {
        let macros = Macros::of(Path::new("/src"), Arch::Um);
        Expr::parse(&tokens(text, &macros)).unwrap_or_else(|| panic!("{text}"))
    }

    fn truth(text: &str) -> Truth {
        let config = Kconfig::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_N=12\n");
        parse(text).truth(&config, &parser::read_text(FILE))
    }

    #[test]
    fn expressions_bind_as_in_c() {
        assert_eq!(parse("A || B && !C").to_string(), "A || (B && !C)");
        assert_eq!(parse("(A||B)&&!(C && A)").to_string(), "(A || B) && !(C && A)");
        let macros = Macros::of(Path::new("/src"), Arch::Um);
        for bad in ["A &&", "(A", "A B", "", "&& A"] {
            assert_eq!(Expr::parse(&tokens(bad, &macros)), None, "{bad}");
        }
        // Would need more stack than there is, if it were followed.
        for deep in ["(", "!"] {
            assert_eq!(Expr::parse(&tokens(&deep.repeat(100_000), &macros)), None);
        }
    }

    #[test]
    fn truth_has_four_values() {
        assert_eq!(truth("A && B"), Truth::Module);
        assert_eq!(truth("A || C"), Truth::Yes);
        assert_eq!(truth("!B"), Truth::Module);
        assert_eq!(truth("NOWHERE"), Truth::No);
        assert_eq!(truth("A && $(cc-option,-x)"), Truth::Unknown);
        assert_eq!(truth("C && $(cc-option,-x)"), Truth::No);
        assert_eq!(truth("A || $(cc-option,-x)"), Truth::Yes);
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert_eq!(truth("N >= 9"), Truth::Yes);
        assert_eq!(truth("N = 0xc"), Truth::Yes);
        assert_eq!(truth("A = y && C != y"), Truth::Yes);
        assert_eq!(truth("\"$(ARCH)\" = \"um\""), Truth::Yes);
        assert_eq!(truth("$(cc-name) = \"gcc\""), Truth::Unknown);
    }

    #[test]
    fn blame_finds_the_smallest_parts() {
        let config = Kconfig::parse("CONFIG_A=y\nCONFIG_B=m\n");
        let tree = parser::read_text(FILE);
        let blamed = |text: &str, wanted| {
            let expr = parse(text);
            let parts: Vec<_> =
                expr.blame(wanted, &config, &tree).iter().map(|e| e.to_string()).collect();
            parts.join(" ")
        };
        assert_eq!(blamed("A && (B || C)", Truth::Yes), "B C");
        assert_eq!(blamed("A && (B || C)", Truth::Module), "");
        assert_eq!(blamed("!A && C", Truth::Yes), "!A C");
    }
}
