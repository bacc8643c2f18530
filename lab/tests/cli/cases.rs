//! The other cases of the repository on the kernels besides the default one.

use lab::case::Outcome;

use super::support::lab_for;

fn pass_on(kernel: &str) {
    let Some(lab) = lab_for(&[kernel]) else { return };
    let ran = lab.start_two(&["run", "dm-linear", "overlay-union", "-k", kernel, "--json"]).wait();
    ran.code(0);
    let codes: Vec<_> =
        ran.results().into_iter().map(|result| (result.run.case, result.code)).collect();
    let pass = |case: &str| (case.to_string(), "pass".to_string());
    assert_eq!(codes, [pass("dm-linear"), pass("overlay-union")], "{ran}");
    assert!(lab.files(".snap.new").is_empty());
}

/// What was synced before a power cut is there after it, and the twins, which do not sync, show that
/// it is so because of that.
#[test]
fn power_cut_cases_pass_on_every_kernel() {
    for (kernel, twins) in [("uml-5.10", 0), ("uml-6.1", 2), ("uml-6.12", 0)] {
        let Some(lab) = lab_for(&[kernel]) else { return };
        let mut args = vec!["run", "*-power-cut", "-k", kernel, "--json"];
        args.extend((twins > 0).then_some("--twins"));
        let ran = lab.start_two(&args).wait();
        ran.code(0);
        let results = ran.results();
        assert_eq!(results.len(), 2 + twins, "{ran}");
        for result in results {
            // A twin passes where it fails as it must.
            assert_eq!((result.outcome, result.boots), (Outcome::Pass, 2), "{ran}");
            assert_eq!(result.code == "pass", result.run.twin.is_none(), "{ran}");
        }
        assert!(lab.files(".snap.new").is_empty());
    }
}

#[test]
fn block_and_overlay_cases_pass_on_5_10() {
    pass_on("uml-5.10");
}

#[test]
fn block_and_overlay_cases_pass_on_6_1() {
    pass_on("uml-6.1");
}

#[test]
fn block_and_overlay_cases_pass_on_6_12() {
    pass_on("uml-6.12");
}

#[test]
fn block_and_overlay_cases_pass_on_7_2() {
    pass_on("uml-7.2");
}
