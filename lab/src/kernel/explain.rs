//! Why a symbol is not what somebody asked for: the term of `depends on` that is false, and what in
//! turn keeps that one off.

use super::fragment::Target;
use super::kconfig::{Kconfig, Value};
use super::kconfig_language::{
    Default_, Definition, Expr, Kind, Operand, Selection, Symbol, Term, TermOrigin, Tree, Truth,
};
use super::merge::{Asked, Merged, line_of, number, same};
use crate::manifest::Arch;

/// How far a chain of unmet dependencies is followed.
const DEPTH: usize = 4;
/// How many alternatives of an `||`, and how many selectors, are told.
const WIDTH: usize = 3;

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

struct Explainer<'a> {
    config: &'a Kconfig,
    tree: &'a Tree,
    merged: &'a Merged,
    /// Symbols that nothing asks for and that would help.
    missing: Vec<String>,
    way_out: Option<String>,
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
        format!("nothing in its dependencies forbids it ({})", definition.place)
    }

    /// The terms that keep a definition's prompt below `enough`, the nearest block last.
    fn unmet(&self, definition: &Definition, enough: Truth) -> Vec<Term> {
        let own = definition.prompt.iter().filter_map(|prompt| prompt.condition.clone());
        let place = definition.place.clone();
        let own = own.map(|expr| Term { expr, place: place.clone(), origin: TermOrigin::Prompt });
        let around = definition.depends.iter().map(|term| (**term).clone());
        let terms = around.chain(definition.visible.iter().map(|term| {
            // Being shown is all or nothing, and a menu's title tells more than its line.
            (**term).clone()
        }));
        terms.chain(own).filter(|t| t.expr.truth(self.config, self.tree) < enough).collect()
    }

    fn terms(&mut self, unmet: &[Term], enough: Truth, depth: usize) -> String {
        let mut clauses: Vec<String> = Vec::new();
        for term in unmet.iter().take(WIDTH) {
            let says = match &term.origin {
                TermOrigin::Own => "it depends on",
                TermOrigin::If => "it stands in \"if\"",
                TermOrigin::Menu(title) => &format!("its menu {title:?} depends on"),
                TermOrigin::Choice(title) => &format!("its choice {title:?} depends on"),
                TermOrigin::Prompt => "it is only asked if",
            };
            let why = self.why_false(&term.expr, enough, depth);
            clauses.push(format!("{says} {} ({}), and {why}", term.expr, term.place));
        }
        clauses.dedup();
        clauses.join("; ")
    }

    /// What keeps an expression below `enough`.
    fn why_false(&mut self, expr: &Expr, enough: Truth, depth: usize) -> String {
        let blamed = expr.blame(enough, self.config, self.tree);
        let mut clauses: Vec<String> = Vec::new();
        let before = self.missing.len();
        for leaf in blamed.iter().take(WIDTH) {
            let clause = self.why_leaf(leaf, enough, depth);
            if !clauses.contains(&clause) {
                clauses.push(clause);
            }
        }
        // Of alternatives one will do; which, only a person can say.
        if matches!(expr, Expr::Or(_)) {
            self.missing.truncate((before + 1).min(self.missing.len()));
        }
        if blamed.len() > WIDTH {
            clauses.push(format!("{} more are off", blamed.len() - WIDTH));
        }
        clauses.join(", and ")
    }

    fn why_leaf(&mut self, leaf: &Expr, enough: Truth, depth: usize) -> String {
        match leaf {
            Expr::Is(Operand::Word(name)) => self.why_off(name, enough, depth),
            Expr::Is(Operand::Unknown(text)) => {
                format!(
                    "{text} is a question to the compiler or shell, whose answer is not known here"
                )
            }
            Expr::Not(inner) => match &**inner {
                Expr::Is(Operand::Word(name)) => {
                    let value = if self.config.get(name) == Value::Module { "m" } else { "y" };
                    format!("{name} is {value}: {}", self.why_on(name, depth + 1))
                }
                other => format!("{other} holds"),
            },
            Expr::Compare(left, _, right) => {
                let value = |operand: &Operand| operand.text(self.config, self.tree);
                let shown = [left, right].into_iter().filter_map(|operand| match operand {
                    Operand::Word(name) if self.tree.symbol(name).is_some() => {
                        Some(format!("{name} is {}", value(operand)?))
                    }
                    Operand::Unknown(text) => Some(format!("{text} is not known here")),
                    _ => None,
                });
                let shown: Vec<_> = shown.collect();
                if shown.is_empty() { format!("{leaf} does not hold") } else { shown.join(" and ") }
            }
            other => format!("{other} is n"),
        }
    }

    /// Why a symbol that something depends on is off, or only a module.
    fn why_off(&mut self, name: &str, enough: Truth, depth: usize) -> String {
        let Some(symbol) = self.tree.symbol(name) else {
            let where_ = match self.merged.target.arch {
                // The macro language's constants: "if n".
                _ if matches!(name, "n" | "m") => return format!("that is always {name}"),
                arch => arch_name(arch),
            };
            return format!("{name} does not exist for {where_}");
        };
        if self.config.get(name) == Value::Module {
            return match self.merged.of(name) {
                Some(asked) => format!("{name} is m, as {} asks", by(asked)),
                None => format!("{name} is m"),
            };
        }
        let asked_off = self.merged.of(name).filter(|asked| asked.value == Value::No);
        if let Some(asked) = asked_off {
            self.way_out
                .get_or_insert(format!("{} sets {name} to n: change one of the two", by(asked)));
            return format!("{name} is n, as {} asks", by(asked));
        }
        let because = self.off_because(name, symbol, enough, depth + 1);
        format!("{name} is n{because}")
    }

    fn off_because(&mut self, name: &str, symbol: &Symbol, enough: Truth, depth: usize) -> String {
        if depth > DEPTH {
            return String::new();
        }
        let with_prompt = symbol.definitions.iter().filter(|d| d.prompt.is_some());
        let unmet = with_prompt.map(|d| (self.unmet(d, enough), d)).min_by_key(|(u, _)| u.len());
        let Some((unmet, definition)) = unmet else {
            return format!(": {}", self.no_prompt(name, symbol, depth));
        };
        let Some(first) = unmet.first() else {
            if let Some(reason) = self.other_of_choice(name, definition) {
                return format!(": {reason}");
            }
            if !self.missing.iter().any(|m| m == name) {
                self.missing.push(name.to_string());
            }
            return ", because nothing asks for it".into();
        };
        format!(" because {}", self.why_false(&first.expr, enough, depth))
    }

    /// Nobody can set it: it lives on selects and defaults.
    fn no_prompt(&mut self, name: &str, symbol: &Symbol, depth: usize) -> String {
        let place = &symbol.definitions[0].place;
        let mut reason = format!("{name} has no prompt ({place}), so nobody can set it");
        if let Some(default) = self.hanging_default(symbol) {
            reason += &format!("; its default is {}", show_default(default));
            let unmet: Vec<_> = symbol.definitions[0].depends.iter().collect();
            let unmet = unmet.iter().find(|t| t.expr.truth(self.config, self.tree) == Truth::No);
            if let Some(term) = unmet.filter(|_| depth < DEPTH) {
                let why = self.why_false(&term.expr, Truth::Yes, depth + 1);
                reason += &format!(", and {why}");
            }
            return reason;
        }
        match selectors(&symbol.selected_by)[..] {
            [] => reason += "; nothing selects it",
            ref all => {
                let more = if all.len() > WIDTH { " and others" } else { "" };
                let shown = all.iter().take(WIDTH).copied().collect::<Vec<_>>().join(", ");
                reason += &format!("; it is selected by {shown}{more}");
                if all.len() == 1 && self.way_out.is_none() && self.config.get(all[0]) == Value::No
                {
                    self.way_out = Some(format!("ask for CONFIG_{}=y", all[0]));
                }
            }
        }
        reason
    }

    /// The default of a symbol without prompt that is worth telling: not a plain n.
    fn hanging_default<'t>(&self, symbol: &'t Symbol) -> Option<&'t Default_> {
        let all = symbol.definitions.iter().flat_map(|d| &d.defaults);
        all.into_iter().find(|d| d.value != Expr::Is(Operand::Word("n".into())))
    }

    /// Why a symbol is on though it should be off.
    fn why_on(&mut self, name: &str, depth: usize) -> String {
        let Some(symbol) = self.tree.symbol(name) else { return format!("{name} holds") };
        let active = |s: &&Selection| {
            self.config.has(&s.by)
                && s.condition.as_ref().is_none_or(|c| c.truth(self.config, self.tree) != Truth::No)
        };
        if let Some(selection) = symbol.selected_by.iter().find(active) {
            let asked = match self.merged.of(&selection.by) {
                Some(asked) => format!(", which {} asks for", by(asked)),
                None => String::new(),
            };
            self.way_out.get_or_insert(format!("drop one of {name} and {}", selection.by));
            return format!("{} selects it ({}){asked}", selection.by, selection.place);
        }
        if depth > 0
            && let Some(asked) = self.merged.of(name).filter(|a| a.value != Value::No)
        {
            self.way_out
                .get_or_insert(format!("{} asks for {name}: drop one of the two", by(asked)));
            return format!("{} asks for it", by(asked));
        }
        let prompts = symbol.definitions.iter().filter(|d| d.prompt.is_some());
        let hidden = prompts.clone().map(|d| self.unmet(d, Truth::Module)).min_by_key(Vec::len);
        let default = symbol.definitions.iter().flat_map(|d| &d.defaults).find(|d| {
            d.condition.as_ref().is_none_or(|c| c.truth(self.config, self.tree) != Truth::No)
        });
        let shown = default.map(|d| format!(" ({})", d.place)).unwrap_or_default();
        match hidden {
            None => format!("{name} has no prompt and is on by default{shown}"),
            Some(unmet) if !unmet.is_empty() => {
                let why = self.terms(&unmet, Truth::Module, depth + 1);
                format!("it is on by default{shown} and nobody is asked: {why}")
            }
            Some(_) => match prompts.clone().find_map(|d| d.choice) {
                Some(choice) => {
                    let choice = self.tree.choice(choice);
                    let others = choice.members.iter().filter(|m| *m != name);
                    let others: Vec<_> = others.map(String::as_str).collect();
                    self.way_out.get_or_insert(format!("ask for one of: {}", others.join(", ")));
                    format!("one of the choice {:?} must be on", choice.prompt)
                }
                None => format!("it is on by default{shown}"),
            },
        }
    }

    /// Another member of the same choice is on.
    fn other_of_choice(&mut self, name: &str, definition: &Definition) -> Option<String> {
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

fn by(asked: &Asked) -> String {
    asked.by.first().map(line_of).unwrap_or_default()
}

fn selectors(selections: &[Selection]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for selection in selections {
        if !names.contains(&selection.by.as_str()) {
            names.push(&selection.by);
        }
    }
    names
}

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
