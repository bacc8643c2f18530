//! Real boots of PID 1 on a UML kernel, each for something that only a boot can prove.
//!
//! `LAB_TEST_UML=.../linux.uml LAB_TEST_UML_MODULES=.../modules/RELEASE cargo test -p lab-init`;
//! skipped without. `make test` sets them to the kernel uml-6.1 of the lab's cache.

mod machine;

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use lab_proto::{GuestMessage, GuestShare, GuestStep, HostMessage, Work};
use machine::{Machine, kernel, plan, run};

macro_rules! needs_kernel {
    () => {
        if kernel().is_none() {
            let all = std::env::var("LAB_REQUIRE").is_ok_and(|value| value == "all");
            assert!(!all, "LAB_TEST_UML is not set, and LAB_REQUIRE=all allows no skip");
            eprintln!("skipped: LAB_TEST_UML is not set");
            return;
        }
    };
}

#[test]
fn steps_share_a_shell_and_are_counted() {
    needs_kernel!();
    let boot = run(
        "steps",
        plan(&[
            "x=5; cd /tmp; f() { return 3; }",
            "pwd; echo $x; f",
            "printf 'no newline \\001\\377'",
            "if",
            "ls -l /proc/self/fd | tr -s ' ' | while read a b c d e g h i j; do echo $i $j; done; cat",
            "env_; date +%s | head -c 6; stty -a < /dev/stderr; cat /proc/sys/kernel/hostname",
        ]),
    );
    let (steps, late) = boot.steps();
    assert_eq!(steps[0], (0, b"".to_vec()));
    assert_eq!(steps[1], (3, b"/tmp\n5\n".to_vec()));
    assert_eq!(steps[2], (0, b"no newline \x01\xff".to_vec()));
    assert_eq!(steps[3].0, 2);
    let fds = String::from_utf8_lossy(&steps[4].1).into_owned();
    let numbers: Vec<&str> = fds.lines().filter_map(|l| l.split("-> ").next()).collect();
    println!("{fds}");
    assert!(fds.contains("-> /dev/null") && fds.contains("-> /dev/pts/0"), "{fds}");
    assert!(!numbers.iter().any(|n| n.trim() == "8" || n.trim() == "10"), "{fds}");
    let tty = String::from_utf8_lossy(&steps[5].1).into_owned();
    assert!(tty.contains("170000") && tty.ends_with("lab\n"), "{tty}");
    assert!(
        tty.contains("rows 24; columns 80") && tty.contains("-echo ") && tty.contains("-opost"),
        "{tty}"
    );
    assert!(late.is_empty());
}

#[test]
fn ten_megabytes_of_noise_pass_unchanged_while_pings_are_answered() {
    needs_kernel!();
    let mut machine = Machine::boot("noise", &[]);
    machine.plan(plan(&[
        "head -c 10000000 /dev/urandom > /tmp/noise; sha256sum < /tmp/noise",
        "cat /tmp/noise",
        "seq 1 100000",
    ]));
    machine.hear_until(|m| matches!(m, GuestMessage::StepStarted { index: 1, .. }));
    // A host that is slow at first: nothing may be dropped, and PID 1 must not block.
    sleep(Duration::from_millis(300));
    machine.say(&HostMessage::Ping(7));
    machine.hear_until(|m| *m == GuestMessage::Pong(7));
    let terminal = machine.read_terminal();
    let boot = machine.finish(terminal);
    let (steps, _) = boot.steps();
    let micros: Vec<u64> = boot
        .records
        .iter()
        .filter_map(|(_, r)| match r {
            GuestMessage::StepEnded { micros, .. } => Some(*micros),
            _ => None,
        })
        .collect();
    println!("10 MB: {micros:?} us");
    assert_eq!(steps[1].1.len(), 10_000_000);
    let expected = String::from_utf8_lossy(&steps[0].1).into_owned();
    assert_eq!(sha256(&steps[1].1), expected.split(' ').next().unwrap());
    assert!(steps[2].1.ends_with(b"\n99999\n100000\n"));
}

#[test]
fn a_plan_of_a_megabyte_arrives_whole() {
    needs_kernel!();
    let long = format!("x='{}'; echo ${{#x}}", "0123456789".repeat(20_000));
    let steps: Vec<String> = (0..1000).map(|n| format!("echo {n} {}", "y".repeat(800))).collect();
    let mut all: Vec<&str> = vec![&long];
    all.extend(steps.iter().map(String::as_str));
    let boot = run("plan", plan(&all));
    let texts = boot.texts();
    assert_eq!(texts[0], "200000\n");
    let started = |m: &GuestMessage| matches!(m, GuestMessage::StepStarted { .. });
    let first = boot.records.iter().find(|(_, record)| started(record)).unwrap().0;
    let all = boot.records.last().unwrap().0 - first;
    println!("{} us a step", all.as_micros() / 1001);
    assert!(texts[1000].starts_with("999 yyy"));
}

