//! Transcripts that nobody has accepted yet, written once, after all runs of a command: only then
//! is it known which kernels agree, and so which transcript is the base and which a variant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::{Info, SnapshotFile, read, write};
use super::names::{Wanted, parse, variant_for};
use super::review::{Home, PendingFile, pending_paths, remove};
use crate::manifest::{Case, Diagnostic, Result};

/// What a pending transcript is to the accepted ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing was accepted yet.
    New,
    /// It differs from what was accepted.
    Changed,
    /// It shows a failure that is listed under `[[known]]`.
    Known,
}

/// The results of a command's runs, as far as snapshots are concerned.
#[derive(Debug, Default)]
pub struct Pending {
    kernels: Vec<String>,
    groups: BTreeMap<(PathBuf, BTreeMap<String, String>), Group>,
}

/// The runs of one case with one set of parameter values.
#[derive(Debug)]
struct Group {
    home: Home,
    params: BTreeMap<String, String>,
    /// The last result of each kernel.
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug)]
enum Seen {
    /// Equal to this accepted file.
    Equal(PathBuf),
    /// To be reviewed.
    Differs { rendering: String, info: Info, known: bool },
}

impl Pending {
    /// For a command that runs on these kernels, in this order.
    pub fn new(kernels: &[String]) -> Self {
        Self { kernels: kernels.to_vec(), groups: BTreeMap::new() }
    }

    /// A run whose transcript is to be reviewed, on the kernel that `info` names. A second result
    /// of the same run (a retry) takes the place of the first, here and in [`Self::equal`].
    pub fn add(
        &mut self,
        case: &Case,
        params: &BTreeMap<String, String>,
        info: Info,
        rendering: String,
        what: What,
    ) {
        let kernel = info.kernel.clone();
        let differs = Seen::Differs { rendering, info, known: what == What::Known };
        self.group(case, params).seen.insert(kernel, differs);
    }

    /// A run whose transcript equals the accepted one in `path` (of [`super::Expected`]).
    pub fn equal(
        &mut self,
        case: &Case,
        params: &BTreeMap<String, String>,
        kernel: &str,
        path: &Path,
    ) {
        self.group(case, params).seen.insert(kernel.into(), Seen::Equal(path.into()));
    }

    fn group(&mut self, case: &Case, params: &BTreeMap<String, String>) -> &mut Group {
        self.groups.entry((case.dir.clone(), params.clone())).or_insert_with(|| Group {
            home: Home::of(case),
            params: params.clone(),
            seen: BTreeMap::new(),
        })
    }

