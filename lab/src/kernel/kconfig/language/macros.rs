//! Kconfig's macros, `$(name)` and `$(function,arguments)` (kconfig-macro-language.rst). Names are
//! expanded where they lead to text; whatever asks the compiler or the shell stays unknown, because
//! what matters of its answer is in the `.config`.

use std::collections::HashMap;
use std::path::Path;

use crate::manifest::Arch;

/// The variables known while the files are read.
#[derive(Debug)]
pub(super) struct Macros(HashMap<String, String>);

/// A macro that is not expanded here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown;

/// How deep variables may refer to others.
const DEPTH: usize = 16;

/// How many references one text may lead to, so that variables which double each other end.
const REFERENCES: usize = 4096;

impl Macros {
    /// What the top Makefile exports to `conf`, as far as Kconfig files use it.
    pub fn of(root: &Path, arch: Arch) -> Self {
        let (name, source) = match arch {
            Arch::Um => ("um", "um"),
            Arch::X86_64 => ("x86_64", "x86"),
        };
        let pairs = [
            ("ARCH", name),
            ("SRCARCH", source),
            // Both architectures are built on and for PCs.
            ("SUBARCH", "x86"),
            ("HEADER_ARCH", "x86"),
            ("srctree", &root.to_string_lossy()),
        ];
        Self(pairs.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    /// `name = value`, `:=` or `+=`. Expanded when used: no file tells the difference.
    pub fn set(&mut self, name: &str, operator: &str, value: &str) {
        if operator == "+="
            && let Some(known) = self.0.get_mut(name)
        {
            known.push(' ');
            known.push_str(value);
            return;
        }
        self.0.insert(name.to_string(), value.to_string());
    }

    /// Expands every macro in `text`.
    pub fn expand(&self, text: &str) -> Result<String, Unknown> {
        self.expand_at(text, 0, &mut { REFERENCES })
    }

    fn expand_at(&self, text: &str, depth: usize, left: &mut usize) -> Result<String, Unknown> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("$(") {
            out.push_str(&rest[..start]);
            let length = length(&rest[start..]).ok_or(Unknown)?;
            let name = &rest[start + 2..start + length - 1];
            let value = self.0.get(name).filter(|_| depth < DEPTH).ok_or(Unknown)?;
            *left = left.checked_sub(1).ok_or(Unknown)?;
            out.push_str(&self.expand_at(value, depth + 1, left)?);
            rest = &rest[start + length..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The bytes of the macro that `text` begins with, up to its closing bracket.
pub(super) fn length(text: &str) -> Option<usize> {
    let mut open = 0;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => open += 1,
            b')' if open == 1 => return Some(index + 1),
            b')' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_expanded_and_questions_are_not() {
        let mut macros = Macros::of(Path::new("/src"), Arch::Um);
        macros.set("comma", ":=", ",");
        macros.set("cc-name", ":=", "$(shell,cc --version)");
        macros.set("both", "=", "$(ARCH)$(comma)$(HEADER_ARCH)");
        assert_eq!(macros.expand("arch/$(SRCARCH)/Kconfig"), Ok("arch/um/Kconfig".into()));
        assert_eq!(macros.expand("$(both)"), Ok("um,x86".into()));
        assert_eq!(macros.expand("$(cc-name)"), Err(Unknown));
        assert_eq!(macros.expand("$(cc-option,-m64)"), Err(Unknown));
        macros.set("loop", "=", "$(loop)");
        assert_eq!(macros.expand("$(loop)"), Err(Unknown));
        for n in 0..15 {
            macros.set(&format!("n{n}"), "=", &format!("$(n{})", n + 1).repeat(9));
        }
        macros.set("n15", "=", "");
        assert_eq!(macros.expand("$(n0)"), Err(Unknown));
    }
}
