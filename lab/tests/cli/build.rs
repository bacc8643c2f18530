//! Kernels built from source, for real: one kernel, and a variant of it that differs by one patch.
//! What is in the cache's store is not built again, so that only the first run takes minutes.

use super::support::{Lab, lab_for, lab_for_built};

pub const SOURCE: &str = "uml-6.1-src";
const BROKEN: &str = "uml-6.1-broken";

/// A project with the repository's cases, patches and kernels; `None` (or a failure, with
/// LAB_REQUIRE=all) where no kernel can be built here.
pub fn builder() -> Option<Lab> {
    lab_for_built(&[SOURCE, BROKEN])
}

#[test]
fn a_kernel_and_its_one_patch_variant() {
    let Some(lab) = builder() else { return };
    let ran = lab.start_two(&["run", "hostfs-file-dentry", "-k", SOURCE, "-k", BROKEN]).wait();
    ran.code(0).out(&format!("pass   hostfs-file-dentry on {SOURCE}"));
    ran.out(&format!("known  hostfs-file-dentry on {BROKEN}"));

    // The other cases run on it unchanged.
    let cases = ["run", "dm-linear", "overlay-union", "console-torture", "-k", SOURCE];
    lab.start_two(&cases).wait().code(0).out("3 pass");

    // A symbol is explained by what asked for it, or by what blocks it.
    let ran = lab.lab(&["kernel", "config", SOURCE, "OVERLAY_FS"]);
    ran.code(0).out("kconfigs/fs.config:");

    // And nothing is built twice.
    let started = std::time::Instant::now();
    lab.lab(&["kernel", "build", SOURCE, BROKEN]).code(0);
    assert!(started.elapsed().as_secs() < 30, "it was built again");
}

#[test]
fn what_cannot_be_built_is_said_before_anything_is() {
    let Some(lab) = lab_for(&["uml-6.1"]) else { return };
    let kernel = |extra: &str| {
        let text = format!(
            "[kernel.k]\nsource = \"debian:bookworm/linux-source-6.1\"\narch = \"um\"\n{extra}\n"
        );
        lab.write("lab.toml", &text);
        lab.lab(&["kernel", "build", "k"])
    };
    kernel("kconfig = [\"fss\"]").code(2).err("kconfigs/fss.config").err("did you mean `fs`");
    kernel("kconfig = [\"uml\"]\npatches = [\"no-such\"]").code(2).err("no-such");
    lab.write("kconfigs/wrong.config", "CONFIG_FS\n");
    kernel("kconfig = [\"wrong\"]").code(2).err("kconfigs/wrong.config:1");

    lab.write("lab.toml", "[kernel.k]\nsource = \"cases\"\narch = \"um\"\nkconfig = [\"uml\"]\n");
    lab.lab(&["kernel", "build", "k"]).code(2).err("is not a kernel");

    let ran = lab.lab(&["run", "-k", "uml-6.1", "--config", "KASAN=y", "--", "true"]);
    ran.code(2).err("uml-6.1 is not built here").err("-k uml-6.1-src");
    lab.lab(&["run", "-k", "path:no-such", "--", "true"]).code(2).err("no-such");
}
