//! Kconfig's statements, read file by file as scripts/kconfig/parser.y does.

use std::path::Path;
use std::sync::Arc;

use super::expression::{Expr, Operand};
use super::lexer::{Token, tokens};
use super::macros::Macros;
use super::{Choice, Default_, Definition, Kind, Line, Prompt, Selection, Term, TermOrigin, Tree};
use crate::manifest::{Arch, Diagnostic, Result};

/// How deep files may include each other; the kernel's own do not go beyond eight.
const DEPTH: usize = 32;

/// Reads the tree below `root`.
pub(super) fn read(root: &Path, arch: Arch) -> Result<Tree> {
    let top = root.join("Kconfig");
    let text = std::fs::read(&top).map_err(|e| Diagnostic::io("read", &top, &e))?;
    let mut parser = Parser::new(root, arch);
    parser.file("Kconfig", &String::from_utf8_lossy(&text), 0);
    Ok(parser.tree)
}

/// Reads one text as if it were a whole tree's.
#[cfg(any(test, fuzzing))]
pub(in crate::kernel::kconfig) fn read_text(text: &str) -> Tree {
    let mut parser = Parser::new(Path::new("/nonexistent"), Arch::Um);
    parser.file("Kconfig", text, 0);
    parser.tree
}

struct Parser {
    tree: Tree,
    macros: Macros,
    scopes: Vec<Scope>,
    entry: Entry,
}

/// An open block.
struct Scope {
    kind: ScopeKind,
    depends: Vec<Arc<Term>>,
    visible: Vec<Arc<Term>>,
}

enum ScopeKind {
    If,
    Menu(String),
    Choice(usize),
}

/// What the options that follow belong to.
enum Entry {
    None,
    Symbol(String),
    /// The innermost scope: a menu or choice whose head is being read.
    Scope,
    /// A `comment`.
    Comment,
}

impl Parser {
    fn new(root: &Path, arch: Arch) -> Self {
        Self {
            tree: Tree { root: root.to_path_buf(), ..Tree::default() },
            macros: Macros::of(root, arch),
            scopes: Vec::new(),
            entry: Entry::None,
        }
    }

