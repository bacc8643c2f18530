//! What a case does and how its output is judged: `[[step]]`, `filters` and `assert`.

use toml::Spanned;
use toml::de::DeValue;

use super::reader::Table;
use super::source::{Text, kind};
use super::{
    Action, Assertion, Filter, MachineSpec, NamedFilter, Result, StatusRule, Step, machine_toml,
    schema,
};

/// Reads all `[[step]]`.
pub(super) fn steps(top: &Table<'_>, machine: &MachineSpec) -> Result<Vec<Step>> {
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
            // A file with a DOS editor's line ends: the shell would take \r for part of a word.
            let text = run.replace("\r\n", "\n");
            let text = text.trim_end();
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

/// Reads `filters`.
pub(super) fn filters(top: &Table<'_>) -> Result<Vec<Filter>> {
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

/// Reads `assert`: checked, and kept as written.
pub(super) fn asserts(top: &Table<'_>) -> Result<Vec<String>> {
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

#[cfg(test)]
mod tests {
    use super::super::case_toml::tests::error;

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
        assert!(e("machine = 'sysrq b'").contains("machine = \"power-cut\""));
        assert!(e("machine = 'sysrq o'").contains("switches the machine off"));
        assert!(e("machine = 'sysrq i'").contains("ends the shell"));
        assert!(e("machine = 'sysrq x'").contains("does nothing"));
        assert!(e("filters = ['uuids']").contains("the top of the file"));
    }

    #[test]
    fn filters_and_assertions() {
        assert!(error("filters = ['uuid']").contains("did you mean `uuids`?"));
        assert!(error("filters = [{ regex = '(', to = '' }]").contains("unclosed group"));
        assert!(error("filters = [{ regex = 'x' }]").contains("lacks `to`"));
        assert!(error("filters = [{ regex = '(x)', to = '$1y' }]").contains("no group `1y`"));
        assert!(error("filters = [1]").contains("a string or a table, not a whole number"));
        assert!(error("assert = ['a = b']").contains("is not an assertion"));
    }
}
