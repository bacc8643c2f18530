//! What a host may lack: a network, programs, memory. (Namespaces: see `isolation`.) Each is said in one paragraph
//! with the way out, is exit code 3, and leaves nothing behind.

use super::support::{Lab, lab_for};

const STEP: &str = "[[step]]\nrun = \"true\"\n";

/// Folders of the cache that are half-written, or finished where nothing should be.
fn written(lab: &Lab) -> Vec<String> {
    // The cache's rooms, empty.
    let rooms = ["kernels", "images", "by-spec", ".gate", "sources", "debian", "tarballs", "path"];
    let mut found = Vec::new();
    let mut folders = vec![lab.folder().join("cache")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Locks stay: removing one while another lab waits for it would give both the right.
            if entry.path().is_dir() && name != "by-spec" {
                folders.push(entry.path());
            }
            if !rooms.contains(&name.as_str()) && !name.ends_with(".lock") {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn no_network_for_a_pull() {
    let Some(lab) = lab_for(&[]) else { return };
    let cache = lab.folder().join("cache");
    let lab = lab.env("LAB_CACHE", &cache.to_string_lossy());
    lab.write("lab.toml", "[debian]\nmirror = \"http://127.0.0.1:1/debian\"\n");
    let says = [
        "cannot fetch the suite bookworm from http://127.0.0.1:1/debian",
        "check the network",
        "[debian] mirror",
    ];
    let ran = lab.lab(&["run", "dm-linear"]);
    ran.code(3).out("broken dm-linear");
    for text in says {
        ran.out(text);
    }
    for args in [&["kernel", "pull"][..], &["shell"]] {
        let ran = lab.lab(args);
        ran.code(3);
        for text in says {
            ran.err(text);
        }
    }
    assert_eq!(written(&lab), [] as [&str; 0]);
    assert!(lab.files(".snap.new").is_empty());
}

/// A program that no package has, and one whose package is known and not installed.
#[test]
fn programs_that_are_not_here() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("odd", &format!("[needs]\nprograms = [\"mkfs.lab-nonesuch\"]\n{STEP}"));
    let ran = lab.boot(&["run", "odd"]);
    ran.code(3).out("broken odd").out("not found on this host: the program mkfs.lab-nonesuch");
    ran.out("apt-file search");

    let packages = [("mkfs.btrfs", "btrfs-progs"), ("mkfs.xfs", "xfsprogs"), ("mdadm", "mdadm")];
    let missing = packages.iter().find(|(program, _)| !lab::image::on_host(program));
    let Some((program, package)) = missing else {
        return super::support::skip("this host has every program that could be missing");
    };
    lab.case("odd", &format!("[needs]\nprograms = [\"{program}\"]\n{STEP}"));
    let ran = lab.boot(&["run", "odd"]);
    ran.code(3).out(&format!("the program {program}")).out(&format!("apt install {package}"));
    let ran = lab.lab(&["shell", "odd"]);
    ran.code(3).err(program).err(&format!("apt install {package}"));
    assert!(lab.files(".snap.new").is_empty());
}

#[test]
fn no_room_for_the_guests_memory() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.case("huge", &format!("[machine]\nmemory = \"900G\"\n{STEP}"));
    let ran = lab.boot(&["run", "huge"]);
    ran.code(3).out("broken huge").out("no room for the guest's memory: it wants 921600 MiB");
    ran.out("lower [machine] memory");
    let ran = lab.lab(&["shell", "huge"]);
    ran.code(3).err("no room for the guest's memory").err("lower [machine] memory");
    // With others beside it: they run.
    let ran = lab.start_two(&["run", "huge", "dm-linear"]).wait();
    ran.code(3).out("2 runs: 1 broken, 1 pass");
}
