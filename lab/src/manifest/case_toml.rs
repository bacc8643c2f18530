//! cases/NAME/case.toml: reads and validates one case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::reader::Table;
use super::source::{Source, Text};
use super::values::{is_file_name, is_identifier, is_word};
use super::{
    Backend, Case, Detector, ImageSpec, KernelSpec, MachineSpec, Needs, Result, image_toml,
    machine_toml, schema, step_toml, twin_toml,
};

/// What a case is validated against.
pub(super) struct Around<'a> {
    /// The project's folder.
    pub root: &'a Path,
    /// The project's images.
    pub images: &'a BTreeMap<String, ImageSpec>,
    /// The project's kernels; `None` where no lab.toml could have declared them.
    pub kernels: Option<&'a BTreeMap<String, KernelSpec>>,
}

/// More runs than this are a slip, not a wish.
const MOST_INSTANCES: usize = 4096;

/// Variables that the lab or the shell gives a meaning to.
const TAKEN: [&str; 12] =
    ["PATH", "HOME", "LC_ALL", "TZ", "TERM", "IFS", "PWD", "OLDPWD", "PS1", "PS2", "PS4", "ENV"];

/// Reads the case.toml in `source`, which belongs to the folder `dir` named `name`.
pub(super) fn read(source: &Source, name: &str, dir: &Path, around: &Around<'_>) -> Result<Case> {
    if !is_file_name(name) {
        return Err(source
            .error(0..0, format!("`{name}` is not a name for a case"))
            .help("rename its folder: small letters, digits, `.`, `_` and `-`"));
    }
    let document = source.parse()?;
    let top = Table::top(source, &document, &schema::CASE)?;
    let summary = top.required("summary")?;
    if summary.trim().contains('\n') {
        return Err(summary
            .error("`summary` is more than one line")
            .help("`lab list` prints it beside the name: say the rest in a comment"));
    }
    let machine_table = top.table("machine", &schema::MACHINE)?;
    let machine = {
        let around = machine_toml::Around { root: around.root, dir, images: around.images };
        machine_toml::read(machine_table.as_ref(), &around)?
    };
    let params = params(&top)?;
    let files = files(dir, &machine)?;
    let twins = {
        let (params, files) = (&params, &files);
        let kernels = around.kernels;
        twin_toml::twins(
            &top,
            &twin_toml::Around { root: around.root, dir, params, files, kernels },
        )?
    };
    Ok(Case {
        name: name.into(),
        dir: dir.into(),
        summary: summary.trim().into(),
        refs: top.strings("refs")?.iter().map(|text| text.to_string()).collect(),
        tags: words(&top, "tags", "a tag", "-_.", "slow")?,
        needs: needs(&top)?,
        steps: step_toml::steps(&top, &machine)?,
        machine,
        params,
        filters: step_toml::filters(&top)?,
        asserts: step_toml::asserts(&top)?,
        allow: top.strings("allow")?.iter().map(|text| text.trim().to_string()).collect(),
        variants: twin_toml::variants(&top)?,
        twins,
        files,
    })
}

/// A list of words of letters, digits and `more`.
fn words(table: &Table<'_>, key: &str, what: &str, more: &str, like: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for word in table.strings(key)? {
        if !is_word(&word, more) {
            return Err(word
                .error(format!("`{}` is not {what}", word.escape_debug()))
                .help(format!("for example {key} = [\"{like}\"]")));
        }
        words.push(word.to_string());
    }
    Ok(words)
}

fn needs(top: &Table<'_>) -> Result<Needs> {
    let Some(table) = top.table("needs", &schema::NEEDS)? else { return Ok(Needs::default()) };
    let mut needs = Needs::default();
    for symbol in table.strings("kconfig")? {
        if !twin_toml::is_symbol(&symbol) {
            let bare = symbol.trim_start_matches("CONFIG_").split('=').next().unwrap_or_default();
            let bare = if is_word(bare, "_") { bare } else { "OVERLAY_FS" };
            return Err(symbol
                .error(format!("`{}` is not a Kconfig symbol", symbol.escape_debug()))
                .help(format!("without CONFIG_ and value: \"{bare}\"; =y and =m both satisfy")));
        }
        needs.kconfig.push(symbol.to_string());
    }
    for backend in table.strings("backend")? {
        let known = [("uml", Backend::Uml), ("qemu", Backend::Qemu)];
        needs.backend.push(backend.choose("a backend", &known)?);
    }
    needs.programs = image_toml::programs(&table, "programs")?;
    needs.modules = words(&table, "modules", "a kernel module", "-_", "dm-mod")?;
    for detector in table.strings("detectors")? {
        let known = [
            ("kasan", Detector::Kasan),
            ("lockdep", Detector::Lockdep),
            ("hung-task", Detector::HungTask),
            ("soft-lockup", Detector::SoftLockup),
            ("rcu-stall", Detector::RcuStall),
        ];
        needs.detectors.push(detector.choose("a detector", &known)?);
    }
    Ok(needs)
}