#[test]
fn a_step_that_ends_the_shell_is_the_last() {
    needs_kernel!();
    for (step, expected) in
        [("echo a; exit 3", 3), ("echo a; kill -9 $$", 137), ("set -e; echo a; (exit 4)", 4)]
    {
        let boot = run("gone", plan(&["true", step, "echo never"]));
        let (steps, _) = boot.steps();
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[1], (expected, b"a\n".to_vec()));
        let gone = boot
            .records
            .iter()
            .any(|(_, r)| matches!(r, GuestMessage::StepEnded { index: 1, shell_gone: true, .. }));
        assert!(gone, "{boot:#?}");
    }
}

#[test]
fn a_failing_set_up_step_stops() {
    needs_kernel!();
    let mut plan = plan(&["false", "false", "echo never"]);
    let Work::Steps(steps) = &mut plan.work else { unreachable!() };
    steps[1] = GuestStep::Run { run: "false".into(), stop_unless: Some(0) };
    assert_eq!(run("stop", plan).steps().0.len(), 2);
}

#[test]
fn late_output_is_counted_as_late() {
    needs_kernel!();
    let boot = run(
        "late",
        plan(&[
            "(sleep 0.1; echo late) & (while :; do echo flood; done) & sleep 0.3; kill $!",
            "(trap '' HUP; sleep 0.2; echo orphan) & stty -F /dev/stderr opost onlcr olcuc",
            "sleep 0.4; echo done",
            "(while :; do echo endless; done) &",
        ]),
    );
    let (steps, late) = boot.steps();
    assert!(String::from_utf8_lossy(&steps[0].1).contains("late\n"));
    assert_eq!(String::from_utf8_lossy(&steps[2].1), "ORPHAN\r\nDONE\r\n");
    println!("{} bytes after the last step", late.len());
}

#[test]
fn modules_load_by_plan_by_name_and_on_demand() {
    needs_kernel!();
    let mut plan = plan(&[
        "cat /proc/modules",
        "mkdir -p /tmp/l /tmp/u /tmp/w /tmp/m; mount -t overlay -o lowerdir=/tmp/l,upperdir=/tmp/u,workdir=/tmp/w o /tmp/m && echo mounted",
        "modprobe nonsense",
        "modprobe -q nonsense",
        "modprobe raid1 && modprobe -r raid1; head -c 0 /dev/loop-control; cat /proc/modules; ls /dev/lab/ -l /sys/kernel/config",
        "cat /mnt/a/*/host.txt; echo no > /mnt/a/b/host.txt",
    ]);
    let share = std::env::temp_dir().join(format!("lab-init-share-{}", std::process::id()));
    std::fs::create_dir_all(share.join("b")).unwrap();
    std::fs::write(share.join("b/host.txt"), "from the host\n").unwrap();
    plan.shares.push(GuestShare {
        fstype: "hostfs".into(),
        source: "share".into(),
        data: share.to_string_lossy().into_owned(),
        guest: "/mnt/a".into(),
        readonly: true,
    });
    plan.modules = ["dm-thin-pool", "ext4", "configfs"].map(str::to_string).to_vec();
    let boot = run("modules", plan);
    std::fs::remove_dir_all(share).unwrap();
    let texts = boot.texts();
    println!("{texts:#?}");
    assert!(texts[0].contains("dm_thin_pool ") && texts[0].contains("dm_bufio "));
    assert_eq!(texts[1], "mounted\n");
    assert_eq!(texts[2], "modprobe: module nonsense: no such module\n");
    assert_eq!(texts[3], "");
    assert!(texts[4].contains("loop ") && !texts[4].contains("raid1 "));
    assert!(texts[5].starts_with("from the host\n") && texts[5].contains("ead-only"));
    let (steps, _) = boot.steps();
    assert_eq!((steps[2].0, steps[3].0), (1, 1));
}

#[test]
fn what_cannot_be_done_is_trouble_and_no_end() {
    needs_kernel!();
    let mut modules = plan(&["echo never"]);
    modules.modules.push("nonsense".into());
    let mut disk = plan(&["echo never"]);
    disk.disks.push(lab_proto::GuestDisk { name: "a".into(), device: "/dev/nonsense".into() });
    for (plan, expected) in [
        (modules, "module nonsense: no such module"),
        (disk, "disk a: /dev/nonsense did not appear within 2 s"),
    ] {
        let boot = run("trouble", plan);
        let last = boot.records.last().unwrap().1.clone();
        assert_eq!(last, GuestMessage::Trouble { what: expected.into() });
    }
}

