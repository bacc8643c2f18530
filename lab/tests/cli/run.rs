//! `lab run` beside its cases: one command, events, what would run, and nothing to run.

use lab::report::What;

use super::support::{Lab, lab_for};

#[test]
fn one_command_with_no_case() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = lab.boot(&["run", "-k", "uml-6.1", "--", "uname -r; id -u"]);
    ran.code(0).out("pass   command on uml-6.1").out("       $ uname -r; id -u\n       6.1.");
    ran.out("       0\n");

    let ran = lab.boot(&["run", "-k", "uml-6.1", "--", "false"]);
    ran.code(1).out("fail   command on uml-6.1").out("step 1 ended with status 1, not 0");
    ran.not_out("lab accept");
    assert!(lab.files(".snap.new").is_empty());
}

#[test]
fn several_words_are_quoted_for_the_shell() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = lab.boot(&["run", "-k", "uml-6.1", "--", "echo", "a  b", "$HOME", "it's"]);
    ran.code(0).out("\n       a  b $HOME it's\n");
}

/// A program of the host that the base image lacks: by its own name, and by --with.
#[test]
fn programs_of_the_host_come_along() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = lab.boot(&["run", "-k", "uml-6.1", "--", "tar", "--version"]);
    ran.code(0).out("tar (GNU tar)");
    let ran =
        lab.boot(&["run", "-k", "uml-6.1", "--with", "tar", "--", "cd / && tar --version; gzip"]);
    ran.code(1).out("tar (GNU tar)").out("gzip: not found");
}

#[test]
fn events_tell_the_whole_story() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = lab.boot(&["run", "dm-linear", "-k", "uml-6.1", "--json"]);
    ran.code(0);
    let events = ran.events();
    assert!(events.iter().all(|event| event.v == 1));
    assert!(events.windows(2).all(|pair| pair[0].ms <= pair[1].ms));
    let What::Started { runs, .. } = &events[0].what else { panic!("{:?}", events[0]) };
    assert_eq!((runs[0].case.as_str(), runs[0].kernel.as_str()), ("dm-linear", "uml-6.1"));
    let last = &events.last().unwrap().what;
    assert!(matches!(last, What::Ended { exit: 0, .. }), "{last:?}");
    let steps = |wanted: fn(&What) -> Option<usize>| -> Vec<usize> {
        events.iter().filter_map(|event| wanted(&event.what)).collect()
    };
    let started = steps(|what| match what {
        What::StepStarted { step, of: 6, .. } => Some(*step),
        _ => None,
    });
    let ended = steps(|what| match what {
        What::StepEnded { step, status: 0, .. } => Some(*step),
        _ => None,
    });
    assert_eq!((started, ended), ((0..6).collect(), (0..6).collect()));

    let result = ran.result();
    assert!(result.release.is_some_and(|release| release.starts_with("6.1.")));
    assert!(result.ready_ms.unwrap() <= result.total_ms.unwrap());
}

/// A case that fails every third time: all are counted, nothing waits for review, and --fail-fast
/// ends it there.
#[test]
fn repetitions_are_counted_or_end_at_the_first_failure() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case(
        "now-and-then",
        "[machine]\nshares = [{ host = 'state', guest = '/mnt/s', mode = 'rw' }]\n\
         [[step]]\nrun = '''\nread n < /mnt/s/n; echo $((n + 1)) > /mnt/s/n\n[ $((n % 3)) != 2 ]\n'''\n",
    );
    lab.write("cases/now-and-then/state/n", "0\n");
    lab.boot(&["run", "now-and-then", "-k", "uml-6.1"]).code(1);
    lab.lab(&["accept", "now-and-then"]).code(0);
    let run = |more: &[&str]| {
        lab.write("cases/now-and-then/state/n", "0\n");
        lab.boot(
            &[&["run", "now-and-then", "-k", "uml-6.1", "-j", "1", "--repeat", "4"], more].concat(),
        )
    };
    run(&[]).code(1).out("4 runs: 1 fail, 3 pass").not_out("lab review");
    assert!(lab.files(".snap.new").is_empty());
    let ran = run(&["--fail-fast"]);
    ran.code(1).out("3 runs: 1 fail, 2 pass").err("1 of 4 runs were not started after a failure");
    lab.lab(&["run", "now-and-then", "--repeat", "0"]).code(2).err("0 is not in 1..");
}

#[test]
fn a_dry_run_boots_nothing() {
    let lab = Lab::of_repository();
    let ran = lab.lab(&["run", "--dry-run", "--twins", "-k", "uml-5.10", "-k", "uml-6.1"]);
    ran.code(0).out("hostfs-file-dentry  ").out("twin, must end in fail:output");
    assert_eq!(ran.stdout.lines().count(), 6 * 3, "{ran}");
    assert!(!lab.path(".lab").exists());
}

#[test]
fn nothing_to_run_is_4() {
    let lab = Lab::new();
    lab.lab(&["run"]).code(4).err("nothing to run").err("lab new NAME");
}

#[test]
fn all_skipped_is_4_and_one_that_ran_is_not() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("needs-it", "[needs]\nkconfig = [\"KUNIT_NO_SUCH\"]\n[[step]]\nrun = \"true\"\n");
    let ran = lab.boot(&["run", "needs-it"]);
    ran.code(4).out("skip   needs-it on uml-6.1").out("CONFIG_KUNIT_NO_SUCH is not set in uml-6.1");
    let ran = lab.start_two(&["run", "needs-it", "hostfs-file-dentry"]).wait();
    ran.code(0).out("2 runs: 1 skip, 1 pass");
    // Skipped for its backend.
    lab.case("qemu", "[needs]\nbackend = [\"qemu\"]\n[[step]]\nrun = \"true\"\n");
    lab.boot(&["run", "qemu"]).code(4).out("skip   qemu on uml-6.1");
}
