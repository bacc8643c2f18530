//! `lab runs bundle`: what one person saw, another can do again from the archive alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{Lab, lab_for, tokens};

/// Unpacks an archive into the project of a lab that has nothing: no case, no kernel, no cache.
fn unpacked(archive: &Path) -> (Lab, PathBuf) {
    let lab = Lab::new();
    fs::remove_file(lab.path("lab.toml")).unwrap();
    let unpack = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(lab.project()).status();
    assert!(unpack.unwrap().success());
    let mut entries = fs::read_dir(lab.project()).unwrap().flatten();
    let only = entries.next().unwrap().path();
    assert!(entries.next().is_none(), "one folder");
    let cache = lab.folder().join("cache");
    // Nothing can be fetched: what runs is what the archive brought along.
    let lab =
        lab.env("LAB_CACHE", &cache.to_string_lossy()).env("http_proxy", "http://127.0.0.1:1");
    (lab, only)
}

fn in_folder<'a>(folder: &'a Path, args: &[&'a str]) -> Vec<&'a str> {
    [&["-C", folder.to_str().unwrap()], args].concat()
}

/// Text of all our own records in an unpacked bundle; what the guest printed aside.
fn records(folder: &Path) -> String {
    let run = fs::read_link(folder.join("run")).unwrap();
    let run = folder.join(run);
    let files =
        ["README.txt", "host.json", "image.json", "kernel/kernel.json"].map(|f| folder.join(f));
    let more = ["plan.json", "result.json"].map(|f| run.join(f));
    files.iter().chain(&more).map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
}

#[test]
fn a_bundle_runs_to_the_same_verdict_elsewhere() {
    let Some(lab) = lab_for(&["uml-5.10"]) else { return };
    let lab = lab.env("SECRET_TOKEN", "hunter2-hunter2");
    fs::write(lab.path("cases/hostfs-file-dentry/.env"), "PASSWORD=hunter2-hunter2").unwrap();
    let case = "hostfs-file-dentry";
    let seen = lab.boot(&["run", case, "-k", "uml-5.10", "--json"]).result();
    assert_eq!((seen.code.as_str(), seen.outcome.name()), ("fail:status", "known"));
    let bundled = lab.lab(&["runs", "bundle", "--kernel", "-o", "b.tar.gz"]);
    bundled.code(0).out("b.tar.gz: ");
    assert_eq!(bundled.stderr, "");

    let (there, folder) = unpacked(&lab.path("b.tar.gz"));
    let text = records(&folder);
    for name in [lab.folder(), Path::new("hunter2")] {
        assert!(!text.contains(name.to_str().unwrap()), "{} in {text}", name.display());
    }
    let names = there.files("");
    assert!(names.iter().all(|name| !name.contains(".env")), "{names:?}");
    for part in ["kernel/boot", "image.json", "transcript.known.snap", "/evidence.json", "lab.toml"]
    {
        assert!(names.iter().any(|name| name.ends_with(part)), "no {part} in {names:?}");
    }
    let readme = fs::read_to_string(folder.join("README.txt")).unwrap();
    assert!(readme.contains(&format!("lab run {case} -k path:kernel")), "{readme}");
    assert!(readme.contains("fail:status") && readme.contains("lab runs again"), "{readme}");
    let image = fs::read_to_string(folder.join("image.json")).unwrap();
    assert!(image.contains("\"package\": \"coreutils\""), "{image}");

    // As the README says, with the reason that lab.toml has for it, and held against the snapshots.
    there.lab(&in_folder(&folder, &["runs", "log"])).code(0).out("fail:status");
    let again = there.boot(&in_folder(&folder, &["runs", "again", "--json"]));
    assert_eq!(again.stderr, "", "it is the same kernel");
    let again = again.code(0).result();
    assert_eq!((again.code, again.outcome), (seen.code.clone(), seen.outcome));
    assert_eq!((again.signature, again.release), (seen.signature.clone(), seen.release.clone()));
    let by_path = ["run", case, "-k", "path:kernel", "--json"];
    let by_path = there.boot(&in_folder(&folder, &by_path)).result();
    assert_eq!((by_path.code, by_path.outcome), (seen.code, seen.outcome));
    assert_eq!(by_path.signature, seen.signature);

    // A kernel that was changed on the way is not taken for the one that was packed.
    fs::write(folder.join("kernel/config"), "CONFIG_UML=y\n").unwrap();
    let damaged = there.lab(&in_folder(&folder, &["run", case, "-k", "path:kernel"]));
    damaged.code(3).err("is damaged").err("unpack the archive again");
}

/// Without the kernel, of one command, and of a run whose lab was killed.
#[test]
fn commands_and_interrupted_runs() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.boot(&["run", "--", "echo hello; exit 3"]).code(3);
    let bundled = lab.lab(&["runs", "bundle"]);
    bundled.code(0).out("command@uml-6.1.tar");
    let archive = lab.path(bundled.stdout.split(": ").next().unwrap());
    let (there, folder) = unpacked(&archive);
    assert!(!folder.join("kernel").exists() && !folder.join("cases").exists());
    there.lab(&in_folder(&folder, &["runs", "log"])).code(0).out("hello").out("broken:shell-gone");
    let readme = fs::read_to_string(folder.join("README.txt")).unwrap();
    assert!(readme.contains("fetched from Debian") && !readme.contains("-k "), "{readme}");

    lab.case("sleeps", "[[step]]\nrun = \"sleep 1000\"\n");
    let mut running = lab.start(&["run", "sleeps", "--json"]);
    running.until("\"title\":\"sleep 1000\"");
    let refused = lab.lab(&["runs", "bundle", "sleeps"]);
    refused.code(2).err("is still running").err("wait for its end");
    running.child.kill().unwrap();
    let _ = running.wait();
    lab.edit("cases/sleeps/case.toml", "1000", "1001");
    let bundled = lab.lab(&["runs", "bundle", "sleeps", "-o", "i.tar"]);
    bundled.code(0).err("case.toml has changed since the run");
    let (there, folder) = unpacked(&lab.path("i.tar"));
    there.lab(&in_folder(&folder, &["runs"])).code(0).out("interrupted");
    assert!(
        fs::read_to_string(folder.join("README.txt")).unwrap().contains("interrupted: the lab")
    );
    lab.lab(&["gc"]).code(0).out("1 scratch folder");
}

