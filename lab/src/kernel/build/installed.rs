//! What modules_install left: a Makefile wrote it, and it goes into the store, where the lab writes
//! beside it and a guest reads it. So it is looked at first, and nothing but folders and files passes.

use std::path::{Component, Path};

use crate::manifest::{Diagnostic, Result};

/// Links that kbuild itself makes in a module tree: to the build folder and to the source.
pub(super) const LINKS: [&str; 2] = ["build", "source"];

/// The release in the text of kernel.release, which becomes the name of a folder.
///
/// # Errors
/// It is no plain name.
pub(super) fn release_of(text: &str) -> Result<String> {
    let release = text.trim();
    let mut parts = Path::new(release).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == release => Ok(release.to_string()),
        _ => Err(Diagnostic::trouble(format!("the kernel's release is no name: {release:?}"))
            .help("the source's Makefile makes it: see KERNELRELEASE and localversion there")),
    }
}

/// Fails where below `into` (INSTALL_MOD_PATH) there is a link, but for those that kbuild makes in the
/// tree of `release`, or anything else that is neither a folder nor a file.
pub(super) fn check(into: &Path, release: &str) -> Result<()> {
    let tree = into.join("lib/modules").join(release);
    let own = LINKS.map(|link| tree.join(link));
    let mut folders = vec![into.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let io = |e| Diagnostic::io("read", &folder, &e);
        for item in std::fs::read_dir(&folder).map_err(io)? {
            let item = item.map_err(io)?;
            let (path, kind) = (item.path(), item.file_type().map_err(io)?);
            if kind.is_dir() {
                folders.push(path);
            } else if !(kind.is_file() || kind.is_symlink() && own.contains(&path)) {
                let shown = path.strip_prefix(into).unwrap_or(&path).display().to_string();
                return Err(Diagnostic::trouble(format!(
                    "modules_install left {shown}, which is neither a file nor a folder"
                ))
                .help("kbuild makes no such thing: look at the Makefiles of the source"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_release_is_one_name() {
        assert_eq!(release_of("6.1.0-lab+\n").unwrap(), "6.1.0-lab+");
        for text in ["", "..", "/home/u", "../../x", "a/b", "6.1/", "./6.1"] {
            assert!(release_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn planted_links_do_not_pass() {
        let into = tempfile::tempdir().unwrap();
        let tree = into.path().join("lib/modules/6.1");
        std::fs::create_dir_all(tree.join("kernel/fs")).unwrap();
        std::fs::write(tree.join("kernel/fs/a.ko"), "").unwrap();
        LINKS.iter().for_each(|link| symlink("/build", tree.join(link)).unwrap());
        check(into.path(), "6.1").unwrap();
        for name in ["modules.dep", "kernel/build", "../6.2", "../../x", "kernel/fs/b.ko"] {
            symlink("/home/u", tree.join(name)).unwrap();
            let error = check(into.path(), "6.1").unwrap_err().to_string();
            assert!(error.contains("modules_install left lib/"), "{error}");
            std::fs::remove_file(tree.join(name)).unwrap();
        }
        std::fs::rename(into.path().join("lib"), into.path().join("real")).unwrap();
        symlink("real", into.path().join("lib")).unwrap();
        assert!(check(into.path(), "6.1").is_err());
    }
}
