//! Images assembled for real, from this host's programs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::manifest::ImageFile;

/// images/base.toml, read with as little as possible of the manifest module.
fn base() -> ImageSpec {
    let mut table: toml::Table = include_str!("../../../images/base.toml").parse().unwrap();
    table.insert("name".into(), "base".into());
    for (key, empty) in [("files", "[]"), ("texts", "{}"), ("optional", "[]")] {
        if !table.contains_key(key) {
            let value: toml::Table = format!("v = {empty}").parse().unwrap();
            table.insert(key.into(), value["v"].clone());
        }
    }
    table.try_into().unwrap()
}

fn tiny() -> ImageSpec {
    ImageSpec {
        name: "tiny".into(),
        summary: String::new(),
        shell: "dash".into(),
        programs: vec!["cat".into()],
        optional: vec![],
        files: vec![],
        texts: BTreeMap::new(),
    }
}

fn programs(names: &[&str]) -> Extra {
    Extra { programs: names.iter().map(|n| (*n).to_string()).collect(), ..Extra::default() }
}

/// Mode and data of each entry.
fn unpack(image: &Image) -> BTreeMap<String, (u32, Vec<u8>)> {
    let archive = fs::read(&image.cpio).unwrap();
    let mut rest = &archive[..];
    let mut entries = BTreeMap::new();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        let (name, mode) = (reader.entry().name().to_string(), reader.entry().mode());
        if reader.entry().is_trailer() {
            return entries;
        }
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        rest = reader.finish().unwrap();
        assert!(entries.insert(name, (mode, data)).is_none());
    }
}

fn link(entries: &BTreeMap<String, (u32, Vec<u8>)>, path: &str) -> String {
    let (mode, data) = entries.get(path).unwrap_or_else(|| panic!("{path} is in the image"));
    assert_eq!(mode & 0o170_000, 0o120_000, "{path}");
    String::from_utf8(data.clone()).unwrap()
}

/// Files of a test are younger than [`stamp`] trusts.
fn settle() {
    std::thread::sleep(Duration::from_millis(60));
}

#[test]
fn the_base_image_has_what_it_promises() {
    let cache = tempfile::tempdir().unwrap();
    let image = assemble(&base(), &programs(&["mkfs.ext4", "dmsetup"]), cache.path()).unwrap();
    let entries = unpack(&image);
    for folder in ["proc", "dev", "sys", "tmp", "run", "mnt", "root", "var", "etc", "case"] {
        assert_eq!(entries[folder].0 & 0o170_000, 0o040_000, "{folder}");
    }
    assert_eq!(entries["dev/console"].0, 0o020_600);
    assert_eq!(entries["init"].1, recipe::INIT);
    assert_eq!(link(&entries, "usr/sbin/modprobe"), "/init");
    assert_eq!(link(&entries, "usr/bin/noise"), "lab-tools");
    assert_eq!(link(&entries, "bin"), "usr/bin");
    assert_eq!(link(&entries, "usr/bin/sh"), "dash");
    assert!(entries.keys().any(|path| path.contains("ld-linux") || path.contains("ld-musl")));
    assert!(!entries.keys().any(|p| p.contains("/locale/") || p.contains("gconv")));
    let (package, version) = image.package_of("mkfs.ext4").expect("of a package");
    assert_eq!(package, "e2fsprogs");
    assert!(version.starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(image.package_of("noise"), Some(("lab", env!("CARGO_PKG_VERSION"))));
    assert_eq!(image.package_of("no-such-program"), None);
}

#[test]
fn the_same_request_gives_the_same_bytes_from_everywhere() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = assemble(&base(), &Extra::default(), here.path()).unwrap();
    // Another process in another folder: the current folder is all threads' of this one.
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "image::tests::assemble_for_another_test", "--ignored"])
        .current_dir("/")
        .env(OTHER_CACHE, there.path())
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let other = there.path().join("images").join(&image.digest).join("image.cpio");
    assert_eq!(fs::read(&image.cpio).unwrap(), fs::read(other).unwrap());
}

const OTHER_CACHE: &str = "LAB_TEST_OTHER_CACHE";

#[test]
#[ignore = "run by the_same_request_gives_the_same_bytes_from_everywhere"]
fn assemble_for_another_test() {
    let Some(cache) = std::env::var_os(OTHER_CACHE) else { return };
    assemble(&base(), &Extra::default(), Path::new(&cache)).unwrap();
}

#[test]
fn an_unchanged_request_reads_nothing_and_is_fast() {
    let cache = tempfile::tempdir().unwrap();
    let (spec, extra) = (base(), programs(&["dmsetup"]));
    let built = assemble(&spec, &extra, cache.path()).unwrap();
    let before = fs::metadata(&built.cpio).unwrap().modified().unwrap();
    let fastest = (0..20)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(assemble(&spec, &extra, cache.path()).unwrap().digest, built.digest);
            start.elapsed()
        })
        .min()
        .unwrap();
    assert_eq!(fs::metadata(&built.cpio).unwrap().modified().unwrap(), before);
    // 2 ms is the budget of the release build.
    let budget = Duration::from_millis(if cfg!(debug_assertions) { 6 } else { 2 });
    assert!(fastest < budget, "{fastest:?}");
}

