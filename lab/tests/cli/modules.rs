//! Modules that are no part of the kernel's tree: built for real against the kernel that other tests
//! build anyway, loaded in a guest, and everything that can be wrong with them.

use std::time::Duration;

use super::build::{SOURCE, builder};
use super::support::{Lab, Ran, cache, lab_for, repository};

/// A build may have to wait for one of another lab.
const PATIENCE: Duration = Duration::from_secs(600);

fn fixture(name: &str) -> String {
    repository().join("lab/tests/fixtures/modules").join(name).display().to_string()
}

/// Adds a kernel `with` that is [`SOURCE`] with these modules.
fn with_modules(lab: &Lab, entries: &str) {
    lab.edit(
        "lab.toml",
        "# Built here",
        &format!("[kernel.with]\nextends = \"{SOURCE}\"\nmodules = [{entries}]\n# Built here"),
    );
}

fn build(lab: &Lab, more: &[&str]) -> Ran {
    let args = [&["kernel", "build", "with"], more].concat();
    lab.start(&args).patient(PATIENCE).wait()
}

#[test]
fn a_module_is_built_listed_and_loaded_in_a_guest() {
    let Some(lab) = builder() else { return };
    let before = listing(&fixture("greeter"));
    let (greeter, caller) = (fixture("greeter"), fixture("caller"));
    with_modules(&lab, &format!("{{ source = \"{greeter}\" }}, {{ source = \"{caller}\" }}"));
    build(&lab, &[]).code(0).err("with the modules lab_greeter, lab_caller");
    assert_eq!(listing(&fixture("greeter")), before, "the user's folder");

    // PID 1 loads what the case names, and what that needs.
    lab.case(
        "greeting",
        "[needs]\nmodules = [\"lab-caller\"]\n\
         [machine]\ncmdline = [\"lab_greeter.times=2\"]\n\
         [[step]]\nrun = \"cat /sys/module/lab_greeter/parameters/times\"\n\
         [[step]]\nrun = \"dmesg | grep -oE '(greeter|caller): .*'\"\n",
    );
    let ran = lab.boot(&["run", "greeting", "-k", "with"]);
    ran.code(1).out("there is no accepted transcript yet");
    let hello = "hello from out of the tree";
    ran.out("       2\n");
    ran.out(&format!("greeter: {hello}\n       greeter: {hello}\n       caller: {hello}\n"));
    // The twin: without them in its module tree the kernel knows no such module.
    let ran = lab.boot(&["run", "greeting", "-k", SOURCE]);
    ran.code(3).out("lab-caller");

    let listed = lab.lab(&["kernel", "list"]);
    let line = listed.stdout.lines().find(|line| line.starts_with("with ")).unwrap();
    assert!(line.contains("lab_greeter of ") && line.contains("lab_caller of "), "{line}");
}

/// A module's Makefile is a program that writes where the lab copies and configures.
#[test]
fn what_a_makefile_plants_leads_nowhere() {
    let Some(lab) = builder() else { return };
    let precious = lab.folder().join("precious");
    std::fs::create_dir_all(&precious).unwrap();
    let files = ["a.c", "config"].map(|name| precious.join(name));
    files.iter().for_each(|file| std::fs::write(file, "the user's").unwrap());
    let before = listing(&precious.display().to_string());
    // $(src) is out/lab-modules/0: the next module's copy, and the configuration's seed of old.
    let plants = format!(
        "obj-m := planter.o\n$(shell rm -rf $(src)/../1 $(src)/../../lab.config; \
         ln -s {0} $(src)/../1; ln -s {0}/config $(src)/../../lab.config; date +%N > $(src)/ran)\n",
        precious.display()
    );
    lab.write("planter/Kbuild", &plants);
    let source = "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n";
    lab.write("planter/planter.c", source);
    with_modules(
        &lab,
        &format!("{{ source = \"planter\" }}, {{ source = \"{}\" }}", fixture("greeter")),
    );
    let first = build(&lab, &[]);
    lab.write("planter/planter.c", &format!("{source}MODULE_ALIAS(\"planter-again\");\n"));
    let second = build(&lab, &[]);

    // Other tests build there too.
    let mut planted = 0;
    for item in std::fs::read_dir(cache().join("builds")).unwrap().flatten() {
        let link = item.path().join("out/lab.config");
        if std::fs::read_link(&link).is_ok_and(|to| to.starts_with(&precious)) {
            planted += 1;
            std::fs::remove_file(link).unwrap();
        }
    }
    assert_eq!(planted, 1, "the Makefile ran");
    for ran in [&first, &second] {
        ran.code(0).err("with the modules planter, lab_greeter");
    }
    assert_eq!(listing(&precious.display().to_string()), before);
    for file in files {
        assert_eq!(std::fs::read_to_string(file).unwrap(), "the user's");
    }
}

