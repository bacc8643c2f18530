//! The shipped fragments and the Kconfig reader on a real kernel source, where LAB_TEST_LINUX_SOURCE
//! names one (unpacked, not built in; with its Kconfig files, Makefiles and scripts/).

use std::path::{Path, PathBuf};
use std::process::Command;

use super::config::Kconfig;
use super::describe::describe;
use super::explain::arch_name;
use super::fragment::{Fragment, Target};
use super::language::Tree;
use super::merge::{Merged, merge};
use super::verify::verify;
use crate::manifest::Arch;

fn source() -> Option<PathBuf> {
    std::env::var_os("LAB_TEST_LINUX_SOURCE").map(PathBuf::from)
}

fn shipped(names: &str) -> Vec<Fragment> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kconfigs");
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(format!("{name}.config"))).unwrap();
        Fragment::parse(name, format!("kconfigs/{name}.config"), text).unwrap()
    };
    names.split_whitespace().map(read).collect()
}

fn configured(source: &Path, merged: &Merged) -> Kconfig {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.config");
    std::fs::write(&file, merged.text()).unwrap();
    let made = Command::new("make")
        .arg("-s")
        .arg("-C")
        .arg(source)
        .arg(format!("ARCH={}", arch_name(merged.target.arch)))
        .arg(format!("O={}", folder.path().display()))
        .arg(format!("KCONFIG_ALLCONFIG={}", file.display()))
        .arg("allnoconfig")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success() && !said.contains("warning"), "{said}");
    Kconfig::parse(&std::fs::read_to_string(folder.path().join(".config")).unwrap())
}

#[test]
fn every_shipped_fragment_parses_and_none_contradict() {
    for version in [(5, 10), (6, 1), (6, 12), (7, 2)] {
        for (arch, name) in [(Arch::Um, "uml"), (Arch::X86_64, "x86_64")] {
            let all =
                shipped(&format!("{name} fs block trace debug debug-info fault virtual-clock"));
            merge(&all, Target { version, arch }).unwrap();
        }
    }
}

#[test]
fn real_sources_are_read_without_oddities() {
    let Some(source) = source() else { return };
    for arch in [Arch::Um, Arch::X86_64] {
        let tree = Tree::read(&source, arch).unwrap();
        assert_eq!(tree.oddities(), [] as [&str; 0], "{arch:?}");
        assert!(tree.symbols().count() > 5000);
        assert!(tree.symbol("EXT4_FS").is_some());
    }
}

#[test]
fn real_sources_keep_every_request() {
    let Some(source) = source() else { return };
    for (arch, name) in [(Arch::Um, "uml"), (Arch::X86_64, "x86_64")] {
        let target = Target::of_source(&source, arch).unwrap();
        let tree = Tree::read(&source, arch).unwrap();
        for more in ["fs", "fs block trace debug debug-info fault virtual-clock"] {
            let merged = merge(&shipped(&format!("{name} {more}")), target).unwrap();
            let lost = verify(&merged, &configured(&source, &merged), &tree).err();
            let lost: Vec<_> = lost.iter().flatten().map(ToString::to_string).collect();
            assert!(lost.is_empty(), "{arch:?} {more}:\n{}", lost.join("\n"));
        }
    }
}

#[test]
fn real_sources_explain_what_is_lost() {
    let Some(source) = source() else { return };
    let target = Target::of_source(&source, Arch::Um).unwrap();
    let tree = Tree::read(&source, Arch::Um).unwrap();
    let text = "CONFIG_BLOCK=y\nCONFIG_DM_VERITY=y\n# CONFIG_MD is not set\nCONFIG_KPROBES=y\n\
                CONFIG_EXT4FS=y\nCONFIG_S390_GUEST=y\nCONFIG_CRYPTO_HASH2=y\nCONFIG_DM_RAID=y\n";
    let mut fragments = shipped("uml");
    fragments.push(Fragment::parse("bad", "kconfigs/bad.config", text).unwrap());
    let merged = merge(&fragments, target).unwrap();
    let config = configured(&source, &merged);
    let lost = verify(&merged, &config, &tree).unwrap_err();
    let told: Vec<_> = lost.iter().map(ToString::to_string).collect();
    let of = |symbol: &str| told.iter().find(|t| t.contains(symbol)).unwrap().as_str();
    assert!(of("DM_VERITY=y").starts_with("kconfigs/bad.config:2:1: "), "{told:?}");
    assert!(of("DM_VERITY=y").contains("MD is n, as kconfigs/bad.config:3 asks"), "{told:?}");
    assert!(of("KPROBES=y").contains("HAVE_KPROBES"), "{told:?}");
    assert!(of("EXT4FS").contains("did you mean EXT4_FS?"), "{told:?}");
    assert!(of("S390_GUEST").contains("only s390 has it (arch/s390/Kconfig:"), "{told:?}");
    assert!(of("CRYPTO_HASH2=y").contains("no prompt"), "{told:?}");
    let show = |symbol| describe(symbol, &config, Some(&tree), Some(&merged)).to_string();
    assert!(show("EXT4_FS").contains("blocked      nothing asks for it"), "{}", show("EXT4_FS"));
    assert!(show("RAID6_PQ").contains("selectable   BTRFS_FS (fs/btrfs/Kconfig:"));
    assert!(show("CC_HAS_KASAN_GENERIC").contains("from         default $(cc-option,"));
}
