//! What a machine may take of the host, and that what is killed is gone.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::sandbox::{self, Access, Calls, Child, Isolation, Launch, Reach, RootEntry};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{LAB, alive, lab_for, machines_of, skip, tokens};

/// A helper that somebody stopped does not hear that it is to end.
#[test]
fn what_is_killed_is_gone_whoever_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(why) = sandbox::probe(Isolation::Full, folder.path()).unwrap() {
        return skip(&why);
    }
    for isolation in [Isolation::Full, Isolation::Landlock, Isolation::Off] {
        if isolation == Isolation::Landlock && sandbox::landlock_version().is_none() {
            continue;
        }
        for stopped in ["nobody", "outer", "inner", "machine", "all"] {
            let (mut child, processes) = a_machine(isolation, folder.path());
            let [outer, inner, machine, orphan] = processes;
            let stop = match stopped {
                "outer" => vec![outer],
                "inner" => vec![inner],
                "machine" => vec![machine],
                "all" => vec![outer, inner, machine, orphan],
                _ => vec![],
            };
            stop.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap());
            let begun = Instant::now();
            child.kill();
            let took = begun.elapsed();
            let left: Vec<_> = processes.iter().filter(|pid| alive(pid.cast_unsigned())).collect();
            assert!(left.is_empty(), "{isolation}, {stopped} stopped: {left:?} of {processes:?}");
            assert!(took < Duration::from_secs(8), "{isolation}, {stopped} stopped: {took:?}");
            let at_once = ["nobody", "machine"].contains(&stopped);
            assert!(!at_once || took < Duration::from_secs(1), "{isolation}, {stopped}: {took:?}");
        }
    }
}

/// A shell that leaves an orphan in a session of its own: outer and inner helper, itself, the orphan.
fn a_machine(isolation: Isolation, folder: &Path) -> (Child, [i32; 4]) {
    let folders = ["/bin", "/usr", "/lib", "/lib64"];
    let bind = |path: &str| RootEntry::Bind { host: path.into(), at: path.into(), readonly: true };
    let to = |path: &str, access| Reach { path: path.into(), access };
    let mut reach: Vec<Reach> = folders.iter().map(|path| to(path, Access::Run)).collect();
    // Where a shell's background gets its standard input.
    reach.push(to("/dev/null", Access::Write));
    let script = "setsid sleep 600 & setsid sh -c 'setsid sleep 601 & exit' ; echo ready; wait";
    let launch = Launch {
        argv: ["/bin/sh", "-c", script].map(String::from).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        isolation,
        root: folders.iter().chain([&"/dev/null"]).map(|path| bind(path)).collect(),
        mount_on: folder.to_path_buf(),
        reach,
        calls: Calls::Machine,
        ..Launch::default()
    };
    let (mut words, theirs) = UnixStream::pair().unwrap();
    let child = Child::start(&launch, OwnedFd::from(theirs)).unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut words, &mut ready).unwrap();
    let children = |pid: i32| -> Vec<i32> {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let outer = child.helper_pid().cast_signed();
    let is_helper = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(sandbox::DISPATCH)
    };
    let inner = *children(outer).iter().find(|pid| is_helper(pid)).unwrap();
    // The orphan came to whoever reaps: PID 1 of the namespace, or the outer helper.
    let begun = Instant::now();
    loop {
        let machine = children(inner)[0];
        let all = [children(inner), children(outer)].concat();
        let orphan = all.into_iter().find(|pid| *pid != machine && *pid != inner);
        if let Some(orphan) = orphan {
            return (child, [outer, inner, machine, orphan]);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "the orphan was not seen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a machine may take of the host stands in its process' own limits.
#[test]
fn a_machine_has_ceilings() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case(
        "sleeps",
        "[machine]\ndisks = [{ name = \"a\", size = \"1G\" }]\n[[step]]\nrun = \"sleep 1000\"\n",
    );
    let mut running = lab.start(&["run", "sleeps", "--json"]);
    running.until("\"title\":\"sleep 1000\"");
    let machine = machines_of(running.child.id()).remove(0);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", machine.pid)).unwrap();
    let of = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[26..].split_whitespace().next().unwrap().to_string()
    };
    assert_eq!(of("Max file size"), (1_u64 << 30).to_string());
    assert_eq!(of("Max data size"), (256 << 20).to_string());
    assert_eq!(of("Max core file size"), "1");
    assert_eq!(of("Max processes"), (1024 + 2048).to_string());
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.pid)).unwrap();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", machine.pid)).unwrap();
    assert_eq!(score.trim(), "500");
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGINT).unwrap();
    running.wait().code(130);
}

/// The guest fills its disk, and the host has not the room that was declared: nobody's kernel failed.
#[test]
fn a_disk_that_the_host_has_no_room_for() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    if !nix::unistd::geteuid().is_root() {
        return skip("a small file system for the runs wants root");
    }
    lab.case(
        "fills",
        "[needs]\nkconfig = [\"EXT4_FS\"]\nprograms = [\"mkfs.ext4\", \"dd\"]\n\
         [machine]\ndisks = [{ name = \"a\", size = \"200M\" }]\n\
         [[step]]\nrun = \"mkfs.ext4 -q -E nodiscard /dev/lab/a && mount /dev/lab/a /mnt\"\n\
         [[step]]\nrun = \"dd if=/dev/urandom of=/mnt/f bs=1M count=150 2> /dev/null; sync; true\"\n",
    );
    let with_room = |size: &str| {
        let mut command = Command::new("unshare");
        let script = format!(
            "mkdir -p .lab/runs && mount -t tmpfs -o size={size} none .lab/runs && exec \"$@\""
        );
        command.args(["-m", "sh", "-c", &script, "sh", LAB]);
        command.args(["run", "fills", "-k", "uml-6.1", "--no-pending", "--json"]);
        lab.settle(&mut command);
        lab.launch(command, Some(tokens(1)), Stdio::null()).wait()
    };
    let ran = with_room("64m");
    ran.code(3);
    let result = ran.result();
    assert_eq!(result.code, "broken:host", "{ran}");
    // The run's other files are there too, and get no more of the room than its disk does.
    let says = |text: &str| result.reasons.iter().any(|reason| reason.text.contains(text));
    // Whichever write failed first.
    let disk = "could not read or write a file behind the disks (0 KiB are free there)";
    assert!(says(disk) || says("No space left on device"), "{ran}");
    // The twin: with room there is nothing to complain of.
    let result = with_room("400m").result();
    assert_eq!(result.code, "fail:unreviewed");
    // With none at all it does not begin.
    let ran = with_room("1m");
    ran.code(3);
    assert!(ran.result().reasons[0].text.contains("no room for the disks"), "{ran}");
}
