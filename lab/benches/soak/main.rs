//! `make soak`: the same small case over and over, once after the other and eight at a time. No
//! verdict may differ from the others, and nothing may be left of any run but its folder. What was
//! seen is written to docs/reliability.md, by this program only.
//!
//! SOAK_RUNS (1000) and SOAK_PARALLEL (50) bound the two stages; SOAK_KERNEL (uml-6.1) names the
//! kernel. SOAK_CASE names another case of lab/benches/soak/cases: then nothing is written.
//! Before all that, the twins: a case that fails one time in fifty, in which this program must find
//! that one and keep its folder, and leaks of every kind, which it must see.

mod document;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod twins;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use stage::{Report, Stage};
use twins::{leaks_are_seen, one_in_fifty_is_found};

/// How many run at once in the second stage.
const JOBS: usize = 8;
const CASE: &str = "small";
const TWIN: &str = "one-in-fifty";

fn main() -> ExitCode {
    // `cargo bench` hands its own options on; there is nothing here that they could mean.
    nix::sys::prctl::set_child_subreaper(true).expect("prctl(2) takes it");
    let (runs, parallel) = (count("SOAK_RUNS", 1000), count("SOAK_PARALLEL", 50));
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let kernel = set("SOAK_KERNEL").unwrap_or_else(|| "uml-6.1".into());
    let chosen = set("SOAK_CASE");
    let project = lay_out();
    let stage = |case: &str, runs, jobs| {
        let (case, kernel) = (case.to_string(), kernel.clone());
        Stage { project: project.clone(), case, kernel, runs, jobs }
    };

    // The first run of all may fetch the kernel and assemble the image.
    let case = chosen.as_deref().unwrap_or(CASE);
    drop(stage(case, 1, 1).perform());
    if chosen.is_none() {
        eprintln!("soak: the twins first");
        let twin = stage(TWIN, 50, 1).perform();
        if !one_in_fifty_is_found(&twin) || !leaks_are_seen(twin) {
            return ExitCode::FAILURE;
        }
    }
    let stages = [stage(case, runs, 1), stage(case, parallel, JOBS)];
    let reports: Vec<Report> = stages
        .into_iter()
        .filter(|stage| stage.runs > 0)
        .map(|stage| {
            eprintln!("soak: {}", stage.command());
            stage.perform()
        })
        .collect();
    let text = document::text(&reports);
    match chosen {
        Some(_) => print!("{text}"),
        None => {
            let file = support::repository().join(document::FILE);
            std::fs::write(&file, text).expect("the document can be written");
            eprintln!("soak: written: {}", document::FILE);
        }
    }
    let findings: Vec<&String> = reports.iter().flat_map(|report| &report.findings).collect();
    findings.iter().for_each(|finding| eprintln!("soak: {finding}"));
    for folder in reports.iter().flat_map(|report| &report.kept) {
        eprintln!("soak: kept: {}", folder.display());
    }
    match findings.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A number of the environment.
fn count(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value.parse().unwrap_or_else(|_| {
            eprintln!("soak: {name}={value} is no number");
            std::process::exit(2);
        }),
        _ => default,
    }
}

/// Makes target/soak: the project with its cases, and the lab's TMPDIR and home.
fn lay_out() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in target/");
    let folder = target.join("soak");
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}: {error}", folder.display());
    }
    for name in ["project", "tmp", "home"] {
        std::fs::create_dir_all(folder.join(name)).expect("folders can be made in target/");
    }
    let project = folder.join("project");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/soak");
    let status = Command::new("cp")
        .arg("-r")
        .args([sources.join("lab.toml"), sources.join("cases")])
        .arg(&project)
        .status();
    assert!(status.expect("cp is there").success());
    project
}
