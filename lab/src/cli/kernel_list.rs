//! `lab kernel list`: the kernels that lab.toml knows, which of them are here, and what each is made
//! of.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::edge;
use super::environment::{Cancel, Context};
use crate::kernel::{
    ExternalModules, Kernel, KernelSpec, Kernels, Origin, Provider, PullError, StoredKernel,
};
use crate::manifest::{Diagnostic, Project, Result};
use crate::report::text::{self, BOLD, DIM, LOOK, paint};

/// What is known of a kernel of lab.toml.
struct Row<'a> {
    spec: &'a KernelSpec,
    state: State,
    /// The store's, where it has one; what the user has is none of it.
    stored: Option<StoredKernel>,
    /// When it was made.
    made: Option<SystemTime>,
}

enum State {
    /// As lab.toml wants it now.
    Here(Box<Kernel>),
    /// Something that went into it has changed since it was built.
    Changed,
    /// Neither fetched nor built.
    NotHere,
    /// It cannot be had as lab.toml describes it.
    Wrong(Diagnostic),
}

/// Prints the list.
///
/// # Errors
/// The store cannot be read. What is wrong with one kernel stands in its line.
pub fn list(context: &Context, json: bool) -> Result<u8> {
    let kernels = context.kernels()?;
    let cancel = Cancel::install()?;
    let stored = kernels.store.list()?;
    let mut rows = Vec::new();
    for spec in context.project.kernels.values() {
        match look(&kernels, spec, &stored, &cancel) {
            Ok(row) => rows.push(row),
            Err(PullError::Interrupted) => return Ok(130),
            Err(error) => return Err(error.into_diagnostic()),
        }
    }
    if json {
        let objects: Vec<_> = rows
            .iter()
            .map(|row| row.json(context.project.default_kernels.contains(&row.spec.name)))
            .collect();
        edge::print(&format!("{}\n", json!(objects)));
        return Ok(0);
    }
    let titles = ["kernel", "release", "size", "age", "made of"];
    let mut table = vec![titles.map(|title| paint(DIM, title)).to_vec()];
    table.extend(rows.iter().map(|row| row.cells(&context.project.root)));
    edge::print(&text::columns(&table));
    if let Some(line) = left_over(&rows, &stored) {
        edge::aside(&line);
    }
    Ok(0)
}

fn look<'a>(
    kernels: &Kernels,
    spec: &'a KernelSpec,
    stored: &[StoredKernel],
    cancel: &Cancel,
) -> Result<Row<'a>, PullError> {
    let state = match kernels.find(spec, &cancel.flag) {
        Ok(Some(kernel)) => State::Here(Box::new(kernel)),
        Ok(None) => State::NotHere,
        Err(PullError::Interrupted) => return Err(PullError::Interrupted),
        Err(error) => State::Wrong(error.into_diagnostic()),
    };
    let earlier = || stored.iter().rfind(|kernel| wants(spec, kernel)).cloned();
    let (state, stored) = match state {
        State::Here(kernel) => {
            let found = stored.iter().find(|stored| stored.key == kernel.key).cloned();
            (State::Here(kernel), found)
        }
        State::NotHere => match earlier() {
            Some(kernel) => (State::Changed, Some(kernel)),
            None => (State::NotHere, None),
        },
        wrong => (wrong, earlier()),
    };
    let made = match (&stored, &state) {
        (Some(kernel), _) => Some(kernel.made),
        // The user's own was made when it was last linked.
        (None, State::Here(kernel)) => kernel.boot.metadata().and_then(|m| m.modified()).ok(),
        (None, _) => None,
    };
    Ok(Row { spec, state, stored, made })
}

/// Whether a spec asked for a stored kernel once, whatever went into it then.
fn wants(spec: &KernelSpec, kernel: &StoredKernel) -> bool {
    kernel.arch == spec.arch && kernel.wanted_as.iter().any(|p| p.same_wish(&spec.provider))
}

