//! Finds a project, lays its lab.toml over the embedded one, and reads its images and cases.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::source::Source;
use super::values::is_name;
use super::{
    Bounds, Case, Diagnostic, ImageSpec, Project, Result, case_toml, image_toml, kernel_toml,
    lab_toml,
};

/// What is known without a lab.toml, commented.
const DEFAULT: &str = include_str!("default.toml");

impl Project {
    /// The project that the folder `start` belongs to: that of the nearest lab.toml in it or above
    /// it; without one, `start` itself. Files below `start` are named relative to it in errors.
    ///
    /// A wrong lab.toml or image is an error; a wrong case only stands as one in
    /// [`Project::cases`].
    pub fn load(start: &Path) -> Result<Self> {
        let start = std::fs::canonicalize(start).map_err(|e| Diagnostic::io("open", start, &e))?;
        let root = start.ancestors().find(|folder| folder.join("lab.toml").is_file());
        let file = root.map(|root| root.join("lab.toml"));
        let root = root.unwrap_or(&start).to_path_buf();
        let shown = |path: &Path| Self::shown(path, &start).to_path_buf();

        let own = file.as_ref().map(|file| Source::read(file, &shown(file))).transpose()?;
        let mut project = Self::of_lab_toml(&root, own.as_ref())?;
        project.file = file;
        project.images = images(&root, &shown)?;
        project.cases = cases(&project, &shown)?;
        Ok(project)
    }

    /// What lab.toml says, laid over the embedded one; no images and no cases yet.
    pub(super) fn of_lab_toml(root: &Path, own: Option<&Source>) -> Result<Self> {
        let default = lab_toml::read(&Source::new("the embedded default.toml", DEFAULT), root)?;
        let mut project = Self {
            root: root.to_path_buf(),
            file: None,
            debian_mirror: None,
            bounds: Bounds::default(),
            default_kernels: default.default_kernels.unwrap_or_default(),
            kernels: BTreeMap::new(),
            images: BTreeMap::new(),
            known: default.known,
            matrices: default.matrices,
            cases: BTreeMap::new(),
        };
        project.bounds.set(default.bounds);
        let mut kernels = default.kernels;
        let mut mentioned = default.mentioned;
        if let Some(own) = own {
            let own = lab_toml::read(own, root)?;
            project.debian_mirror = own.mirror;
            project.bounds.set(own.bounds);
            project.default_kernels = own.default_kernels.unwrap_or(project.default_kernels);
            project.known.extend(own.known);
            project.matrices.extend(own.matrices);
            kernels.extend(own.kernels);
            mentioned.extend(own.mentioned);
        }
        project.kernels = kernel_toml::flatten(&kernels)?;
        let unknown = mentioned.into_iter().find(|(name, _)| !project.kernels.contains_key(name));
        match unknown {
            Some((name, at)) => Err(kernel_toml::unknown(&name, project.kernels.keys()).at(at)),
            None => Ok(project),
        }
    }
}

/// The embedded image and those of images/.
fn images(root: &Path, shown: &dyn Fn(&Path) -> PathBuf) -> Result<BTreeMap<String, ImageSpec>> {
    let base = Source::new("the embedded base.toml", image_toml::BASE);
    let base = image_toml::read(&base, "base", None)?;
    let mut images = BTreeMap::from([("base".to_string(), base)]);
    let folder = root.join("images");
    for path in entries(&folder, shown)? {
        if path.extension().is_none_or(|extension| extension != "toml") || !path.is_file() {
            continue;
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if !is_name(name) {
            let shown = shown(&path);
            return Err(Diagnostic::usage(format!("{} has no name for an image", shown.display()))
                .help("rename it: letters, digits, `.`, `_`, `+` and `-` before .toml"));
        }
        let source = Source::read(&path, &shown(&path))?;
        images.insert(name.to_string(), image_toml::read(&source, name, Some(&folder))?);
    }
    Ok(images)
}

/// The cases of cases/; a folder without a case.toml is none.
fn cases(
    project: &Project,
    shown: &dyn Fn(&Path) -> PathBuf,
) -> Result<BTreeMap<String, Result<Case>>> {
    let around = case_toml::Around {
        root: &project.root,
        images: &project.images,
        kernels: project.file.is_some().then_some(&project.kernels),
    };
    let mut cases = BTreeMap::new();
    for dir in entries(&project.root.join("cases"), shown)? {
        let file = dir.join("case.toml");
        // A link that leads nowhere is a case that cannot be read, not none.
        if file.symlink_metadata().is_err() {
            continue;
        }
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let case = Source::read(&file, &shown(&file))
            .and_then(|source| case_toml::read(&source, &name, &dir, &around));
        cases.insert(name, case);
    }
    Ok(cases)
}

/// What a folder has, in name order; nothing where there is no such folder.
fn entries(folder: &Path, shown: &dyn Fn(&Path) -> PathBuf) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    match read() {
        Ok(mut paths) => {
            paths.sort();
            Ok(paths)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Diagnostic::io("read", &shown(folder), &error)),
    }
}

