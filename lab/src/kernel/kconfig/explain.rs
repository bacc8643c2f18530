//! Why a symbol is not what somebody asked for: the term of `depends on` that is false, and what in
//! turn keeps that one off.

use super::config::{Kconfig, Value};
use super::fragment::Target;
use super::language::{Default_, Definition, Kind, Operand, Symbol, Tree, Truth};
use super::merge::{Asked, Merged, line_of, number, same};
use crate::manifest::Arch;

/// The answer to "why is it not what I asked for".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// What keeps it from being so: a clause without a full stop.
    pub reason: String,
    /// What to change, where that is known.
    pub way_out: Option<String>,
}

/// Explains why `symbol` is not `wanted` in `config`, the finished configuration of the source
/// whose Kconfig files are in `tree`. Only sound where that is the case.
pub fn explain(
    symbol: &str,
    wanted: &Value,
    config: &Kconfig,
    tree: &Tree,
    merged: &Merged,
) -> Explanation {
    Explainer { config, tree, merged, missing: Vec::new(), way_out: None }.explain(symbol, wanted)
}

/// A symbol that this architecture of this source does not have.
pub(super) fn unknown(symbol: &str, tree: &Tree, target: Target) -> Explanation {
    if let Some(place) = tree.elsewhere(symbol) {
        let folders: Vec<&str> = place.file.split('/').collect();
        let (reason, arch) = match folders[..] {
            ["arch", arch, _, ..] => (format!("only {arch} has it ({place})"), Some(arch)),
            _ => (format!("{} does not read {place}, which has it", arch_name(target.arch)), None),
        };
        let way_out = match arch {
            Some("x86") => "say so behind the line: # x86_64 only".into(),
            Some("um") => "say so behind the line: # um only".into(),
            _ => "drop the line".into(),
        };
        return Explanation { reason, way_out: Some(way_out) };
    }
    let (major, minor) = target.version;
    let reason = format!("Linux {major}.{minor} has no symbol of that name");
    let hint = "if other versions have it, say so behind the line: # since 6.0, or # until 6.7";
    let way_out = match tree.nearest(symbol) {
        Some(near) => format!("did you mean {near}? {hint}"),
        None => hint.to_string(),
    };
    Explanation { reason, way_out: Some(way_out) }
}

/// One question being answered; what it finds on the way becomes the way out.
pub(super) struct Explainer<'a> {
    pub config: &'a Kconfig,
    pub tree: &'a Tree,
    pub merged: &'a Merged,
    /// Symbols that nothing asks for and that would help.
    pub missing: Vec<String>,
    pub way_out: Option<String>,
}