fn params(top: &Table<'_>) -> Result<BTreeMap<String, Vec<String>>> {
    let mut params = BTreeMap::new();
    let mut instances = 1_usize;
    for (name, list) in top.entries("params")? {
        if !is_identifier(&name) {
            return Err(name
                .error(format!("`{}` cannot be a variable of the shell", name.as_str()))
                .help("steps read it as $NAME: letters, digits and `_`, no digit first"));
        }
        if TAKEN.contains(&name.as_str()) || name.starts_with("LAB_") {
            return Err(name
                .error(format!("${} has a meaning of its own", name.as_str()))
                .help(format!("call it {} or otherwise", name.to_ascii_lowercase())));
        }
        let values = values(top.source(), &name, list)?;
        instances = instances.saturating_mul(values.len());
        if instances > MOST_INSTANCES {
            return Err(name
                .error(format!("[params] make more than {MOST_INSTANCES} runs"))
                .help("each combination is a run of its own: leave values out"));
        }
        params.insert(name.to_string(), values);
    }
    Ok(params)
}

fn values(source: &Source, name: &Text<'_>, list: &Spanned<DeValue<'_>>) -> Result<Vec<String>> {
    let example = format!("for example {} = [\"4k\", \"64k\"]", name.as_str());
    let array = match list.get_ref() {
        DeValue::Array(array) if !array.is_empty() => array,
        _ => {
            return Err(source
                .error(list.span(), format!("parameter `{}` wants a list of values", name.as_str()))
                .help(example));
        }
    };
    let mut values: Vec<String> = Vec::new();
    for value in array {
        let value = Text::of(source, "the value of a parameter", value)?;
        twin_toml::check_param_value(&value)?;
        if values.iter().any(|other| *other == *value) {
            return Err(value
                .error(format!("`{}` stands twice in `{}`", value.as_str(), name.as_str()))
                .help("each value is a run of its own: remove one"));
        }
        values.push(value.to_string());
    }
    Ok(values)
}