    /// Writes what is to be reviewed and removes pending files that these runs have outdated. All
    /// that can be written is, even if one file cannot; then the first error is the result.
    pub fn write_all(self) -> Result<Vec<PendingFile>> {
        let (mut written, mut trouble) = (Vec::new(), None);
        for group in self.groups.into_values() {
            match group.write(&self.kernels) {
                Ok(files) => written.extend(files),
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        trouble.map_or(Ok(written), Err)
    }
}

/// A file that is to be written, and whether it is named after a kernel for want of a variant.
struct Planned {
    path: PathBuf,
    unnamed: bool,
    known: bool,
    file: SnapshotFile,
}

impl Group {
    fn write(self, kernels: &[String]) -> Result<Vec<PendingFile>> {
        let planned = self.plan(kernels);
        for Planned { path, file, .. } in &planned {
            write(path, file)?;
        }
        self.clear_outdated(&planned)?;
        Ok(planned.into_iter().map(|p| PendingFile::new(&self.home, p.path)).collect())
    }

    /// The accepted files that a run of this command equals.
    fn is_held(&self, accepted: &Path) -> bool {
        self.seen.values().any(|seen| matches!(seen, Seen::Equal(path) if path == accepted))
    }

    /// Which files to write: for each transcript its variant's or the base, unless that is held or
    /// taken by another; then one named after the kernel.
    fn plan(&self, kernels: &[String]) -> Vec<Planned> {
        let mut order: Vec<_> = self.seen.iter().collect();
        order
            .sort_by_key(|(name, _)| kernels.iter().position(|k| k == *name).unwrap_or(usize::MAX));
        let mut planned: Vec<Planned> = Vec::new();
        for (kernel, seen) in order {
            let Seen::Differs { rendering, info, known } = seen else { continue };
            let variant = variant_for(&self.home.variants, kernel).map(str::to_string);
            let mut wanted = Wanted { params: self.params.clone(), variant, known: *known };
            let accepted = wanted.path(&self.home.dir);
            let mut path = pending_path(&accepted);
            let taken = planned.iter().find(|p| p.path == path);
            if taken.is_some_and(|p| p.file.body == *rendering) {
                continue;
            }
            let unnamed = taken.is_some() || self.is_held(&accepted);
            if unnamed {
                let alike =
                    |p: &&mut Planned| p.unnamed && p.known == *known && p.file.body == *rendering;
                if let Some(first) = planned.iter_mut().find(alike) {
                    first.file.info.also.push(kernel.clone());
                    continue;
                }
                wanted.variant = Some(kernel.clone());
                path = pending_path(&wanted.path(&self.home.dir));
            }
            let (case, body) = (&self.home.case, rendering.clone());
            let file = SnapshotFile::new(case, &self.params, info.clone(), body);
            planned.push(Planned { path, unnamed, known: *known, file });
        }
        planned
    }

    /// An unreviewed file that no longer applies misleads: each kernel of this command has a fresh
    /// result, so its older pending files go, and those of other kernels give up a base that was
    /// just proved right.
    fn clear_outdated(&self, planned: &[Planned]) -> Result<()> {
        let stem = Wanted { params: self.params.clone(), ..Wanted::default() }.stem();
        for path in pending_paths(&self.home.dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some((its_stem, variant, known)) = parse(&name) else { continue };
            if its_stem != stem || planned.iter().any(|p| p.path == path) {
                continue;
            }
            let Ok(mut file) = read(&path) else {
                // Not readable: it belongs to the kernel that it is named after, if to any.
                if variant.is_some_and(|v| self.seen.contains_key(&v)) {
                    remove(&path)?;
                }
                continue;
            };
            if self.seen.contains_key(&file.info.kernel) {
                remove(&path)?;
                continue;
            }
            let before = file.info.also.len();
            file.info.also.retain(|kernel| !self.seen.contains_key(kernel));
            if file.info.also.len() != before {
                write(&path, &file)?;
            }
            if variant.is_none() && self.is_held(&path.with_extension("")) {
                let variant = Some(file.info.kernel);
                let own = Wanted { params: self.params.clone(), variant, known };
                let own = pending_path(&own.path(&self.home.dir));
                std::fs::rename(&path, &own).map_err(|e| Diagnostic::io("rename", &path, &e))?;
            }
        }
        Ok(())
    }
}

fn pending_path(accepted: &Path) -> PathBuf {
    let mut path = accepted.as_os_str().to_owned();
    path.push(".new");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::super::review::{accept, list};
    use super::super::testing::case;
    use super::*;

    struct Bench {
        case: Case,
        params: BTreeMap<String, String>,
        _folder: tempfile::TempDir,
    }

    /// Kernel and what its run said: `=` as accepted, `!` marks a known failure.
    type Said<'a> = &'a [(&'a str, &'a str)];

    impl Bench {
        fn new(variants: &[(&str, &[&str])]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let case = case(folder.path(), "a", variants);
            Self { case, params: BTreeMap::new(), _folder: folder }
        }

        /// One command; the names and first lines of all pending files after it.
        fn command(&self, said: Said<'_>) -> Vec<String> {
            let kernels: Vec<_> = said.iter().map(|(kernel, _)| kernel.to_string()).collect();
            let mut pending = Pending::new(&kernels);
            // Runs end in any order.
            for (kernel, said) in said.iter().rev() {
                if let Some(accepted) = said.strip_prefix('=') {
                    let path = self.case.dir.join("snapshots").join(accepted);
                    pending.equal(&self.case, &self.params, kernel, &path);
                    continue;
                }
                let what = if said.starts_with('!') { What::Known } else { What::Changed };
                let info = Info { kernel: kernel.to_string(), ..Info::default() };
                pending.add(&self.case, &self.params, info, format!("$ {said}\n"), what);
            }
            pending.write_all().unwrap();
            self.pending()
        }

        fn pending(&self) -> Vec<String> {
            let files = list([&self.case]).unwrap();
            let show = |file: &PendingFile| {
                let got = file.got().unwrap();
                let name = file.path.file_name().unwrap().to_str().unwrap();
                let also = got.info.also.iter().map(|k| format!(" +{k}")).collect::<String>();
                format!("{}{also} {}", name.trim_end_matches(".snap.new"), got.body[2..].trim_end())
            };
            files.iter().map(show).collect()
        }
    }

    #[test]
    fn the_first_kernel_is_the_base_and_differing_ones_are_variants() {
        let bench = Bench::new(&[]);
        let after =
            bench.command(&[("k2", "x"), ("k1", "x"), ("k3", "y"), ("k4", "z"), ("k5", "y")]);
        assert_eq!(after, ["transcript x", "transcript@k3 +k5 y", "transcript@k4 z"]);
        let after = bench.command(&[("k4", "x"), ("k3", "y"), ("k2", "y"), ("k1", "y")]);
        assert_eq!(after, ["transcript x", "transcript@k3 +k2 +k1 y"]);
        assert_eq!(list([&bench.case]).unwrap()[0].what, What::New);
    }

    #[test]
    fn a_held_base_stays_and_only_the_other_is_pending() {
        let bench = Bench::new(&[]);
        bench.command(&[("k1", "x")]);
        accept(&list([&bench.case]).unwrap()[0], None, None).unwrap();
        assert_eq!(bench.command(&[("k1", "=transcript.snap"), ("k2", "y")]), ["transcript@k2 y"]);
        assert_eq!(list([&bench.case]).unwrap()[0].what, What::Changed);
        // Now alone, k2 would be the base; the file of its earlier result goes.
        assert_eq!(bench.command(&[("k2", "y")]), ["transcript y"]);
        // k1 proves the base right: what k2 said can only be a variant.
        assert_eq!(bench.command(&[("k1", "=transcript.snap")]), ["transcript@k2 y"]);
        assert!(bench.command(&[("k2", "=transcript.snap")]).is_empty());
    }

    #[test]
    fn known_failures_have_their_own_files() {
        let bench = Bench::new(&[]);
        let after = bench.command(&[("k1", "!a"), ("k2", "x"), ("k3", "!b")]);
        assert_eq!(after, ["transcript.known !a", "transcript x", "transcript@k3.known !b"]);
        assert_eq!(list([&bench.case]).unwrap()[0].what, What::Known);
        // The failure of k1 is gone, that of k3 is as accepted.
        let known = "=transcript@k3.known.snap";
        assert_eq!(bench.command(&[("k1", "x"), ("k2", "x"), ("k3", known)]), ["transcript x"]);
    }

    #[test]
    fn declared_variants_take_their_own_file() {
        let bench = Bench::new(&[("old", &["k1*"])]);
        let after = bench.command(&[("k1", "a"), ("k2", "x"), ("k11", "a"), ("k12", "b")]);
        assert_eq!(after, ["transcript x", "transcript@k12 b", "transcript@old a"]);
    }

    #[test]
    fn other_parameters_and_kernels_are_left_alone() {
        let mut bench = Bench::new(&[]);
        bench.command(&[("k1", "x"), ("k2", "y"), ("k3", "y")]);
        bench.params = [("a".to_string(), "1".to_string())].into();
        let after = bench.command(&[("k1", "z")]);
        assert_eq!(after, ["transcript.a-1 z", "transcript x", "transcript@k2 +k3 y"]);
        bench.params.clear();
        let after = bench.command(&[("k3", "=transcript@old.snap")]);
        assert_eq!(after, ["transcript.a-1 z", "transcript x", "transcript@k2 y"]);
    }

    #[test]
    fn a_retry_takes_the_first_results_place() {
        let bench = Bench::new(&[]);
        let mut pending = Pending::new(&["k1".into()]);
        let info = Info { kernel: "k1".into(), ..Info::default() };
        pending.add(&bench.case, &bench.params, info, "$ x\n".into(), What::Changed);
        pending.equal(&bench.case, &bench.params, "k1", Path::new("transcript.snap"));
        assert!(pending.write_all().unwrap().is_empty());
        assert!(bench.pending().is_empty());
        assert!(!bench.case.dir.join("snapshots").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let bench = Bench::new(&[]);
        std::fs::write(bench.case.dir.join("snapshots"), "a file").unwrap();
        let mut pending = Pending::new(&[]);
        let info = Info { kernel: "k1".into(), ..Info::default() };
        pending.add(&bench.case, &bench.params, info, "$ x\n".into(), What::New);
        assert!(pending.write_all().is_err());
    }
}
