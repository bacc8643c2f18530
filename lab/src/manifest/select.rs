//! Which cases, kernels, variants and known failures are meant.

use std::collections::BTreeMap;

use super::values::{any_fits, glob, is_glob};
use super::{Case, Diagnostic, KernelSpec, Known, Project, Result, Variant, kernel_toml, nearest};

impl Project {
    /// The cases that any of `globs` names, in the order of `globs` and then of names, each once;
    /// all where `globs` is empty. A name (not a glob) that no case has is an error, and so is a
    /// selected case whose manifest is wrong; a glob may fit none.
    pub fn select_cases(&self, globs: &[String]) -> Result<Vec<&Case>> {
        let names: Vec<&str> = self.cases.keys().map(String::as_str).collect();
        let unknown = |name: &str| {
            let error = Diagnostic::usage(format!("there is no case `{name}`"));
            match nearest(name, names.iter().copied()) {
                Some(near) => error.help(format!("did you mean `{near}`? `lab list` shows all")),
                None if is_glob(name) => error.help("`lab list` shows all"),
                None => error.help(format!("`lab list` shows all; `lab new {name}` makes it")),
            }
        };
        let selected =
            if globs.is_empty() { names.clone() } else { select(globs, &names, unknown)? };
        selected.into_iter().map(|name| self.cases[name].as_ref().map_err(Clone::clone)).collect()
    }

    /// The kernels that any of `globs` names, in the order of `globs` and then of names, each
    /// once; those of `default-kernels` where `globs` is empty. A name that no kernel has is an
    /// error; a glob may fit none.
    pub fn select_kernels(&self, globs: &[String]) -> Result<Vec<&KernelSpec>> {
        let globs = if globs.is_empty() { &self.default_kernels } else { globs };
        let names: Vec<&str> = self.kernels.keys().map(String::as_str).collect();
        let unknown = |name: &str| kernel_toml::unknown(name, self.kernels.keys());
        let selected = select(globs, &names, unknown)?;
        Ok(selected.into_iter().map(|name| &self.kernels[name]).collect())
    }

    /// The first `[[known]]` for a case on a kernel, both by name.
    pub fn known_for(&self, case: &str, kernel: &str) -> Option<&Known> {
        self.known.iter().find(|known| {
            any_fits(std::slice::from_ref(&known.case), case) && any_fits(&known.kernel, kernel)
        })
    }
}

impl Case {
    /// The variant that a kernel belongs to, the first by name where several fit.
    pub fn variant_for(&self, kernel: &str) -> Option<(&str, &Variant)> {
        self.variants
            .iter()
            .find(|(_, variant)| any_fits(&variant.kernels, kernel))
            .map(|(name, variant)| (name.as_str(), variant))
    }

    /// Every combination of parameter values, the last name changing fastest; one empty map where
    /// there are no parameters.
    pub fn instances(&self) -> Vec<BTreeMap<String, String>> {
        let mut instances = vec![BTreeMap::new()];
        for (name, values) in &self.params {
            instances = instances
                .iter()
                .flat_map(|instance| {
                    values.iter().map(|value| {
                        let mut instance = instance.clone();
                        instance.insert(name.clone(), value.clone());
                        instance
                    })
                })
                .collect();
        }
        instances
    }
}

