//! `[variant.NAME]` and `[[twin]]` of a case: where it may differ, and where it must fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reader::Table;
use super::source::Text;
use super::values::{glob, is_word};
use super::{Change, KernelSpec, Result, Twin, Variant, kernel_toml, nearest, schema};

/// Reads all `[variant.NAME]`.
pub(super) fn variants(top: &Table<'_>) -> Result<BTreeMap<String, Variant>> {
    let mut variants: BTreeMap<String, Variant> = BTreeMap::new();
    for (name, table) in top.named("variant", &schema::VARIANT)? {
        // What `lab accept` takes as well.
        if !is_word(&name, "_+-.") || name.len() > 64 {
            return Err(name
                .error(format!("`{}` is not a name for a variant", name.as_str()))
                .help("up to 64 letters, digits, `_`, `+`, `-` and `.`: it is in a file's name"));
        }
        let mut kernels = Vec::new();
        for text in table.required_strings("kernels")? {
            check_glob(&text)?;
            let twice = |variant: &Variant| variant.kernels.iter().any(|other| *other == *text);
            if let Some((other, _)) = variants.iter().find(|(_, variant)| twice(variant)) {
                return Err(text
                    .error(format!("`{}` belongs to variant `{other}` already", text.as_str()))
                    .help("a kernel has one transcript: remove it from one of the two"));
            }
            kernels.push(text.to_string());
        }
        let reason = table.required("reason")?.trim().to_string();
        variants.insert(name.to_string(), Variant { kernels, reason });
    }
    Ok(variants)
}

/// A glob with its place.
pub(super) fn check_glob(text: &Text<'_>) -> Result<()> {
    glob(text).map(drop).map_err(|why| {
        text.error(format!("`{}` {why}", text.as_str())).help("for example \"uml-*\"")
    })
}

/// What twins refer to.
pub(super) struct Around<'a> {
    /// The project's folder.
    pub root: &'a Path,
    /// The case's folder.
    pub dir: &'a Path,
    /// `[params]` of the case.
    pub params: &'a BTreeMap<String, Vec<String>>,
    /// The files of /case.
    pub files: &'a BTreeMap<String, PathBuf>,
    /// The project's kernels; `None` where no lab.toml could have declared them.
    pub kernels: Option<&'a BTreeMap<String, KernelSpec>>,
}

/// Reads all `[[twin]]`.
pub(super) fn twins(top: &Table<'_>, around: &Around<'_>) -> Result<Vec<Twin>> {
    let tables = top.tables("twin", &schema::TWIN)?;
    tables.iter().map(|table| twin(table, around)).collect()
}

fn twin(table: &Table<'_>, around: &Around<'_>) -> Result<Twin> {
    let must = table.required("must")?;
    let (outcome, reason) = match must.split_once(':') {
        Some((outcome, reason)) => (outcome, Some(reason)),
        None => (must.as_str(), None),
    };
    if !["fail", "broken", "skip"].contains(&outcome) {
        return Err(must
            .error(format!("a twin must fail, and `{}` is no way to", must.as_str()))
            .help(
                "OUTCOME or OUTCOME:REASON with fail, broken or skip; for example \"fail:output\"",
            ));
    }
    if reason.is_some_and(|reason| reason.is_empty() || reason.trim() != reason) {
        return Err(must
            .error(format!("`{}` has no reason behind its colon", must.as_str()))
            .help(format!("write \"{outcome}\" for any, or for example \"{outcome}:output\"")));
    }
    let example = "for example with = { kernel = \"uml-5.10\" }";
    let Some(change) = table.table("with", &schema::CHANGE)? else {
        return Err(table.error("a twin lacks `with`, what is different").help(example));
    };
    let with = read_change(&change, around)?;
    if with == Change::default() {
        return Err(change.error("this twin changes nothing").help(example));
    }
    Ok(Twin { with, must: must.to_string() })
}

