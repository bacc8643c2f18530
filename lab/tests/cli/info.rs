//! Commands that tell: list, show, doctor, kernel list, help, completions, the manual page.

use super::support::{Lab, lab_for};

#[test]
fn list_and_show() {
    let lab = Lab::of_repository();
    lab.case("broken", "[[step]]\nrum = \"true\"\n");
    let ran = lab.lab(&["list"]);
    ran.code(0).out("hostfs-file-dentry").out("open() through overlayfs on hostfs");
    // One with an error is listed with it and harms no other.
    ran.out("broken").out("rum");
    let list = lab.lab(&["list", "--json", "dm-*", "overlay-union"]).value();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|case| case["name"].clone()).collect();
    assert_eq!(names, ["dm-linear", "overlay-union"]);
    assert_eq!(list[0]["params"]["second"][0], "b");

    let ran = lab.lab(&["show", "dm-linear"]);
    ran.code(0).out("/dev/lab/a 8.0 MiB").out("memory").out("256 MiB").out("timeout");
    ran.out("1. 8 MiB of a, then 16 MiB of the second disk (ends the case if it fails)");
    ran.out("must end in fail:output");
    let case = lab.lab(&["show", "dm-linear", "--json"]).value();
    assert_eq!((&case["name"], &case["machine"]["cpus"]), (&"dm-linear".into(), &1.into()));
    assert_eq!(case["steps"].as_array().unwrap().len(), 6);
    lab.lab(&["show", "broken"]).code(2).err("rum").err("case.toml:3");
}

#[test]
fn init_and_new_refuse_what_is_there() {
    let lab = Lab::new();
    lab.lab(&["init"]).code(2).err("lab.toml is there already");
    std::fs::remove_file(lab.path("lab.toml")).unwrap();
    lab.lab(&["init"]).code(0).out("lab.toml");
    assert!(lab.read("lab.toml").contains("default-kernels = [\"uml-6.1\"]"));
    lab.lab(&["new", "a-case"]).code(0);
    lab.lab(&["new", "a-case"]).code(2).err("there is a case `a-case` already");
    lab.lab(&["new", "A Case"]).code(2).err("is not a name for a case").err("small letters");
    assert_eq!(lab.lab(&["list"]).code(0).stdout.lines().count(), 1);
}

#[test]
fn doctor_finds_this_host_well() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = lab.lab(&["doctor"]);
    ran.code(0).out("namespaces").out("isolation is full").out("KVM").out("uml-6.1 here");
    let findings = lab.lab(&["doctor", "--json"]).value();
    for finding in findings.as_array().unwrap() {
        let (health, fix) = (&finding["health"], &finding["fix"]);
        assert!(health == "good" || (health == "limited" && fix.is_string()), "{finding}");
    }
}

#[test]
fn kernels_are_listed() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let list = lab.lab(&["kernel", "list", "--json"]).value();
    let of = |name: &str| list.as_array().unwrap().iter().find(|k| k["name"] == name).unwrap();
    assert_eq!(of("uml-6.1")["default"], true);
    assert!(of("uml-6.1")["release"].as_str().unwrap().starts_with("6.1."));
    assert!(of("uml-6.1")["bytes"].as_u64().unwrap() > 50 << 20);
    assert_eq!(of("cloud-6.12")["default"], false);
    let ran = lab.lab(&["kernel"]);
    ran.code(0).out("uml-6.1").out("user-mode-linux ").out("trixie/linux-image-cloud-amd64");
}

#[test]
fn help_completions_and_the_manual_page() {
    let lab = Lab::new();
    lab.lab(&["help", "exit-codes"]).code(0).out("1 beats 3 and 3 beats 4").out("130");
    lab.lab(&["--help"]).code(0).out("lab help exit-codes").out("shell");
    lab.lab(&["--version"]).code(0).out(env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish"] {
        lab.lab(&["completions", shell]).code(0).out("keep-disks");
    }
    lab.lab(&["man"]).code(0).out(".TH lab 1").out("doctor");
    // A reader that went away is no error.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "lab=$1; { $lab man; echo $? >&2; } | head -n 1", "sh"]);
    command.arg(super::support::LAB);
    lab.settle(&mut command);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "0\n");
}

/// Colours only where a terminal, or the user, asks for them.
#[test]
fn colours() {
    let lab = Lab::of_repository();
    assert!(!lab.lab(&["list"]).stdout.contains('\x1b'));
    drop(lab);
    let lab = Lab::of_repository().env("CLICOLOR_FORCE", "1").env("NO_COLOR", "");
    assert!(lab.lab(&["list"]).stdout.contains('\x1b'));
}
