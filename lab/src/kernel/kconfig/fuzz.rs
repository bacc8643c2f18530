//! What must hold for any Kconfig file and any fragment: `lab::fuzzing` calls these.

use super::config::{Kconfig, Value};
use super::describe::describe;
use super::fragment::{Fragment, Target};
use super::language::{Truth, read_text};
use super::merge::merge;
use super::verify::verify;
use crate::fuzzing::{Input, check_error, check_words};
use crate::manifest::Arch;

const TARGET: Target = Target { version: (6, 1), arch: Arch::Um };

/// Kconfig files and a `.config`: every symbol of the one can be described in the light of the
/// other, and why a request was lost can be said, in bounded time.
///
/// The input is a Kconfig file and, behind a zero byte, a `.config`, which is also the fragment that
/// asks.
pub(crate) fn kconfig(data: &[u8]) {
    let mut input = Input(data);
    let files = String::from_utf8_lossy(input.until(0)).into_owned();
    let config = String::from_utf8_lossy(input.0).into_owned();
    let tree = read_text(&files);
    let values = Kconfig::parse(&config);
    let merged = Fragment::parse("f", "kconfigs/f.config", config)
        .ok()
        .and_then(|fragment| merge(&[fragment], TARGET).ok());
    for (name, symbol) in tree.symbols() {
        assert!(!name.is_empty() && !symbol.definitions.is_empty());
        let described = describe(name, &values, Some(&tree), merged.as_ref());
        assert_eq!(described.symbol, name.strip_prefix("CONFIG_").unwrap_or(name));
        let lines = files.lines().count();
        for definition in &symbol.definitions {
            assert!((1..=lines).contains(&definition.place.line), "{}", definition.place);
            for term in &definition.depends {
                let blamed = term.expr.blame(Truth::Yes, &values, &tree);
                assert_eq!(blamed.is_empty(), term.expr.truth(&values, &tree) == Truth::Yes);
            }
            if let Some(choice) = definition.choice {
                assert!(tree.choice(choice).members.iter().any(|member| member == name));
            }
        }
    }
    if let Some(merged) = &merged {
        match verify(merged, &Kconfig::default(), &tree) {
            Ok(()) => {}
            Err(lost) => lost.iter().for_each(check_words),
        }
    }
}

/// A fragment: each line is a request with its place, or an error with one; and what fragments ask,
/// written out for the kernel's own tools, asks the same.
pub(crate) fn fragment(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let fragment = match Fragment::parse("f", "kconfigs/f.config", text.as_str()) {
        Ok(fragment) => fragment,
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                check_error(&error, &text);
                assert!(error.way_out().is_some());
            }
            return;
        }
    };
    for request in &fragment.requests {
        let said = &text[request.span.clone()];
        assert!(!said.contains('\n') && said.contains(&request.symbol), "{said:?}");
    }
    match merge(&[fragment], TARGET) {
        Ok(merged) => {
            let config = Kconfig::parse(&merged.text());
            for asked in merged.asked() {
                assert_eq!(config.get(&asked.symbol), asked.value, "{}", merged.text());
            }
            let again = Fragment::parse("g", "g", merged.text()).expect("it is a fragment itself");
            let again = merge(&[again], TARGET).expect("which does not contradict itself");
            assert_eq!(again.text(), merged.text());
        }
        Err(errors) => errors.iter().for_each(|error| check_error(error, &text)),
    }
    let options: Vec<&str> = text.lines().collect();
    match Fragment::one_offs(&options) {
        // Each says one thing, or nothing: two would mean that a value broke out of its quotes.
        Ok(one_offs) => {
            assert!(one_offs.requests.len() <= options.len());
            let texts = one_offs.requests.iter().filter(|r| matches!(r.value, Value::Text(_)));
            texts.for_each(|request| assert!(!request.written.is_empty()));
        }
        Err(errors) => errors.iter().for_each(check_words),
    }
}