/// Names and times of a folder's files.
fn listing(folder: &str) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let items = std::fs::read_dir(folder).unwrap().flatten();
    let mut all: Vec<_> =
        items.map(|i| (i.path(), i.metadata().unwrap().modified().unwrap())).collect();
    all.sort();
    all
}

#[test]
fn what_is_wrong_with_modules_is_said() {
    let Some(lab) = builder() else { return };
    with_modules(&lab, "{ source = \"mine\" }");

    // Before anything is done.
    build(&lab, &[]).code(2).err("there is no ").err("mine");
    lab.write("mine/a.c", "int a;\n");
    build(&lab, &[]).code(2).err("mine has neither a Kbuild nor a Makefile").err("obj-m");
    lab.boot(&["run", "-k", "with", "--", "true"]).code(2).err("neither a Kbuild nor a Makefile");

    // The compiler's words, with the place where they were written, and the log.
    lab.write("mine/Kbuild", "obj-m := mine.o\n");
    lab.write("mine/mine.c", "#include <linux/module.h>\nint f(void) { return nothing; }\n");
    let place = lab.path("mine/mine.c").canonicalize().unwrap();
    let ran = build(&lab, &[]);
    ran.code(3).err(&format!("{}:2:", place.display())).err("undeclared");
    ran.err("the whole log is ").err("cannot build the modules of ");
    // In a run that is no slip of who asked: the run is broken, and another kernel's is not.
    let run = ["run", "-k", "with", "-k", SOURCE, "--", "true"];
    let ran = lab.start_two(&run).patient(PATIENCE).wait();
    ran.code(3).out("broken command on with").out(&format!("pass   command on {SOURCE}"));

    // A symbol that nobody exports.
    let text = "#include <linux/module.h>\nvoid nobody_has_it(void);\n\
                int init_module(void);\nint init_module(void) { nobody_has_it(); return 0; }\n\
                MODULE_LICENSE(\"GPL\");\n";
    lab.write("mine/mine.c", text);
    build(&lab, &[]).code(3).err("nobody_has_it").err("the kernel exports no such symbol");

    // A name that the kernel has already.
    lab.write("mine/Kbuild", "obj-m := loop.o\n");
    lab.write("mine/loop.c", "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n");
    let ran = build(&lab, &[]);
    ran.code(2).err("gives the module loop, and the kernel has a built-in one of that name");
    ran.err("kernel/drivers/block/loop.ko").err("give it another name");

    // Kbuild is content, and has none.
    lab.write("mine/Kbuild", "obj-$(CONFIG_NO_SUCH) := loop.o\n");
    build(&lab, &[]).code(2).err("was built and gave no module");

    // A kernel without modules: the symbol, who said so, and the fragment's way out.
    let ran = build(&lab, &["--config", "MODULES=n"]);
    ran.code(2).err("CONFIG_MODULES off").err("kconfigs/uml.config");
}

#[test]
fn a_package_of_a_modules_source_is_fetched_and_built() {
    let Some(lab) = builder() else { return };
    with_modules(&lab, "{ source = \"debian:bookworm/dm-writeboost-dkms\" }");
    build(&lab, &[]).code(0).err("with the modules dm_writeboost");
    let targets = "modprobe dm-writeboost && dmsetup targets";
    let run = ["run", "-k", "with", "--with", "dmsetup", "--", targets];
    lab.boot(&run).code(0).out("writeboost ");
    lab.edit("lab.toml", "dm-writeboost-dkms", "dash");
    build(&lab, &[]).code(2).err("is no package of a module's source");
}

#[test]
fn modules_of_a_kernel_that_is_not_built_here_have_their_place() {
    let Some(lab) = lab_for(&[]) else { return };
    lab.write("lab.toml", "[kernel.k]\nextends = \"uml-6.1\"\nmodules = [{ source = \"mine\" }]\n");
    let ran = lab.lab(&["kernel", "list"]);
    ran.code(2).err("lab.toml:3:11").err("is not built here, so it cannot have `modules`");
}
