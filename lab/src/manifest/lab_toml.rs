//! lab.toml: reads one file; [`super::project`] lays the project's over the embedded one.

use std::collections::BTreeMap;
use std::path::Path;

use super::kernel_toml::{self, Written};
use super::reader::Table;
use super::source::{Source, Text};
use super::values::{is_glob, is_name};
use super::{Known, MatrixSpec, Place, Result, schema, twin_toml};

/// One lab.toml as written.
pub(super) struct Lab {
    /// `None` where it has no `default-kernels`.
    pub default_kernels: Option<Vec<String>>,
    /// `[debian] mirror`.
    pub mirror: Option<String>,
    /// `[runs] keep`, `[runs] days` and `[cache] days`, as far as they are given.
    pub bounds: [Option<u32>; 3],
    /// `[kernel.NAME]`.
    pub kernels: BTreeMap<String, Written>,
    /// `[[known]]`.
    pub known: Vec<Known>,
    /// `[matrix.NAME]`.
    pub matrices: BTreeMap<String, MatrixSpec>,
    /// Kernels that are meant by name, to be looked up when all kernels are there.
    pub mentioned: Vec<(String, Place)>,
}

/// Reads one; relative paths in it are relative to `root`.
pub(super) fn read(source: &Source, root: &Path) -> Result<Lab> {
    let document = source.parse()?;
    let top = Table::top(source, &document, &schema::LAB)?;
    let mut mentioned = Vec::new();
    let default_kernels = match top.get("default-kernels") {
        Some(_) => Some(globs(&top.required_strings("default-kernels")?, &mut mentioned)?),
        None => None,
    };
    let mut kernels = BTreeMap::new();
    for (name, table) in top.named("kernel", &schema::KERNEL)? {
        kernels.insert(name.to_string(), kernel_toml::read(&name, &table, root)?);
    }
    let mut known = Vec::new();
    for table in top.tables("known", &schema::KNOWN)? {
        let case = table.required("case")?;
        twin_toml::check_glob(&case)?;
        known.push(Known {
            case: case.to_string(),
            kernel: globs(&table.required_strings("kernel")?, &mut mentioned)?,
            reason: table.required("reason")?.trim().into(),
            signature: match table.get("signature") {
                Some(_) => Some(table.required("signature")?.trim().into()),
                None => None,
            },
        });
    }
    let mut matrices = BTreeMap::new();
    for (name, table) in top.named("matrix", &schema::MATRIX)? {
        if !is_name(&name) {
            return Err(name
                .error(format!("`{}` is not a name for a matrix", name.as_str()))
                .help("letters, digits, `.`, `_`, `+` and `-`, for example ci"));
        }
        let cases = table.required_strings("cases")?;
        cases.iter().try_for_each(twin_toml::check_glob)?;
        let cases = cases.iter().map(|text| text.to_string()).collect();
        let kernels = globs(&table.required_strings("kernels")?, &mut mentioned)?;
        matrices.insert(name.to_string(), MatrixSpec { kernels, cases });
    }
    let (mirror, bounds) = (mirror(&top)?, bounds(&top)?);
    Ok(Lab { default_kernels, mirror, bounds, kernels, known, matrices, mentioned })
}

/// How much is kept: of runs, and of what lies unused in the cache.
fn bounds(top: &Table<'_>) -> Result<[Option<u32>; 3]> {
    let number = |table: &Option<Table<'_>>, key: &str, most: i64| -> Result<Option<u32>> {
        let number = table.as_ref().map(|table| table.whole(key, 1..most + 1)).transpose()?;
        Ok(number.flatten().map(|number| number as u32))
    };
    let runs = top.table("runs", &schema::RUNS)?;
    let cache = top.table("cache", &schema::CACHE)?;
    let ten_years = 3650;
    Ok([
        number(&runs, "keep", 1_000_000)?,
        number(&runs, "days", ten_years)?,
        number(&cache, "days", ten_years)?,
    ])
}

fn mirror(top: &Table<'_>) -> Result<Option<String>> {
    let Some(table) = top.table("debian", &schema::DEBIAN)? else { return Ok(None) };
    let Some(mirror) = table.string("mirror")? else { return Ok(None) };
    let schemes = ["http://", "https://", "file:/"];
    // It becomes a word of a line of an apt source list.
    let one_word = !mirror.contains(|c: char| c.is_whitespace() || c.is_control());
    if !one_word || !schemes.iter().any(|scheme| mirror.starts_with(scheme)) {
        return Err(mirror
            .error(format!("`{}` is not the URL of a mirror", mirror.escape_debug()))
            .help("for example mirror = \"http://mirror.example/debian\""));
    }
    Ok(Some(mirror.trim_end_matches('/').into()))
}

/// Globs of kernels; those that are plain names are noted in `mentioned`.
fn globs(texts: &[Text<'_>], mentioned: &mut Vec<(String, Place)>) -> Result<Vec<String>> {
    for text in texts {
        twin_toml::check_glob(text)?;
        if !is_glob(text) {
            mentioned.push((text.to_string(), text.place()));
        }
    }
    Ok(texts.iter().map(|text| text.to_string()).collect())
}
