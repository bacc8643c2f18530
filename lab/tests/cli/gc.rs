//! `lab gc`, and what bounds runs without it: what goes, what stays, and that it is said.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use super::support::{Lab, cache, lab_for};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Makes a file or folder look as if it was last used so long ago.
fn age(path: &Path, days: u32) {
    let at = SystemTime::now() - DAY * days;
    File::open(path).unwrap().set_modified(at).unwrap();
}

/// A finished run of so long ago, as far as gc looks at it.
fn run(lab: &Lab, name: &str, days: u32) -> PathBuf {
    let folder = lab.path(&format!(".lab/runs/{name}"));
    fs::create_dir_all(&folder).unwrap();
    for file in ["lock", "plan.json", "result.json"] {
        fs::write(folder.join(file), "").unwrap();
    }
    age(&folder.join("lock"), days);
    folder
}

fn runs(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.path(".lab/runs")).unwrap().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn runs_beyond_the_bounds_go() {
    let lab = Lab::new();
    let cache = lab.folder().join("cache");
    let lab = lab.env("LAB_CACHE", &cache.to_string_lossy());
    lab.write("lab.toml", "[runs]\nkeep = 3\ndays = 10\n");
    lab.lab(&["gc"]).code(0).out("nothing to free");
    for (name, days) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 40)] {
        run(&lab, name, days);
    }
    let held = File::open(lab.path(".lab/runs/e/lock")).unwrap();
    let held = Flock::lock(held, FlockArg::LockExclusive).map_err(|_| "locked").unwrap();

    let would = lab.lab(&["gc", "--dry-run"]);
    would.code(0).out("run").out("  d  beyond the newest 3").out("would free").not_out("  e  ");
    assert_eq!(runs(&lab), ["a", "b", "c", "d", "e"]);
    let did = lab.lab(&["gc"]);
    did.code(0).out("  d  beyond the newest 3").out("freed 4.0 KiB: 1 run");
    assert_eq!(runs(&lab), ["a", "b", "c", "e"], "e is running");
    drop(held);
    lab.lab(&["gc"]).code(0).out("  e  beyond the newest 3");
    age(&lab.path(".lab/runs/c/lock"), 11);
    lab.lab(&["gc"]).code(0).out("  c  11 days old").not_out("  b  ");
    // The last run stays, however old: lab runs log means it.
    age(&lab.path(".lab/runs/a/lock"), 99);
    age(&lab.path(".lab/runs/b/lock"), 98);
    lab.lab(&["gc"]).code(0).out("  a  99 days old");
    assert_eq!(runs(&lab), ["b"]);
    lab.lab(&["runs", "log", "a"]).code(2).err("there is no run \"a\"").err("[runs] in lab.toml");
}

#[test]
fn a_run_bounds_those_before_it() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.write("lab.toml", "[runs]\nkeep = 2\n");
    for (name, days) in [("20200101-000000-x", 0), ("b", 2), ("c", 3)] {
        run(&lab, name, days);
    }
    // Three of its own, of which none goes.
    lab.boot(&["run", "dm-linear", "-k", "uml-6.1", "--twins", "-j1"]);
    let left = runs(&lab);
    assert!(left.iter().all(|name| name.contains("dm-linear")), "{left:?}");
    let own = left.len();
    assert!(own >= 2, "{left:?}");
    lab.boot(&["run", "--", "true"]).code(0);
    let left = runs(&lab);
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(left.iter().filter(|name| name.contains("command")).count(), 1);
}

/// A cache of this test's own, with copies of kernels from the shared one.
fn with_cache(lab: Lab, kernels: &[&str]) -> (Lab, PathBuf) {
    let own = lab.folder().join("cache");
    for folder in ["kernels/by-spec", "sources"] {
        fs::create_dir_all(own.join(folder)).unwrap();
    }
    let listed = lab.lab(&["kernel", "list", "--json"]).value();
    for name in kernels {
        let found = listed.as_array().unwrap().iter().find(|kernel| kernel["name"] == *name);
        let key = found.unwrap()["key"].as_str().unwrap().to_string();
        let shared = cache().join("kernels");
        let mut from = vec![shared.join(&key)];
        for pointer in fs::read_dir(shared.join("by-spec")).unwrap().flatten() {
            let leads = fs::read_to_string(pointer.path()).is_ok_and(|text| text.contains(&key));
            let (from, to) =
                (pointer.path(), own.join("kernels/by-spec").join(pointer.file_name()));
            if leads {
                fs::copy(from, to).unwrap();
            }
        }
        from.push(own.join("kernels"));
        let copied = Command::new("cp").arg("-a").args(&from).status().unwrap();
        assert!(copied.success());
    }
    let lab = lab.env("LAB_CACHE", &own.to_string_lossy());
    (lab, own)
}

