//! Kernels of the user: a program that answers as UML does stands for one, since no test builds any.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use tempfile::TempDir;

use super::super::{Arch, Kernel, Origin, Value};
use super::{PathKernels, PullError};

fn open(root: &TempDir, path: &Path, arch: Option<Arch>) -> Result<Kernel, String> {
    let kernels = PathKernels::open(&root.path().join("cache")).unwrap();
    let no = AtomicBool::new(false);
    let kernel = kernels.kernel("mine", path, arch, &["quiet".into()], &no);
    kernel.map_err(|e: PullError| e.into_diagnostic().to_string())
}

/// A built tree, O= of another folder, with two modules of which one needs the other's name only.
fn built(root: &TempDir) -> PathBuf {
    let (tree, source) = (root.path().join("build"), root.path().join("linux"));
    fs::create_dir_all(tree.join("include/config")).unwrap();
    fs::create_dir_all(tree.join("fs/ext4")).unwrap();
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("Makefile"), "VERSION = 6\nPATCHLEVEL = 1\n").unwrap();
    std::os::unix::fs::symlink("../linux", tree.join("source")).unwrap();
    fs::write(tree.join(".config"), "CONFIG_UML=y\nCONFIG_MODULES=y\nCONFIG_HOSTFS=y\n").unwrap();
    fs::write(tree.join("include/config/kernel.release"), "6.1.0-mine\n").unwrap();
    fs::write(tree.join("modules.order"), "fs/ext4/ext4.o\nfs/x.ko\n").unwrap();
    for file in ["linux", "fs/ext4/ext4.ko", "fs/x.ko"] {
        fs::copy("/bin/true", tree.join(file)).unwrap();
    }
    let mut git = Command::new("git");
    assert!(git.arg("-C").arg(&source).args(["init", "-q"]).status().unwrap().success());
    for args in [&["add", "-A"][..], &["commit", "-q", "-m", "first"]] {
        let mut git = Command::new("git");
        git.arg("-C").arg(&source).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]);
        assert!(git.args(["-c", "commit.gpgsign=false"]).args(args).status().unwrap().success());
    }
    tree
}

#[test]
fn a_built_tree_is_used_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let tree = built(&root).canonicalize().unwrap();
    let kernel = open(&root, &tree, Some(Arch::Um)).unwrap();
    assert_eq!((kernel.arch, kernel.release.as_str()), (Arch::Um, "6.1.0-mine"));
    assert_eq!((kernel.boot.clone(), &kernel.libraries), (tree.join("linux"), &None));
    assert_eq!(kernel.cmdline, ["quiet"]);
    assert_eq!(kernel.config().unwrap().get("HOSTFS"), Value::Yes);
    let modules = kernel.modules.clone().unwrap();
    assert!(modules.ends_with("modules/6.1.0-mine"));
    let index = fs::read_to_string(modules.join("modules.dep")).unwrap();
    assert_eq!(index, "kernel/fs/ext4/ext4.ko:\nkernel/fs/x.ko:\n");
    let Origin::Path { git: Some(git), .. } = &kernel.origin else { panic!() };
    assert!(git.len() >= 12 && !git.ends_with("-dirty"), "{git}");
    assert_eq!(open(&root, &tree, None).unwrap().key, kernel.key);

    // Built again while a run goes on: that run keeps its modules.
    fs::write(root.path().join("linux/Makefile"), "VERSION = 6\nPATCHLEVEL = 1\n# dirty\n")
        .unwrap();
    fs::copy("/bin/false", tree.join("fs/x.ko")).unwrap();
    let next = open(&root, &tree, None).unwrap();
    assert_ne!(next.key, kernel.key);
    assert!(modules.join("modules.dep").is_file());
    let new = fs::read(next.modules.unwrap().join("kernel/fs/x.ko")).unwrap();
    assert_eq!(new, fs::read("/bin/false").unwrap());
    let Origin::Path { git: Some(git), .. } = &next.origin else { panic!() };
    assert!(git.ends_with("-dirty"), "{git}");
    drop(kernel);
    fs::copy("/bin/false", tree.join("fs/ext4/ext4.ko")).unwrap();
    open(&root, &tree, None).unwrap();

    let error = open(&root, &tree, Some(Arch::X86_64)).unwrap_err();
    assert!(error.contains("is for um, not x86_64"), "{error}");
    fs::set_permissions(tree.join("linux"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open(&root, &tree, None).unwrap_err().contains("chmod +x"));
    let error = open(&root, &root.path().join("bild"), None).unwrap_err();
    assert!(error.contains("did you mean") && error.contains("/build?"), "{error}");
}

#[test]
fn a_program_tells_its_release_and_configuration_itself() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("uml.c");
    fs::write(
        &source,
        "#include <stdio.h>\n#include <string.h>\nconst char *volatile config = \"CONFIG_UML=y\\n\";\n\
         int main(int c, char **v) { puts(strcmp(v[1], \"--version\") ? config : \"6.1.0-one\"); return 0; }\n",
    )
    .unwrap();
    let program = root.path().join("linux");
    match Command::new("cc").arg("-o").arg(&program).arg(&source).status() {
        Ok(status) => assert!(status.success()),
        Err(_) => return eprintln!("this host has no cc"),
    }
    let kernel = open(&root, &program, None).unwrap();
    assert_eq!((kernel.arch, kernel.release.as_str()), (Arch::Um, "6.1.0-one"));
    assert_eq!(kernel.config().unwrap().get("UML"), Value::Yes);
    assert_eq!(kernel.modules, None);
    let error = open(&root, &source, None).unwrap_err();
    assert!(error.contains("not a kernel that boots"), "{error}");
}
