//! A person's decision on pending transcripts: accept them as the truth, as a variant with a
//! reason, or reject them.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::file::{SnapshotFile, read, read_if_there, replace};
use super::names::{Wanted, parse, variant_for};
use super::pending::What;
use crate::manifest::{Case, Diagnostic, Place, Result, Variant};

/// A transcript that waits for review.
#[derive(Clone, Debug)]
pub struct PendingFile {
    /// The case's name.
    pub case: String,
    /// The file, `*.snap.new`.
    pub path: PathBuf,
    /// What it becomes when accepted; provisional where `unnamed`.
    pub target: PathBuf,
    /// What it is to the accepted ones.
    pub what: What,
    /// The variant that it is for; a kernel's name where `unnamed`.
    pub variant: Option<String>,
    /// Its kernel differs from others and no `[variant.NAME]` says so yet: accepting it wants a
    /// reason, and may give the variant a name other than the kernel's.
    pub unnamed: bool,
    home: Home,
}

/// What of a case the review needs.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub case: String,
    pub dir: PathBuf,
    pub variants: BTreeMap<String, Variant>,
}

/// All pending files of these cases, in order of their names.
pub fn list<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Result<Vec<PendingFile>> {
    let mut files = Vec::new();
    for case in cases {
        let home = Home::of(case);
        let paths = pending_paths(&case.dir)?;
        files.extend(paths.into_iter().map(|path| PendingFile::new(&home, path)));
    }
    Ok(files)
}

/// Makes a pending transcript the accepted one and says which file that is.
///
/// With a `variant_name`, or where it is `unnamed`, it becomes a variant for its kernels: a
/// `[variant.NAME]` with the reason goes to the end of case.toml, first, so that an interruption
/// leaves nothing that a second `accept` would not put right. Fails without a reason there, where
/// another variant covers the kernel or has the name, and where the file is not a snapshot.
pub fn accept(
    file: &PendingFile,
    reason: Option<&str>,
    variant_name: Option<&str>,
) -> Result<PathBuf> {
    let got = file.got()?;
    let mut target = file.target.clone();
    if file.unnamed || (variant_name.is_some() && variant_name != file.variant.as_deref()) {
        let name = variant_name.or(file.variant.as_deref()).unwrap_or(&got.info.kernel);
        check_name(name)?;
        let mut kernels = vec![got.info.kernel.clone()];
        kernels.extend(got.info.also.iter().cloned());
        for kernel in &kernels {
            if let Some(other) = variant_for(&file.home.variants, kernel) {
                return Err(Diagnostic::usage(format!(
                    "{kernel} belongs to the variant {other} of {}, whose transcript is another",
                    file.case
                ))
                .help(format!(
                    "narrow the kernels of [variant.{other}] in case.toml, then accept again"
                )));
            }
        }
        let Some(reason) = reason.map(str::trim).filter(|reason| !reason.is_empty()) else {
            return Err(Diagnostic::usage(format!(
                "{} on {} differs from other kernels, and no variant says why",
                file.case,
                kernels.join(", ")
            ))
            .help("accept it with a reason; it becomes a [variant.NAME] in case.toml"));
        };
        add_variant(&file.home.dir.join("case.toml"), name, &kernels, reason)?;
        target = file.renamed(name);
    }
    std::fs::rename(&file.path, &target).map_err(|e| Diagnostic::io("accept", &file.path, &e))?;
    Ok(target)
}

/// Removes a pending transcript; the accepted ones stay.
pub fn reject(file: &PendingFile) -> Result<()> {
    remove(&file.path)
}

