//! A kernel that is asked for wrongly: wrong usage (2) in `lab run` as in `lab kernel build`, said
//! once, before anything runs.

use std::time::Duration;

use super::build::{SOURCE, builder};
use super::support::{Lab, Ran, lab_for};

/// A build may have to wait for one of another lab.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a command that must be refused: nothing ran, and the paragraph stands there once.
#[track_caller]
fn refused(lab: &Lab, args: &[&str], text: &str) -> Ran {
    let ran = lab.start(args).patient(PATIENCE).wait();
    ran.code(2).err(text).not_out("pass ").not_out("broken ");
    assert_eq!(ran.stderr.matches(text).count(), 1, "{ran}");
    assert!(!lab.path(".lab/runs").exists() || lab.files("result.json").is_empty(), "{ran}");
    ran
}

#[test]
fn make_is_offered_only_the_walls_that_it_can_have() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let help = lab.lab(&["kernel", "build", "--help"]);
    help.code(0).out("full").not_out("landlock");
    let ran = lab.lab(&["kernel", "build", "uml-6.1", "--sandbox=landlock"]);
    ran.code(2).err("landlock").err("full").err("off");
}

#[test]
fn slips_in_fragments_and_options_name_the_nearest_symbol() {
    let Some(lab) = builder() else { return };
    let wrong = ["--config", "OVERLAY_FSS=y", "--", "true"];
    refused(
        &lab,
        &[&["run", "-k", SOURCE][..], &wrong].concat(),
        "there is no CONFIG_OVERLAY_FSS,",
    )
    .err("did you mean OVERLAY_FS?");
    refused(
        &lab,
        &["kernel", "build", SOURCE, "--config", "OVERLAY_FSS=y"],
        "there is no CONFIG_OVERLAY_FSS,",
    );

    // The same as a line of a fragment: with its place.
    let text = std::fs::read_to_string(super::support::repository().join("kconfigs/fs.config"));
    lab.write("kconfigs/fs.config", &format!("# Ours.\nCONFIG_OVERLAYFS=y\n{}", text.unwrap()));
    // Its name is that of the shipped one, so that the build folder is that of SOURCE.
    let ran = refused(&lab, &["run", "-k", SOURCE, "--", "true"], "there is no CONFIG_OVERLAYFS,");
    ran.err("kconfigs/fs.config:2").err("did you mean OVERLAY_FS?");

    // What is no symbol at all is seen before a source is looked at.
    refused(&lab, &["run", "-k", SOURCE, "--config", "a b", "--", "true"], "a b");
}

#[test]
fn slips_in_patches_and_sources_end_the_command_before_any_run() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.write("notes.txt", "this is no patch\n");
    let ran = refused(
        &lab,
        &["run", "-k", SOURCE, "--patch", "notes.txt", "--", "true"],
        "notes.txt is not a patch",
    );
    ran.out("nothing ran");
    refused(&lab, &["kernel", "build", SOURCE, "--patch", "notes.txt"], "is not a patch");
    refused(&lab, &["run", "-k", SOURCE, "--patch", "nots.txt", "--", "true"], "nots.txt");

    // A kernel that could run is not run either: the command is wrong as a whole.
    lab.edit(
        "lab.toml",
        "# Built here",
        "[kernel.typo]\nsource = \"linux\"\narch = \"um\"\n# Built here",
    );
    refused(&lab, &["run", "-k", "uml-6.1", "-k", "typo", "--", "true"], "there is no ");
    let json = lab.lab(&["run", "--json", "-k", "typo", "--", "true"]);
    json.code(2);
    let last = json.events().pop().unwrap().what;
    assert!(matches!(last, lab::report::What::Ended { exit: 2, .. }), "{last:?}");

    // A revision that does not exist.
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.current_dir(lab.path("linux")).args(["-c", "user.name=t", "-c", "user.email=t@t"]);
        assert!(git.args(args).status().unwrap().success(), "{args:?}");
    };
    lab.write("linux/Makefile", "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 3\nEXTRAVERSION =\n");
    lab.write("linux/Kconfig", "");
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "first"]);
    git(&["tag", "v6.1.3"]);
    lab.edit("lab.toml", "source = \"linux\"", "source = \"git:linux#v6.1.33\"");
    refused(&lab, &["run", "-k", "typo", "--", "true"], "has no revision `v6.1.33`")
        .err("did you mean `v6.1.3`?");
    refused(&lab, &["kernel", "build", "typo"], "has no revision `v6.1.33`");
}
