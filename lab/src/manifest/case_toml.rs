//! cases/NAME/case.toml: reads and validates one case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Source, Table, Text, kind};
use super::values::{is_file_name, is_identifier, is_word};
use super::{
    Action, Assertion, Backend, Case, Detector, Filter, ImageSpec, KernelSpec, MachineSpec,
    NamedFilter, Needs, Result, StatusRule, Step, image_toml, machine_toml, schema, twin_toml,
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
        steps: steps(&top, &machine)?,
        machine,
        params,
        filters: filters(&top)?,
        asserts: asserts(&top)?,
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

fn steps(top: &Table<'_>, machine: &MachineSpec) -> Result<Vec<Step>> {
    let tables = top.tables("step", &schema::STEP)?;
    if tables.is_empty() {
        return Err(top
            .error_at("step", "this case does nothing: it has no [[step]]")
            .help("add [[step]] and below it run = \"...\""));
    }
    tables.iter().map(|table| step(table, machine)).collect()
}

fn step(table: &Table<'_>, machine: &MachineSpec) -> Result<Step> {
    let action = match (table.string("run")?, table.string("machine")?) {
        (Some(run), None) => {
            let text = run.trim_end();
            if text.trim().is_empty() {
                return Err(run
                    .error("this step runs nothing")
                    .help("write a command, or remove it"));
            }
            if text.contains('\0') {
                return Err(run
                    .error("a NUL byte cannot be typed at a shell")
                    .help("let printf make it: printf '\\\\000'"));
            }
            Action::Run(text.into())
        }
        (None, Some(operation)) => {
            if table.get("status").is_some() {
                return Err(table
                    .error_at("status", "only a step with `run` has a status")
                    .help("remove `status`"));
            }
            Action::Machine(machine_toml::operation(&operation, &machine.disks)?)
        }
        (Some(_), Some(_)) => {
            return Err(table
                .error_at("machine", "a step has `run` or `machine`, not both")
                .help("make two steps of it"));
        }
        (None, None) => {
            return Err(table
                .error("this step does nothing")
                .help("give it `run` (a command) or `machine` (for example \"power-cut\")"));
        }
    };
    let timeout = match table.string("timeout")? {
        Some(text) => {
            let timeout = machine_toml::duration(&text)?;
            if timeout > machine.timeout {
                let whole = humantime::format_duration(machine.timeout);
                return Err(text
                    .error(format!("this is longer than the machine lives, {whole}"))
                    .help("raise `timeout` in [machine], or lower this one"));
            }
            Some(timeout)
        }
        None => None,
    };
    let name = match table.get("name") {
        Some(_) => Some(table.required("name")?.trim().to_string()),
        None => None,
    };
    Ok(Step { name, action, status: status(table)?, stop: table.flag("stop")?, timeout })
}

fn status(table: &Table<'_>) -> Result<StatusRule> {
    match table.get("status").map(Spanned::get_ref) {
        Some(DeValue::String(text)) if text == "any" => Ok(StatusRule::Any),
        Some(DeValue::String(text)) => Err(table
            .error_at("status", format!("`{text}` is not a status"))
            .help("a number from 0 to 255, or \"any\" where the status is the finding")),
        _ => {
            let status = table.whole("status", 0..256)?.unwrap_or(0);
            Ok(StatusRule::Is(i32::try_from(status).unwrap_or(0)))
        }
    }
}

fn filters(top: &Table<'_>) -> Result<Vec<Filter>> {
    let known = [
        ("addresses", NamedFilter::Addresses),
        ("uuids", NamedFilter::Uuids),
        ("times", NamedFilter::Times),
    ];
    let mut filters = Vec::new();
    for entry in top.list("filters")? {
        if let DeValue::String(_) = entry.get_ref() {
            let name = Text::of(top.source(), "a filter", entry)?;
            filters.push(Filter::Named(name.choose("a named filter", &known)?));
            continue;
        }
        if !matches!(entry.get_ref(), DeValue::Table(_)) {
            let found = kind(entry.get_ref());
            return Err(top
                .source()
                .error(entry.span(), format!("a filter is a string or a table, not {found}"))
                .help("\"addresses\", \"uuids\", \"times\" or { regex = \"..\", to = \"..\" }"));
        }
        let table = Table::of(top.source(), "filters", entry, &schema::FILTER, None)?;
        let pattern = table.required("regex")?;
        let regex = regex::bytes::Regex::new(&pattern).map_err(|error| {
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            pattern
                .error(format!("`{}` is not a regex: {why}", pattern.as_str()))
                .help("the syntax is the regex crate's; in TOML '...' keeps backslashes")
        })?;
        let to = match table.string("to")? {
            Some(to) => to,
            None => {
                return Err(table
                    .error("this filter lacks `to`")
                    .help("to = \"\" removes what `regex` finds"));
            }
        };
        check_groups(&to, &regex)?;
        filters.push(Filter::Replace { regex: pattern.to_string(), to: to.to_string() });
    }
    Ok(filters)
}

/// `$NAME` of a group that is not there would silently be empty; `$1x` is the group `1x`.
fn check_groups(to: &Text<'_>, regex: &regex::bytes::Regex) -> Result<()> {
    let mut rest = to.as_str();
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let group = match rest.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or("", |(group, _)| group),
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                &rest[..end.unwrap_or(rest.len())]
            }
        };
        let there = match group.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|name| name == group),
        };
        if !group.is_empty() && !there {
            return Err(to
                .error(format!("`regex` has no group `{group}`"))
                .help("write ${1} before a letter, and $$ for a dollar sign"));
        }
    }
    Ok(())
}

