//! Is a folder a kernel's source, and of which version? Answered from its top Makefile alone.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::manifest::{Diagnostic, Result};

/// The version that a source's top Makefile states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KernelVersion {
    /// 6 of 6.1.192-rc3.
    pub version: u32,
    /// 1 of 6.1.192-rc3.
    pub patchlevel: u32,
    /// 192 of 6.1.192-rc3.
    pub sublevel: u32,
    /// `-rc3` of 6.1.192-rc3, else empty.
    pub extra: String,
}

impl KernelVersion {
    /// Reads the head of a kernel's top Makefile; `None` if it is not one.
    pub fn parse(makefile: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = makefile.lines().take(60).find_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim_end() == name).then(|| value.trim())
            });
            value.map(str::to_string)
        };
        Some(Self {
            version: field("VERSION")?.parse().ok()?,
            patchlevel: field("PATCHLEVEL")?.parse().ok()?,
            sublevel: field("SUBLEVEL").and_then(|text| text.parse().ok()).unwrap_or(0),
            extra: field("EXTRAVERSION").unwrap_or_default(),
        })
    }

    /// `6.1`: what names a series of stable releases.
    pub fn series(&self) -> String {
        format!("{}.{}", self.version, self.patchlevel)
    }
}

impl fmt::Display for KernelVersion {
    /// As `make kernelversion` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}{}", self.version, self.patchlevel, self.sublevel, self.extra)
    }
}

/// The version of the kernel source in `tree`.
///
/// # Errors
/// It is not a kernel's source: names the nearest folder that is one.
pub fn kernel_version(tree: &Path) -> Result<KernelVersion> {
    if let Some(version) = version_of(tree) {
        return Ok(version);
    }
    let shown = tree.display();
    let message = match tree.metadata() {
        Err(_) => format!("there is no folder {shown}"),
        Ok(_) if !tree.join("Makefile").exists() => {
            format!("{shown} is not a kernel source: it has no Makefile")
        }
        Ok(_) if !tree.join("Kconfig").exists() => {
            format!("{shown} is not a kernel source: it has no Kconfig")
        }
        Ok(_) => format!("{shown} is not a kernel source: its Makefile states no VERSION"),
    };
    let error = Diagnostic::usage(message);
    Err(match near(tree) {
        Some(near) => error.help(format!("{} is one", near.display())),
        None => error.help(
            "name the folder whose Makefile begins with VERSION = and that has a Kconfig beside it",
        ),
    })
}

/// The version, if `tree` is a kernel's source.
fn version_of(tree: &Path) -> Option<KernelVersion> {
    if !tree.join("Kconfig").is_file() {
        return None;
    }
    let text = std::fs::read(tree.join("Makefile")).ok()?;
    KernelVersion::parse(&String::from_utf8_lossy(&text))
}

/// The folder that was probably meant: one further up, or the only one just below.
fn near(tree: &Path) -> Option<PathBuf> {
    let above = tree.ancestors().skip(1).find(|folder| version_of(folder).is_some());
    if let Some(above) = above {
        return Some(above.to_path_buf());
    }
    let items = std::fs::read_dir(tree).into_iter().flatten().flatten().take(200);
    let mut below = items.map(|item| item.path()).filter(|path| version_of(path).is_some());
    let only = below.next()?;
    below.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAKEFILE: &str = "# SPDX-License-Identifier: GPL-2.0
VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 192
EXTRAVERSION =
NAME = Curry Ramen

# *DOCUMENTATION*
";

    #[test]
    fn the_makefile_states_the_version() {
        let version = KernelVersion::parse(MAKEFILE).unwrap();
        assert_eq!(version.to_string(), "6.1.192");
        assert_eq!(version.series(), "6.1");
        let text =
            MAKEFILE.replace("SUBLEVEL = 192", "SUBLEVEL = 0").replace("SION =\n", "SION = -rc3\n");
        assert_eq!(KernelVersion::parse(&text).unwrap().to_string(), "6.1.0-rc3");
        assert_eq!(KernelVersion::parse("all:\n\tVERSION = 3\n"), None);
    }

    #[test]
    fn a_folder_that_is_none_names_the_one_that_is() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("linux");
        std::fs::create_dir_all(tree.join("fs/ext4")).unwrap();
        std::fs::write(tree.join("Makefile"), MAKEFILE).unwrap();
        let error = kernel_version(&tree).unwrap_err().to_string();
        assert!(error.contains("has no Kconfig"), "{error}");
        std::fs::write(tree.join("Kconfig"), "").unwrap();
        std::fs::write(tree.join("fs/Makefile"), "obj-y += ext4/\n").unwrap();
        std::fs::write(tree.join("fs/Kconfig"), "").unwrap();
        assert_eq!(kernel_version(&tree).unwrap().series(), "6.1");
        let error = kernel_version(&tree.join("fs")).unwrap_err().to_string();
        assert!(error.contains("states no VERSION"), "{error}");
        assert!(error.ends_with(&format!("({} is one)", tree.display())), "{error}");
        let error = kernel_version(&tree.join("fs/ext4")).unwrap_err().to_string();
        assert!(error.contains("no Makefile") && error.contains("linux is one"), "{error}");
        let error = kernel_version(folder.path()).unwrap_err().to_string();
        assert!(error.contains("linux is one"), "{error}");
    }
}
