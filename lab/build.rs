//! Builds the guest programs (PID 1 and the workload tools) as static binaries, in a target folder
//! of their own, and tells the library where they are, so that an installed lab works alone.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("lab/ has a parent");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = env::var("TARGET").expect("cargo sets TARGET");
    for folder in ["proto", "init", "tools"] {
        println!("cargo::rerun-if-changed={}", workspace.join("images").join(folder).display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());

    // The folder outlives changes of this package's fingerprint, so that guests are built once for
    // all profiles and features: OUT_DIR is TARGET_DIR/PROFILE/build/lab-HASH/out.
    let shared = out.ancestors().nth(4).unwrap_or(&out).join("lab-guest");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .args(["build", "--quiet", "--profile", "guest", "--target", &target])
        .args(["--package", "lab-init", "--package", "lab-tools"])
        .arg("--manifest-path")
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&shared)
        // Static and at a fixed address: the guest has no loader of its own to rely on.
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    // What cargo and clippy set for this build must not reach the inner one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let inherited = ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS"];
        if inherited.contains(&name.as_str())
            || name.starts_with("CARGO_ENCODED_")
            || name.starts_with("CARGO_FEATURE_")
            || name.starts_with("CARGO_CFG_")
        {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the guest programs did not build");
    let built = shared.join(&target).join("guest");
    for (variable, program) in [("LAB_GUEST_INIT", "lab-init"), ("LAB_GUEST_TOOLS", "lab-tools")] {
        // A copy in OUT_DIR: what include_bytes! reads must not change under a running build.
        let copy = out.join(program);
        std::fs::copy(built.join(program), &copy).expect("the guest program is there");
        println!("cargo::rustc-env={variable}={}", copy.display());
    }
}