fn images(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.join("images")).unwrap().flatten();
    let mut images: Vec<_> = entries.map(|entry| entry.path()).collect();
    images.retain(|path| path.join("image.cpio").exists());
    images
}

/// Images and kernels: by their last use, and never while they are in use; a kernel that lab.toml
/// names only with --all.
#[test]
fn the_cache_loses_what_is_unused() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let (lab, cache) = with_cache(lab, &["uml-6.1"]);
    let kernel = || {
        let mut entries = fs::read_dir(cache.join("kernels")).unwrap().flatten();
        entries.find(|entry| entry.path().join("boot").exists()).map(|entry| entry.path())
    };
    let lock = kernel().unwrap().join("lock");
    age(&lock, 400);
    lab.boot(&["run", "dm-linear"]).code(0);
    let used = lock.metadata().unwrap().modified().unwrap().elapsed().unwrap();
    assert!(used < DAY, "a run is a use: {used:?}");
    lab.lab(&["gc", "--kernels", "--all"]).code(0).out("nothing to free");

    let image = images(&cache).remove(0);
    age(&image, 29);
    lab.lab(&["gc"]).code(0).out("nothing to free");
    age(&image, 31);
    let in_use = Flock::lock(File::open(&image).unwrap(), FlockArg::LockShared);
    let in_use = in_use.map_err(|_| "locked").unwrap();
    lab.lab(&["gc"]).code(0).out("nothing to free");
    drop(in_use);
    lab.lab(&["gc", "--dry-run"]).code(0).out("unused for 31 days").out("1 image");
    assert!(image.exists());
    lab.lab(&["gc"]).code(0).out("image").out("unused for 31 days").out("freed");
    assert_eq!(images(&cache), [] as [PathBuf; 0]);
    let index = fs::read_dir(cache.join("images/index")).unwrap().flatten();
    let led = index.filter(|entry| entry.path().extension().is_some_and(|end| end == "json"));
    assert_eq!(led.count(), 0, "nothing leads to what is gone");

    // Unused for as long, and lab.toml names it.
    age(&lock, 400);
    age(&kernel().unwrap().join("kernel.json"), 400);
    let record = fs::read_to_string(kernel().unwrap().join("kernel.json")).unwrap();
    let mut entry: serde_json::Value = serde_json::from_str(&record).unwrap();
    entry["made"] = 1.into();
    fs::write(kernel().unwrap().join("kernel.json"), entry.to_string()).unwrap();
    lab.lab(&["gc"]).code(0).out("nothing to free");
    lab.lab(&["gc", "--kernels"]).code(0).out("nothing to free");
    lab.lab(&["gc", "--all"]).code(2).err("--kernels");
    lab.lab(&["gc", "--days", "0"]).code(2);
    let in_use = Flock::lock(File::open(&lock).unwrap(), FlockArg::LockShared);
    let in_use = in_use.map_err(|_| "locked").unwrap();
    lab.lab(&["gc", "--kernels", "--all"]).code(0).out("nothing to free");
    drop(in_use);
    let would = lab.lab(&["gc", "--kernels", "--all", "--dry-run"]);
    would.code(0).out("kernel").out("unused for 400 days, although lab.toml names it");
    lab.lab(&["gc", "--kernels", "--all", "--days", "500"]).code(0).out("nothing to free");
    assert!(kernel().is_some());
    lab.lab(&["gc", "--kernels", "--all"]).code(0).out("freed").out("1 kernel");
    assert!(kernel().is_none());
    assert_eq!(fs::read_dir(cache.join("kernels/by-spec")).unwrap().flatten().count(), 0);
}

