//! What must hold for any text of a manifest: `lab::fuzzing` calls these. Each text is a value that
//! keeps what was promised of it, or an error with a place in that text.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::source::Source;
use super::{Action, Case, Diagnostic, Project, Provider, Result, case_toml, image_toml};
use crate::fuzzing::check_error;
use crate::snapshot::{Filters, Wanted};

/// The folder of the case that is read: it has files that a case may share or change.
const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cases/hostfs-file-dentry");

/// lab.toml, laid over the embedded one.
pub(crate) fn lab_toml(data: &[u8]) {
    let root = Path::new("/project");
    let read = source("lab.toml", data).and_then(|s| Project::of_lab_toml(root, Some(&s)));
    let Some(project) = sound(read, data) else { return };
    assert!(!project.default_kernels.is_empty());
    for (name, kernel) in &project.kernels {
        assert_eq!(name, &kernel.name);
        assert!(kernel.provider.same_wish(&kernel.provider));
        survives(kernel);
        if let Provider::Path { path } = &kernel.provider {
            assert!(path.is_absolute(), "{}", path.display());
        }
    }
    // What it names is there: nothing but the command line can name an unknown kernel.
    let selected = project.select_kernels(&project.default_kernels);
    assert!(selected.is_ok(), "{selected:?}");
    for known in &project.known {
        survives(known);
        for kernel in project.kernels.keys() {
            project.known_for(&known.case, kernel);
        }
    }
}

/// images/NAME.toml.
pub(crate) fn image_toml(data: &[u8]) {
    let folder = Path::new("/project/images");
    let read = source("images/x.toml", data).and_then(|s| image_toml::read(&s, "x", Some(folder)));
    let Some(image) = sound(read, data) else { return };
    survives(&image);
    assert!(image.files.iter().all(|file| file.host.is_absolute() && file.guest.is_absolute()));
    assert!(image.texts.keys().all(|path| Path::new(path).is_absolute()));
}

/// cases/NAME/case.toml.
pub(crate) fn case_toml(data: &[u8]) {
    thread_local! {
        static PROJECT: Project = Project::of_lab_toml(Path::new("/project"), None)
            .expect("the embedded lab.toml is valid");
    }
    PROJECT.with(|project| {
        let base = image_toml::read(&Source::new("base.toml", image_toml::BASE), "base", None);
        let images = [("base".to_string(), base.expect("the embedded image is valid"))].into();
        let dir = Path::new(DIR);
        let around = case_toml::Around {
            root: dir.parent().expect("it has one"),
            images: &images,
            kernels: Some(&project.kernels),
        };
        let read = source("cases/a/case.toml", data)
            .and_then(|source| case_toml::read(&source, "a", dir, &around));
        if let Some(case) = sound(read, data) {
            check_case(&case);
        }
    });
}

/// What a valid case keeps.
fn check_case(case: &Case) {
    survives(case);
    assert!(!case.summary.is_empty() && !case.summary.contains('\n'));
    let machine = &case.machine;
    assert!(!case.steps.is_empty());
    for step in &case.steps {
        let limit = step.timeout.unwrap_or(machine.timeout);
        assert!(!limit.is_zero() && limit <= machine.timeout);
        if let Action::Run(run) = &step.action {
            assert!(!run.contains('\0'));
        }
    }
    assert!(machine.disks.iter().all(|disk| disk.size > 0 && disk.size % 512 == 0));
    assert!(machine.shares.iter().all(|s| s.host.is_absolute() && s.guest.is_absolute()));
    Filters::compile(&case.filters).expect("a valid case's filters are patterns");
    // Every run has a snapshot of its own, in a file of its own.
    let instances = case.instances();
    let name = |params: &std::collections::BTreeMap<String, String>| {
        let name = Wanted { params: params.clone(), variant: None, known: false }.file_name();
        assert!(name.len() <= 255 && !name.contains(['/', '\0']), "{name}");
        name
    };
    let names: std::collections::BTreeSet<String> = instances.iter().map(name).collect();
    assert_eq!(names.len(), instances.len());
}

fn source(name: &str, data: &[u8]) -> Result<Source> {
    Source::of_bytes(Path::new(name), data.to_vec())
}

/// The value; an error is held against what must hold for errors.
fn sound<T>(read: Result<T, Diagnostic>, data: &[u8]) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            check_error(&error, &String::from_utf8_lossy(data));
            assert!(error.way_out().is_some(), "no way out: {error}");
            None
        }
    }
}

/// The plan of a run, which is JSON, brings a declaration back as it was.
fn survives<T: Serialize + DeserializeOwned>(value: &T) {
    let json = serde_json::to_string(value).expect("plain data");
    let back: T = serde_json::from_str(&json).expect("it is JSON of that type");
    assert_eq!(serde_json::to_string(&back).expect("plain data"), json);
}