impl PendingFile {
    pub(super) fn new(home: &Home, path: PathBuf) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (_, variant, known) = parse(&name).unwrap_or_default();
        let mut file = Self {
            case: home.case.clone(),
            target: path.with_extension(""),
            what: if known { What::Known } else { What::New },
            unnamed: false,
            home: home.clone(),
            variant,
            path,
        };
        if let Some(variant) = file.variant.clone() {
            let kernel = read(&file.path).map_or_else(|_| variant.clone(), |f| f.info.kernel);
            match variant_for(&home.variants, &kernel) {
                Some(covering) if covering == variant => {}
                // Its variant was declared meanwhile and has no file yet.
                Some(covering) if !file.renamed(covering).exists() => {
                    file.target = file.renamed(covering);
                    file.variant = Some(covering.into());
                }
                _ => file.unnamed = true,
            }
        }
        if !known && (file.target.exists() || file.sibling(None, false).exists()) {
            file.what = What::Changed;
        }
        file
    }

    /// The transcript itself.
    pub fn got(&self) -> Result<SnapshotFile> {
        read(&self.path)
    }

    /// What it is best compared with: what it would replace, else what its kernel has now; for a
    /// known failure without a transcript yet that is the right one. `None`: nothing is accepted.
    pub fn accepted(&self) -> Result<Option<SnapshotFile>> {
        let kernel = read(&self.path).map(|file| file.info.kernel).ok();
        let covering = kernel.and_then(|kernel| variant_for(&self.home.variants, &kernel));
        let mut places = vec![self.target.clone()];
        for known in [self.what == What::Known, false] {
            places.extend(covering.map(|name| self.sibling(Some(name), known)));
            places.push(self.sibling(None, known));
        }
        for place in places {
            if let Some(file) = read_if_there(&place)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// The target under another variant's name.
    fn renamed(&self, variant: &str) -> PathBuf {
        self.sibling(Some(variant), self.what == What::Known)
    }

    /// The accepted file of the same case and parameters for a variant.
    fn sibling(&self, variant: Option<&str>, known: bool) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = parse(&name).map_or("", |(stem, ..)| stem);
        let plain = Wanted { variant: variant.map(str::to_string), known, ..Wanted::default() };
        let ending = plain.file_name();
        let ending = ending.strip_prefix("transcript").unwrap_or_default();
        self.path.with_file_name(format!("{stem}{ending}"))
    }
}

impl Home {
    pub fn of(case: &Case) -> Self {
        Self { case: case.name.clone(), dir: case.dir.clone(), variants: case.variants.clone() }
    }
}

/// The pending files in a case's folder, sorted; none where it has no snapshots.
pub(super) fn pending_paths(case: &Path) -> Result<Vec<PathBuf>> {
    let folder = case.join("snapshots");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Diagnostic::io("list", &folder, &error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Diagnostic::io("list", &folder, &e))?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.ends_with(".snap.new") && parse(n).is_some()) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Removes a file; one that is gone already is no error.
pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Diagnostic::io("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// A variant's name stands in a file's name and in case.toml.
fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
        return Ok(());
    }
    Err(Diagnostic::usage(format!("`{name}` cannot be a variant's name"))
        .help("use up to 64 letters, digits, `_`, `+`, `-` and `.`"))
}