#[test]
fn a_shell_for_people_echoes_and_resizes() {
    needs_kernel!();
    let mut machine = Machine::boot("shell", &[]);
    let terminal = machine.read_terminal();
    let mut plan = plan(&[]);
    plan.work = Work::Shell { cols: 100, rows: 30 };
    machine.plan(plan);
    machine.hear_until(|m| matches!(m, GuestMessage::Ready { boot: 0 }));
    let mut keys = machine.terminal.try_clone().unwrap();
    keys.write_all(b"stty size\n").unwrap();
    sleep(Duration::from_millis(500));
    machine.say(&HostMessage::Resize { cols: 120, rows: 40 });
    keys.write_all(b"stty size\nsleep 100\n").unwrap();
    sleep(Duration::from_millis(500));
    keys.write_all(b"\x03").unwrap();
    sleep(Duration::from_millis(200));
    keys.write_all(b"exit 5\n").unwrap();
    let boot = machine.finish(terminal);
    let (steps, _) = boot.steps();
    let text = String::from_utf8_lossy(&steps[0].1).into_owned();
    println!("{text}");
    assert_eq!(steps[0].0, 5);
    assert!(text.contains("lab# stty size\r\n") || text.contains("stty size\r\n"), "{text}");
    assert!(text.contains("30 100\r\n") && text.contains("40 120\r\n"), "{text}");
}

#[test]
fn mounts_are_undone_and_what_stays_is_named() {
    needs_kernel!();
    let boot = run(
        "mounts",
        plan(&[
            "mkdir -p '/tmp/a b' /tmp/c /tmp/l; mount -t tmpfs x '/tmp/a b'; mount -t tmpfs y '/tmp/a b'",
            "cd '/tmp/a b'; sleep 1000 & mount --bind /tmp/c /tmp/c; umount -l /proc",
        ]),
    );
    boot.steps();
    let mut plan = plan(&[
        "mkdir /mnt; mount -t tmpfs x /mnt; head -c 1000000 /dev/zero > /mnt/f",
        "losetup -f /mnt/f",
    ]);
    plan.shares.clear();
    let boot = run("left", plan);
    let GuestMessage::End { left_mounted, .. } = &boot.records.last().unwrap().1 else {
        panic!("{boot:#?}")
    };
    assert_eq!(left_mounted, &["/mnt: Device or resource busy"]);
}

#[test]
fn without_its_devices_it_says_so_and_powers_off() {
    needs_kernel!();
    let machine = Machine::boot("no-control", &["lab.control=/dev/nonsense"]);
    let terminal = machine.read_terminal();
    let boot = machine.finish(terminal);
    assert!(
        boot.log.contains("lab-init: /dev/nonsense: No such file or directory"),
        "{}",
        boot.log
    );
    assert!(!boot.log.contains("panic"), "{}", boot.log);
    let machine = Machine::boot("no-terminal", &["lab.terminal=/dev/nonsense"]);
    let terminal = machine.read_terminal();
    let boot = machine.finish(terminal);
    let last = boot.records.last().map(|(_, record)| record.clone());
    let what = "/dev/nonsense: No such file or directory".into();
    assert_eq!(last, Some(GuestMessage::Trouble { what }));
}

#[test]
fn noise_on_the_control_channel_is_trouble() {
    needs_kernel!();
    let mut machine = Machine::boot("forged", &[]);
    let terminal = machine.read_terminal();
    machine.plan(plan(&["sleep 1000"]));
    machine.hear_until(|m| matches!(m, GuestMessage::StepStarted { .. }));
    machine.write_control(b"ping 7\n");
    let boot = machine.finish(terminal);
    let GuestMessage::Trouble { what } = &boot.records.last().unwrap().1 else {
        panic!("{boot:#?}")
    };
    assert_eq!(what, "from the host: not a control record: \"ping 7\"");
}

#[test]
#[ignore = "a measurement"]
fn time_from_hello_to_end() {
    needs_kernel!();
    let mut rows = Vec::new();
    for _ in 0..10 {
        let boot = run("time", plan(&["true"]));
        boot.steps();
        println!(
            "{}",
            boot.log.lines().filter(|l| l.contains("lab-init")).collect::<Vec<_>>().join("\n")
        );
        let at = |n: usize| boot.records[n].0.as_micros() as u64;
        let end = boot.records.len() - 1;
        // Hello, Ready, StepStarted, StepEnded, End, process gone.
        let off = boot.took.as_micros() as u64 - at(end);
        rows.push([at(end) - at(0), at(0), at(1) - at(0), at(3) - at(1), at(end) - at(3), off]);
    }
    rows.sort_unstable();
    println!("hello-end | boot-hello hello-ready ready-ended ended-end end-off (us)");
    for row in &rows {
        println!("{row:?}");
    }
}

fn sha256(bytes: &[u8]) -> String {
    use std::process::{Command, Stdio};
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_string()
}
