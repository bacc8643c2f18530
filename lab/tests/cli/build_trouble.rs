//! What can go wrong while a kernel is built: it is stopped, killed, wanted twice, the compiler
//! refuses, the disk fills up, the cache was moved. Each time it is said, the store is as it was,
//! nothing is left running, and the next build goes on.
//!
//! Sources and build folders are those that all tests share, so that seconds of compiling are
//! enough; the store is each test's own, so that what is built for a try is not kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::build::{SOURCE, builder};
use super::support::{Lab, Running, alive, cache, of_session, tokens};

/// A build waits for the source tree, which another test may be building from.
const PATIENCE: Duration = Duration::from_secs(400);

/// Changes a header that some twenty sources include: enough compiling to be stopped in, and done
/// in seconds. Each call gives other content, so that nothing was built before.
fn header_patch(lab: &Lab) -> String {
    let unique = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    patch(
        lab,
        "fs/squashfs/squashfs_fs.h",
        &[" #define SQUASHFS_MAJOR\t\t\t4", " #define SQUASHFS_MINOR\t\t\t0"],
        &format!("#define SQUASHFS_OF_A_TEST\t\t{unique}"),
        &[" #define SQUASHFS_START\t\t\t0"],
    )
}

/// Changes one source.
fn source_patch(lab: &Lab, line: &str) -> String {
    let before = [" #include \"squashfs.h\"", " "];
    let after = [" static const struct xattr_handler *squashfs_xattr_handler(int);"];
    patch(lab, "fs/squashfs/xattr.c", &before, line, &after)
}

fn patch(lab: &Lab, file: &str, before: &[&str], line: &str, after: &[&str]) -> String {
    let (old, new) = (before.len() + after.len(), before.len() + after.len() + 1);
    let text = format!(
        "--- a/{file}\n+++ b/{file}\n@@ -14,{old} +14,{new} @@\n{}\n+{line}\n{}\n",
        before.join("\n"),
        after.join("\n")
    );
    lab.write("try.patch", &text);
    "try.patch".into()
}

/// The lab in a mount namespace with a store of this test's own; `script` does more there, before.
fn command(lab: &Lab, script: &str, args: &[&str]) -> Command {
    let store = store(lab);
    fs::create_dir_all(&store).unwrap();
    let mut command = Command::new("unshare");
    let script = format!(
        "set -e; mount --bind '{}' '{}/kernels'; {script}\nexec \"$@\"",
        store.display(),
        cache().display()
    );
    command.args(["-rm", "sh", "-c", &script, "sh", super::support::LAB]).args(args);
    lab.settle(&mut command);
    command
}

fn start(lab: &Lab, script: &str, args: &[&str]) -> Running {
    lab.launch(command(lab, script, args), None, Stdio::null()).patient(PATIENCE)
}

fn store(lab: &Lab) -> PathBuf {
    lab.folder().join("store")
}

/// The entries of this test's store: kernels, and what is neither whole nor removed.
fn stored(lab: &Lab) -> usize {
    let entries = fs::read_dir(store(lab)).unwrap().flatten();
    entries.filter(|e| e.path().is_dir() && e.file_name() != "by-spec").count()
}

/// The folder that a lab builds in: it holds the lock there. `None` before and after.
fn build_folder(lab: u32) -> Option<PathBuf> {
    let open = fs::read_dir(format!("/proc/{lab}/fd")).ok()?.flatten();
    let mut files = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    let is_lock = |f: &PathBuf| f.ends_with("lock") && f.to_string_lossy().contains("/builds/");
    Some(files.find(is_lock)?.parent()?.to_path_buf())
}

/// Starts a build, and stops it once compilers run; the folder that it was in.
fn begun(lab: &Lab, args: &[&str]) -> PathBuf {
    let mut running = start(lab, "", args);
    until_it_compiles(&mut running);
    let folder = build_folder(running.child.id()).unwrap();
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGINT).unwrap();
    running.wait().code(130);
    folder
}

