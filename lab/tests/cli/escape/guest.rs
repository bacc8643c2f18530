//! Root in the guest, through hostfs: real boots at each level.

use std::fmt::Write;

use lab::sandbox::{self, Isolation};

use super::super::support::{Lab, lab_for, skip};
use super::{Outcome, Outcomes, make_outside, print, state_of};

/// What is tried, and where it works: `Never` has no twin on UML, and says why.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Works {
    /// Without walls.
    Off,
    /// Without walls, where the lab's user is root.
    OffAsRoot,
    /// Under `landlock` too, which does not govern it.
    Landlock,
    /// Not even without walls: the way does not lead to the host.
    Nowhere,
}

use Works::{Landlock, Nowhere, Off, OffAsRoot};

/// `$O` is the host's folder through hostfs, `$H` the same as the host names it, `$P` a process.
#[rustfmt::skip]
const TABLE: &[(&str, &str, Works)] = &[
    ("read a file", "cat $O/secret", Off),
    ("list a folder", "ls $O", Off),
    ("append to a file", "echo forged >> $O/secret", Off),
    ("create a file", "echo forged > $O/created", Off),
    ("truncate a file", ": > $O/truncated", Off),
    ("remove a file", "rm $O/removed", Off),
    ("rename a file", "mv $O/renamed $O/renamed-to", Off),
    ("link a file", "ln $O/linked $O/linked-to", Off),
    ("make a folder", "mkdir $O/folder", Off),
    ("make a symbolic link", "ln -s / $O/symlink", Off),
    ("make a FIFO", "mknod $O/fifo p", Off),
    ("make a device node", "mknod $O/zero c 1 5", OffAsRoot),
    ("chmod", "chmod 777 $O/moded", Off),
    ("chown", "chown 12345 $O/owned", OffAsRoot),
    ("set the times of a file", "touch -d @1 $O/timed", Off),
    ("look at a file's size and times", "stat $O/secret", Landlock),
    ("read where a symbolic link points", "readlink $O/pointer", Landlock),
    ("mount through ..", "mkdir /up && mount -t hostfs none /up -o $H/../outside/. && cat /up/secret", Off),
    ("read through .. of a share", "mkdir /side && mount -t hostfs none /side -o $S/../../../../outside && cat /side/secret", Off),
    ("follow a share's symbolic link", "mkdir -p $H && mount -t hostfs none $H -o $H && cat /mnt/share/link", Off),
    ("write a share that is to be read", "mkdir /rw && mount -t hostfs none /rw -o $S && echo forged >> /rw/shared", Off),
    ("write it where the lab put it", "mkdir /rx && mount -t hostfs none /rx -o /lab/shares/0 && echo forged >> /rx/shared", Nowhere),
    ("read a process' environment", "cat /mnt/host/proc/$P/environ", Off),
    ("read through a process' root", "cat /mnt/host/proc/$P/root$H/secret", Off),
    ("open a setting of the host's kernel", ": > /mnt/host/proc/sys/kernel/core_pattern", OffAsRoot),
    ("replace the lab's own kernel file", "rm /mnt/host/lab/linux || : > /mnt/host/lab/linux", Nowhere),
    // A device node is the guest's: its number names a driver of the guest's kernel.
    ("read the host's disk", "head -c 512 /mnt/host$D", Nowhere),
    // The guest's own numbers, and its own console.
    ("signal a host's process", "kill -9 $P", Nowhere),
    ("talk to the machine's own management console", "cd /mnt/host && for s in lab/state/*/mconsole; do echo version > $s; done", Nowhere),
    ("have a network device", "test $(grep -c : /proc/net/dev) -gt 1", Nowhere),
    ("make one", "ip link add eth0 type vector", Nowhere),
];