/// Another project's kernel, its source and its build folder: they stay while they are used, and go
/// without --all when nobody used them for long.
#[test]
fn another_projects_kernels_go_only_when_unused() {
    let lab = Lab::new();
    let cache = lab.folder().join("cache");
    let lab = lab.env("LAB_CACHE", &cache.to_string_lossy());
    let key = "0123456789abcdef0123456789abcdef";
    let folder = cache.join("kernels").join(key);
    let source = cache.join("sources/linux-6.1-theirs");
    let build = cache.join("builds").join(key);
    let path = cache.join("path").join(key);
    for folder in [&folder, &source, &build, &path] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("lock"), "").unwrap();
    }
    let version = serde_json::json!({ "version": 6, "patchlevel": 1, "sublevel": 0, "extra": "" });
    let origin = serde_json::json!({ "kind": "folder", "path": "/their/linux", "git": null });
    let kernel = serde_json::json!({
        "format": 1, "key": key, "arch": "um", "release": "6.1.0", "libraries": false,
        "modules": false, "bytes": 4096, "made": 1, "files": [],
        "origin": { "provider": "path", "path": "/their/linux", "git": null },
    });
    fs::write(folder.join("kernel.json"), kernel.to_string()).unwrap();
    let record = serde_json::json!({
        "format": 1, "origin": origin, "identity": "x", "version": version,
    });
    fs::write(source.join("source.json"), record.to_string()).unwrap();
    fs::write(cache.join("path/last-x"), key).unwrap();
    // A lab was killed while it unpacked: no record, and a whole tree of room.
    let unpacking = cache.join("sources/linux-6.2-theirs");
    fs::create_dir_all(unpacking.join("unpacking")).unwrap();
    fs::write(unpacking.join("lock"), "").unwrap();
    // A killed lab's work, and another's that is alive.
    let (dead, alive) = (cache.join("sources/.tmp-dead"), cache.join("kernels/.tmp-alive"));
    for folder in [&dead, &alive] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("lock"), "").unwrap();
    }
    let held = Flock::lock(File::open(alive.join("lock")).unwrap(), FlockArg::LockExclusive);
    let held = held.map_err(|_| "locked").unwrap();

    lab.lab(&["gc", "--dry-run"]).code(0).out(".tmp-dead").out("1 half-made folder");
    lab.lab(&["gc"]).code(0).out(".tmp-dead  left by a killed lab").not_out(".tmp-alive");
    assert!(!dead.exists() && alive.exists());
    lab.lab(&["gc", "--kernels", "--all"]).code(0).out("nothing to free");
    drop(held);
    fs::remove_dir_all(&alive).unwrap();

    age(&folder.join("lock"), 31);
    age(&source.join("source.json"), 31);
    age(&build.join("lock"), 31);
    age(&path.join("lock"), 31);
    lab.lab(&["gc"]).code(0).out("nothing to free");
    let in_use = Flock::lock(File::open(source.join("lock")).unwrap(), FlockArg::LockExclusive);
    let in_use = in_use.map_err(|_| "locked").unwrap();
    let did = lab.lab(&["gc", "--kernels"]);
    did.code(0).out("Linux 6.1.0").out("unused for 31 days").not_out("/their/linux (not git)  u");
    did.out("1 kernel, 1 build folder, 1 path folder");
    assert!(unpacking.exists(), "it is of today");
    for part in ["unpacking", "lock"] {
        age(&unpacking.join(part), 31);
    }
    lab.lab(&["gc", "--kernels"]).code(0).out("not made to its end").out("1 source");
    assert!(!unpacking.exists());
    assert!(source.exists() && !folder.exists() && !build.exists() && !path.exists());
    drop(in_use);
    lab.lab(&["gc", "--kernels"]).code(0).out("source").out("/their/linux").out("1 source");
    let left = |room: &str| fs::read_dir(cache.join(room)).unwrap().flatten().count();
    assert_eq!((left("sources"), left("builds"), left("path")), (2, 0, 0));
}

/// What cannot be removed is said, and the rest goes all the same.
#[test]
fn a_run_that_cannot_be_removed() {
    let lab = Lab::new();
    let cache = lab.folder().join("cache");
    let lab = lab.env("LAB_CACHE", &cache.to_string_lossy());
    lab.write("lab.toml", "[runs]\nkeep = 1\n");
    let stuck = run(&lab, "stuck", 5);
    run(&lab, "b", 4);
    run(&lab, "c", 3);
    // In the way of the folder's other name; a mount would do the same to the folder itself.
    fs::write(lab.path(".lab/runs/.gone-stuck"), "").unwrap();
    let ran = lab.lab(&["gc"]);
    ran.code(3).out("  b  beyond").err("cannot remove").err("stuck");
    assert!(stuck.join("plan.json").exists());
}
