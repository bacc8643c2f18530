//! Reads a kernel's `.config`: what a case needs and which detectors a kernel has are answered
//! from it, before anything boots.

use std::collections::{BTreeSet, HashMap};

use crate::manifest::Detector;

/// A parsed `.config` (the format of Documentation/kbuild/kconfig.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kconfig(HashMap<String, Value>);

/// What a symbol is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `=y`: built in.
    Yes,
    /// `=m`: a module.
    Module,
    /// `is not set`, or not mentioned: its dependencies are unmet, or this kernel lacks it.
    No,
    /// A string without its quotes, or a number as it stands.
    Text(String),
}

/// Which symbol stands for which detector.
const DETECTORS: [(&str, Detector); 5] = [
    ("KASAN", Detector::Kasan),
    ("PROVE_LOCKING", Detector::Lockdep),
    ("DETECT_HUNG_TASK", Detector::HungTask),
    ("SOFTLOCKUP_DETECTOR", Detector::SoftLockup),
    ("RCU_STALL_COMMON", Detector::RcuStall),
];

impl Kconfig {
    /// Parses the text of a `.config`. Lines that are not an assignment say nothing.
    pub fn parse(text: &str) -> Self {
        let assignment = |line: &str| {
            let (symbol, value) = line.trim().strip_prefix("CONFIG_")?.split_once('=')?;
            let value = match value {
                "y" => Value::Yes,
                "m" => Value::Module,
                "n" => Value::No,
                text => Value::Text(unquoted(text)),
            };
            Some((symbol.to_string(), value))
        };
        Self(text.lines().filter_map(assignment).collect())
    }

    /// The value of a symbol, named with or without `CONFIG_`.
    pub fn get(&self, symbol: &str) -> Value {
        let symbol = symbol.strip_prefix("CONFIG_").unwrap_or(symbol);
        self.0.get(symbol).cloned().unwrap_or(Value::No)
    }

    /// Whether a symbol is there in any way: `=y`, `=m` or with a text.
    pub fn has(&self, symbol: &str) -> bool {
        self.get(symbol) != Value::No
    }

    /// The detectors that this configuration switches on.
    pub fn detectors(&self) -> BTreeSet<Detector> {
        let on = DETECTORS.iter().filter(|(symbol, _)| self.get(symbol) == Value::Yes);
        on.map(|(_, detector)| *detector).collect()
    }
}

/// A string value without its quotes and backslashes; anything else as it is.
pub(super) fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else {
        return value.to_string();
    };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        text.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"#
# Automatically generated file; DO NOT EDIT.
# User Mode Linux/x86 6.1.176 Kernel Configuration
#
CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"
CONFIG_GCC_VERSION=120200
CONFIG_HOSTFS=y
CONFIG_OVERLAY_FS=m
# CONFIG_OVERLAY_FS_DEBUG is not set
CONFIG_ODD="a \"quoted\" back\\slash"
CONFIG_EMPTY=""
CONFIG_DETECT_HUNG_TASK=y
CONFIG_RCU_STALL_COMMON=y
"#;

    #[test]
    fn values_are_told_apart() {
        let config = Kconfig::parse(TEXT);
        assert_eq!(config.get("HOSTFS"), Value::Yes);
        assert_eq!(config.get("CONFIG_OVERLAY_FS"), Value::Module);
        assert_eq!(config.get("OVERLAY_FS_DEBUG"), Value::No);
        assert_eq!(config.get("NEVER_HEARD_OF"), Value::No);
        assert_eq!(config.get("GCC_VERSION"), Value::Text("120200".into()));
        assert_eq!(config.get("ODD"), Value::Text(r#"a "quoted" back\slash"#.into()));
        assert_eq!(config.get("EMPTY"), Value::Text(String::new()));
        assert!(config.has("OVERLAY_FS") && !config.has("OVERLAY_FS_DEBUG"));
    }

    #[test]
    fn detectors_come_from_their_symbols() {
        let detectors = Kconfig::parse(TEXT).detectors();
        assert_eq!(detectors, BTreeSet::from([Detector::HungTask, Detector::RcuStall]));
        assert!(Kconfig::parse("CONFIG_KASAN=m\n# CONFIG_KASAN is not set").detectors().is_empty());
    }
}
