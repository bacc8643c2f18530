//! Faults of the host that are neither the machine's nor a full disk: folders that cannot be
//! written, damaged files, a clock that jumps, another lab.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::guest::{GUEST, Guest};
use crate::machine::SLEEPS;
use crate::row::Seen;
use crate::scene::{CASE, Scene, seen};
use crate::support::{Ran, cache, tokens};

/// Fails by a status, as it must whatever happens beside it.
const FAILS: Guest = Guest { fault: "sleep 1; (exit 3)", twin: "sleep 1; (exit 0)", ..GUEST };

/// The shared cache, read-only; its kernel is there, the image of this case is not.
pub fn cache_read_only(scene: &Scene) -> Seen {
    let cache = cache();
    let shared = cache.to_str().unwrap();
    let read_only = format!("mount --bind {shared} {shared}; mount -o remount,ro,bind {shared}");
    // Twice with the image of the twin, which is there then.
    scene.case_with_twin(&SLEEPS.text(false), &SLEEPS.text(false));
    scene.run_after(&read_only, &scene.args()).code(0);
    scene.lab.write(&format!("cases/{CASE}/new"), &format!("{:?}", scene.lab.folder()));
    seen(&scene.run_after(&read_only, &scene.args()))
}

pub fn no_temporary_folder(scene: &Scene) -> Seen {
    scene.case_with_twin(&SLEEPS.text(false), &SLEEPS.text(false));
    seen(&with(scene, "TMPDIR", Path::new("/proc/no-such-folder")))
}

pub fn no_cache(scene: &Scene) -> Seen {
    scene.case_with_twin(&SLEEPS.text(false), &SLEEPS.text(false));
    seen(&with(scene, "LAB_CACHE", Path::new("/proc/no-such-folder")))
}

/// In a read-only cache it cannot be made anew; in any other it is, and the run is none the worse.
pub fn image_truncated(scene: &Scene) -> Seen {
    scene.case_with_twin(&SLEEPS.text(false), &SLEEPS.text(false));
    let own = own_cache(scene);
    std::os::unix::fs::symlink(cache().join("kernels"), own.join("kernels")).unwrap();
    with(scene, "LAB_CACHE", &own).code(0);
    let images: Vec<_> = fs::read_dir(own.join("images")).unwrap().flatten().collect();
    let image = images.iter().map(|i| i.path().join("image.cpio")).find(|i| i.exists()).unwrap();
    let whole = image.metadata().unwrap().len();
    truncate(&image, whole / 2);
    let prepare = format!(
        "export LAB_CACHE={0}; mount --bind {0}/images {0}/images; \
         mount -o remount,ro,bind {0}/images",
        own.display()
    );
    let seen = seen(&scene.run_after(&prepare, &scene.args()));
    assert_eq!(image.metadata().unwrap().len(), whole / 2);
    with(scene, "LAB_CACHE", &own).code(0);
    assert_eq!(image.metadata().unwrap().len(), whole);
    seen
}

/// Of Debian's, with a mirror out of reach: it is not run, and cannot be fetched again.
pub fn stored_kernel_truncated(scene: &Scene) -> Seen {
    scene.case_with_twin(&SLEEPS.text(false), &SLEEPS.text(false));
    let own = own_cache(scene);
    let boot = boot_file(scene);
    let kernels = boot.parent().unwrap().parent().unwrap();
    fs::create_dir(own.join("kernels")).unwrap();
    for item in [boot.parent().unwrap(), &kernels.join("by-spec")] {
        let copied = Command::new("cp").arg("-a").arg(item).arg(own.join("kernels")).status();
        assert!(copied.unwrap().success());
    }
    scene.lab.write("lab.toml", "[debian]\nmirror = \"http://127.0.0.1:1/debian\"\n");
    with(scene, "LAB_CACHE", &own).code(0);
    let copy = own.join("kernels").join(boot.strip_prefix(kernels).unwrap());
    truncate(&copy, copy.metadata().unwrap().len() / 2);
    seen(&with(scene, "LAB_CACHE", &own))
}

/// Of the user's.
pub fn given_kernel_truncated(scene: &Scene) -> Seen {
    let copy = scene.lab.path("kernel");
    fs::copy(boot_file(scene), &copy).unwrap();
    let args = ["run", "-k", "path:kernel", "--json", "--", "true"];
    scene.lab.boot(&args).code(0);
    truncate(&copy, copy.metadata().unwrap().len() / 2);
    seen(&scene.lab.boot(&args))
}