#[test]
fn what_cannot_be_bundled() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.lab(&["runs", "bundle"]).code(2).err("there is no run yet");
    lab.boot(&["run", "dm-linear"]).code(0);
    let bundle = |args: &[&str]| lab.lab(&[&["runs", "bundle"], args].concat());
    bundle(&["nonesuch"]).code(2).err("there is no run \"nonesuch\"").err("lab runs list");
    bundle(&["-o", "a.zip"]).code(2).err("a.zip is not the name of an archive").err(".tar.zst");
    bundle(&["-o", "no/a.tar"]).code(2).err("there is no folder no").err("-o");
    lab.write("a.tar", "mine");
    bundle(&["-o", "a.tar"]).code(2).err("a.tar is there already").err("-o");
    assert_eq!(lab.read("a.tar"), "mine");
    bundle(&["-o", "/proc/a.tar"]).code(3).err("/proc/a.tar");

    // A file system that is too small for it, first for the archive, then for what it is made of.
    for (small, args) in [("out", "-o out/b.tar"), ("tmp2", "-o b.tar")] {
        let script = format!(
            "mkdir -p {small} && mount -t tmpfs -o size=64k none {small} && \
             export TMPDIR=$(test {small} = tmp2 && echo $PWD/tmp2 || echo $TMPDIR) && \
             $0 runs bundle --kernel {args}; code=$?; ls -A {small}; exit $code"
        );
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script, super::support::LAB]);
        lab.settle(&mut command);
        let ran = lab.launch(command, Some(tokens(1)), Stdio::null()).wait();
        ran.code(3);
        let full = ["the disk is full", "No space left on device"];
        assert!(full.iter().any(|words| ran.stderr.contains(words)), "{ran}");
        assert!(ran.stderr.contains("free some room"), "{ran}");
        assert_eq!(ran.stdout, "", "nothing half-written is left");
        assert!(!lab.path("b.tar").exists());
    }
}

/// Ctrl-C leaves neither an archive nor a process.
#[test]
fn an_interrupted_bundle() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.boot(&["run", "dm-linear"]).code(0);
    // A compressor that takes its time.
    let bin = lab.folder().join("home");
    fs::write(bin.join("xz"), "#!/bin/sh\nsleep 1000\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bin.join("xz"), mode).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = lab.command(&["runs", "bundle", "-o", "b.tar.xz"]);
    command.env("PATH", path);
    let running = lab.launch(command, None, Stdio::null());
    let part = || {
        let names = lab.files("");
        names.into_iter().any(|name| name.starts_with(".lab-bundle-"))
    };
    let begun = std::time::Instant::now();
    while !part() {
        assert!(begun.elapsed().as_secs() < 60);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    kill(Pid::from_raw(running.child.id().cast_signed()), Signal::SIGINT).unwrap();
    running.wait().code(130);
    assert!(!part() && !lab.path("b.tar.xz").exists());
    lab.nothing_is_left();
}
