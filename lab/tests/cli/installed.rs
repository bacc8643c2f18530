//! An installed lab needs nothing but itself: no checkout, no lab.toml, an empty folder.

use super::support::{LAB, Lab, lab_for};

#[test]
fn a_copied_program_works_in_an_empty_folder() {
    let Some(here) = lab_for(&["uml-6.1"]) else { return };
    let program = here.folder().join("a-lab");
    std::fs::copy(LAB, &program).unwrap();
    let lab = Lab::new().program(&program);
    std::fs::remove_file(lab.path("lab.toml")).unwrap();

    lab.lab(&["list"]).code(0).err("there is no case here yet");
    lab.lab(&["kernel"]).code(0).out("uml-6.1").out("trixie/linux-image-cloud-amd64");
    let ran = lab.boot(&["run", "-k", "uml-6.1", "--", "uname -r; noise --kind lines --count 2"]);
    ran.code(0).out("       6.1.").out("       1\n       2\n");
    // A case can be begun right there.
    lab.lab(&["new", "mine"]).code(0);
    lab.boot(&["run", "mine"]).code(1).out("lab accept mine");
    assert_eq!(lab.files(".snap.new"), ["cases/mine/snapshots/transcript.snap.new"]);
}