/// `names` must be sorted.
fn select<'a>(
    globs: &[String],
    names: &[&'a str],
    unknown: impl Fn(&str) -> Diagnostic,
) -> Result<Vec<&'a str>> {
    let mut selected: Vec<&str> = Vec::new();
    for text in globs {
        let fits: Vec<&str> = match names.iter().find(|name| *name == text) {
            Some(name) => vec![name],
            None if is_glob(text) => {
                let glob = glob(text).map_err(|why| {
                    Diagnostic::usage(format!("`{text}` {why}"))
                        .help("globs have *, ?, [ab] and {a,b}; quote them for the shell")
                })?;
                names.iter().copied().filter(|name| glob.is_match(name)).collect()
            }
            None => return Err(unknown(text)),
        };
        for name in fits {
            if !selected.contains(&name) {
                selected.push(name);
            }
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::super::project::tests::folder;
    use super::*;

    const CASE: &str = "summary = 's'\n[[step]]\nrun = 'true'\n";

    fn globs(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn cases_by_name_and_glob_in_the_order_asked_for() {
        let folder = folder(&[
            ("cases/dm-linear/case.toml", CASE),
            ("cases/dm-thin/case.toml", CASE),
            ("cases/overlay/case.toml", CASE),
            ("cases/wrong/case.toml", "x = 1"),
        ]);
        let project = Project::load(folder.path()).unwrap();
        let names = |texts: &[&str]| -> Result<String> {
            let cases = project.select_cases(&globs(texts))?;
            Ok(cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(&["overlay", "dm-*", "dm-thin"]).unwrap(), "overlay dm-linear dm-thin");
        assert_eq!(names(&["{overlay,dm-thin}"]).unwrap(), "dm-thin overlay");
        assert_eq!(names(&["nbd-*"]).unwrap(), "");
        let error = names(&["dm-liner"]).unwrap_err();
        assert_eq!(error.message(), "there is no case `dm-liner`");
        assert!(error.way_out().unwrap().contains("`dm-linear`"));
        for all in [&[][..], &["wrong"], &["*"]] {
            let error = names(all).unwrap_err();
            assert!(error.message().contains("unknown key `x`"), "{error}");
        }
        assert!(names(&["dm-["]).unwrap_err().message().contains("is not a glob"));
    }

    #[test]
    fn kernels_by_name_glob_and_default() {
        let project = Project::load(folder(&[]).path()).unwrap();
        let names = |texts: &[&str]| -> Result<String> {
            let kernels = project.select_kernels(&globs(texts))?;
            Ok(kernels.iter().map(|kernel| kernel.name.as_str()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(&[]).unwrap(), "uml-6.1");
        assert_eq!(
            names(&["uml-7.2", "uml-[56].1*"]).unwrap(),
            "uml-7.2 uml-5.10 uml-6.1 uml-6.12"
        );
        let error = names(&["uml-6.3"]).unwrap_err();
        assert!(error.way_out().unwrap().contains("did you mean"), "{error}");
    }

    #[test]
    fn instances_are_the_product_of_the_parameters() {
        let params = "[params]\na = ['1', '2']\nb = ['x', 'y', 'z']\n";
        let folder = folder(&[
            ("cases/p/case.toml", &format!("{CASE}{params}")),
            ("cases/q/case.toml", CASE),
        ]);
        let project = Project::load(folder.path()).unwrap();
        let cases = project.select_cases(&[]).unwrap();
        let instances: Vec<String> = cases[0]
            .instances()
            .iter()
            .map(|instance| format!("{}{}", instance["a"], instance["b"]))
            .collect();
        assert_eq!(instances.join(" "), "1x 1y 1z 2x 2y 2z");
        assert_eq!(cases[1].instances(), [BTreeMap::new()]);
    }

    #[test]
    fn the_first_variant_that_fits_is_taken() {
        let variants = "[variant.b]\nkernels = ['uml-*']\nreason = 'r'\n\
            [variant.a]\nkernels = ['uml-5.*']\nreason = 'r'\n";
        let folder = folder(&[("cases/v/case.toml", &format!("{CASE}{variants}"))]);
        let project = Project::load(folder.path()).unwrap();
        let case = project.select_cases(&[]).unwrap()[0];
        let name = |kernel| case.variant_for(kernel).map(|(name, _)| name);
        assert_eq!(name("uml-5.10"), Some("a"));
        assert_eq!(name("uml-6.1"), Some("b"));
        assert_eq!(name("cloud-6.1"), None);
    }
}