/// Appends a variant to case.toml as text, so that the rest keeps its form and comments.
fn add_variant(manifest: &Path, name: &str, kernels: &[String], reason: &str) -> Result<()> {
    // A link stays a link.
    let real = manifest.canonicalize().map_err(|e| Diagnostic::io("read", manifest, &e))?;
    let io = |e: io::Error| Diagnostic::io("read", manifest, &e);
    let mut text = std::fs::read_to_string(&real).map_err(io)?;
    let mode = std::fs::metadata(&real).map_err(io)?.permissions().mode() & 0o777;
    let parse = |text: &str| {
        toml::from_str::<toml::Table>(text).map_err(|error| {
            let place =
                error.span().map(|span| Place { file: manifest.into(), text: text.into(), span });
            let wrong = Diagnostic::usage(error.message().to_string())
                .help("the variant goes to the end of this file: put it right, then accept again");
            match place {
                Some(place) => wrong.at(place),
                None => wrong,
            }
        })
    };
    let table = parse(&text)?;
    if let Some(there) = table.get("variant").and_then(|v| v.get(name)) {
        let globs = there.get("kernels").and_then(|k| k.clone().try_into().ok());
        let variant = Variant { kernels: globs.unwrap_or_default(), reason: String::new() };
        let there = BTreeMap::from([(name.to_string(), variant)]);
        // Accepted a moment ago, with another transcript of the same kernels.
        if kernels.iter().all(|kernel| variant_for(&there, kernel).is_some()) {
            return Ok(());
        }
        return Err(Diagnostic::usage(format!("case.toml has a variant {name} already")).help(
            "choose another name, or add the kernel to that variant's list and run the case again",
        ));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let key = if bare { name.to_string() } else { quoted(name) };
    let globs: Vec<_> = kernels.iter().map(|kernel| quoted(&globset::escape(kernel))).collect();
    let (globs, reason) = (globs.join(", "), quoted(reason));
    text.push_str(&format!("\n[variant.{key}]\nkernels = [{globs}]\nreason = {reason}\n"));
    parse(&text)?;
    replace(&real, text.as_bytes(), mode)
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::file::{Info, write};
    use super::super::testing::case;
    use super::*;

    fn put(case: &Case, name: &str, kernel: &str, also: &[&str]) {
        let also = also.iter().map(|k| k.to_string()).collect();
        let info = Info { kernel: kernel.into(), also, ..Info::default() };
        let file = SnapshotFile::new("a", &BTreeMap::new(), info, format!("$ {kernel}\n"));
        write(&case.dir.join("snapshots").join(name), &file).unwrap();
    }

    fn only(case: &Case) -> PendingFile {
        let mut files = list([case]).unwrap();
        assert_eq!(files.len(), 1);
        files.remove(0)
    }

    fn manifest(case: &Case) -> String {
        std::fs::read_to_string(case.dir.join("case.toml")).unwrap()
    }

    fn names(case: &Case) -> Vec<String> {
        let entries = std::fs::read_dir(case.dir.join("snapshots")).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn accepting_renames_and_rejecting_removes() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), "a", &[]);
        assert!(list([&case]).unwrap().is_empty());
        put(&case, "transcript.a-1.snap.new", "k1", &[]);
        let file = only(&case);
        assert_eq!((file.what, file.unnamed, file.accepted().unwrap()), (What::New, false, None));
        assert!(accept(&file, None, None).unwrap().ends_with("snapshots/transcript.a-1.snap"));
        assert_eq!(names(&case), ["transcript.a-1.snap"]);

        put(&case, "transcript.a-1.snap.new", "k2", &[]);
        let file = only(&case);
        assert_eq!(file.what, What::Changed);
        assert_eq!(file.accepted().unwrap().unwrap().info.kernel, "k1");
        reject(&file).unwrap();
        assert_eq!(names(&case), ["transcript.a-1.snap"]);
        assert!(accept(&file, None, None).unwrap_err().message().contains("No such file"));
        assert!(reject(&file).is_ok());
    }

    #[test]
    fn a_variant_wants_a_reason_and_goes_into_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), "a", &[]);
        put(&case, "transcript.snap", "k1", &[]);
        put(&case, "transcript.b-1@uml-5.10.known.snap.new", "uml-5.10", &["k[3]"]);
        let file = only(&case);
        assert_eq!((file.what, file.unnamed), (What::Known, true));
        assert_eq!(file.accepted().unwrap(), None);
        put(&case, "transcript.b-1.snap", "k2", &[]);
        assert_eq!(file.accepted().unwrap().unwrap().info.kernel, "k2");
        std::fs::remove_file(case.dir.join("snapshots/transcript.b-1.snap")).unwrap();
        let before = manifest(&case);
        assert!(accept(&file, None, None).unwrap_err().way_out().unwrap().contains("reason"));
        assert!(accept(&file, Some("  "), None).is_err());
        assert!(accept(&file, Some("r"), Some("a/b")).is_err());
        assert_eq!(manifest(&case), before);
        assert_eq!(names(&case).len(), 2);

        accept(&file, Some("says \"no\"\nsince 6.0"), None).unwrap();
        assert_eq!(names(&case), ["transcript.b-1@uml-5.10.known.snap", "transcript.snap"]);
        let text = manifest(&case);
        assert!(text.starts_with(&before), "{text}");
        let table: toml::Table = toml::from_str(&text).unwrap();
        let variant =
            table["variant"]["uml-5.10"].clone().try_into::<BTreeMap<String, toml::Value>>();
        let variant = variant.unwrap();
        assert_eq!(variant["reason"].as_str(), Some("says \"no\"\nsince 6.0"));
        let globs: Vec<_> =
            variant["kernels"].as_array().unwrap().iter().map(|g| g.as_str().unwrap()).collect();
        assert_eq!(globs, ["uml-5.10", "k[[]3[]]"]);
    }

    #[test]
    fn a_name_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), "a", &[]);
        put(&case, "transcript@uml-5.10.snap.new", "uml-5.10", &[]);
        std::fs::set_permissions(case.dir.join("case.toml"), PermissionsExt::from_mode(0o640))
            .unwrap();
        accept(&only(&case), Some("old"), Some("old")).unwrap();
        assert_eq!(names(&case), ["transcript@old.snap"]);
        assert!(
            manifest(&case)
                .ends_with("\n\n[variant.old]\nkernels = [\"uml-5.10\"]\nreason = \"old\"\n")
        );
        let mode = std::fs::metadata(case.dir.join("case.toml")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        // A base may become a variant too; the name is taken, though.
        put(&case, "transcript.snap.new", "k2", &[]);
        let taken = accept(&only(&case), Some("r"), Some("old")).unwrap_err();
        assert!(taken.message().contains("already"), "{taken}");
        accept(&only(&case), Some("r"), Some("new")).unwrap();
        assert_eq!(names(&case), ["transcript@new.snap", "transcript@old.snap"]);
    }

    #[test]
    fn two_transcripts_of_one_kernel_make_one_variant() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), "a", &[]);
        put(&case, "transcript.a-1@k1.snap.new", "k1", &[]);
        put(&case, "transcript.a-2@k1.snap.new", "k1", &[]);
        for file in list([&case]).unwrap() {
            accept(&file, Some("r"), Some("old")).unwrap();
        }
        assert_eq!(names(&case), ["transcript.a-1@old.snap", "transcript.a-2@old.snap"]);
        assert_eq!(manifest(&case).matches("[variant.old]").count(), 1);
    }

    #[test]
    fn a_declared_variant_needs_no_reason() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), "a", &[("old", &["uml-5.*"])]);
        put(&case, "transcript@old.snap.new", "uml-5.10", &[]);
        assert!(!only(&case).unnamed);
        accept(&only(&case), None, None).unwrap();
        // Another kernel of that variant differs from it.
        put(&case, "transcript@uml-5.4.snap.new", "uml-5.4", &[]);
        assert!(only(&case).unnamed);
        assert_eq!(only(&case).accepted().unwrap().unwrap().info.kernel, "uml-5.10");
        let error = accept(&only(&case), Some("r"), None).unwrap_err();
        assert!(error.way_out().unwrap().contains("[variant.old]"), "{error}");
    }

    #[test]
    fn an_interrupted_acceptance_is_finished_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), "a", &[("old", &["uml-5.10"])]);
        put(&case, "transcript@uml-5.10.snap.new", "uml-5.10", &[]);
        let before = manifest(&case);
        accept(&only(&case), None, None).unwrap();
        assert_eq!(names(&case), ["transcript@old.snap"]);
        assert_eq!(manifest(&case), before);
    }

    #[test]
    fn broken_files_are_refused_and_can_be_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), "a", &[]);
        put(&case, "transcript.snap.new", "k1", &[]);
        std::fs::write(case.dir.join("snapshots/transcript.snap.new"), "nonsense").unwrap();
        let file = only(&case);
        assert!(accept(&file, None, None).unwrap_err().way_out().unwrap().contains("remove it"));
        reject(&file).unwrap();

        put(&case, "transcript@k1.snap.new", "k1", &[]);
        std::fs::write(case.dir.join("case.toml"), "summary = \"a\"\nvariant = {}\n").unwrap();
        let error = accept(&only(&case), Some("r"), None).unwrap_err();
        assert!(error.place().is_some(), "{error}");
        assert_eq!(manifest(&case), "summary = \"a\"\nvariant = {}\n");
        assert_eq!(names(&case), ["transcript@k1.snap.new"]);
    }
}