#[test]
fn a_changed_input_makes_another_image() {
    let (cache, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = host.path().join("data");
    fs::write(&file, "one").unwrap();
    let link = host.path().join("link");
    symlink("data", &link).unwrap();
    settle();
    let extra =
        Extra { files: [("/case/data".to_string(), link.clone())].into(), ..Extra::default() };
    let data = || {
        let image = assemble(&tiny(), &extra, cache.path()).unwrap();
        String::from_utf8(unpack(&image)["case/data"].1.clone()).unwrap()
    };
    assert_eq!(data(), "one");
    assert_eq!(data(), "one");
    fs::write(&file, "two").unwrap();
    assert_eq!(data(), "two");
    // At once, without a pause: the stamps alone could not tell.
    fs::write(&file, "six").unwrap();
    assert_eq!(data(), "six");
    settle();
    assert_eq!(data(), "six");
    fs::write(host.path().join("other"), "ten").unwrap();
    fs::remove_file(&link).unwrap();
    symlink("other", &link).unwrap();
    assert_eq!(data(), "ten");
}

#[test]
fn a_program_that_appears_earlier_on_the_path_is_seen() {
    let (cache, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let search = SearchPath::of(bin.path().as_os_str());
    let mut spec = tiny();
    spec.optional = vec!["lab-test-optional".into()];
    let image = assemble_from(&spec, &Extra::default(), cache.path(), &search).unwrap();
    assert!(!unpack(&image).keys().any(|path| path.ends_with("lab-test-optional")));
    for name in ["cat", "lab-test-optional"] {
        fs::write(bin.path().join(name), "#!/bin/sh\necho mine\n").unwrap();
        fs::set_permissions(bin.path().join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let image = assemble_from(&spec, &Extra::default(), cache.path(), &search).unwrap();
    let entries = unpack(&image);
    let place = bin.path().canonicalize().unwrap();
    for name in ["cat", "lab-test-optional"] {
        // At its own path, and by its name on the guest's PATH, where /usr/bin/cat is not.
        let target = place.join(name).to_str().unwrap().to_string();
        assert_eq!(link(&entries, &format!("usr/local/sbin/{name}")), target);
        assert_eq!(entries[&target[1..]].1, b"#!/bin/sh\necho mine\n");
    }
    assert_eq!(image.package_of("cat"), None);
}

#[test]
fn a_damaged_image_is_built_again() {
    let cache = tempfile::tempdir().unwrap();
    let image = assemble(&tiny(), &Extra::default(), cache.path()).unwrap();
    let whole = fs::read(&image.cpio).unwrap();
    let folder = image.cpio.parent().unwrap();
    for damage in ["cut", "json", "gone"] {
        match damage {
            "cut" => {
                fs::set_permissions(&image.cpio, PermissionsExt::from_mode(0o644)).unwrap();
                fs::write(&image.cpio, &whole[..1000]).unwrap();
            }
            "json" => fs::write(folder.join("image.json"), "{").unwrap(),
            _ => fs::remove_dir_all(folder).unwrap(),
        }
        let again = assemble(&tiny(), &Extra::default(), cache.path()).unwrap();
        assert_eq!(again.digest, image.digest, "{damage}");
        assert_eq!(fs::read(&again.cpio).unwrap(), whole, "{damage}");
    }
    let leftovers = fs::read_dir(cache.path().join("images")).unwrap().flatten();
    let leftovers = leftovers.filter(|e| e.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn builders_of_the_same_image_do_not_meet() {
    let cache = tempfile::tempdir().unwrap();
    let digests: Vec<String> = std::thread::scope(|scope| {
        let build = || assemble(&tiny(), &Extra::default(), cache.path()).unwrap().digest;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[test]
fn folders_scripts_and_texts() {
    let (cache, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(host.path().join("sub")).unwrap();
    fs::write(host.path().join("sub/plain"), "text").unwrap();
    symlink("sub/plain", host.path().join("alias")).unwrap();
    let script = host.path().join("run.sh");
    fs::write(&script, "#!/usr/bin/env cmp\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o775)).unwrap();
    let mut spec = tiny();
    spec.texts = [("/etc/hosts".to_string(), "none\n".to_string())].into();
    spec.files = vec![ImageFile { host: host.path().into(), guest: "/opt/x".into() }];
    let entries = unpack(&assemble(&spec, &Extra::default(), cache.path()).unwrap());
    assert_eq!(entries["etc/hosts"], (0o100_644, b"none\n".to_vec()));
    assert_eq!(entries["opt/x/sub/plain"], (0o100_644, b"text".to_vec()));
    assert_eq!(link(&entries, "opt/x/alias"), "sub/plain");
    assert_eq!(entries["opt/x/run.sh"].0, 0o100_755);
    assert!(entries.contains_key("usr/bin/env"), "the script's interpreter");
    assert!(entries.contains_key("usr/bin/cmp"), "and what env is told to run");
}

/// With the C linker that building lab needs anyway.
#[test]
fn run_time_paths_are_followed() {
    let (cache, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| host.path().canonicalize().unwrap().join(name);
    for folder in ["bin", "lib"] {
        fs::create_dir(at(folder)).unwrap();
    }
    fs::write(at("x.c"), "int lab_x(void) { return 0; }\n").unwrap();
    fs::write(at("main.c"), "int lab_x(void); int main(void) { return lab_x(); }\n").unwrap();
    for tags in ["--disable-new-dtags", "--enable-new-dtags"] {
        let cc = |arguments: &[&str]| {
            let done = Command::new("cc").current_dir(host.path()).args(arguments).status();
            assert!(done.unwrap().success(), "{arguments:?}");
        };
        cc(&["-shared", "-fPIC", "-o", "lib/liblabx.so", "x.c"]);
        let rpath = format!("-Wl,{tags},-rpath,$ORIGIN/../lib");
        cc(&["-o", "bin/lab-main", "main.c", "-Llib", "-llabx", &rpath]);
        let program = at("bin/lab-main").to_str().unwrap().to_string();
        let image = assemble(&tiny(), &programs(&[&program]), cache.path()).unwrap();
        let entries = unpack(&image);
        let library = at("lib/liblabx.so").to_str().unwrap()[1..].to_string();
        assert!(entries.contains_key(&library), "{tags}");
        assert_eq!(link(&entries, "usr/local/sbin/lab-main"), program);
        fs::remove_file(at("lib/liblabx.so")).unwrap();
        let said = assemble(&tiny(), &programs(&[&program]), cache.path()).unwrap_err().to_string();
        assert!(said.contains("needs the library liblabx.so"), "{said}");
    }
}

#[test]
fn what_is_missing_is_said() {
    let cache = tempfile::tempdir().unwrap();
    let search = SearchPath::of(OsStr::new(""));
    let said = |extra: &Extra| {
        let spec = tiny();
        assemble_from(&spec, extra, cache.path(), &search).unwrap_err().to_string()
    };
    let missing = said(&programs(&["no-such-program-1", "dmsteup"]));
    assert!(missing.contains("no-such-program-1, dmsteup (for the case)"), "{missing}");
    assert!(missing.contains("did you mean dmsetup"), "{missing}");
    assert!(said(&programs(&["./x"])).contains("neither a name nor an absolute path"));
    let file = |host: &str| Extra {
        files: [("/case/x".to_string(), host.into())].into(),
        ..Extra::default()
    };
    assert!(said(&file("/no/such/file")).starts_with("cannot read /no/such/file: No such file"));
    assert!(said(&file("relative")).contains("absolute"));
    assert!(said(&file("/dev/null")).contains("neither a file nor a folder"));
    let images = fs::read_dir(cache.path().join("images")).unwrap().flatten();
    assert_eq!(images.count(), 1, "only the index folder");
}

/// The closure is complete exactly if the programs start where there is nothing else.
#[test]
fn the_programs_run_in_a_chroot() {
    if !nix::unistd::Uid::effective().is_root() {
        assert_ne!(
            std::env::var_os("LAB_REQUIRE").as_deref(),
            Some(OsStr::new("all")),
            "needs root"
        );
        return;
    }
    let (cache, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = assemble(&base(), &programs(&["dmsetup", "mkfs.ext4"]), cache.path()).unwrap();
    for (path, (mode, data)) in unpack(&image) {
        let place = root.path().join(path);
        match mode & 0o170_000 {
            0o040_000 => fs::create_dir(&place).unwrap(),
            0o120_000 => symlink(OsStr::new(&String::from_utf8(data).unwrap()), &place).unwrap(),
            0o100_000 => {
                fs::write(&place, data).unwrap();
                fs::set_permissions(&place, PermissionsExt::from_mode(mode & 0o7777)).unwrap();
            }
            _ => {}
        }
    }
    let script = "set -e
        for p in mount umount cat dmsetup mkfs.ext4 find; do $p --version >/dev/null 2>&1 || $p -V >/dev/null 2>&1; done
        printf 'b\\na\\n' | sort | tr '\\n' ' '
        truncate -s 4M /tmp/d && mkfs.ext4 -q /tmp/d # warns: no /proc
        id -un; ls -l /bin/sh | cut -c1; noise --kind lines --count 1";
    let output = Command::new("chroot")
        .arg(root.path())
        .args(["/bin/sh", "-c", script])
        .env_clear()
        .env("PATH", GUEST_PATH.join(":"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "a b root\nl\n1\n", "{}", String::from_utf8_lossy(&output.stderr));
}
