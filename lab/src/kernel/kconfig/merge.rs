//! From fragments to the one text that a configuration starts from. Two fragments that want
//! different things of a symbol are an error: whichever won, somebody's request would be lost.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::config::Value;
use super::fragment::{Fragment, ONE_OFFS, Request, Target};
use crate::manifest::{Diagnostic, Place};

/// What all fragments together ask of one kernel.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The kernel it was merged for.
    pub target: Target,
    asked: Vec<Asked>,
    index: HashMap<String, usize>,
}

/// What is asked of one symbol.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Without `CONFIG_`.
    pub symbol: String,
    /// What it shall be.
    pub value: Value,
    /// The value as a `.config` has it.
    pub written: String,
    /// Who asks for it, in the order of the fragments. Never empty.
    pub by: Vec<Place>,
    /// Nobody minds a source that lacks the symbol.
    pub if_known: bool,
    /// Whether it stands in `--config`, which overrides the fragments.
    pub one_off: bool,
}

/// Merges the requests of `fragments` that are meant for `target`. A fragment made by
/// [`Fragment::one_offs`] overrides the others wherever it stands in the list.
///
/// # Errors
/// One for each symbol of which different things are asked, naming both files and lines.
pub fn merge(fragments: &[Fragment], target: Target) -> Result<Merged, Vec<Diagnostic>> {
    let mut merged = Merged { target, asked: Vec::new(), index: HashMap::new() };
    let mut contradictions = Vec::new();
    let (one_offs, files): (Vec<_>, Vec<_>) = fragments.iter().partition(|f| f.name == ONE_OFFS);
    for fragment in files.into_iter().chain(one_offs) {
        for request in fragment.requests.iter().filter(|r| r.only.holds(target)) {
            contradictions.extend(merged.add(fragment, request).err());
        }
    }
    if contradictions.is_empty() { Ok(merged) } else { Err(contradictions) }
}

impl Merged {
    /// Every symbol once, in the order of its first mention.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// What is asked of one symbol, named without `CONFIG_`.
    pub fn of(&self, symbol: &str) -> Option<&Asked> {
        self.index.get(symbol).map(|index| &self.asked[*index])
    }

    /// The text for `make KCONFIG_ALLCONFIG=FILE allnoconfig`: what it does not name stays off.
    /// It also does as a `.config` before `make olddefconfig`, which gives the rest its defaults.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Asked { symbol, value, written, .. } in &self.asked {
            let _ = match value {
                Value::No => writeln!(text, "# CONFIG_{symbol} is not set"),
                _ => writeln!(text, "CONFIG_{symbol}={written}"),
            };
        }
        text
    }

    fn add(&mut self, fragment: &Fragment, request: &Request) -> Result<(), Diagnostic> {
        let place = fragment.place(request);
        let one_off = fragment.name == ONE_OFFS;
        let Some(&index) = self.index.get(&request.symbol) else {
            self.index.insert(request.symbol.clone(), self.asked.len());
            self.asked.push(Asked {
                symbol: request.symbol.clone(),
                value: request.value.clone(),
                written: request.written.clone(),
                by: vec![place],
                if_known: request.only.if_known,
                one_off,
            });
            return Ok(());
        };
        let known = &mut self.asked[index];
        if same(&known.value, &request.value) {
            known.by.push(place);
            known.if_known &= request.only.if_known;
            known.one_off |= one_off;
        } else if one_off && !known.one_off {
            known.value = request.value.clone();
            known.written = request.written.clone();
            known.by = vec![place];
            known.if_known = false;
            known.one_off = true;
        } else {
            return Err(contradiction(known, request, place));
        }
        Ok(())
    }
}

/// Whether two values are one to Kconfig: numbers may be written in several ways.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Text(one), Value::Text(other)) => {
            one == other || number(one).is_some_and(|n| number(other) == Some(n))
        }
        _ => one == other,
    }
}

/// A Kconfig number: decimal, or hexadecimal after `0x`.
pub(super) fn number(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let value = match hex {
        Some(hex) => i128::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    value.ok().map(|value| sign * value)
}

/// `kconfigs/fs.config:12`, or `--config` for what stands on the command line.
pub(super) fn line_of(place: &Place) -> String {
    if place.file.as_os_str() == ONE_OFFS {
        return ONE_OFFS.into();
    }
    format!("{}:{}", place.file.display(), place.line_column().0)
}

fn contradiction(known: &Asked, request: &Request, place: Place) -> Diagnostic {
    let (symbol, first) = (&known.symbol, line_of(&known.by[0]));
    let (one, other) = (&known.written, &request.written);
    let message = format!("{symbol}={other} contradicts {symbol}={one}, which {first} asks for");
    let help = if request.only == Default::default() && place.file.as_os_str() != ONE_OFFS {
        format!("drop one of the two fragments or lines, or decide with --config {symbol}={other}")
    } else {
        "drop one of the two".to_string()
    };
    Diagnostic::usage(message).help(help).at(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Arch;

    const TARGET: Target = Target { version: (6, 1), arch: Arch::Um };

    fn fragment(name: &str, text: &str) -> Fragment {
        Fragment::parse(name, format!("kconfigs/{name}.config"), text).unwrap()
    }

    #[test]
    fn requests_add_up_in_order() {
        let one = fragment("a", "CONFIG_A=y\nCONFIG_N=0x10\nCONFIG_X=y  # x86_64 only\n");
        let two = fragment("b", "# CONFIG_B is not set\nCONFIG_A=y\nCONFIG_N=16\nCONFIG_S=\"s\"\n");
        let merged = merge(&[one, two], TARGET).unwrap();
        let text = "CONFIG_A=y\nCONFIG_N=0x10\n# CONFIG_B is not set\nCONFIG_S=\"s\"\n";
        assert_eq!(merged.text(), text);
        let by: Vec<_> = merged.of("A").unwrap().by.iter().map(line_of).collect();
        assert_eq!(by, ["kconfigs/a.config:1", "kconfigs/b.config:2"]);
        assert!(merged.of("X").is_none());
    }

    #[test]
    fn contradictions_name_both_lines() {
        let one = fragment("a", "# one\nCONFIG_A=y\nCONFIG_B=y  # until 5.15\n");
        let two = fragment("b", "CONFIG_A=n\n# CONFIG_B is not set\n");
        let told = merge(&[one.clone(), two], TARGET).unwrap_err();
        assert_eq!(told.len(), 1);
        let told = told[0].to_string();
        assert!(told.starts_with("kconfigs/b.config:1:1: A=n contradicts A=y"), "{told}");
        assert!(told.contains("kconfigs/a.config:2"), "{told}");
        let inside = fragment("c", "CONFIG_A=y\nCONFIG_A=m\n");
        assert_eq!(merge(&[inside], TARGET).unwrap_err().len(), 1);
    }

    #[test]
    fn one_offs_override_files_and_not_each_other() {
        let one = fragment("a", "CONFIG_A=y\n");
        let off = Fragment::one_offs(&["A=n"]).unwrap();
        let merged = merge(&[off, one.clone()], TARGET).unwrap();
        assert_eq!(merged.text(), "# CONFIG_A is not set\n");
        assert_eq!(line_of(&merged.of("A").unwrap().by[0]), "--config");
        let both = Fragment::one_offs(&["A=n", "A=m"]).unwrap();
        assert!(merge(&[one, both], TARGET).is_err());
    }
}
