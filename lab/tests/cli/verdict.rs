//! What a step may do to itself without harm to anybody else. Verdicts that a fault leads to are the
//! fault suite's subject.

use super::support::lab_for;

#[test]
fn nothing_that_a_step_does_to_its_own_session_harms_the_lab() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    // PID 1 is no target of signals from inside; closing everything is the step's own loss.
    let steps = [
        "kill -9 1; kill -STOP 1; kill -TERM 1; echo still there",
        "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; echo descriptors",
        "stty raw 2>/dev/null; trap '' INT TERM HUP; set -e; false || echo on",
    ];
    let steps: Vec<_> = steps.iter().map(|s| format!("[[step]]\nrun = '''{s}'''\n")).collect();
    lab.case("verdict", &steps.concat());
    let result = lab.boot(&["run", "verdict", "--json"]).result();
    assert_eq!(result.code, "fail:unreviewed", "{result:?}");
    let transcript = result.transcript.unwrap();
    for said in ["still there\n", "descriptors\n", "on\n"] {
        assert!(transcript.contains(said), "{transcript}");
    }
}
