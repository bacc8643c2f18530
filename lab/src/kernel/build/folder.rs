//! Build folders, one for each lineage of sources, architecture and list of fragments, used again
//! for the next build; and made sound again where the last one was cut off.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use super::make::Make;
use super::walls::Walls;
use super::warnings::unread;
use crate::kernel::store::lock;
use crate::kernel::tool::Watch;
use crate::kernel::{Arch, KernelKey, PullError, PullProgress, Tree};
use crate::manifest::{Diagnostic, Result};
use crate::sandbox::Isolation;

/// `builds/LINEAGE/`: `out` for make, `log`, and what is known. It is this build's alone while the
/// lock is held.
pub(in crate::kernel) struct Folder {
    /// The folder itself.
    pub path: PathBuf,
    _lock: Flock<File>,
}

impl Folder {
    /// Waits until the folder is ours, and mends it where a build in it did not come to its end.
    ///
    /// # Errors
    /// It cannot be made, or the user interrupts.
    pub fn open(
        builds: &Path,
        tree: &Tree,
        arch: Arch,
        kconfig: &[String],
        watch: &mut Watch<'_>,
    ) -> Result<Self, PullError> {
        let path = builds.join(Self::name(tree.lineage(), arch, kconfig));
        let file = path.join("lock");
        let hold = || -> io::Result<Option<Flock<File>>> {
            fs::create_dir_all(path.join("out"))?;
            File::options().create(true).append(true).open(&file)?;
            lock(&path, FlockArg::LockExclusiveNonblock)
        };
        let mut said = false;
        loop {
            match hold() {
                Ok(Some(lock)) => {
                    let folder = Self { path, _lock: lock };
                    folder.begin()?;
                    return Ok(folder);
                }
                // In use, or `lab gc` is removing it: then it is made again.
                Ok(None) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Diagnostic::io("lock", &file, &e).into()),
            }
            if !std::mem::replace(&mut said, true) {
                (watch.progress)(PullProgress::Waiting);
            }
            watch.check()?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its name in CACHE/builds.
    pub fn name(lineage: &str, arch: Arch, kconfig: &[String]) -> String {
        let arch = format!("{arch:?}");
        let mut parts = vec![lineage, &arch];
        parts.extend(kconfig.iter().map(String::as_str));
        KernelKey::of(&parts).to_string()
    }

    /// make in this folder, for a source. Without an isolation that was asked for by name the walls
    /// may come down.
    pub(super) fn make(
        &self,
        tree: &Tree,
        arch: Arch,
        jobs: usize,
        isolation: Option<Isolation>,
    ) -> Make {
        let log = self.path.join("log");
        // Of this build only.
        let _ = fs::remove_file(&log);
        // kbuild writes the source's path into what it makes, and makes all anew where it differs.
        // So it is the real one, whichever way the cache was named.
        let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
        let (tree, out) = (real(tree.path()), real(self.path.join("out")));
        // Beside `out`, where a Makefile cannot put a link in its place.
        let seed = real(self.path.clone()).join("lab.config");
        let walls = Walls {
            isolation: isolation.unwrap_or(Isolation::Full),
            may_fall: isolation.is_none(),
            mount_on: self.path.join("root"),
            readable: vec![tree.clone(), seed.clone()],
            writable: vec![out.clone()],
        };
        Make { tree, out, seed, arch, jobs, log, walls: walls.into() }
    }

    /// How many objects the last whole build here made.
    pub fn expected(&self) -> Option<usize> {
        fs::read_to_string(self.path.join("objects")).ok()?.trim().parse().ok()
    }

    /// Takes down how many objects a whole build makes; only to show progress next time.
    pub fn expect(&self, objects: usize) {
        let _ = fs::write(self.path.join("objects"), objects.to_string());
    }

    /// The build came to its end: what make left is whole.
    pub fn done(&self) {
        let _ = fs::remove_file(self.path.join("unfinished"));
    }

    fn begin(&self) -> Result<()> {
        let mark = self.path.join("unfinished");
        let root = self.path.join("root");
        if mark.exists() {
            let out = self.path.join("out");
            let removed =
                mend(&out, unread(&self.path)).map_err(|e| Diagnostic::io("mend", &out, &e))?;
            tracing::debug!(removed, "a build was cut off");
        }
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).map_err(|e| Diagnostic::io("make", &root, &e))?;
        File::create(&mark).map_err(|e| Diagnostic::io("write", &mark, &e))?;
        Ok(())
    }
}

