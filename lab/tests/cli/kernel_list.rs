//! `lab kernel list`: what is here, what is not, and what each kernel is made of.

use std::time::{SystemTime, UNIX_EPOCH};

use super::support::{Lab, lab_for};

/// The line of a kernel, in its columns: two blanks part them.
fn cells(listed: &str, name: &str) -> Vec<String> {
    let line = listed.lines().find(|line| line.split("  ").next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{listed}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(String::from).collect()
}

#[test]
fn what_is_here_has_release_size_and_age() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    lab.write(
        "lab.toml",
        "[kernel.mine]\nsource = \"linux\"\narch = \"um\"\nkconfig = [\"uml\", \"fs\"]\n\
         patches = [\"fix\"]\nmodules = [{ source = \"../mod\" }]\n",
    );
    let ran = lab.lab(&["kernel", "list"]);
    ran.code(0);
    let titles = ran.stdout.lines().next().unwrap();
    assert_eq!(
        titles.split_whitespace().collect::<Vec<_>>().join(" "),
        "kernel release size age made of"
    );
    // Aligned: the titles begin where the cells do.
    let here = ran.stdout.lines().find(|line| line.starts_with("uml-6.1 ")).unwrap();
    let at = |title: &str| titles.find(title).unwrap();
    for title in ["release", "size", "age", "made of"] {
        assert_eq!(&here[at(title) - 2..at(title)], "  ", "{title}: {here}");
        assert_ne!(&here[at(title)..=at(title)], " ", "{title}: {here}");
    }
    let cells_of = |name| cells(&ran.stdout, name);
    let here = cells_of("uml-6.1");
    assert!(here[1].starts_with("6.1.") && here[2].ends_with("MiB"), "{here:?}");
    assert!(here[4].contains("user-mode-linux 6.1") && here[4].contains("libc6 "), "{here:?}");
    assert!(here[4].contains("(bookworm)"), "{here:?}");
    // One that cannot be had says what it would be made of, and why it cannot.
    let mine = cells_of("mine");
    assert_eq!(mine[1], "not here");
    assert_eq!(mine[2], "linux; kconfig uml, fs; patches fix; modules ../mod");
    assert!(mine[3].starts_with("there is no ") && mine[3].ends_with("mod"), "{mine:?}");

    let value = lab.lab(&["kernel", "list", "--json"]).value();
    let of = |name: &str| {
        value.as_array().unwrap().iter().find(|kernel| kernel["name"] == name).unwrap().clone()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let made = of("uml-6.1")["made"].as_u64().unwrap();
    assert!(made > 1_700_000_000 && made <= now, "{made}");
    assert_eq!(of("uml-6.1")["current"], true);
    assert!(of("mine")["made"].is_null() && of("mine")["release"].is_null());
    assert!(of("mine")["error"].as_str().unwrap().starts_with("there is no "));
}

#[test]
fn kernels_that_nothing_asks_for_are_told_in_one_line() {
    let Some(_) = lab_for(&["uml-6.1"]) else { return };
    // A cache of its own, or other tests' kernels would count.
    let own = tempfile::tempdir().unwrap();
    let cache = own.path().display().to_string();
    let lab = Lab::new().env("LAB_CACHE", &cache);
    let listed = lab.lab(&["kernel", "list"]);
    listed.code(0);
    assert_eq!(listed.stderr, "");
    assert_eq!(cells(&listed.stdout, "uml-6.1")[1..], ["not here", "bookworm/user-mode-linux"]);

    let from = super::support::cache().join("kernels");
    let copied = std::process::Command::new("cp").arg("-a").arg(&from).arg(own.path()).status();
    assert!(copied.unwrap().success());
    // Of all that is in there, what the embedded lab.toml does not name is left over.
    let known = lab.lab(&["kernel", "list", "--json"]).value();
    let here = known.as_array().unwrap().iter().filter(|k| !k["release"].is_null()).count();
    let keys = std::fs::read_dir(&from)
        .unwrap()
        .flatten()
        .filter(|item| item.file_name().len() == 32 && item.path().join("kernel.json").is_file());
    let left = keys.count() - here;
    let listed = lab.lab(&["kernel", "list"]);
    match left {
        0 => assert_eq!(listed.stderr, ""),
        1 => drop(listed.err("1 more kernel (").err("lab gc --kernels")),
        n => drop(listed.err(&format!("{n} more kernels (")).err("lab gc --kernels")),
    }
    assert!(listed.stderr.lines().count() <= 1);
}

#[test]
fn a_kernel_whose_ingredients_changed_is_not_taken_for_the_wanted_one() {
    let Some(lab) = super::build::builder() else { return };
    let name = super::build::SOURCE;
    let list = |what: &str| {
        let value = lab.lab(&["kernel", "list", "--json"]).value();
        let kernels = value.as_array().unwrap().clone();
        kernels.into_iter().find(|kernel| kernel["name"] == name).unwrap()[what].clone()
    };
    assert_eq!(list("current"), true);
    // A fragment of the project stands over the embedded one.
    let text = std::fs::read_to_string(super::support::repository().join("kconfigs/fs.config"));
    lab.write("kconfigs/fs.config", &format!("{}# more\n", text.unwrap()));
    assert_eq!(list("current"), false);
    assert!(list("boot").is_null() && list("release").is_string());
    let listed = lab.lab(&["kernel", "list"]);
    listed.out(&format!("what goes into it changed since: lab kernel build {name}"));
}