    fn file(&mut self, name: &str, text: &str, depth: usize) {
        self.tree.files.insert(name.to_string());
        let file: Arc<str> = name.into();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let place = Line { file: file.clone(), line: index + 1 };
            let mut statement = line.to_string();
            while statement.ends_with('\\')
                && let Some((_, more)) = lines.next()
            {
                statement.pop();
                statement.push_str(more);
            }
            let trimmed = statement.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            if matches!(trimmed, "help" | "---help---") {
                let indent = |line: &str| column(&line[..line.len() - line.trim_start().len()]);
                let mut first = None;
                while let Some((_, line)) = lines.peek() {
                    if !line.trim().is_empty() {
                        let level = *first.get_or_insert(indent(line));
                        if level == 0 || indent(line) < level {
                            break;
                        }
                    }
                    lines.next();
                }
                continue;
            }
            if self.assignment(trimmed) || trimmed.starts_with("$(") {
                continue;
            }
            let tokens = tokens(&statement, &self.macros);
            if self.statement(&tokens, &place, depth).is_none() {
                self.tree.oddities.push(format!("{place}: {trimmed}"));
            }
        }
    }

    /// `name = value` and its like, which only stand outside of entries' options.
    fn assignment(&mut self, statement: &str) -> bool {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let length = statement.find(|c| !is_name(c)).unwrap_or(statement.len());
        let (name, rest) = statement.split_at(length);
        let rest = rest.trim_start();
        let Some(operator) = [":=", "+=", "="].into_iter().find(|o| rest.starts_with(o)) else {
            return false;
        };
        self.macros.set(name, operator, rest[operator.len()..].trim());
        true
    }

    /// One statement; `None` where it is not understood.
    fn statement(&mut self, tokens: &[Token], place: &Line, depth: usize) -> Option<()> {
        let (first, rest) = tokens.split_first()?;
        let Token::Word(keyword) = first else { return None };
        match keyword.as_str() {
            "mainmenu" => self.entry = Entry::None,
            "source" => {
                self.entry = Entry::None;
                let [Token::Quoted(name)] = rest else { return None };
                self.source(name, depth)?;
            }
            "config" | "menuconfig" => self.begin_symbol(rest, place)?,
            "choice" => {
                self.tree.choices.push(Choice::default());
                self.begin(ScopeKind::Choice(self.tree.choices.len() - 1));
            }
            "menu" => {
                let Token::Quoted(title) = rest.first()? else { return None };
                self.begin(ScopeKind::Menu(title.clone()));
            }
            "comment" => self.entry = Entry::Comment,
            "if" => {
                let expr = Expr::parse(rest)?;
                self.begin(ScopeKind::If);
                self.add_term(expr, place, TermOrigin::If);
                self.entry = Entry::None;
            }
            "endif" | "endmenu" | "endchoice" => {
                self.entry = Entry::None;
                let kind = self.scopes.pop()?.kind;
                let fits = match kind {
                    ScopeKind::If => keyword == "endif",
                    ScopeKind::Menu(_) => keyword == "endmenu",
                    ScopeKind::Choice(_) => keyword == "endchoice",
                };
                return fits.then_some(());
            }
            _ => return self.option(keyword, rest, place),
        }
        Some(())
    }

    fn begin(&mut self, kind: ScopeKind) {
        self.scopes.push(Scope { kind, depends: Vec::new(), visible: Vec::new() });
        self.entry = Entry::Scope;
    }

    fn source(&mut self, name: &str, depth: usize) -> Option<()> {
        let path = self.tree.root.join(name);
        let text = std::fs::read(&path).ok().filter(|_| depth < DEPTH)?;
        let shown = path.strip_prefix(&self.tree.root).unwrap_or(&path);
        let shown = shown.to_string_lossy().into_owned();
        self.file(&shown, &String::from_utf8_lossy(&text), depth + 1);
        self.entry = Entry::None;
        Some(())
    }

    fn begin_symbol(&mut self, rest: &[Token], place: &Line) -> Option<()> {
        let [Token::Word(name)] = rest else { return None };
        let choice = self.scopes.iter().rev().find_map(|scope| match scope.kind {
            ScopeKind::Choice(index) => Some(index),
            _ => None,
        });
        if let Some(index) = choice {
            self.tree.choices[index].members.push(name.clone());
        }
        let definition = Definition {
            place: place.clone(),
            prompt: None,
            depends: self.scopes.iter().flat_map(|s| s.depends.iter().cloned()).collect(),
            visible: self.scopes.iter().flat_map(|s| s.visible.iter().cloned()).collect(),
            defaults: Vec::new(),
            ranges: Vec::new(),
            choice,
        };
        self.tree.symbols.entry(name.clone()).or_default().definitions.push(definition);
        self.entry = Entry::Symbol(name.clone());
        Some(())
    }

    /// A line inside an entry.
    fn option(&mut self, keyword: &str, rest: &[Token], place: &Line) -> Option<()> {
        match keyword {
            "bool" | "boolean" => self.kind(Kind::Bool, rest, place),
            "tristate" => self.kind(Kind::Tristate, rest, place),
            "int" => self.kind(Kind::Int, rest, place),
            "hex" => self.kind(Kind::Hex, rest, place),
            "string" => self.kind(Kind::String, rest, place),
            "def_bool" | "def_tristate" => {
                let kind = if keyword == "def_bool" { Kind::Bool } else { Kind::Tristate };
                self.kind(kind, &[], place)?;
                self.default(rest, place)
            }
            "prompt" => self.prompt(rest, place),
            "default" => self.default(rest, place),
            "depends" => {
                let [Token::Word(on), rest @ ..] = rest else { return None };
                let (value, condition) = split_if(rest);
                let expr = Expr::parse(value)?;
                let expr = match condition {
                    // "depends on A if B", since 6.19.
                    Some(condition) => {
                        Expr::Or(vec![Expr::Not(Box::new(Expr::parse(condition)?)), expr])
                    }
                    None => expr,
                };
                (on == "on").then(|| self.add_term(expr, place, TermOrigin::Own))
            }
            "visible" => {
                let [Token::Word(_), rest @ ..] = rest else { return None };
                let expr = Expr::parse(rest)?;
                let scope = self.scopes.last_mut()?;
                let ScopeKind::Menu(title) = &scope.kind else { return None };
                let origin = TermOrigin::Menu(title.clone());
                scope.visible.push(Arc::new(Term { expr, place: place.clone(), origin }));
                Some(())
            }
            "select" | "imply" => self.select(keyword, rest, place),
            "range" => {
                let (value, condition) = split_if(rest);
                let [low, high] = value else { return None };
                let (low, high) = (Operand::of(low)?, Operand::of(high)?);
                let condition = parse_condition(condition)?;
                self.definition()?.ranges.push((low, high, condition));
                Some(())
            }
            // What they say does not matter for values.
            "option" | "modules" | "optional" | "transitional" => Some(()),
            _ => None,
        }
    }

    fn definition(&mut self) -> Option<&mut Definition> {
        let Entry::Symbol(name) = &self.entry else { return None };
        self.tree.symbols.get_mut(name)?.definitions.last_mut()
    }

    fn kind(&mut self, kind: Kind, rest: &[Token], place: &Line) -> Option<()> {
        if let Entry::Symbol(name) = &self.entry {
            self.tree.symbols.get_mut(name)?.kind.get_or_insert(kind);
        }
        if rest.is_empty() { Some(()) } else { self.prompt(rest, place) }
    }

    fn prompt(&mut self, rest: &[Token], place: &Line) -> Option<()> {
        let (value, condition) = split_if(rest);
        let text = match value {
            [Token::Quoted(text) | Token::Unknown(text) | Token::Word(text)] => text.clone(),
            _ => return None,
        };
        let condition = parse_condition(condition)?;
        if let Some(definition) = self.definition() {
            definition.prompt = Some(Prompt { text, condition });
            return Some(());
        }
        let scope = self.scopes.last_mut()?;
        let ScopeKind::Choice(index) = scope.kind else { return None };
        // A choice whose prompt is hidden cannot be answered, and so none of its members.
        if let Some(expr) = condition {
            let origin = TermOrigin::Choice(text.clone());
            scope.visible.push(Arc::new(Term { expr, place: place.clone(), origin }));
        }
        self.tree.choices[index].prompt = text;
        Some(())
    }

    fn default(&mut self, rest: &[Token], place: &Line) -> Option<()> {
        let (value, condition) = split_if(rest);
        let condition = parse_condition(condition)?;
        if let Some(definition) = self.definition() {
            let value = Expr::parse(value)?;
            definition.defaults.push(Default_ { value, condition, place: place.clone() });
            return Some(());
        }
        let ScopeKind::Choice(index) = self.scopes.last()?.kind else { return None };
        let [Token::Word(member)] = value else { return None };
        self.tree.choices[index].defaults.push((member.clone(), condition));
        Some(())
    }

    fn select(&mut self, keyword: &str, rest: &[Token], place: &Line) -> Option<()> {
        let Entry::Symbol(by) = &self.entry else { return None };
        let (value, condition) = split_if(rest);
        let [Token::Word(name)] = value else { return None };
        let condition = parse_condition(condition)?;
        let selection = Selection { by: by.clone(), condition, place: place.clone() };
        let symbol = self.tree.symbols.entry(name.clone()).or_default();
        match keyword {
            "select" => symbol.selected_by.push(selection),
            _ => symbol.implied_by.push(selection),
        }
        Some(())
    }

    fn add_term(&mut self, expr: Expr, place: &Line, own: TermOrigin) {
        if let Some(definition) = self.definition() {
            let term = Term { expr, place: place.clone(), origin: own };
            definition.depends.push(Arc::new(term));
        } else if matches!(self.entry, Entry::Scope)
            && let Some(scope) = self.scopes.last_mut()
        {
            let origin = match &scope.kind {
                ScopeKind::If => own,
                ScopeKind::Menu(title) => TermOrigin::Menu(title.clone()),
                ScopeKind::Choice(index) => {
                    TermOrigin::Choice(self.tree.choices[*index].prompt.clone())
                }
            };
            scope.depends.push(Arc::new(Term { expr, place: place.clone(), origin }));
        }
    }
}