/// Removes what a killed make or a full disk may have left half written, and what was made since
/// `unheard`, whose warnings nobody heard; says how many files.
///
/// make itself takes a target away when it is told to end, not when it is killed. Then a target may
/// be there in part, and newer than what it is made of, so that the next make would take it for
/// whole. But kbuild writes `.NAME.cmd` after NAME, always: a target that is newer than its record
/// was not finished, and neither was a record that fixdep did not write to its last line.
fn mend(out: &Path, unheard: Option<SystemTime>) -> io::Result<usize> {
    let mut folders = vec![out.to_path_buf()];
    let mut removed = 0;
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder)? {
            let item = item?;
            let kind = item.file_type()?;
            if kind.is_dir() {
                folders.push(item.path());
                continue;
            }
            // A record is a file; behind a link or a pipe could be anything.
            if !kind.is_file() {
                continue;
            }
            let name = item.file_name();
            let name = name.to_string_lossy();
            let Some(target) = name.strip_prefix('.').and_then(|n| n.strip_suffix(".cmd")) else {
                continue;
            };
            let record = item.path();
            let target = record.with_file_name(target);
            let Ok(made) = fs::symlink_metadata(&target) else { continue };
            if made.is_dir() {
                continue;
            }
            let unheard = unheard.is_some_and(|since| made.modified().is_ok_and(|at| at >= since));
            let cut = made.modified()? > item.metadata()?.modified()?;
            if unheard || cut || !is_whole(&fs::read(&record)?) {
                fs::remove_file(&target)?;
                fs::remove_file(&record)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Whether fixdep came to its end (scripts/basic/fixdep.c prints `$(deps_X):` last). Records of
/// targets without dependencies have only the command, and that is compared as a whole.
fn is_whole(record: &[u8]) -> bool {
    let has = |piece: &[u8]| record.windows(piece.len()).any(|window| window == piece);
    !has(b"-MMD,") && !has(b"-MD,") || record.ends_with(b"):\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_is_made_again() {
        let out = tempfile::tempdir().unwrap();
        let whole = "cmd_a.o := gcc -Wp,-MMD,.a.o.d\n\na.o: $(deps_a.o)\n\n$(deps_a.o):\n";
        let put = |name: &str, text: &str, seconds: u64| {
            let path = out.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        for (folder, object, record, text) in [
            ("whole", 10, 11, whole),
            ("same-tick", 10, 10, whole),
            ("newer", 12, 11, whole),
            ("cut", 10, 11, &whole[..40]),
            ("plain", 10, 11, "cmd_a.o := ld -o a.o"),
        ] {
            put(&format!("{folder}/a.o"), "", object);
            put(&format!("{folder}/.a.o.cmd"), text, record);
        }
        put("no-target/.a.o.cmd", whole, 1);
        assert_eq!(mend(out.path(), None).unwrap(), 2);
        for (folder, kept) in [
            ("whole", true),
            ("same-tick", true),
            ("newer", false),
            ("cut", false),
            ("plain", true),
        ] {
            let folder = out.path().join(folder);
            assert_eq!(folder.join("a.o").exists(), kept, "{}", folder.display());
            assert_eq!(folder.join(".a.o.cmd").exists(), kept, "{}", folder.display());
        }
        put("late/a.o", "", 20);
        put("late/.a.o.cmd", whole, 21);
        // A link in a record's place is none of make's, and a pipe would never be read to its end.
        put("linked/a.o", "", 1);
        std::os::unix::fs::symlink("../cut", out.path().join("linked/.a.o.cmd")).unwrap();
        let since = std::time::UNIX_EPOCH + Duration::from_secs(20);
        assert_eq!(mend(out.path(), Some(since)).unwrap(), 1);
        assert!(!out.path().join("late/a.o").exists() && out.path().join("whole/a.o").exists());
    }
}
