//! The three levels of isolation, each really run as root, as an ordinary user, and where neither
//! /proc nor anything else can be mounted; and what the lab falls back to by itself.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::sandbox::{self, Isolation};
use nix::libc;

use super::support::{LAB, Lab, Ran, cache, lab_for, skip, tokens};

const NOBODY: u32 = 65534;

/// Who runs the lab.
#[derive(Clone, Copy, Debug, PartialEq)]
enum As {
    /// The user of the tests, root or not.
    Oneself,
    /// An ordinary one.
    Nobody,
    /// Root of a user namespace in which a part of /proc is masked, as in a container: the kernel
    /// then refuses to mount a fresh one.
    Container,
    /// In a user namespace that allows no further ones.
    NoNamespaces,
    /// The same, on a host without Landlock.
    NoWalls,
}

/// Runs the lab as somebody.
fn run(lab: &Lab, who: As, args: &[&str]) -> Ran {
    let program = lab.folder().join("lab");
    if !program.exists() {
        std::fs::copy(LAB, &program).unwrap();
    }
    let script = match who {
        As::Oneself => "exec \"$@\"",
        As::Nobody => "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"",
        // The mask must lie over something, and stay: the new namespace gets it locked.
        As::Container => {
            "mount -t tmpfs -o ro none /proc/sys && \
             exec unshare -Urm --propagation=unchanged \"$@\""
        }
        As::NoNamespaces | As::NoWalls => {
            "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\""
        }
    };
    let mut command = match who {
        As::Oneself | As::Nobody => Command::new("sh"),
        As::Container => {
            let mut command = Command::new("unshare");
            command.args(["-Urm", "sh"]);
            command
        }
        As::NoNamespaces | As::NoWalls => {
            let mut command = Command::new("unshare");
            command.args(["-Ur", "sh"]);
            command
        }
    };
    command.args(["-c", script, "sh"]).arg(&program).args(args);
    lab.settle(&mut command);
    if who == As::NoWalls {
        // SAFETY: only system calls between fork(2) and execve(2).
        unsafe { command.pre_exec(|| without_landlock().map_err(std::io::Error::other)) };
    }
    lab.launch(command, Some(tokens(1)), Stdio::null()).wait()
}

/// A host whose kernel has no Landlock, as far as this process and its children can tell.
fn without_landlock() -> Result<(), String> {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
    let rules = [(libc::SYS_landlock_create_ruleset, vec![])].into_iter().collect();
    let answer = SeccompAction::Errno(libc::ENOSYS as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, TargetArch::x86_64);
    let program = filter.and_then(BpfProgram::try_from).map_err(|e| e.to_string())?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}

/// Gives all of this test to an ordinary user, with kernels of its own: hard links, so that they
/// cost nothing, in folders that it may write.
fn give_away(lab: Lab) -> Lab {
    let kernels =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nobody-{}", std::process::id()));
    let copy = |from: &str| {
        let status = Command::new("cp").arg("-al").arg(cache().join(from)).arg(&kernels).status();
        assert!(status.unwrap().success(), "cp -al {from}");
    };
    std::fs::create_dir(&kernels).unwrap();
    copy("kernels");
    let given = |path: &Path| {
        let mut folders = vec![path.to_path_buf()];
        while let Some(folder) = folders.pop() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
            for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    folders.push(path);
                } else if path.starts_with(lab.folder()) && !kind.is_symlink() {
                    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
                } else if path.extension().is_some_and(|end| end == "lock")
                    || path.file_name().is_some_and(|name| name == "lock")
                {
                    // A lock of its own: the shared one is root's.
                    std::fs::remove_file(&path).unwrap();
                    std::fs::write(&path, "").unwrap();
                    chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
                }
            }
        }
    };
    given(lab.folder());
    given(&kernels);
    std::fs::set_permissions(lab.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    lab.env("LAB_CACHE", &kernels.to_string_lossy())
}

/// Removed whatever becomes of the test.
struct Given(std::path::PathBuf);

impl Drop for Given {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Each level as `who`: the run passes, and says which it was.
fn three_levels(lab: &Lab, who: As) {
    let step = "head -c 5 /mnt/share/file && echo x > /dev/ubda && cat /proc/sys/kernel/ostype";
    lab.case(
        "levels",
        &format!(
            "[machine]\ndisks = [{{ name = \"a\", size = \"1M\" }}]\n\
             shares = [{{ host = \"files\", guest = \"/mnt/share\", mode = \"ro\" }}]\n\
             [[step]]\nrun = \"{step}\"\n"
        ),
    );
    lab.write("cases/levels/files/file", "share\n");
    for (level, says) in [
        ("full", None),
        ("landlock", Some("(isolation landlock: weak)")),
        ("off", Some("(isolation off)")),
    ] {
        let flag = format!("--sandbox={level}");
        let ran = run(lab, who, &["run", "levels", "-k", "uml-6.1", "--no-pending", &flag]);
        // Nothing is accepted yet; all that this is about has worked.
        ran.code(1).out("there is no accepted transcript yet").out("       shareLinux\n");
        match says {
            Some(says) => ran.out(says),
            None => ran.not_out("isolation"),
        };
        lab.nothing_is_left();
        memory_folders_vanish();
    }
}

/// A machine without a private root has a folder in /dev/shm for its memory. Those of other tests come
/// and go; one that stays was left behind.
fn memory_folders_vanish() {
    let folders = || -> Vec<_> {
        let names = std::fs::read_dir("/dev/shm").unwrap().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with("lab-")).collect()
    };
    let mut seen = folders();
    let begun = Instant::now();
    while !seen.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "left behind: {seen:?}");
        std::thread::sleep(Duration::from_millis(20));
        let now = folders();
        seen.retain(|name| now.contains(name));
    }
}