fn damaged_snapshot(scene: &Scene, damage: impl FnOnce(String) -> String) -> Seen {
    scene.case_with_twin(&SLEEPS.text(false), &SLEEPS.text(false));
    let name = format!("cases/{CASE}/snapshots/transcript.snap");
    scene.lab.write(&name, &damage(scene.lab.read(&name)));
    let seen = seen(&scene.run());
    let kept = seen.code == "fail:output";
    assert_eq!(scene.lab.files(".snap.new").is_empty(), !kept);
    seen
}

pub fn snapshot_cut_in_its_header(scene: &Scene) -> Seen {
    damaged_snapshot(scene, |text| text[..20].to_string())
}

pub fn snapshot_cut_in_its_body(scene: &Scene) -> Seen {
    damaged_snapshot(scene, |text| text.replace("$ echo after\nafter\n", ""))
}

pub fn snapshot_cut_in_its_last_line(scene: &Scene) -> Seen {
    damaged_snapshot(scene, |text| text[..text.len() - 3].to_string())
}

/// Every look at the wall clock shows another day; the lab's deadlines do not look at it.
pub fn wall_clock_jumps(scene: &Scene) -> Seen {
    let library = jumping_clock(scene);
    scene.case_with_twin(&FAILS.text(true), &FAILS.text(false));
    scene.case(&FAILS.text(false));
    let twin = with(scene, "LD_PRELOAD", &library);
    twin.code(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(twin.result().at.abs_diff(now) > 1_000_000, "the clock did not jump: {twin}");
    scene.case(&FAILS.text(true));
    seen(&with(scene, "LD_PRELOAD", &library))
}

/// clock_gettime(2) of the wall clock, a year back and a year ahead in turn.
fn jumping_clock(scene: &Scene) -> PathBuf {
    let source = r#"
        #include <sys/syscall.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t id, struct timespec *at) {
            static int looks;
            int result = syscall(SYS_clock_gettime, id, at);
            if (id == CLOCK_REALTIME)
                at->tv_sec += __sync_fetch_and_add(&looks, 1) % 2 ? 31536000 : -31536000;
            return result;
        }
    "#;
    let (file, library) = (scene.lab.folder().join("clock.c"), scene.lab.folder().join("clock.so"));
    fs::write(&file, source).unwrap();
    let args = ["-shared", "-fPIC", "-o"];
    let made = Command::new("cc").args(args).args([&library, &file]).status();
    assert!(made.unwrap().success());
    library
}

/// Two labs run cases of one project at once and make their image at once: each has its own verdict.
pub fn another_lab(scene: &Scene) -> Seen {
    scene.case_with_twin(&FAILS.text(true), &FAILS.text(false));
    let own = own_cache(scene);
    std::os::unix::fs::symlink(cache().join("kernels"), own.join("kernels")).unwrap();
    let cases = scene.lab.path("cases");
    let copied =
        Command::new("cp").arg("-a").arg(cases.join(CASE)).arg(cases.join("other")).status();
    assert!(copied.unwrap().success());
    scene.lab.case("other", &FAILS.text(false));
    let command = |case: &str| {
        let mut command = scene.lab.command(&["run", case, "-k", scene.kernel, "--json"]);
        command.env("LAB_CACHE", &own);
        command
    };
    let first = scene.lab.launch(command(CASE), Some(tokens(2)), Stdio::null());
    let second = scene.lab.launch(command("other"), None, Stdio::null());
    let other = second.wait();
    other.code(0);
    assert_eq!(other.result().code, "pass", "{other}");
    seen(&first.wait())
}

/// Runs the case with another environment.
fn with(scene: &Scene, variable: &str, value: &Path) -> Ran {
    let mut command = scene.lab.command(&scene.args());
    command.env(variable, value);
    scene.lab.launch(command, Some(tokens(1)), Stdio::null()).wait()
}

fn own_cache(scene: &Scene) -> PathBuf {
    let own = scene.lab.folder().join("cache");
    fs::create_dir_all(own.join("images")).unwrap();
    own
}

/// The kernel's, in the shared cache.
fn boot_file(scene: &Scene) -> PathBuf {
    let listed = scene.lab.lab(&["kernel", "list", "--json"]).value();
    let mut kernels = listed.as_array().unwrap().iter();
    let kernel = kernels.find(|kernel| kernel["name"] == scene.kernel).unwrap();
    kernel["boot"].as_str().unwrap().into()
}

fn truncate(file: &Path, length: u64) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
    File::options().write(true).open(file).unwrap().set_len(length).unwrap();
}
