//! What people get wrong in names, manifests and snapshots: the exit code, and a paragraph that
//! says what, where, and the way out. Nothing is begun by any of it.

use super::support::{Lab, Ran, lab_for};

const STEP: &str = "[[step]]\nrun = \"true\"\n";

/// A refusal before anything was begun: exit code 2, nothing on standard output, nothing made.
#[track_caller]
fn refused(lab: &Lab, args: &[&str], says: &[&str]) -> Ran {
    let ran = lab.lab(args);
    ran.code(2);
    for text in says {
        ran.err(text);
    }
    assert_eq!(ran.stdout, "");
    assert!(!lab.path(".lab").exists() && lab.files(".snap.new").is_empty());
    lab.nothing_is_left();
    ran
}

#[test]
fn unknown_names() {
    let lab = Lab::of_repository();
    refused(&lab, &["run", "dm-liner"], &["no case `dm-liner`", "did you mean `dm-linear`?"]);
    refused(&lab, &["run", "-k", "uml-61"], &["no kernel `uml-61`", "did you mean `uml-6.1`?"]);
    refused(&lab, &["run", "-k", "zzz"], &["no kernel `zzz`", "known are cloud-5.10"]);
    refused(&lab, &["show", "overlay-onion"], &["did you mean `overlay-union`?"]);
    refused(&lab, &["shell", "-k", "uml-61"], &["did you mean `uml-6.1`?"]);
    refused(&lab, &["kernel", "pull", "uml-62"], &["no kernel `uml-62`", "help: "]);
    refused(&lab, &["kernel", "rm", "nope"], &["no kernel `nope`", "help: "]);
    refused(&lab, &["runn"], &["unrecognized subcommand 'runn'", "'run'"]);
    refused(&lab, &["run", "--jobz", "1"], &["'--jobz'", "'--jobs'"]);
    refused(&lab, &["run", "--jobs", "many"], &["'many'", "--jobs"]);
}

#[test]
fn a_case_and_a_command_at_once() {
    let lab = Lab::of_repository();
    let says = ["a case (dm-linear) and a command at once", "leave the case out"];
    refused(&lab, &["run", "dm-linear", "--", "true"], &says);
}

#[test]
fn no_such_folder() {
    let lab = Lab::of_repository();
    refused(&lab, &["-C", "no/where", "list"], &["-C no/where: there is no such folder", "help: "]);
    // One that is there is worked in, from below the project as well.
    lab.lab(&["-C", "cases/dm-linear", "list"]).code(0).out("overlay-union");
}

/// Manifest, and what is said of it: the place, what is wrong, the way out.
const MANIFESTS: &[(&str, &str, &[&str])] = &[
    (
        "[[step]]\nrum = \"true\"\n",
        "3:1",
        &["unknown key `rum` in [[step]]", "did you mean `run`?"],
    ),
    ("[machine]\ncpus = \"two\"\n", "3:8", &["`cpus` wants a whole number", "cpus = 1"]),
    ("[machine]\nmemory = 256\n", "3:10", &["`memory`", "\"256M\""]),
    ("[machine]\nmemory = \"256Q\"\n", "3:10", &["256Q"]),
    ("[machine]\ntimeout = \"soon\"\n", "3:11", &["soon", "20s"]),
    ("[neds]\nkconfig = []\n", "2:2", &["neds", "did you mean `needs`?"]),
    ("[[step]]\nrun = \"a\nb\"\n", "4:", &["not TOML"]),
    ("[[step]]\nmachine = \"reboott\"\n", "3:11", &["reboott", "`reboot`"]),
    ("assert = [\"a >> b\"]\n[[step]]\nrun = \"true\"\n", "2:", &["a >> b"]),
];

#[test]
fn wrong_manifests() {
    for (text, place, says) in MANIFESTS {
        let lab = Lab::new();
        lab.case("wrong", text);
        lab.case("right", STEP);
        let ran = refused(&lab, &["run", "wrong"], says);
        let place = format!("[cases/wrong/case.toml:{place}");
        assert!(ran.stderr.contains(&place), "no {place} in {ran}");
        // It harms no other.
        lab.lab(&["run", "right", "--dry-run"]).code(0);
    }
}

#[test]
fn wrong_lab_toml() {
    for (text, place, says) in [
        ("default-kernals = []\n", "1:1", ["default-kernals", "did you mean `default-kernels`?"]),
        ("default-kernels = [\"x\"]\n", "1:20", ["there is no kernel `x`", "known are "]),
        ("default-kernels = [\n", "1:20", ["not TOML", "help: "]),
        ("[[known]]\ncase = \"a\"\nkernel = [\"uml-*\"]\n", "1:", ["`reason`", "help: "]),
    ] {
        let lab = Lab::new();
        lab.write("lab.toml", text);
        let ran = refused(&lab, &["list"], &says);
        assert!(ran.stderr.contains(&format!("[lab.toml:{place}")), "no {place} in {ran}");
    }
}

#[test]
fn a_snapshot_that_is_none() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let name = "cases/dm-linear/snapshots/transcript.second-b.snap";
    let whole = lab.read(name);
    for (text, place) in [
        ("hello\n", "1:1"),
        ("---\nsource: x\n", "transcript.second-b.snap:"),
        (&whole[..whole.find("expression").unwrap()], "transcript.second-b.snap:"),
        ("", "1:1"),
    ] {
        lab.write(name, text);
        let ran = lab.boot(&["run", "dm-linear"]);
        ran.code(3).out("broken dm-linear").out(place).out("not a snapshot").out("git checkout");
        assert!(lab.files(".snap.new").is_empty(), "{ran}");
        assert_eq!(lab.read(name), text, "it is the user's to repair");
    }
    std::fs::write(lab.path(name), b"---\n\xff\n---\n").unwrap();
    lab.boot(&["run", "dm-linear"]).code(3).out("transcript.second-b.snap");
}

#[test]
fn a_pending_file_that_is_no_snapshot_is_not_accepted() {
    let lab = Lab::new();
    lab.case("a", STEP);
    let name = "cases/a/snapshots/transcript.snap.new";
    lab.write(name, "hello\n");
    for args in [&["accept", "a"][..], &["accept", "--all"], &["review"]] {
        let ran = lab.answer(args, "a\n");
        assert_eq!(ran.status.code(), Some(2), "{ran}");
        ran.err("transcript.snap.new:1:1").err("not a snapshot").err("help: ");
        assert_eq!((lab.read(name).as_str(), lab.files(".snap").len()), ("hello\n", 0));
    }
}