/// Waits until compilers run for this lab, and not those that the configuration asks for options.
fn until_it_compiles(running: &mut Running) {
    let begun = Instant::now();
    let session = running.child.id();
    let compiles = || {
        let log = build_folder(session)?.join("log");
        let log = fs::read_to_string(log).unwrap_or_default();
        let runs = of_session(session).iter().any(|process| process.name == "cc1");
        (runs && log.contains("  CC ")).then_some(())
    };
    while compiles().is_none() {
        let ended = running.child.try_wait().unwrap();
        assert!(ended.is_none() && begun.elapsed() < PATIENCE, "no compiler: {}", running.stderr());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a lab has its turn in a build folder.
fn until_it_runs(running: &mut Running) {
    while build_folder(running.child.id()).is_none() {
        assert!(running.child.try_wait().unwrap().is_none(), "it ended: {}", running.stderr());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_build_that_was_stopped_goes_on() {
    let Some(lab) = builder() else { return };
    let patch = header_patch(&lab);
    let args = ["kernel", "build", SOURCE, "--patch", &patch];

    // Ctrl-C.
    let mut running = start(&lab, "", &args);
    until_it_compiles(&mut running);
    let begun = Instant::now();
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGINT).unwrap();
    running.wait().code(130);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    lab.nothing_is_left();
    assert_eq!(stored(&lab), 0);

    // The lab is killed: nobody is there to end the compilers but the kernel.
    let mut running = start(&lab, "", &args);
    until_it_compiles(&mut running);
    let processes = of_session(running.child.id());
    let folder = build_folder(running.child.id()).unwrap();
    let compilers = processes.iter().filter(|process| process.name == "cc1");
    assert!(compilers.count() > 0, "{processes:#?}");
    running.child.kill().unwrap();
    let killed = Instant::now();
    while processes.iter().any(|process| alive(process.pid)) {
        assert!(killed.elapsed() < Duration::from_secs(5), "{processes:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(running.wait().status.code().is_none());
    assert_eq!(stored(&lab), 0);

    // A killed assembler leaves half an object, which is newer than its source.
    let object = folder.join("out/fs/squashfs/namei.o");
    let half = fs::read(&object).unwrap();
    fs::write(&object, &half[..half.len() / 2]).unwrap();

    // And now to the end; the kernel boots.
    let run = ["run", "-k", SOURCE, "--patch", &patch, "--", "grep squashfs /proc/filesystems"];
    let running = lab.launch(command(&lab, "", &run), Some(tokens(1)), Stdio::null());
    running.patient(PATIENCE).wait().code(0).out("squashfs");
    assert_eq!(stored(&lab), 1);
}

#[test]
fn two_labs_build_the_same_kernel_once() {
    let Some(lab) = builder() else { return };
    let patch = header_patch(&lab);
    let args = ["kernel", "build", SOURCE, "--patch", &patch];
    let both = [start(&lab, "", &args), start(&lab, "", &args)];
    let both = both.map(Running::wait);
    for ran in &both {
        ran.code(0).err("Linux 6.1.");
    }
    let count = |text| both.iter().filter(|ran| ran.stderr.contains(text)).count();
    assert_eq!(count("builds: "), 1, "{}\n{}", both[0], both[1]);
    assert!(count("waits for another lab") >= 1, "{}\n{}", both[0], both[1]);
    assert_eq!(stored(&lab), 1);
}

#[test]
fn the_compilers_words_and_the_log() {
    let Some(lab) = builder() else { return };
    let patch = source_patch(&lab, "#error written by a test");
    let args = ["kernel", "build", SOURCE, "--patch", &patch];
    let ran = start(&lab, "", &args).wait();
    ran.code(3)
        .err("cannot build the kernel")
        .err("xattr.c")
        .err("error: #error written by a test");
    let log = ran.stderr.split("the whole log is ").nth(1).unwrap().lines().next().unwrap();
    assert!(
        fs::read_to_string(log.trim_end_matches(')')).unwrap().contains("#error written by a test")
    );
    assert_eq!(stored(&lab), 0);

    // A compiler that is newer than the source, as far as the lab can tell: it says what GCC 12
    // says of Linux 5.10 with CONFIG_WERROR.
    let real = lab::image::on_host("gcc");
    assert!(real);
    let script = "#!/bin/sh\ncase \" $* \" in *\" -c \"*squashfs/xattr.c*)\n\
        echo 'xattr.c:1:1: error: storing the address [-Werror=dangling-pointer=]' >&2; exit 1;; esac\n\
        exec /usr/bin/gcc \"$@\"\n";
    let tools = lab.folder().join("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(tools.join("gcc"), script).unwrap();
    make_executable(&tools.join("gcc"));
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let unique = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let patch = source_patch(&lab, &format!("/* {unique} */"));
    let args = ["kernel", "build", SOURCE, "--patch", &patch];
    let mut newer = command(&lab, "", &args);
    newer.env("PATH", path);
    let ran = lab.launch(newer, None, Stdio::null()).patient(PATIENCE).wait();
    ran.code(3).err("-Werror=dangling-pointer=").err("--config WERROR=n, or an older compiler");

    // The same patch with the compiler that there is.
    start(&lab, "", &args).wait().code(0);
    assert_eq!(stored(&lab), 1);
}

fn make_executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A Makefile is a program: what it finds behind the walls, and what it would without them.
#[test]
fn what_a_makefile_can_reach() {
    let Some(lab) = builder() else { return };
    let secret = lab.folder().join("secret");
    fs::write(&secret, "a secret of the user\n").unwrap();
    let looks = format!(
        "$(shell cat {} > lab-saw 2>&1; grep -c : /proc/net/dev >> lab-saw; \
         touch $(srctree)/lab-was-here 2>> lab-saw; kill -0 {} 2>> lab-saw)",
        secret.display(),
        std::process::id(),
    );
    let before = [" # Makefile for the linux squashfs routines.", " #", " "];
    let after = [" obj-$(CONFIG_SQUASHFS) += squashfs.o"];
    let patch = patch(&lab, "fs/squashfs/Makefile", &before, &looks, &after);
    let build = |walls: &str| {
        let args = ["kernel", "build", SOURCE, "--patch", &patch, walls];
        let mut running = start(&lab, "", &args);
        until_it_runs(&mut running);
        let folder = build_folder(running.child.id()).unwrap();
        running.wait().code(0);
        let saw = folder.join("out/lab-saw");
        let text = fs::read_to_string(&saw).unwrap();
        fs::remove_file(saw).unwrap();
        (text, fs::remove_file(folder.join("out/source/lab-was-here")).is_ok())
    };
    let (text, wrote) = build("--sandbox=full");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("secret: No such file or directory"), "{text}");
    // The loopback interface of an empty network.
    assert_eq!(lines[1], "1", "{text}");
    assert!(lines[2].ends_with("Read-only file system"), "{text}");
    assert!(lines[3].contains("No such process"), "{text}");
    assert!(!wrote, "{text}");

    // The same without walls finds all that: the look itself is sound.
    fs::remove_dir_all(store(&lab)).unwrap();
    let (text, wrote) = build("--sandbox=off");
    assert!(text.starts_with("a secret of the user\n") && text.lines().count() == 2, "{text}");
    assert!(wrote, "{text}");
}

/// Where namespaces are refused make has no walls, and ends with the lab all the same.
#[test]
fn without_namespaces_a_killed_lab_leaves_no_compiler() {
    let Some(lab) = builder() else { return };
    let patch = header_patch(&lab);
    let args = ["kernel", "build", SOURCE, "--patch", &patch];
    let refused = "echo 0 > /proc/sys/user/max_user_namespaces";
    // Walls that are asked for by name do not come down.
    let ran = start(&lab, refused, &[&args[..], &["--sandbox=full"]].concat()).wait();
    ran.code(3).err("cannot be started behind walls: user namespaces are refused");
    ran.err("--sandbox=off builds without");

    let mut running = start(&lab, refused, &args);
    until_it_compiles(&mut running);
    assert!(running.stderr().contains("make runs without a sandbox"), "{}", running.stderr());
    let processes = of_session(running.child.id());
    running.child.kill().unwrap();
    let killed = Instant::now();
    while processes.iter().any(|process| alive(process.pid)) {
        assert!(killed.elapsed() < Duration::from_secs(5), "{processes:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    lab.nothing_is_left();
}

/// The build folder's contents on a file system that is full once make has begun.
#[test]
fn the_disk_fills_up() {
    let Some(lab) = builder() else { return };
    let patch = header_patch(&lab);
    let args = ["kernel", "build", SOURCE, "--patch", &patch];
    let folder = begun(&lab, &args);

    // tmpfs counts pages: at its fullest, what is there and some more for the configuration.
    let small = lab.folder().join("copy");
    let script = |at_make: &str| {
        format!(
            "[ -e '{copy}' ] || flock '{folder}/lock' cp -a '{folder}' '{copy}'
             mount -t tmpfs -o size=4G,mode=755 lab '{folder}'
             cp -a '{copy}/.' '{folder}'; rm -f '{folder}/log'
             ( for _ in $(seq 20000); do
                   [ -e '{folder}/log' ] && {at_make} && exit; sleep 0.01
               done ) </dev/null >/dev/null 2>&1 &",
            copy = small.display(),
            folder = folder.display(),
        )
    };
    let used = "$(($(df --output=used -B1 . | tail -1) + 1500000))";
    let fill = format!("cd '{}' && mount -o remount,size={used} . 2>/dev/null", folder.display());
    let ran = start(&lab, &script(&fill), &args).wait();
    ran.code(3).err("No space left on device").err("free some room, or point LAB_CACHE");
    assert_eq!(stored(&lab), 0);

    // With room it goes on, from what the full disk left; and again on the disk that had room.
    start(&lab, &script("true"), &args).wait().code(0);
    assert_eq!(stored(&lab), 1);
}

/// The cache under another path, as after a move: nothing of the old path is used.
#[test]
fn a_cache_that_was_moved() {
    let Some(lab) = builder() else { return };
    let patch = header_patch(&lab);
    let args = ["kernel", "build", SOURCE, "--patch", &patch];
    let folder = begun(&lab, &args);
    let name = folder.file_name().unwrap().to_string_lossy();

    let moved = lab.folder().join("moved");
    fs::create_dir(&moved).unwrap();
    let script = format!(
        "mkdir '{copy}'; flock '{folder}/lock' cp -a '{folder}' '{copy}'; rm -f '{copy}/{name}/log'
         mount --rbind '{cache}' '{moved}'; mount --bind '{copy}' '{moved}/builds'
         mount -t tmpfs none '{cache}'; export LAB_CACHE='{moved}'",
        copy = lab.folder().join("builds").display(),
        folder = folder.display(),
        cache = cache().display(),
        moved = moved.display(),
    );
    let mut running = start(&lab, &script, &args);
    let log = lab.folder().join("builds").join(&*name).join("log");
    while fs::read_to_string(&log).unwrap_or_default().matches("  CC ").count() < 4 {
        assert!(running.child.try_wait().unwrap().is_none(), "{}", running.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGINT).unwrap();
    running.wait().code(130);
}