/// One line about kernels of the store that are none of the list's.
fn left_over(rows: &[Row<'_>], stored: &[StoredKernel]) -> Option<String> {
    let listed = |kernel: &StoredKernel| {
        rows.iter().any(|row| match &row.state {
            State::Here(here) => here.key == kernel.key,
            _ => wants(row.spec, kernel),
        })
    };
    let left: Vec<_> = stored.iter().filter(|kernel| !listed(kernel)).collect();
    let bytes: u64 = left.iter().map(|kernel| kernel.bytes).sum();
    let size = text::size(bytes);
    match left.len() {
        0 => None,
        1 => Some(format!(
            "1 more kernel ({size}) is kept that nothing in this project asks for: lab gc --kernels"
        )),
        n => Some(format!(
            "{n} more kernels ({size}) are kept that nothing in this project asks for: lab gc --kernels"
        )),
    }
}

impl Row<'_> {
    fn release(&self) -> Option<&str> {
        match (&self.state, &self.stored) {
            (State::Here(kernel), _) => Some(&kernel.release),
            (_, Some(stored)) => Some(&stored.release),
            (_, None) => None,
        }
    }

    fn origin(&self) -> Option<&Origin> {
        match (&self.state, &self.stored) {
            (State::Here(kernel), _) => Some(&kernel.origin),
            (_, Some(stored)) => Some(&stored.origin),
            (_, None) => None,
        }
    }

    /// `root`: the project's folder, to which its paths are relative.
    fn cells(&self, root: &Path) -> Vec<String> {
        let not_here = || paint(DIM, "not here");
        let age = self.made.map(|made| text::age(made.elapsed().unwrap_or(Duration::ZERO)));
        let mut made_of = self.origin().map_or_else(|| wish(self.spec, root), made_of);
        let note = match &self.state {
            State::Changed => Some(format!(
                "what goes into it changed since: lab kernel build {}",
                self.spec.name
            )),
            State::Wrong(error) => Some(one_line(error)),
            State::Here(_) | State::NotHere => None,
        };
        if let Some(note) = note {
            made_of = format!("{made_of}  {}", paint(LOOK, &note));
        }
        vec![
            paint(BOLD, &self.spec.name),
            self.release().map_or_else(not_here, str::to_string),
            self.stored.as_ref().map_or_else(String::new, |k| text::size(k.bytes)),
            age.unwrap_or_default(),
            made_of,
        ]
    }

    fn json(&self, default: bool) -> serde_json::Value {
        let here = match &self.state {
            State::Here(kernel) => Some(kernel),
            _ => None,
        };
        let error = match &self.state {
            State::Wrong(error) => Some(error.to_string()),
            _ => None,
        };
        let key = here.map(|k| &k.key).or(self.stored.as_ref().map(|k| &k.key));
        let made = self.made.and_then(|made| made.duration_since(SystemTime::UNIX_EPOCH).ok());
        json!({
            "boot": here.map(|k| &k.boot),
            "modules": here.and_then(|k| k.modules.as_ref()),
            "name": self.spec.name,
            "default": default,
            "current": here.is_some(),
            "release": self.release(),
            "bytes": self.stored.as_ref().map(|k| k.bytes),
            "made": made.map(|made| made.as_secs()),
            "key": key.map(ToString::to_string),
            "provider": self.spec.provider,
            "origin": self.origin(),
            "error": error,
        })
    }
}

/// An error in a table.
fn one_line(error: &Diagnostic) -> String {
    let mut lines = error.message().lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first} ...") } else { first.to_string() }
}

/// All that went into a kernel, in one line.
fn made_of(origin: &Origin) -> String {
    match origin {
        Origin::Debian { suite, package, with } => {
            let with = with.iter().map(|p| format!("{} {}", p.package, p.version));
            let words = parts(&[("with", with.collect())]);
            format!("{} {} ({suite}){words}", package.package, package.version)
        }
        Origin::Source { source, kconfig, patches, modules, .. } => {
            let module = |m: &ExternalModules| format!("{} of {}", m.names.join(", "), m.source);
            let lists = [
                ("kconfig", kconfig.clone()),
                ("patches", patches.clone()),
                ("modules", modules.iter().map(module).collect()),
            ];
            format!("{source}{}", parts(&lists))
        }
        Origin::Path { .. } => origin.to_string(),
    }
}

/// What a kernel would be made of.
fn wish(spec: &KernelSpec, root: &Path) -> String {
    let shown = |text: &String| Project::shown(Path::new(text), root).display().to_string();
    match &spec.provider {
        Provider::Debian { suite, package } => format!("{suite}/{package}"),
        Provider::Source { source, kconfig, patches, modules, .. } => {
            let lists = [
                ("kconfig", kconfig.clone()),
                ("patches", patches.clone()),
                ("modules", modules.iter().map(shown).collect()),
            ];
            format!("{}{}", shown(source), parts(&lists))
        }
        Provider::Path { path } => Project::shown(path, root).display().to_string(),
    }
}

fn parts(lists: &[(&str, Vec<String>)]) -> String {
    let full = lists.iter().filter(|(_, words)| !words.is_empty());
    full.map(|(what, words)| format!("; {what} {}", words.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_names_all_that_it_is_made_of() {
        let provider = Provider::Source {
            source: "/p/linux".into(),
            kconfig: vec!["uml".into(), "fs".into()],
            patches: vec![],
            config: vec![],
            modules: vec!["/m".into(), "/p/../n".into()],
            inputs: None,
        };
        let spec = KernelSpec {
            name: "k".into(),
            arch: crate::manifest::Arch::Um,
            provider,
            cmdline: vec![],
            asked: None,
        };
        assert_eq!(wish(&spec, Path::new("/p")), "linux; kconfig uml, fs; modules /m, ../n");
        let error = Diagnostic::usage("cannot build:\nwords");
        assert_eq!(one_line(&error), "cannot build: ...");
    }
}
