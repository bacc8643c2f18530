//! What `lab kernel config KERNEL SYMBOL` tells: a symbol's value, who asked for it, what blocks it.

use std::fmt;

use super::config::{Kconfig, Value};
use super::explain::{Explanation, explain, is_met, show_default};
use super::language::{Expr, Kind, Symbol, Tree, Truth};
use super::merge::{Asked, Merged, line_of};
use super::verify::shown;

/// All that is known about one symbol of a kernel: what `lab kernel config KERNEL SYMBOL` shows.
#[derive(Clone, Debug)]
pub struct Description {
    /// Without `CONFIG_`.
    pub symbol: String,
    /// What it is.
    pub value: Value,
    /// Its type and prompt, as in `tristate "The Extended 4 (ext4) filesystem"`; empty where
    /// the kernel's Kconfig files are not at hand.
    pub title: String,
    /// Where it is defined, `FILE:LINE` in the source.
    pub defined: Vec<String>,
    /// Who asked for what: `y by kconfigs/fs.config:4`.
    pub asked: Option<String>,
    /// Where the value comes from: asked for, selected, a default.
    pub origin: Option<String>,
    /// Its conditions, each with what it comes to.
    pub depends: Vec<(String, Truth)>,
    /// What selects it, the active ones first, each with whether it does.
    pub selected_by: Vec<(String, bool)>,
    /// What keeps it from being y, or from being what was asked.
    pub blocked: Option<Explanation>,
}

/// Describes a symbol, named with or without `CONFIG_`. `tree` is there for kernels whose source
/// is; without it only the value is known.
pub fn describe(
    symbol: &str,
    config: &Kconfig,
    tree: Option<&Tree>,
    merged: Option<&Merged>,
) -> Description {
    let name = symbol.strip_prefix("CONFIG_").unwrap_or(symbol);
    let value = config.get(name);
    let asked = merged.and_then(|merged| merged.of(name));
    let mut description = Description {
        symbol: name.to_string(),
        value: value.clone(),
        title: String::new(),
        defined: Vec::new(),
        asked: asked.map(|asked| {
            let by: Vec<_> = asked.by.iter().map(line_of).collect();
            format!("{} by {}", asked.written, by.join(", "))
        }),
        origin: None,
        depends: Vec::new(),
        selected_by: Vec::new(),
        blocked: None,
    };
    let Some(tree) = tree else { return description };
    if let Some(symbol) = tree.symbol(name) {
        description.add(symbol, config, tree, asked);
    }
    let wanted = match asked {
        Some(asked) => asked.value.clone(),
        None if tree.symbol(name).is_none() => Value::Yes,
        None if value != Value::No => value.clone(),
        None => match tree.symbol(name).and_then(|symbol| symbol.kind) {
            Some(Kind::Bool | Kind::Tristate) | None => Value::Yes,
            // A number or text that is hidden: any value would do.
            _ => value.clone(),
        },
    };
    if let Some(merged) = merged
        && (tree.symbol(name).is_none() || !is_met(&wanted, &value))
    {
        description.blocked = Some(explain(name, &wanted, config, tree, merged));
    }
    description
}

impl Description {
    fn add(&mut self, symbol: &Symbol, config: &Kconfig, tree: &Tree, asked: Option<&Asked>) {
        let prompt = symbol.definitions.iter().find_map(|d| d.prompt.as_ref());
        self.title = match (symbol.kind, prompt) {
            (Some(kind), Some(prompt)) => format!("{kind} {:?}", prompt.text),
            (Some(kind), None) => format!("{kind}, no prompt"),
            (None, _) => String::new(),
        };
        self.defined = symbol.definitions.iter().map(|d| d.place.to_string()).collect();
        for term in symbol.definitions.iter().flat_map(|d| &d.depends) {
            let truth = term.expr.truth(config, tree);
            self.depends.push((format!("{} ({})", term.expr, term.place), truth));
        }
        let holds = |condition: &Option<_>| match condition {
            Some(condition) => Expr::truth(condition, config, tree) != Truth::No,
            None => true,
        };
        for selection in &symbol.selected_by {
            let active = config.has(&selection.by) && holds(&selection.condition);
            let condition =
                selection.condition.as_ref().map(|c| format!(" if {c}")).unwrap_or_default();
            let text = format!("{}{condition} ({})", selection.by, selection.place);
            self.selected_by.push((text, active));
        }
        self.selected_by.sort_by_key(|(_, active)| !active);
        let defaults = symbol.definitions.iter().flat_map(|d| &d.defaults);
        self.origin = match (asked, &self.value) {
            (Some(asked), value) if is_met(&asked.value, value) => Some("asked for".to_string()),
            (_, Value::No) => None,
            _ => match self.selected_by.first() {
                Some((by, true)) => Some(format!("selected by {by}")),
                _ => defaults
                    .into_iter()
                    .find(|default| holds(&default.condition))
                    .map(|default| format!("default {}", show_default(default))),
            },
        };
    }
}

impl fmt::Display for Description {
    /// Some lines of text, the last without a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.symbol, shown(&self.value))?;
        if !self.title.is_empty() {
            write!(f, "  {}", self.title)?;
        }
        let mut line = |what: &str, text: &str| write!(f, "\n  {what:<12} {text}");
        for place in &self.defined {
            line("defined", place)?;
        }
        if let Some(asked) = &self.asked {
            line("asked for", asked)?;
        }
        if let Some(origin) = &self.origin {
            line("from", origin)?;
        }
        for (term, truth) in &self.depends {
            line("depends on", &format!("{term}: {truth}"))?;
        }
        for (selector, active) in self.selected_by.iter().take(8) {
            line(if *active { "selected by" } else { "selectable" }, selector)?;
        }
        if self.selected_by.len() > 8 {
            line("", &format!("and {} more that could select it", self.selected_by.len() - 8))?;
        }
        if let Some(blocked) = &self.blocked {
            line("blocked", &blocked.reason)?;
            if let Some(way_out) = &blocked.way_out {
                line("way out", way_out)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fragment::{Fragment, Target};
    use super::super::language::read_text;
    use super::super::merge::merge;
    use super::super::verify::tests::KCONFIG;
    use super::*;
    use crate::manifest::Arch;

    #[test]
    fn descriptions_tell_where_a_value_comes_from() {
        let tree = read_text(KCONFIG);
        let fragment = Fragment::parse("f", "kconfigs/f.config", "CONFIG_DM_VERITY=y\n").unwrap();
        let merged = merge(&[fragment], Target { version: (6, 1), arch: Arch::Um }).unwrap();
        let config = "CONFIG_MD=y\nCONFIG_BLK_DEV_DM=y\nCONFIG_DM_VERITY=y\nCONFIG_HASH=y\n";
        let config = Kconfig::parse(config);
        let show = |symbol| describe(symbol, &config, Some(&tree), Some(&merged)).to_string();
        assert_eq!(
            show("CONFIG_DM_VERITY"),
            "DM_VERITY = y  tristate \"Verity target\"\n  defined      Kconfig:12\n  \
             asked for    y by kconfigs/f.config:1\n  from         asked for\n  \
             depends on   MD (Kconfig:8): y\n  depends on   BLK_DEV_DM (Kconfig:14): y"
        );
        assert!(show("HASH").contains("from         selected by DM_VERITY (Kconfig:15)"));
        assert!(show("EITHER").contains("blocked      its menu"));
        let bare = describe("EITHER", &config, None, None);
        assert_eq!(bare.to_string(), "EITHER = n");
    }
}
