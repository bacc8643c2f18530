//! Kconfig's words: one statement's tokens, as scripts/kconfig/lexer.l has them.

use super::macros::{self, Macros};

/// A token of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword, symbol or number.
    Word(String),
    /// Text in quotes, without them.
    Quoted(String),
    /// Something with a macro in it that only the build's own tools can answer, as written.
    Unknown(String),
    /// One of `&& || ! ( ) = != < <= > >=`.
    Operator(&'static str),
}

const OPERATORS: [&str; 11] = ["&&", "||", "!=", "<=", ">=", "!", "(", ")", "=", "<", ">"];

/// The tokens of one statement; characters that the kernel's own lexer ignores are ignored.
pub(super) fn tokens(statement: &str, macros: &Macros) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = statement;
    while let Some(first) = rest.chars().next() {
        if first == '#' {
            break;
        }
        if let Some(operator) = OPERATORS.into_iter().find(|o| rest.starts_with(o)) {
            tokens.push(Token::Operator(operator));
            rest = &rest[operator.len()..];
        } else if first == '"' || first == '\'' {
            let (token, length) = quoted(rest, first, macros);
            tokens.push(token);
            rest = &rest[length..];
        } else if is_word(first) || rest.starts_with("$(") {
            let length = word_length(rest);
            tokens.extend(word(&rest[..length], macros));
            rest = &rest[length..];
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// A word goes on through the macros in it.
fn word_length(text: &str) -> usize {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        if rest.starts_with("$(") {
            // A macro that does not end takes the rest of the line.
            length += macros::length(rest).unwrap_or(rest.len());
        } else if rest.starts_with(is_word) {
            length += 1;
        } else {
            return length;
        }
    }
}

/// A word that expands to nothing is none.
fn word(text: &str, macros: &Macros) -> Option<Token> {
    match macros.expand(text) {
        Ok(word) if word.is_empty() => None,
        Ok(word) => Some(Token::Word(word)),
        Err(_) => Some(Token::Unknown(text.to_string())),
    }
}

/// A quoted string, and how many bytes it takes with its quotes.
fn quoted(text: &str, quote: char, macros: &Macros) -> (Token, usize) {
    let (mut value, mut known, mut index) = (String::new(), true, 1);
    loop {
        let rest = &text[index..];
        let Some(c) = rest.chars().next() else { break };
        if c == quote {
            index += 1;
            break;
        }
        if rest.starts_with("$(") {
            let length = macros::length(rest).unwrap_or(rest.len());
            match macros.expand(&rest[..length]) {
                Ok(expanded) => value.push_str(&expanded),
                Err(_) => known = false,
            }
            index += length;
            continue;
        }
        index += c.len_utf8();
        if c == '\\' {
            if let Some(escaped) = rest.chars().nth(1) {
                value.push(escaped);
                index += escaped.len_utf8();
            }
        } else {
            value.push(c);
        }
    }
    let token = if known { Token::Quoted(value) } else { Token::Unknown(text[..index].into()) };
    (token, index)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest::Arch;

    fn read(statement: &str) -> Vec<Token> {
        tokens(statement, &Macros::of(Path::new("/src"), Arch::X86_64))
    }

    #[test]
    fn statements_fall_into_tokens() {
        let word = |w: &str| Token::Word(w.into());
        let operator = Token::Operator;
        assert_eq!(
            read("depends on !A&&(B||C>=12) # why"),
            [
                word("depends"),
                word("on"),
                operator("!"),
                word("A"),
                operator("&&"),
                operator("("),
                word("B"),
                operator("||"),
                word("C"),
                operator(">="),
                word("12"),
                operator(")"),
            ]
        );
        assert_eq!(read("---help---"), [word("---help---")]);
        assert_eq!(
            read(r#"bool "a \"b\" # c" if X"#)[1..],
            [Token::Quoted("a \"b\" # c".into()), word("if"), word("X")]
        );
    }

    #[test]
    fn macros_are_expanded_or_kept() {
        assert_eq!(
            read("source \"arch/$(SRCARCH)/Kconfig\"")[1],
            Token::Quoted("arch/x86/Kconfig".into())
        );
        let option = "$(cc-option,-fsanitize=kernel-address -x \"(\")";
        assert!(
            matches!(&read(&format!("def_bool {option}")) [1], Token::Unknown(u) if u.starts_with("$(cc-option"))
        );
        assert_eq!(
            read("default $(success,test -n \"a\") && B")[1..],
            [
                Token::Unknown("$(success,test -n \"a\")".into()),
                Token::Operator("&&"),
                Token::Word("B".into())
            ]
        );
        assert!(matches!(&read("\"$(shell,uname)\"")[0], Token::Unknown(_)));
    }
}
