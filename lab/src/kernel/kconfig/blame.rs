//! What keeps a symbol off, or on, followed from condition to condition to the line that decides.

use super::config::Value;
use super::explain::{Explainer, arch_name, by, show_default};
use super::language::{
    Default_, Definition, Expr, Operand, Selection, Symbol, Term, TermOrigin, Truth,
};

/// How far a chain of unmet dependencies is followed.
const DEPTH: usize = 4;
/// How many alternatives of an `||`, and how many selectors, are told.
const WIDTH: usize = 3;

impl Explainer<'_> {
    /// The terms that keep a definition's prompt below `enough`, the nearest block last.
    pub(super) fn unmet(&self, definition: &Definition, enough: Truth) -> Vec<Term> {
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

    pub(super) fn terms(&mut self, unmet: &[Term], enough: Truth, depth: usize) -> String {
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
    pub(super) fn no_prompt(&mut self, name: &str, symbol: &Symbol, depth: usize) -> String {
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
            [] => {
                reason += &format!("; nothing selects it on {}", arch_name(self.merged.target.arch))
            }
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
    pub(super) fn why_on(&mut self, name: &str, depth: usize) -> String {
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
