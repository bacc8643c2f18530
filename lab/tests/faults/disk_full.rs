//! The host's disk is full, at each write that a run makes: a folder of the lab lies on a tmpfs of
//! its own, in a mount namespace that ends with the lab, with a little more room each time until the
//! run passes. Short of that every run must be broken and say why.

use crate::guest::{GUEST, Guest};
use crate::row::{Seen, count_twin};
use crate::scene::{CASE, Scene, seen};
use crate::support::cache;

const NO_ROOM: &str = "No space left on device";

/// Options of a tmpfs with so much of what is scarce.
type Scarce = fn(usize) -> String;

fn pages(n: usize) -> String {
    format!("size={}k", 4 * n)
}

fn mebibytes(n: usize) -> String {
    format!("size={n}m")
}

/// The folder itself is the first.
fn files(n: usize) -> String {
    format!("nr_inodes={n}")
}

/// Runs with more and more room in `folder` until a run passes; what the one before that ended in.
/// With fewer than `least` that were broken, something was not written there.
fn sweep(scene: &Scene, folder: &str, scarce: Scarce, least: usize) -> Seen {
    std::fs::create_dir_all(scene.lab.path(folder)).unwrap();
    let own = scene.lab.folder().join("cache");
    let cache = if own.exists() { own } else { cache() };
    let mut last = None;
    for n in 1..100 {
        let prepare = format!(
            "export LAB_CACHE={}; mount -t tmpfs -o {} none {folder}",
            cache.display(),
            scarce(n)
        );
        let ran = scene.run_after(&prepare, &["run", "-k", scene.kernel, "--json", "--", "true"]);
        let seen = seen(&ran);
        if seen.code == "pass" {
            ran.code(0);
            assert!(n > least, "{folder}: {n} is enough already");
            count_twin();
            return last.expect("there was one before");
        }
        ran.code(3);
        assert!(seen.code.starts_with("broken:") && seen.says.contains(NO_ROOM), "{n}: {ran}");
        last = Some(seen);
    }
    panic!("{folder}: it never passes: {last:?}");
}

pub fn run_folder_pages(scene: &Scene) -> Seen {
    sweep(scene, ".lab", pages, 6)
}

pub fn run_folder_files(scene: &Scene) -> Seen {
    sweep(scene, ".lab", files, 10)
}

pub fn temporary_files(scene: &Scene) -> Seen {
    sweep(scene, "../tmp", files, 2)
}

pub fn image_mebibytes(scene: &Scene) -> Seen {
    own_cache(scene);
    sweep(scene, "../cache/images", mebibytes, 8)
}

pub fn image_files(scene: &Scene) -> Seen {
    own_cache(scene);
    sweep(scene, "../cache/images", files, 4)
}

/// With the kernels of the shared one, and no images.
fn own_cache(scene: &Scene) {
    let own = scene.lab.folder().join("cache");
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::symlink(cache().join("kernels"), own.join("kernels")).unwrap();
}

/// The guest's disks are sparse files: what the host cannot store is not the guest's failure.
pub fn disks(scene: &Scene) -> Seen {
    const WRITES: Guest = Guest {
        machine: "disks = [{ name = \"a\", size = \"64M\" }]",
        fault: "dd if=/dev/zero of=/dev/lab/a bs=1M count=32 oflag=direct 2> /dev/null",
        twin: "dd if=/dev/zero of=/dev/lab/a bs=1M count=32 oflag=direct 2> /dev/null",
        ..GUEST
    };
    scene.case_with_twin(&WRITES.text(false), &WRITES.text(false));
    // Enough to begin with.
    seen(&scene.run_after("mkdir .lab; mount -t tmpfs -o size=20m none .lab", &scene.args()))
}

/// A transcript that cannot be left for review: the verdict stands, and it is said.
pub fn pending_snapshot(scene: &Scene) -> Seen {
    let folder = format!("cases/{CASE}/snapshots");
    scene.case(&GUEST.text(false));
    std::fs::create_dir(scene.lab.path(&folder)).unwrap();
    let full = format!("mount -t tmpfs -o nr_inodes=1 none {folder}");
    let ran = scene.run_after(&full, &scene.args());
    ran.out("could not be left for review").out(NO_ROOM);
    seen(&ran)
}