fn asserts(top: &Table<'_>) -> Result<Vec<String>> {
    let mut asserts = Vec::new();
    for text in top.strings("assert")? {
        Assertion::parse(&text).map_err(|why| {
            text.error(format!("`{}` is not an assertion: {why}", text.as_str()))
                .help("TERM cmp [NUMBER *] TERM, for example \"read.p99 < 2 * write.p99\"")
        })?;
        asserts.push(text.trim().to_string());
    }
    Ok(asserts)
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
mod tests {
    use super::super::project::tests::folder;
    use super::super::{Change, Clock, MachineOp, Project, ShareMode};
    use super::*;

    /// Loads one case with what it brings along; `text` goes below the summary.
    fn load(text: &str) -> Result<Case> {
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

    /// A step, so that only the slip looked for is there.
    fn error(text: &str) -> String {
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
    fn machines() {
        let e = |text: &str| error(&format!("[machine]\n{text}"));
        assert!(e("memory = '64MB'").contains("`64MB` is not a size"));
        assert!(e("memory = '256'").contains("too little"));
        assert!(e("timeout = '20'").contains("`20` is not a duration"));
        assert!(e("timeout = '0s'").contains("no time at all"));
        assert!(e("clock = 'virtal'").contains("did you mean `virtual`?"));
        assert!(e("image = 'bsae'").contains("did you mean `base`?"));
        assert!(e("cmdline = ['a b']").contains("not one word"));
        assert!(e("trace = ['block']").contains("is not SUBSYSTEM:EVENT"));
        let disk = |text: &str| e(&format!("disks = [{text}]"));
        assert!(disk("{ name = 'a', size = '1000' }").contains("whole sectors"));
        assert!(disk("{ name = 'a/b', size = '1M' }").contains("not a name for a disk"));
        assert!(disk("{ name = 'a' }").contains("lacks `size`"));
        let two = "{ name = 'a', size = '1M' }, { name = 'a', size = '1M' }";
        assert!(disk(two).starts_with("cases/c/case.toml:3:48: there are two disks `a`"));
        let clock = e("clock = 'virtual'\ndisks = [{ name = 'a', size = '1M' }]");
        assert!(clock.starts_with("cases/c/case.toml:4:9: disks of the host"), "{clock}");
        let share = |text: &str| e(&format!("shares = [{{ {text} }}]"));
        assert!(share("host = 'nope', guest = '/m'").contains("no folder `nope`"));
        assert!(share("host = 'fixtures', guest = 'm'").contains("not an absolute path"));
        assert!(share("host = 'fixtures', guest = '/dev/x'").contains("the lab's own"));
        assert!(share("host = '/', guest = '/m'").contains("outside = true"));
        assert!(share("host = 'fixtures', guest = '/m', mode = 'rx'").contains("not a mode"));
        let text = "[machine]\nshares = [{ host = '/', guest = '/m', outside = true }]";
        assert!(load(&format!("{text}\n[[step]]\nrun = 'true'")).is_ok());
    }

    #[test]
    fn steps_do_one_thing() {
        let e = |text: &str| error(&format!("[machine]\ntimeout = '9s'\n[[step]]\n{text}"));
        assert!(e("run = 'a'\nmachine = 'reboot'").contains("`run` or `machine`, not both"));
        assert!(e("name = 'n'").contains("does nothing"));
        assert!(e("run = ' '").contains("runs nothing"));
        assert!(e("run = \"a\\u0000b\"").contains("NUL"));
        assert!(e("run = 'a'\nstatus = 256").contains("out of range"));
        assert!(e("run = 'a'\nstatus = 'all'").contains("\"any\""));
        assert!(e("run = 'a'\ntimeout = '10s'").contains("longer than the machine lives, 9s"));
        assert!(e("machine = 'reboot'\nstatus = 0").contains("only a step with `run`"));
        assert!(e("machine = 'rebot'").contains("did you mean `reboot`?"));
        assert!(e("machine = 'hotplug'").contains("written \"hotplug DISK\""));
        assert!(e("machine = 'unplug a'").contains("declare it"));
        assert!(e("machine = 'sysrq ww'").contains("sysrq KEY"));
        assert!(e("filters = ['uuids']").contains("the top of the file"));
    }

    #[test]
    fn lists_at_the_top() {
        assert!(error("filters = ['uuid']").contains("did you mean `uuids`?"));
        assert!(error("filters = [{ regex = '(', to = '' }]").contains("unclosed group"));
        assert!(error("filters = [{ regex = 'x' }]").contains("lacks `to`"));
        assert!(error("filters = [{ regex = '(x)', to = '$1y' }]").contains("no group `1y`"));
        assert!(
            error("filters = [1]").contains("a filter is a string or a table, not a whole number")
        );
        assert!(error("assert = ['a = b']").contains("is not an assertion"));
        assert!(error("tags = ['a b']").contains("is not a tag"));
        assert!(error("allow = ['']").contains("empty entry"));
        let kconfig = error("needs.kconfig = ['CONFIG_EXT4_FS']");
        assert!(kconfig.contains("without CONFIG_ and value: \"EXT4_FS\""), "{kconfig}");
        assert!(error("needs.backend = ['kvm']").contains("one of uml, qemu"));
        assert!(error("needs.detectors = ['lockdeb']").contains("`lockdep`"));
    }

    #[test]
    fn params_variants_and_twins() {
        assert!(error("params.PATH = ['x']").contains("a meaning of its own"));
        assert!(error("params.a-b = ['x']").contains("variable of the shell"));
        assert!(error("params.a = []").contains("wants a list of values"));
        assert!(error("params.a = [4]").contains("is a string, not a whole number"));
        assert!(error("params.a = ['x', 'x']").contains("stands twice"));
        assert!(error("params.a = ['x/y']").contains("snapshot's file name"));
        let variant = "kernels = ['uml-*']\nreason = 'r'\n";
        let two = error(&format!("[variant.a]\n{variant}[variant.b]\n{variant}"));
        assert!(two.contains("belongs to variant `a` already"), "{two}");
        assert!(error("[variant.a]\nkernels = ['[']\nreason = 'r'").contains("is not a glob"));
        assert!(error("[variant.a]\nkernels = ['x']").contains("lacks `reason`"));
        let e = |text: &str| error(&format!("[[twin]]\n{text}"));
        assert!(e("must = 'pass'\nwith = { kernel = 'uml-5.10' }").contains("a twin must fail"));
        assert!(e("must = 'fail:'\nwith = { kernel = 'uml-5.10' }").contains("no reason behind"));
        assert!(e("must = 'fail'").contains("lacks `with`"));
        assert!(e("must = 'fail'\nwith = {}").contains("changes nothing"));
        assert!(e("must = 'fail'\nwith = { kernel = 'uml-5.1' }").contains("did you mean"));
        assert!(e("must = 'fail'\nwith = { params = { a = '1' } }").contains("no parameter `a`"));
        assert!(e("must = 'fail'\nwith = { config = ['CONFIG_X=y'] }").contains("SYMBOL=VALUE"));
        assert!(e("must = 'fail'\nwith = { files = { gretting = 'x' } }").contains("`greeting`"));
        assert!(e("must = 'fail'\nwith = { files = { greeting = 'x' } }").contains("no file `x`"));
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
