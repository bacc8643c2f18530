//! What a test needs of the host, looked for once: namespaces, a network for the kernels that are
//! not here yet, and room to keep them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::Lab;

/// The kernels and images that all tests share.
pub fn cache() -> PathBuf {
    match std::env::var_os("LAB_TEST_CACHE") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"),
    }
}

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Says that a test cannot run here; with LAB_REQUIRE=all that is a failure.
#[track_caller]
pub fn skip(why: &str) {
    let required = std::env::var_os("LAB_REQUIRE").is_some_and(|value| value == "all");
    assert!(!required, "LAB_REQUIRE=all, and yet: {why}");
    eprintln!("skipped: {why}");
}

/// A project for a test that boots these kernels; `None`, once said, where that cannot be here.
#[track_caller]
pub fn lab_for(kernels: &[&str]) -> Option<Lab> {
    for wanted in std::iter::once(&"").chain(kernels) {
        if let Err(why) = look(wanted) {
            skip(&why);
            return None;
        }
    }
    Some(Lab::of_repository())
}

/// A project for a test that boots kernels of the repository's lab.toml which are built here; `None`,
/// once said, where that cannot be done.
#[track_caller]
pub fn lab_for_built(kernels: &[&str]) -> Option<Lab> {
    let lab = lab_for(&[])?;
    let missing: Vec<&str> = ["make", "gcc", "flex", "bison", "bc", "git"]
        .into_iter()
        .filter(|program| !lab::image::on_host(program))
        .collect();
    if !missing.is_empty() {
        skip(&format!("{missing:?} missing: no kernel can be built"));
        return None;
    }
    // Without the harness' deadline: the first build takes minutes of both cores (.ci/test does it
    // beforehand, so that no other test waits for a processor meanwhile).
    let mut build = Command::new(super::LAB);
    build.current_dir(lab.project()).env("LAB_CACHE", cache()).args(["kernel", "build"]);
    let built = build.args(kernels).stdin(Stdio::null()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(lab)
}

/// Looks for a kernel, or for what all machines need where the name is empty; each once.
fn look(wanted: &str) -> Result<(), String> {
    static SEEN: Mutex<BTreeMap<String, Result<(), String>>> = Mutex::new(BTreeMap::new());
    // Held while looking: the others wait for the same answer.
    let mut seen = SEEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    seen.entry(wanted.to_string())
        .or_insert_with(|| if wanted.is_empty() { namespaces() } else { kernel(wanted) })
        .clone()
}

fn namespaces() -> Result<(), String> {
    let lab = Lab::new();
    let findings = lab.lab(&["doctor", "--json"]).value();
    let of = |what: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("no {what} in {findings}"))
    };
    for what in ["host", "namespaces", "image"] {
        let finding = of(what);
        if finding["health"] == "bad" {
            return Err(format!("{what}: {}", finding["detail"]));
        }
    }
    Ok(())
}

fn kernel(name: &str) -> Result<(), String> {
    let lab = Lab::new();
    let listed = lab.lab(&["kernel", "list", "--json"]).value();
    let found = listed.as_array().unwrap().iter().find(|kernel| kernel["name"] == name);
    if !found.unwrap_or_else(|| panic!("no {name} in {listed}"))["release"].is_null() {
        return Ok(());
    }
    let pulled = lab.lab(&["kernel", "pull", name]);
    if pulled.status.success() { Ok(()) } else { Err(pulled.stderr.clone()) }
}