impl Explainer<'_> {
    fn explain(mut self, name: &str, wanted: &Value) -> Explanation {
        let Some(symbol) = self.tree.symbol(name) else {
            return unknown(name, self.tree, self.merged.target);
        };
        let reason = match (self.wrong_kind(symbol, wanted), wanted) {
            (Some(reason), _) => reason,
            (None, Value::No) => self.why_on(name, 0),
            (None, _) => self.why_not(name, symbol, wanted),
        };
        if self.way_out.is_none() && !self.missing.is_empty() {
            let lines: Vec<_> = self.missing.iter().map(|m| format!("CONFIG_{m}=y")).collect();
            self.way_out = Some(format!("ask for {} as well", lines.join(" and ")));
        }
        Explanation { reason, way_out: self.way_out }
    }

    /// A value that the symbol's type does not have.
    fn wrong_kind(&mut self, symbol: &Symbol, wanted: &Value) -> Option<String> {
        let kind = symbol.kind?;
        let fits = match (kind, wanted) {
            (Kind::Bool, Value::Yes | Value::No) | (Kind::Tristate, Value::Yes | Value::No) => true,
            (Kind::Tristate, Value::Module) => true,
            (Kind::Int, Value::Text(text)) => text.parse::<i64>().is_ok(),
            (Kind::Hex, Value::Text(text)) => {
                i128::from_str_radix(text.trim_start_matches("0x").trim_start_matches("0X"), 16)
                    .is_ok()
            }
            (Kind::String, Value::Text(_)) => true,
            // "is not set" of a number or text is how a .config says that it is hidden.
            (Kind::Int | Kind::Hex | Kind::String, Value::No) => true,
            _ => false,
        };
        if fits {
            return None;
        }
        let (form, way_out) = match kind {
            Kind::Bool if *wanted == Value::Module => {
                ("a bool, which is y or n and never a module", "ask for y")
            }
            Kind::Bool => ("a bool", "its value is y or n"),
            Kind::Tristate => ("a tristate", "its value is y, m or n"),
            Kind::Int => ("an int", "give it a decimal number"),
            Kind::Hex => ("a hex", "give it a number like 0x1000"),
            Kind::String => ("a string", "give it a text in quotes"),
        };
        self.way_out = Some(way_out.into());
        Some(format!("it is {form} ({})", symbol.definitions[0].place))
    }

    /// Why `symbol` is less than it should be, or another number or text.
    fn why_not(&mut self, name: &str, symbol: &Symbol, wanted: &Value) -> String {
        let enough = if *wanted == Value::Module { Truth::Module } else { Truth::Yes };
        let with_prompt = symbol.definitions.iter().filter(|d| d.prompt.is_some());
        let blocked = with_prompt.map(|d| (self.unmet(d, enough), d));
        let Some((unmet, definition)) = blocked.min_by_key(|(unmet, _)| unmet.len()) else {
            return self.no_prompt(name, symbol, 0);
        };
        if !unmet.is_empty() {
            return self.terms(&unmet, enough, 0);
        }
        if *wanted == Value::Module && self.config.get(name) == Value::Yes {
            return self.why_on(name, 0);
        }
        if *wanted == Value::Module && !self.config.has("MODULES") {
            self.missing.push("MODULES".into());
            return "modules are off: MODULES is n".into();
        }
        if let Some(reason) = self.other_of_choice(name, definition) {
            return reason;
        }
        if let Some(reason) = self.out_of_range(wanted, definition) {
            return reason;
        }
        if self.merged.of(name).is_none() {
            self.missing.push(name.into());
            return "nothing asks for it".into();
        }
        format!("nothing in its dependencies forbids it ({})", definition.place)
    }

    /// Another member of the same choice is on.
    pub(super) fn other_of_choice(
        &mut self,
        name: &str,
        definition: &Definition,
    ) -> Option<String> {
        let choice = self.tree.choice(definition.choice?);
        let is_on = |m: &&String| *m != name && self.config.get(m) == Value::Yes;
        let chosen = choice.members.iter().find(is_on)?;
        let asked = self.merged.of(chosen).filter(|asked| asked.value == Value::Yes);
        let how = match asked {
            Some(asked) => {
                self.way_out.get_or_insert(format!("drop one of {name} and {chosen}"));
                format!("as {} asks", by(asked))
            }
            None => "by default".into(),
        };
        Some(format!("of the choice {:?}, {chosen} was chosen instead, {how}", choice.prompt))
    }

    fn out_of_range(&mut self, wanted: &Value, definition: &Definition) -> Option<String> {
        let Value::Text(text) = wanted else { return None };
        let wanted = number(text)?;
        let active = definition.ranges.iter().find(|(_, _, condition)| {
            condition.as_ref().is_none_or(|c| c.truth(self.config, self.tree) != Truth::No)
        });
        let (low, high, _) = active?;
        let bound = |operand: &Operand| number(&operand.text(self.config, self.tree)?);
        let outside = bound(low).is_some_and(|low| wanted < low)
            || bound(high).is_some_and(|high| wanted > high);
        if !outside {
            return None;
        }
        self.way_out = Some(format!("give it a number from {low} to {high}"));
        Some(format!("its range is {low} to {high} ({})", definition.place))
    }
}

/// Whether a request is met by a finished configuration.
pub(super) fn is_met(wanted: &Value, found: &Value) -> bool {
    // A text that is empty may be left out of a .config.
    same(wanted, found) || (*wanted == Value::Text(String::new()) && *found == Value::No)
}

/// The first line that asks.
pub(super) fn by(asked: &Asked) -> String {
    asked.by.first().map(line_of).unwrap_or_default()
}

/// `VALUE if CONDITION (FILE:LINE)`.
pub(super) fn show_default(default: &Default_) -> String {
    match &default.condition {
        Some(condition) => format!("{} if {condition} ({})", default.value, default.place),
        None => format!("{} ({})", default.value, default.place),
    }
}

/// As `make ARCH=` has it.
pub(super) fn arch_name(arch: Arch) -> &'static str {
    match arch {
        Arch::Um => "um",
        Arch::X86_64 => "x86_64",
    }
}
