//! A reader of the kernel's own Kconfig files (Documentation/kbuild/kconfig-language.rst), enough
//! to say why a symbol did not become what was asked. It decides nothing: the kernel's own `conf`
//! does, and its `.config` is where values come from.

mod elsewhere;
mod expression;
mod lexer;
mod macros;
mod parser;

pub use expression::{Expr, Operand, Truth};
#[cfg(any(test, fuzzing))]
pub(super) use parser::read_text;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::{Arch, Result, nearest};

/// The Kconfig files of one source, as one architecture sees them.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: PathBuf,
    symbols: BTreeMap<String, Symbol>,
    choices: Vec<Choice>,
    oddities: Vec<String>,
    files: std::collections::BTreeSet<String>,
}

/// A configuration symbol: all that the files say about it.
#[derive(Clone, Debug, Default)]
pub struct Symbol {
    /// What values it takes. `None` where it is only selected or only mentioned.
    pub kind: Option<Kind>,
    /// Each `config` or `menuconfig` block, in the order in which the kernel reads them.
    pub definitions: Vec<Definition>,
    /// Who selects it.
    pub selected_by: Vec<Selection>,
    /// Who implies it.
    pub implied_by: Vec<Selection>,
}

/// The type of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// y or n.
    Bool,
    /// y, m or n.
    Tristate,
    /// A decimal number.
    Int,
    /// A hexadecimal number.
    Hex,
    /// Text.
    String,
}

/// One block that defines a symbol.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Where it begins.
    pub place: Line,
    /// The question asked of a person; without one, nobody can set the symbol.
    pub prompt: Option<Prompt>,
    /// What must hold: its own `depends on` and those of the blocks around it.
    pub depends: Vec<Arc<Term>>,
    /// `visible if` of the menus around it: must hold for the prompt to be shown.
    pub visible: Vec<Arc<Term>>,
    /// Its defaults; the first whose condition holds counts.
    pub defaults: Vec<Default_>,
    /// The numbers allowed, with the condition.
    pub ranges: Vec<(Operand, Operand, Option<Expr>)>,
    /// The choice that it is a member of: an index for [`Tree::choice`].
    pub choice: Option<usize>,
}

/// A prompt and the condition under which it is shown.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The question.
    pub text: String,
    /// The `if` behind it.
    pub condition: Option<Expr>,
}

/// A `default VALUE if CONDITION`.
#[derive(Clone, Debug)]
pub struct Default_ {
    /// The value, an expression for bool and tristate.
    pub value: Expr,
    /// The `if` behind it.
    pub condition: Option<Expr>,
    /// Where it stands.
    pub place: Line,
}

/// A condition on a symbol, and where it comes from.
#[derive(Clone, Debug)]
pub struct Term {
    /// What must hold.
    pub expr: Expr,
    /// Where it stands.
    pub place: Line,
    /// What kind of block or line says it.
    pub origin: TermOrigin,
}

/// What says that something must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermOrigin {
    /// The symbol's own `depends on`.
    Own,
    /// An `if` block around it.
    If,
    /// The menu of that title.
    Menu(String),
    /// The choice of that title.
    Choice(String),
    /// The condition of a prompt.
    Prompt,
}

/// A `select` or `imply`.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The symbol that selects.
    pub by: String,
    /// The `if` behind it.
    pub condition: Option<Expr>,
    /// Where it stands.
    pub place: Line,
}

/// A group of symbols of which one is chosen.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Its title.
    pub prompt: String,
    /// Its members.
    pub members: Vec<String>,
    /// Its defaults, with their conditions.
    pub defaults: Vec<(String, Option<Expr>)>,
}

/// A line of a Kconfig file, relative to the source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// For example `fs/ext4/Kconfig`.
    pub file: Arc<str>,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Tristate => "tristate",
            Self::Int => "int",
            Self::Hex => "hex",
            Self::String => "string",
        })
    }
}

impl Tree {
    /// Reads the Kconfig files of the source in `root` for `arch`. Statements that this reader does
    /// not know are skipped and listed in [`Tree::oddities`]: they must not keep a kernel from
    /// being built.
    ///
    /// # Errors
    /// The top Kconfig file cannot be read.
    pub fn read(root: &Path, arch: Arch) -> Result<Self> {
        parser::read(root, arch)
    }

    /// A symbol that is defined by a `config` block, named without `CONFIG_`.
    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.symbols.get(name).filter(|symbol| !symbol.definitions.is_empty())
    }

    /// All symbols that are defined, in alphabetical order.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, &Symbol)> {
        let defined = self.symbols.iter().filter(|(_, symbol)| !symbol.definitions.is_empty());
        defined.map(|(name, symbol)| (name.as_str(), symbol))
    }

    /// A choice, by the index of a [`Definition`].
    pub fn choice(&self, index: usize) -> &Choice {
        &self.choices[index]
    }

    /// Lines that could not be read, with their places.
    pub fn oddities(&self) -> &[String] {
        &self.oddities
    }

    /// The symbol whose name is nearest to `name`, if one is near enough to be meant.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        let upper = name.to_ascii_uppercase();
        if self.symbol(&upper).is_some() {
            return self
                .symbol(&upper)
                .and_then(|_| self.symbols.get_key_value(&upper))
                .map(|(k, _)| k.as_str());
        }
        nearest(name, self.symbols().map(|(known, _)| known))
    }

    /// Where this source defines a symbol that this architecture does not see: `None` where it
    /// nowhere does. Reads every Kconfig file of the source, so it is for errors only.
    pub fn elsewhere(&self, name: &str) -> Option<Line> {
        elsewhere::find(&self.root, name, &self.files)
    }
}