fn has_landlock() -> bool {
    let has = sandbox::landlock_version().is_some();
    if !has {
        skip("this host's kernel has no Landlock");
    }
    has
}

#[test]
fn three_levels_as_oneself() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    if has_landlock() {
        three_levels(&lab, As::Oneself);
    }
}

#[test]
fn three_levels_as_an_ordinary_user() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    if !nix::unistd::geteuid().is_root() {
        return skip("only root can become another user; the tests themselves are run by one");
    }
    if has_landlock() {
        lab.write("cases/levels/files/file", "");
        std::fs::copy(LAB, lab.folder().join("lab")).unwrap();
        let lab = give_away(lab);
        let kernels = format!("nobody-{}", std::process::id());
        let _given = Given(Path::new(env!("CARGO_TARGET_TMPDIR")).join(kernels));
        three_levels(&lab, As::Nobody);
    }
}

#[test]
fn three_levels_where_proc_cannot_be_mounted() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    if has_landlock() {
        // The twin: it is indeed refused there.
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs -o ro none /proc/sys && \
                      exec unshare -Urmpf --propagation=unchanged mount -t proc none /mnt";
        let refused = command.args(["-Urm", "sh", "-c", script]).output().unwrap();
        assert!(!refused.status.success(), "{refused:?}");
        three_levels(&lab, As::Container);
    }
}

#[test]
fn namespaces_refused_and_landlock_there() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    if !has_landlock() {
        return;
    }
    let ran =
        run(&lab, As::NoNamespaces, &["run", "dm-linear", "hostfs-file-dentry", "-k", "uml-6.1"]);
    ran.code(0).out("(isolation landlock: weak)").out("2 runs: 2 pass");
    let text = format!("{}{}", ran.stdout, ran.stderr);
    let said = text.matches("isolation landlock is all that this host gives").count();
    assert_eq!(said, 1, "once: {ran}");
    assert!(text.contains("user namespaces are refused: unshare: "), "{ran}");
    lab.lab(&["runs", "log"]).code(0).out("isolation  landlock: weak");

    let ran = run(&lab, As::NoNamespaces, &["doctor"]);
    ran.out("limited").out("user namespaces are refused").out("isolation is landlock");
    ran.out("fix: sysctl user.max_user_namespaces");

    // Where nothing less will do, it is asked for, and then there is no falling back.
    let ran = run(&lab, As::NoNamespaces, &["run", "dm-linear", "--sandbox=full", "--json"]);
    ran.code(3);
    assert_eq!(ran.result().isolation, Some(Isolation::Full));
    assert_eq!(ran.result().code, "broken:not-started");
}

#[test]
fn a_writable_share_is_skipped_under_landlock() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    if !has_landlock() {
        return;
    }
    let shares =
        "[machine]\nshares = [{ host = \"files\", guest = \"/mnt/out\", mode = \"rw\" }]\n";
    lab.case("writes", &format!("{shares}[[step]]\nrun = \"echo x > /mnt/out/x\"\n"));
    lab.write("cases/writes/files/there", "");
    let ran = lab.boot(&["run", "writes", "--sandbox=landlock"]);
    ran.code(4).out("skip   writes").out("its share /mnt/out is writable");
    assert!(!lab.path("cases/writes/files/x").exists());
    // Its twin: elsewhere it runs, and writes.
    lab.boot(&["run", "writes", "--no-pending"]).code(1).out("no accepted transcript");
    assert!(lab.path("cases/writes/files/x").exists());
}

#[test]
fn no_walls_at_all() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let ran = run(&lab, As::NoWalls, &["run", "dm-linear", "-k", "uml-6.1"]);
    ran.code(3).out("broken dm-linear").out("user namespaces are refused");
    ran.out("lab doctor").out("--sandbox=off");
    let ran = run(&lab, As::NoWalls, &["run", "dm-linear", "--sandbox=landlock"]);
    ran.code(3).err("isolation landlock cannot be had on this host").err("--sandbox=off");
    let ran = run(&lab, As::NoWalls, &["doctor"]);
    ran.code(3).out("user namespaces are refused").out("nor is isolation landlock to be had");
    ran.out("fix: sysctl user.max_user_namespaces");
    let ran = run(&lab, As::NoWalls, &["shell"]);
    ran.code(3).err("user namespaces are refused").err("lab doctor").err("--sandbox=off");
    // There was no kernel whose log could help.
    assert!(!ran.stderr.contains("kernel.log"), "{ran}");
    assert!(lab.files(".snap.new").is_empty());
    // Without walls it runs, and says so.
    let ran = run(&lab, As::NoWalls, &["run", "dm-linear", "--sandbox=off"]);
    ran.code(0).out("(isolation off)");
}

/// Debian's newer kernels want a newer C library than the host may have, and get it without a private
/// root too.
#[test]
fn kernels_with_a_c_library_of_their_own() {
    let Some(lab) = lab_for(&["uml-6.12"]) else { return };
    if has_landlock() {
        for level in ["--sandbox=landlock", "--sandbox=off"] {
            lab.boot(&["run", "hostfs-file-dentry", "-k", "uml-6.12", level]).code(0);
        }
    }
}
