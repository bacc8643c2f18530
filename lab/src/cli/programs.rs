//! Programs of the host that the images of this project's cases want and that are not here: for
//! `lab doctor`, and for set-up scripts that install their packages.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::{self, TOOL_NAMES};
use crate::manifest::Project;

/// A program that some case cannot do without.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    /// Its name, or its absolute path.
    pub program: String,
    /// Debian's package, where the lab knows it.
    pub package: Option<&'static str>,
    /// Images and cases that want it: `image base`, `the case dm-linear`.
    pub askers: Vec<String>,
}

/// What the host lacks of the base image and of all cases whose manifests can be read, by name.
pub fn missing(project: &Project) -> Vec<Missing> {
    missing_where(project, &image::on_host)
}

fn missing_where(project: &Project, on_host: &dyn Fn(&str) -> bool) -> Vec<Missing> {
    let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let cases: Vec<_> = project.cases.values().filter_map(|case| case.as_ref().ok()).collect();
    let mut images: BTreeSet<&str> = cases.iter().map(|case| &*case.machine.image).collect();
    images.insert("base");
    for spec in images.into_iter().filter_map(|name| project.images.get(name)) {
        for program in spec.programs.iter().chain([&spec.shell]) {
            wanted.entry(program).or_default().push(format!("image {}", spec.name));
        }
    }
    for case in cases {
        for program in &case.needs.programs {
            wanted.entry(program).or_default().push(format!("the case {}", case.name));
        }
    }
    let absent = |program: &str| !TOOL_NAMES.contains(&program) && !on_host(program);
    wanted
        .into_iter()
        .filter(|(program, _)| absent(program))
        .map(|(program, askers)| Missing {
            program: program.to_string(),
            package: image::debian_package(program),
            askers,
        })
        .collect()
}

/// One line each, `PACKAGE|PROGRAM|WHY`, with no package where none is known.
pub fn lines(missing: &[Missing]) -> String {
    let line = |m: &Missing| {
        let package = m.package.unwrap_or_default();
        format!("{package}|{}|goes into {}\n", m.program, m.askers.join(", "))
    };
    missing.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_missing_program_once_with_all_who_want_it() {
        let folder = tempfile::tempdir().unwrap();
        for (case, program) in [("one", "dmsetup"), ("two", "dmsetup"), ("three", "odd-program")] {
            let dir = folder.path().join("cases").join(case);
            std::fs::create_dir_all(&dir).unwrap();
            let text = format!(
                "summary = 's'\n[needs]\nprograms = ['{program}', 'noise', 'cat']\n[[step]]\nrun = 'x'\n"
            );
            std::fs::write(dir.join("case.toml"), text).unwrap();
        }
        std::fs::write(folder.path().join("lab.toml"), "").unwrap();
        let project = Project::load(folder.path()).unwrap();
        let lacking = |here: &'static [&str]| missing_where(&project, &move |p| !here.contains(&p));
        assert_eq!(lacking(&[]), []);
        assert_eq!(
            lines(&lacking(&["dmsetup", "odd-program", "noise"])),
            "dmsetup|dmsetup|goes into the case one, the case two\n\
             |odd-program|goes into the case three\n"
        );
        let dash = lacking(&["dash"]);
        assert_eq!((dash[0].package, &*dash[0].askers[0]), (Some("dash"), "image base"));
    }
}