/// The host's side of a run, fresh for each level.
fn host(lab: &Lab) -> (String, String) {
    let (outside, share) = (lab.folder().join("outside"), lab.path("cases/attempts/shared"));
    for folder in [&outside, &share] {
        let _ = std::fs::remove_dir_all(folder);
    }
    make_outside(&outside);
    lab.write("cases/attempts/shared/shared", "to be read\n");
    std::os::unix::fs::symlink(outside.join("secret"), share.join("link")).unwrap();
    (outside.display().to_string(), share.display().to_string())
}

/// Boots once at this level and makes all attempts.
fn attempt(lab: &Lab, isolation: Isolation) -> Outcomes {
    let (outside, share) = host(lab);
    let disk = std::fs::read_to_string("/proc/partitions").unwrap();
    let disk = disk.lines().nth(2).and_then(|line| line.split_whitespace().nth(3));
    let mut script = format!(
        "try() {{ if ( eval \"$2\" ) > /dev/null 2>&1; then echo \"$1: done\"; \
         else echo \"$1: refused\"; fi; }}\n\
         mkdir /mnt/host && mount -t hostfs none /mnt/host -o /\n\
         H={outside} O=/mnt/host{outside} S={share} P={} D=/dev/{}\n",
        std::process::id(),
        disk.unwrap_or("none"),
    );
    for (name, command, _) in TABLE {
        writeln!(script, "try \"{name}\" '{command}'").unwrap();
    }
    lab.case(
        "attempts",
        "[machine]\nshares = [{ host = \"shared\", guest = \"/mnt/share\", mode = \"ro\" }]\n\
         [[step]]\nrun = \". /case/script\"\n",
    );
    lab.write("cases/attempts/script", &script);
    let before = (state_of(outside.as_ref()), state_of(share.as_ref()));
    let level = format!("--sandbox={isolation}");
    let ran = lab.boot(&["run", "attempts", "-k", "uml-6.1", "--no-pending", "--json", &level]);
    let result = ran.result();
    assert_eq!(result.code, "fail:unreviewed", "{ran}");
    assert_eq!(result.isolation, Some(isolation));
    let transcript = result.transcript.unwrap();
    let outcome = |name: &str| {
        let said = |what: &str| transcript.contains(&format!("\n{name}: {what}\n"));
        match (said("done"), said("refused")) {
            (true, false) => Outcome::Done,
            (false, true) => Outcome::Refused("refused".into()),
            _ => panic!("{name} was not tried: {transcript}"),
        }
    };
    let outcomes = TABLE.iter().map(|(name, ..)| ((*name).to_string(), outcome(name))).collect();
    // What the guest says of itself is one thing; what became of the host is the other.
    let after = (state_of(outside.as_ref()), state_of(share.as_ref()));
    match isolation {
        Isolation::Off => {
            assert!(after.0.keys().any(|path| path.ends_with("created")), "{after:#?}");
            assert_ne!(before.1, after.1);
        }
        Isolation::Full | Isolation::Landlock => assert_eq!(before, after),
    }
    outcomes
}

#[test]
fn a_guest_whose_root_is_the_attacker() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let root = nix::unistd::geteuid().is_root();
    let settings = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let off = attempt(&lab, Isolation::Off);
    let full = attempt(&lab, Isolation::Full);
    let landlock = sandbox::landlock_version().map(|_| attempt(&lab, Isolation::Landlock));
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), settings);

    let names: Vec<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
    let mut levels = vec![("full", &full), ("off", &off)];
    levels.extend(landlock.iter().map(|outcomes| ("landlock", outcomes)));
    print("root in the guest", &names, &levels);
    for (name, command, works) in TABLE {
        let done = |outcomes: &Outcomes| outcomes[*name] == Outcome::Done;
        assert!(!done(&full), "{name} under full: {command}");
        let without = match works {
            Off | Landlock => true,
            OffAsRoot => root,
            Nowhere => false,
        };
        assert_eq!(done(&off), without, "{name} without walls: {command}");
        if let Some(landlock) = &landlock {
            assert_eq!(done(landlock), *works == Landlock, "{name} under landlock: {command}");
        }
    }
    if landlock.is_none() {
        skip("this host's kernel has no Landlock");
    }
}