/// What the guest sees in /case. A folder that the case shares is not copied as well.
fn files(dir: &Path, machine: &MachineSpec) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    super::project::walk(dir, "", &mut |path, inner, is_dir| {
        let name = inner.rsplit('/').next().unwrap_or(inner);
        let top = name == inner;
        let own = top && (name.starts_with("README") || ["case.toml", "snapshots"].contains(&name));
        let shared = || {
            let full = std::fs::canonicalize(path);
            full.is_ok_and(|full| machine.shares.iter().any(|share| share.host == full))
        };
        if name.starts_with('.') || own || (is_dir && shared()) {
            return false;
        }
        if !is_dir {
            files.insert(inner.to_string(), path.to_path_buf());
        }
        true
    })?;
    Ok(files)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::project::tests::folder;
    use super::super::{
        Action, Change, Clock, Filter, MachineOp, NamedFilter, Project, ShareMode, StatusRule,
    };
    use super::*;

    /// Loads one case with what it brings along; `text` goes below the summary.
    pub fn load(text: &str) -> Result<Case> {
        let text = format!("summary = 's'\n{text}");
        let folder = folder(&[
            ("lab.toml", ""),
            ("cases/c/case.toml", &text),
            ("cases/c/greeting", "hello\n"),
            ("cases/c/twin/greeting", "other\n"),
            ("cases/c/fixtures/etc/x", ""),
            ("cases/c/snapshots/transcript.snap", ""),
            ("cases/c/README.md", ""),
            ("cases/c/.greeting.swp", ""),
        ]);
        Project::load(folder.path()).unwrap().cases.remove("c").unwrap()
    }

    /// What is wrong with `text`, which gets a step, so that only the slip looked for is there.
    pub fn error(text: &str) -> String {
        match load(&format!("{text}\n[[step]]\nrun = 'true'")) {
            Ok(_) => panic!("no error: {text}"),
            Err(error) => {
                assert!(error.way_out().is_some(), "no way out: {error}");
                assert!(error.place().is_some(), "no place: {error}");
                error.to_string()
            }
        }
    }

    #[test]
    fn a_full_case_reads_back() {
        let case = load(
            r#"
            refs = ["https://example.org"]
            tags = ["slow"]
            filters = ["uuids", { regex = '(\d+) ms', to = "$1 N" }]
            assert = ["a > 0.95 * b"]
            allow = ["WARNING: fs/dcache.c"]
            [needs]
            kconfig = ["OVERLAY_FS"]
            backend = ["uml"]
            programs = ["mount"]
            modules = ["dm-mod"]
            detectors = ["hung-task"]
            [machine]
            memory = "1G"
            cpus = 2
            cmdline = ["a=b"]
            disks = [{ name = "a", size = "64M" }]
            shares = [{ host = "fixtures", guest = "/mnt/fixtures", mode = "rw" }]
            trace = ["block:block_rq_issue"]
            timeout = "1m 30s"
            [params]
            cluster = ["4k", "64k"]
            [[step]]
            run = """
            mkdir x
            cd x  
            """
            stop = true
            timeout = "5s"
            [[step]]
            name = "cut"
            machine = "resize a 128M"
            [[step]]
            run = "false"
            status = "any"
            [[step]]
            run = "exit 3"
            status = 3
            [variant.old]
            kernels = ["uml-5.*"]
            reason = "r"
            [[twin]]
            with = { kernel = "uml-5.10", params = { cluster = "1k" }, files = { greeting = "twin/greeting" } }
            must = "fail:output"
            "#,
        )
        .unwrap();
        assert_eq!(case.machine.timeout.as_secs(), 90);
        assert_eq!((case.machine.memory, case.machine.cpus), (1 << 30, 2));
        assert_eq!(case.machine.shares[0].mode, ShareMode::Rw);
        assert!(case.machine.shares[0].host.is_absolute());
        assert_eq!(case.needs.detectors, [Detector::HungTask]);
        let Action::Run(text) = &case.steps[0].action else { panic!() };
        assert!(text.ends_with("cd x"), "{text:?}");
        assert!(case.steps[0].stop && !case.steps[1].stop);
        assert_eq!(case.steps[1].action, Action::Machine(MachineOp::Resize("a".into(), 128 << 20)));
        assert_eq!(case.steps[2].status, StatusRule::Any);
        assert_eq!(case.steps[3].status, StatusRule::Is(3));
        assert_eq!(case.filters[0], Filter::Named(NamedFilter::Uuids));
        // The shared folder is not in /case as well, nor snapshots, README and dot files.
        let files: Vec<&str> = case.files.keys().map(String::as_str).collect();
        assert_eq!(files, ["greeting", "twin/greeting"]);
        let Change { kernel, params, .. } = &case.twins[0].with;
        assert_eq!((kernel.as_deref(), params["cluster"].as_str()), (Some("uml-5.10"), "1k"));
    }

    #[test]
    fn the_shortest_case_has_the_defaults() {
        let case = load("[[step]]\nrun = 'true'").unwrap();
        assert_eq!((case.machine.memory, case.machine.cpus), (256 << 20, 1));
        assert_eq!((case.machine.clock, case.machine.timeout.as_secs()), (Clock::Real, 60));
        assert_eq!(case.machine.image, "base");
        assert_eq!(case.steps[0].status, StatusRule::Is(0));
    }

    #[test]
    fn keys_and_types() {
        let text = error("[machine]\nmemmory = '1G'");
        let at =
            "cases/c/case.toml:3:1: unknown key `memmory` in [machine] (did you mean `memory`?)";
        assert_eq!(text, at);
        let text = error("[machine]\ncpus = 'two'");
        assert!(
            text.starts_with("cases/c/case.toml:3:8: `cpus` wants a whole number, not a string")
        );
        assert!(text.ends_with("(for example cpus = 1)"), "{text}");
        assert!(error("[machine]\ncpus = 0").contains("out of range (from 1 to 256)"));
        assert!(error("[needs]\nprograms = ['a', 2]").starts_with("cases/c/case.toml:3:18: "));
        assert!(error("timeout = '1s'").contains("belongs in [machine] or in [[step]]"));
        assert!(error("refs = 'x'").contains("`refs` wants a list, not a string"));
        assert!(error("needs = 1").contains("`needs` wants a table here"));
        assert!(error("summary = 'again'").contains("this is not TOML: duplicate key"));
        assert!(error("x = [1,").contains("this is not TOML"));
        let missing = load("[[step]]\nname = 'n'").unwrap_err().to_string();
        assert!(missing.starts_with("cases/c/case.toml:2:1: this step does nothing"), "{missing}");
        assert!(load("").unwrap_err().message().contains("it has no [[step]]"));
    }

    #[test]
    fn lists_at_the_top() {
        assert!(error("tags = ['a b']").contains("is not a tag"));
        assert!(error("allow = ['']").contains("empty entry"));
        let kconfig = error("needs.kconfig = ['CONFIG_EXT4_FS']");
        assert!(kconfig.contains("without CONFIG_ and value: \"EXT4_FS\""), "{kconfig}");
        assert!(error("needs.backend = ['kvm']").contains("one of uml, qemu"));
        assert!(error("needs.detectors = ['lockdeb']").contains("`lockdep`"));
    }

    #[test]
    fn names_and_stray_files() {
        let folder = folder(&[
            ("cases/Upper/case.toml", ""),
            ("cases/loop/case.toml", "summary = 's'\n[[step]]\nrun = 'x'"),
        ]);
        std::os::unix::fs::symlink("..", folder.path().join("cases/loop/up")).unwrap();
        let project = Project::load(folder.path()).unwrap();
        let text = |name: &str| project.cases[name].as_ref().unwrap_err().to_string();
        assert!(text("Upper").contains("`Upper` is not a name for a case"));
        assert!(text("loop").contains("is a link to a folder"));
    }
}
