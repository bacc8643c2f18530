//! The terminal is a channel of bytes: what a case of noise printed in the guest is what the same
//! programs print on this host, byte for byte, in the run's folder and by digest in the snapshot.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lab::image::GUEST_TOOLS;
use lab::manifest::{Action, Project};

use super::support::{Lab, lab_for};

/// What each step of the case prints on the host.
fn on_the_host(lab: &Lab) -> Vec<Vec<u8>> {
    let bin = lab.folder().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("noise"), GUEST_TOOLS).unwrap();
    std::fs::set_permissions(bin.join("noise"), PermissionsExt::from_mode(0o755)).unwrap();
    let project = Project::load(&lab.project()).unwrap();
    let case = project.select_cases(&["console-torture".into()]).unwrap()[0];
    let output = |step: &lab::manifest::Step| {
        let Action::Run(run) = &step.action else { panic!("{step:?}") };
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", run]).env("seed", "1").env("PATH", &bin);
        shell.output().unwrap().stdout
    };
    case.steps.iter().map(output).collect()
}

#[test]
fn noise_arrives_byte_for_byte() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = lab.boot(&["run", "console-torture", "--json"]);
    ran.code(0);
    let result = ran.result();
    assert_eq!((result.code.as_str(), result.run.params["seed"].as_str()), ("pass", "1"));

    let expected = on_the_host(&lab);
    assert!(expected[0].len() == 10 << 20 && expected.len() >= 9);
    let seen = std::fs::read(result.folder.unwrap().join("terminal")).unwrap();
    let all = expected.concat();
    assert_eq!(seen.len(), all.len());
    let differs = seen.iter().zip(&all).position(|(seen, expected)| seen != expected);
    assert_eq!(differs, None, "the first byte that differs");

    // What is too long for a transcript is there by its digest: the noise, the lines, the NULs.
    let snapshot = lab.read("cases/console-torture/snapshots/transcript.seed-1.snap");
    let long: Vec<_> = expected.iter().filter(|output| output.len() > 64 << 10).collect();
    assert!(long.len() >= 3);
    for output in long {
        let digest = blake3::hash(output).to_hex();
        assert!(snapshot.contains(digest.as_str()), "no {digest} of {} bytes", output.len());
    }
}