fn read_change(table: &Table<'_>, around: &Around<'_>) -> Result<Change> {
    let mut change = Change::default();
    if let Some(kernel) = table.string("kernel")? {
        if let Some(known) = around.kernels.filter(|known| !known.contains_key(kernel.as_str())) {
            return Err(kernel_toml::unknown(&kernel, known.keys()).at(kernel.place()));
        }
        change.kernel = Some(kernel.to_string());
    }
    for (name, value) in table.string_map("params")? {
        if !around.params.contains_key(name.as_str()) {
            let known = around.params.keys().map(String::as_str);
            let help = match nearest(&name, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a twin gives another value to a name in [params]".into(),
            };
            return Err(name
                .error(format!("this case has no parameter `{}`", name.as_str()))
                .help(help));
        }
        check_param_value(&value)?;
        change.params.insert(name.to_string(), value.to_string());
    }
    for line in table.strings("config")? {
        let parts = line.split_once('=').filter(|(symbol, value)| {
            is_symbol(symbol) && !value.is_empty() && !value.contains(['\n', '\0'])
        });
        if parts.is_none() {
            return Err(line
                .error(format!("`{}` is not SYMBOL=VALUE", line.escape_debug()))
                .help("for example config = [\"DEBUG_VM=y\"], without CONFIG_; n turns off"));
        }
        change.config.push(line.to_string());
    }
    change.patches = table.strings("patches")?.iter().map(|text| text.to_string()).collect();
    for (name, file) in table.string_map("files")? {
        if !around.files.contains_key(name.as_str()) {
            let known = around.files.keys().map(String::as_str);
            let help = match nearest(&name, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a twin gives other contents to a file beside case.toml".into(),
            };
            return Err(name.error(format!("/case has no file `{}`", name.as_str())).help(help));
        }
        change.files.insert(name.to_string(), replacement(&file, around)?);
    }
    Ok(change)
}

/// A file that takes another's place: relative to the case's folder, within the project.
fn replacement(file: &Text<'_>, around: &Around<'_>) -> Result<PathBuf> {
    let found = std::fs::canonicalize(around.dir.join(file.as_str())).ok();
    let root = std::fs::canonicalize(around.root).unwrap_or_else(|_| around.root.to_path_buf());
    match found {
        Some(path) if path.is_file() && path.starts_with(&root) => Ok(file.as_str().into()),
        Some(path) if path.is_file() => Err(file
            .error(format!("{} lies outside the project", path.display()))
            .help("copy it beside case.toml")),
        _ => Err(file
            .error(format!("there is no file `{}`", file.as_str()))
            .help("the path is relative to the case's folder")),
    }
}

/// A Kconfig symbol without CONFIG_.
pub(super) fn is_symbol(text: &str) -> bool {
    is_word(text, "_") && !text.starts_with("CONFIG_")
}

/// Values stand in variables of the shell and, escaped, in the names of snapshots.
pub(super) fn check_param_value(value: &Text<'_>) -> Result<()> {
    if value.len() <= 200 && !value.contains(char::is_control) {
        return Ok(());
    }
    Err(value
        .error(format!("`{}` cannot be the value of a parameter", value.escape_debug()))
        .help("one line of at most 200 bytes; longer things go into files beside case.toml"))
}

#[cfg(test)]
mod tests {
    use super::super::case_toml::tests::error;

    #[test]
    fn params_variants_and_twins_say_what_is_wrong() {
        assert!(error("params.PATH = ['x']").contains("a meaning of its own"));
        assert!(error("params.a-b = ['x']").contains("variable of the shell"));
        assert!(error("params.a = []").contains("wants a list of values"));
        assert!(error("params.a = [4]").contains("is a string, not a whole number"));
        assert!(error("params.a = ['x', 'x']").contains("stands twice"));
        assert!(error("params.a = [\"x\\ny\"]").contains("cannot be the value"));
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
}
