//! Where programs are searched on the host: its PATH, and the folders of administration programs,
//! which a user's PATH often lacks.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Searched after PATH.
const ALWAYS: [&str; 6] =
    ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"];

/// Folders in the order in which they are searched; absolute, each once.
#[derive(Clone, Debug)]
pub struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    /// The PATH of this process and the folders that are always searched.
    pub fn of_host() -> Self {
        Self::of(&std::env::var_os("PATH").unwrap_or_default())
    }

    /// A given PATH and the folders that are always searched. Relative folders are left out: what
    /// is in an image must not depend on where the lab was started.
    pub fn of(path: &OsStr) -> Self {
        let mut folders: Vec<PathBuf> = Vec::new();
        for folder in std::env::split_paths(path).chain(ALWAYS.iter().map(PathBuf::from)) {
            if folder.is_absolute() && !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self(folders)
    }

    /// The folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.0
    }

    /// The first executable file of this name; an absolute name is itself the path.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        if program.starts_with('/') {
            return executable(Path::new(program)).then(|| program.into());
        }
        self.0.iter().map(|folder| folder.join(program)).find(|path| executable(path))
    }

    /// All names in the folders, for suggestions.
    pub fn names(&self) -> Vec<String> {
        let entries = self.0.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administration_programs_are_found_with_a_users_path() {
        let search = SearchPath::of(OsStr::new("/usr/bin:/bin::.:relative"));
        assert!(search.folders().iter().all(|f| f.is_absolute()));
        assert_eq!(search.folders().len(), 6);
        assert!(search.find("cat").is_some());
        assert!(search.find("no-such-program").is_none());
        assert!(search.find("/etc/passwd").is_none(), "not executable");
        assert_eq!(search.find("/bin/sh"), Some("/bin/sh".into()));
    }
}