/// Calls `visit` with every entry below `dir`, its path below it, and whether it is a folder;
/// folders for which it says false are left out. Links to files count as files.
pub(super) fn walk(
    dir: &Path,
    below: &str,
    visit: &mut dyn FnMut(&Path, &str, bool) -> bool,
) -> Result<()> {
    for path in entries(dir, &Path::to_path_buf)? {
        let strange = |what: &str| {
            Diagnostic::usage(format!("{} {what}", path.display()))
                .help("a case brings along files and folders; put the rest elsewhere")
        };
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(strange("has a name that is not UTF-8"));
        };
        let inner = if below.is_empty() { name.into() } else { format!("{below}/{name}") };
        let link = path.is_symlink();
        let kind = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            // An editor's lock is a dot file that links to nothing.
            Err(_) if name.starts_with('.') => continue,
            Err(_) if link => return Err(strange("is a link that leads nowhere")),
            Err(error) => return Err(Diagnostic::io("read", &path, &error)),
        };
        if !visit(&path, &inner, kind.is_dir()) {
            continue;
        }
        if kind.is_dir() && link {
            // It might lead above itself.
            return Err(strange("is a link to a folder"));
        } else if kind.is_dir() {
            walk(&path, &inner, visit)?;
        } else if !kind.is_file() {
            return Err(strange("is neither a file nor a folder"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Arch, Fault};
    use super::*;

    /// A folder with these files.
    pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    const CASE: &str = "summary = 's'\n[[step]]\nrun = 'true'\n";

    #[test]
    fn without_a_lab_toml_the_embedded_one_applies() {
        let folder = folder(&[("cases/a/case.toml", CASE), ("cases/notes/README", "")]);
        let project = Project::load(folder.path()).unwrap();
        assert!(!project.has_file());
        assert_eq!(project.default_kernels, ["uml-6.1"]);
        let month = Bounds::DAY * 30;
        let bounds = Bounds { runs: 500, run_age: month, cache_age: month };
        assert_eq!(project.bounds, bounds);
        let names: Vec<&str> = project.kernels.keys().map(String::as_str).collect();
        let known = "cloud-5.10 cloud-6.1 cloud-6.12 uml-5.10 uml-6.1 uml-6.12 uml-7.2";
        assert_eq!(names.join(" "), known);
        assert_eq!(project.kernels["uml-7.2"].arch, Arch::Um);
        assert_eq!(project.kernels["cloud-6.1"].arch, Arch::X86_64);
        assert!(project.kernels.values().all(|kernel| kernel.cmdline.is_empty()));
        assert!(project.images.contains_key("base"));
        assert!(project.cases["a"].is_ok() && project.cases.len() == 1);
    }

    #[test]
    fn a_lab_toml_is_found_upwards_and_stands_over_the_embedded_one() {
        let lab = r#"
            default-kernels = ["mine"]
            [debian]
            mirror = "http://mirror.invalid/debian/"
            [runs]
            keep = 20
            [kernel.mine]
            extends = "uml-6.1"
            cmdline = ["quiet"]
            [kernel."uml-5.10"]
            path = "linux"
            arch = "um"
            [[known]]
            case = "a*"
            kernel = ["uml-5*"]
            reason = "old"
            [matrix.ci]
            kernels = ["mine"]
            cases = ["*"]
        "#;
        let image = "summary = 's'\nshell = 'dash'";
        let folder = folder(&[
            ("lab.toml", lab),
            ("images/fio.toml", image),
            ("cases/a/case.toml", CASE),
            ("cases/b/case.toml", "summry = 's'"),
        ]);
        let start = folder.path().join("cases/a");
        let project = Project::load(&start).unwrap();
        assert_eq!(project.root, folder.path().canonicalize().unwrap());
        assert_eq!(project.debian_mirror.as_deref(), Some("http://mirror.invalid/debian"));
        assert_eq!(project.default_kernels, ["mine"]);
        assert_eq!((project.bounds.runs, project.bounds.run_age), (20, Bounds::DAY * 30));
        assert_eq!(project.kernels["mine"].cmdline, ["quiet"]);
        assert!(matches!(&project.kernels["uml-5.10"].provider,
            super::super::Provider::Path { path } if *path == project.root.join("linux")));
        assert!(project.images.contains_key("fio") && project.matrices.contains_key("ci"));
        assert_eq!(project.known_for("a", "uml-5.10").unwrap().reason, "old");
        assert!(project.known_for("a", "uml-6.1").is_none());
        // A wrong case harms no other.
        assert!(project.cases["a"].is_ok());
        let error = project.cases["b"].as_ref().unwrap_err();
        assert!(error.to_string().contains("did you mean `summary`?"), "{error}");
    }

    #[test]
    fn errors_name_files_as_seen_from_the_start() {
        let error = |files: &[(&str, &str)]| {
            let folder = folder(files);
            Project::load(folder.path()).unwrap_err()
        };
        let text = error(&[("lab.toml", "a = 1\nb =")]).to_string();
        assert!(text.starts_with("lab.toml:2:4: this is not TOML"), "{text}");
        let text = error(&[("lab.toml", "default-kernels = ['uml-6.2']")]).to_string();
        assert!(text.starts_with("lab.toml:1:20: there is no kernel `uml-6.2`"), "{text}");
        let text = error(&[("lab.toml", "default-kernel = ['x']")]).to_string();
        assert!(text.contains("did you mean `default-kernels`?"), "{text}");
        let text = error(&[("lab.toml", "[matrix.ci]\nkernels = ['uml-9']\ncases = ['*']")]);
        assert_eq!(text.place().unwrap().line_column(), (2, 12));
        let text = error(&[("lab.toml", "debian.mirror = 'mirror.example'")]).to_string();
        assert!(text.contains("is not the URL of a mirror"), "{text}");
        let text = error(&[("lab.toml", "[runs]\nkeep = 0")]).to_string();
        assert!(text.starts_with("lab.toml:2:8: `keep` = 0 is out of range (from 1 to"), "{text}");
        let text = error(&[("lab.toml", "[runs]\ndays = '30'")]).to_string();
        assert!(text.starts_with("lab.toml:2:8: `days` wants a whole number"), "{text}");
        let text = error(&[("lab.toml", "[cache]\nkeep = 3")]).to_string();
        assert!(text.contains("`keep` belongs in [runs]"), "{text}");
        let error = error(&[("images/x.toml", "shell = 3")]);
        assert!(error.to_string().starts_with("images/x.toml:1:9: `shell` wants a string"));
        assert_eq!(error.fault(), Fault::Usage);
    }

    #[test]
    fn a_file_that_is_not_utf8_has_its_place() {
        let folder = folder(&[]);
        std::fs::write(folder.path().join("lab.toml"), b"# ok\n# \xff\n").unwrap();
        let text = Project::load(folder.path()).unwrap_err().to_string();
        assert!(text.starts_with("lab.toml:2:3: this is not UTF-8"), "{text}");
    }

    #[test]
    fn a_start_that_is_not_there_is_trouble() {
        let error = Project::load(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.message(), "cannot open /nowhere/at/all: No such file or directory");
    }
}
