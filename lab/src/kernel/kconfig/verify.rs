//! After configuration: did every request survive? Kconfig drops what it cannot have without a
//! word, and a test that runs without what it was meant to test proves nothing.

use super::config::{Kconfig, Value};
use super::explain::{Explanation, explain, is_met, unknown};
use super::language::Tree;
use super::merge::{Asked, Merged};
use crate::manifest::Diagnostic;

/// Checks every request against `config`, the finished configuration.
///
/// # Errors
/// One for each request that was lost and for each symbol that the source does not have, at the
/// fragment's line, with the reason.
pub fn verify(merged: &Merged, config: &Kconfig, tree: &Tree) -> Result<(), Vec<Diagnostic>> {
    let lost: Vec<_> =
        merged.asked().iter().filter_map(|asked| check(asked, merged, config, tree)).collect();
    if lost.is_empty() { Ok(()) } else { Err(lost) }
}

fn check(asked: &Asked, merged: &Merged, config: &Kconfig, tree: &Tree) -> Option<Diagnostic> {
    let Asked { symbol, value, .. } = asked;
    let (what, explanation) = if tree.symbol(symbol).is_none() {
        if asked.if_known {
            return None;
        }
        (format!("there is no CONFIG_{symbol}"), unknown(symbol, tree, merged.target))
    } else {
        let found = config.get(symbol);
        if is_met(value, &found) {
            return None;
        }
        let what = format!("{} was lost: it is {}", request(asked), shown(&found));
        (what, explain(symbol, value, config, tree, merged))
    };
    let Explanation { reason, way_out } = explanation;
    let mut diagnostic = Diagnostic::usage(format!("{what}, because {reason}"));
    if let Some(way_out) = way_out {
        diagnostic = diagnostic.help(way_out);
    }
    Some(diagnostic.at(asked.by[0].clone()))
}

fn request(asked: &Asked) -> String {
    match asked.value {
        Value::No => format!("\"{} is not set\"", asked.symbol),
        _ => format!("{}={}", asked.symbol, asked.written),
    }
}

pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Yes => "y".into(),
        Value::Module => "m".into(),
        Value::No => "n".into(),
        Value::Text(text) => format!("{text:?}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::fragment::{Fragment, Target};
    use super::super::language::read_text;
    use super::super::merge::merge;
    use super::*;
    use crate::manifest::Arch;

    pub(in crate::kernel) const KCONFIG: &str = r#"
config MODULES
	bool "Modules"
config SMP
	bool "Processors"
menuconfig MD
	bool "Multiple devices"
if MD
config BLK_DEV_DM
	tristate "Device mapper"
	depends on DAX || DAX=n
config DM_VERITY
	tristate "Verity target"
	depends on BLK_DEV_DM
	select HASH
endif
config DAX
	tristate "DAX" if EXPERT
	depends on !SMP
config EXPERT
	bool "Expert"
config HASH
	tristate "Hash"
config HAVE_SAN
	def_bool $(cc-option,-fsanitize=x)
config SAN
	bool "Sanitiser"
	depends on HAVE_SAN
config QUIET
	bool
config STRIPES
	int "Stripes"
	range 1 16
	default 8
choice
	prompt "Allocator"
	default SLUB
config SLAB
	bool "SLAB"
config SLUB
	bool "SLUB"
endchoice
menu "Debugging"
	depends on EXPERT
config EITHER
	bool "Either"
	depends on SMP || SLAB
endmenu
"#;

    /// What is told of `fragment`, given what configuration made of it.
    fn told(fragment: &str, config: &str) -> Vec<String> {
        let fragment = Fragment::parse("f", "kconfigs/f.config", fragment).unwrap();
        let merged = merge(&[fragment], Target { version: (6, 1), arch: Arch::Um }).unwrap();
        let tree = read_text(KCONFIG);
        assert!(tree.oddities().is_empty(), "{:?}", tree.oddities());
        let result = verify(&merged, &Kconfig::parse(config), &tree);
        result.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    fn told_one(fragment: &str, config: &str) -> String {
        let mut all = told(fragment, config);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn requests_that_are_met_say_nothing() {
        let met = told(
            "CONFIG_MD=y\nCONFIG_STRIPES=0x8\n# CONFIG_SMP is not set\nCONFIG_GONE=y  # if known\n",
            "CONFIG_MD=y\nCONFIG_STRIPES=8\n",
        );
        assert_eq!(met, [] as [&str; 0]);
    }

    #[test]
    fn the_chain_ends_at_the_line_that_is_to_blame() {
        assert_eq!(
            told_one("# CONFIG_MD is not set\nCONFIG_DM_VERITY=y\n", ""),
            "kconfigs/f.config:2:1: DM_VERITY=y was lost: it is n, because it stands in \"if\" MD \
             (Kconfig:8), and MD is n, as kconfigs/f.config:1 asks; it depends on BLK_DEV_DM \
             (Kconfig:14), and BLK_DEV_DM is n because MD is n, as kconfigs/f.config:1 asks \
             (kconfigs/f.config:1 sets MD to n: change one of the two)"
        );
        let missing = told_one("CONFIG_MD=y\nCONFIG_DM_VERITY=y\n", "CONFIG_MD=y\n");
        assert!(missing.contains("BLK_DEV_DM is n, because nothing asks for it"), "{missing}");
        assert!(missing.ends_with("(ask for CONFIG_BLK_DEV_DM=y as well)"), "{missing}");
        let module = told_one(
            "CONFIG_MD=y\nCONFIG_BLK_DEV_DM=m\nCONFIG_DM_VERITY=y\n",
            "CONFIG_MODULES=y\nCONFIG_MD=y\nCONFIG_BLK_DEV_DM=m\nCONFIG_DM_VERITY=m\n",
        );
        assert!(module.contains("it is m, because it depends on BLK_DEV_DM"), "{module}");
        assert!(module.contains("BLK_DEV_DM is m, as kconfigs/f.config:2 asks"), "{module}");
    }

    #[test]
    fn what_must_be_off_is_named_with_its_author() {
        let smp = told_one("CONFIG_SMP=y\nCONFIG_DAX=y\n", "CONFIG_SMP=y\nCONFIG_EXPERT=y\n");
        assert!(smp.contains("depends on !SMP"), "{smp}");
        assert!(smp.contains("SMP is y: kconfigs/f.config:1 asks for it"), "{smp}");
        let expert = told_one("CONFIG_DAX=y\n", "");
        assert!(expert.contains("it is only asked if EXPERT"), "{expert}");
        let config = "CONFIG_MD=y\nCONFIG_BLK_DEV_DM=y\nCONFIG_DM_VERITY=y\nCONFIG_HASH=y\n";
        let selected = told_one("CONFIG_DM_VERITY=y\n# CONFIG_HASH is not set\n", config);
        assert!(selected.contains("DM_VERITY selects it (Kconfig:15)"), "{selected}");
        assert!(selected.contains("which kconfigs/f.config:1 asks for"), "{selected}");
    }

    #[test]
    fn alternatives_menus_and_unknown_answers() {
        let either = told_one("CONFIG_EITHER=y\n", "CONFIG_SLUB=y\n");
        assert!(either.contains("its menu \"Debugging\" depends on EXPERT"), "{either}");
        assert!(either.contains("SMP || SLAB"), "{either}");
        assert!(either.contains("SMP is n, because nothing asks for it"), "{either}");
        assert!(either.contains("SLUB was chosen instead"), "{either}");
        let compiler = told_one("CONFIG_SAN=y\n", "");
        assert!(compiler.contains("its default is $(cc-option,-fsanitize=x)"), "{compiler}");
    }

    #[test]
    fn symbols_that_cannot_be_asked_for() {
        let misspelt = told_one("CONFIG_DM_VERTIY=y\n", "");
        assert!(misspelt.contains("there is no CONFIG_DM_VERTIY"), "{misspelt}");
        assert!(misspelt.contains("did you mean DM_VERITY?"), "{misspelt}");
        let off = told_one("# CONFIG_STRIPE is not set\n", "");
        assert!(off.contains("did you mean STRIPES?"), "{off}");
        let quiet = told_one("CONFIG_QUIET=y\n", "");
        assert!(quiet.contains("no prompt (Kconfig:29)"), "{quiet}");
        assert!(quiet.contains("nothing selects it"), "{quiet}");
        let choice = told_one("CONFIG_SLAB=y\n", "CONFIG_SLUB=y\n");
        assert!(choice.contains("SLUB was chosen instead, by default"), "{choice}");
        let range = told_one("CONFIG_STRIPES=99\n", "CONFIG_STRIPES=16\n");
        assert!(range.contains("its range is 1 to 16"), "{range}");
        let kind = told_one("CONFIG_SMP=m\n", "CONFIG_SMP=y\n");
        assert!(kind.contains("never a module"), "{kind}");
        let modules = told_one("CONFIG_HASH=m\n", "");
        assert!(modules.contains("modules are off"), "{modules}");
    }
}