/// What stands before and behind an `if`.
fn split_if(tokens: &[Token]) -> (&[Token], Option<&[Token]>) {
    match tokens.iter().position(|token| *token == Token::Word("if".into())) {
        Some(index) => (&tokens[..index], Some(&tokens[index + 1..])),
        None => (tokens, None),
    }
}

/// `None` where there is a condition that cannot be read.
fn parse_condition(tokens: Option<&[Token]>) -> Option<Option<Expr>> {
    match tokens {
        Some(tokens) => Expr::parse(tokens).map(Some),
        None => Some(None),
    }
}

/// The column that leading blanks reach; tabs go to multiples of eight.
fn column(blanks: &str) -> usize {
    blanks.chars().fold(0, |at, c| if c == '\t' { (at & !7) + 8 } else { at + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# SPDX-License-Identifier: GPL-2.0
mainmenu "Linux/$(ARCH) Kernel Configuration"
comma := ,
$(error-if,$(failure,command -v cc),no compiler)

menu "Device Drivers"
	depends on BLOCK
	visible if EXPERT

menuconfig MD
	bool "Multiple devices driver support"
	select SRCU if SMP && \
		NET
	help
	  Help text with words:
	  config NOT_A_SYMBOL

	   bool "no"

if MD
config BLK_DEV_DM
	tristate "Device mapper" if !BROKEN
	depends on DAX || DAX=n
	depends on FOO if BAR
	default m if NET
	default $(cc-option,-x)
	imply NET
	---help---
	help

config STRIPES
	int "Stripes"
	range 1 0x10 if MD
	default 8
endif # MD

choice
	prompt "Allocator" if EXPERT
	depends on MMU
	default SLUB
config SLAB
	bool "SLAB"
config SLUB
	bool "SLUB"
endchoice
comment "the end"
	depends on X
endmenu
config AFTER
	def_bool y
"#;

    #[test]
    fn blocks_and_options_are_read() {
        let tree = read_text(TEXT);
        assert_eq!(tree.oddities(), [] as [&str; 0]);
        let names: Vec<_> = tree.symbols().map(|(name, _)| name).collect();
        assert_eq!(names, ["AFTER", "BLK_DEV_DM", "MD", "SLAB", "SLUB", "STRIPES"]);
        let dm = tree.symbol("BLK_DEV_DM").unwrap();
        assert_eq!(dm.kind, Some(Kind::Tristate));
        let definition = &dm.definitions[0];
        let terms: Vec<_> =
            definition.depends.iter().map(|t| format!("{} {}", t.place, t.expr)).collect();
        assert_eq!(
            terms,
            [
                "Kconfig:7 BLOCK",
                "Kconfig:20 MD",
                "Kconfig:23 DAX || DAX = n",
                "Kconfig:24 !BAR || FOO"
            ]
        );
        assert_eq!(definition.depends[0].origin, TermOrigin::Menu("Device Drivers".into()));
        assert_eq!(definition.visible[0].expr.to_string(), "EXPERT");
        let prompt = definition.prompt.as_ref().unwrap();
        assert_eq!(prompt.condition.as_ref().unwrap().to_string(), "!BROKEN");
        assert_eq!(definition.defaults[1].value.to_string(), "$(cc-option,-x)");
        assert_eq!(definition.place.line, 21);
        let after = &tree.symbol("AFTER").unwrap().definitions[0];
        assert!(after.depends.is_empty() && after.prompt.is_none());
    }

    #[test]
    fn selects_ranges_and_choices_are_read() {
        let tree = read_text(TEXT);
        assert!(tree.symbol("SRCU").is_none(), "selected, yet defined nowhere");
        let selection = &tree.symbols["SRCU"].selected_by[0];
        assert_eq!(selection.by, "MD");
        assert_eq!(selection.condition.as_ref().unwrap().to_string(), "SMP && NET");
        assert_eq!(tree.symbols["NET"].implied_by[0].by, "BLK_DEV_DM");
        let (low, high, _) = &tree.symbol("STRIPES").unwrap().definitions[0].ranges[0];
        assert_eq!((low.to_string(), high.to_string()), ("1".into(), "0x10".into()));
        let slab = &tree.symbol("SLAB").unwrap().definitions[0];
        let choice = tree.choice(slab.choice.unwrap());
        assert_eq!((choice.prompt.as_str(), choice.members.len()), ("Allocator", 2));
        assert_eq!(choice.defaults[0].0, "SLUB");
        assert!(slab.depends.iter().any(|t| t.expr.to_string() == "MMU"));
    }

    #[test]
    fn what_is_not_understood_is_listed_and_skipped() {
        let tree = read_text("config A\n\tbool \"a\"\n\tfrobnicate B\nconfig B\n\tbool\nendif\n");
        assert_eq!(tree.oddities(), ["Kconfig:3: frobnicate B", "Kconfig:6: endif"]);
        assert!(tree.symbol("B").is_some());
    }
}
