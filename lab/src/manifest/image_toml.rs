//! images/NAME.toml: what goes into a guest's root file system.

use std::collections::BTreeMap;
use std::path::Path;

use super::reader::Table;
use super::source::Source;
use super::values::is_guest_path;
use super::{ImageFile, ImageSpec, Result, schema};

/// The embedded default image.
pub(super) const BASE: &str = include_str!("../../../images/base.toml");

/// Reads one. `folder` is the manifest's, against which host paths are resolved; the embedded
/// image has none, and so only absolute ones.
pub(super) fn read(source: &Source, name: &str, folder: Option<&Path>) -> Result<ImageSpec> {
    let document = source.parse()?;
    let top = Table::top(source, &document, &schema::IMAGE)?;
    let shell = top.required("shell")?;
    if shell.contains(char::is_whitespace) {
        return Err(shell
            .error(format!("`{}` is not a program", shell.as_str()))
            .help("for example shell = \"dash\""));
    }
    let mut texts = BTreeMap::new();
    for (path, text) in top.string_map("texts")? {
        if !is_guest_path(&path) {
            return Err(path
                .error(format!("`{}` is not an absolute path of the guest", path.as_str()))
                .help("for example \"/etc/passwd\" = \"...\""));
        }
        texts.insert(path.to_string(), text.to_string());
    }
    Ok(ImageSpec {
        name: name.into(),
        summary: top.required("summary")?.trim().into(),
        shell: shell.to_string(),
        programs: programs(&top, "programs")?,
        optional: programs(&top, "optional")?,
        files: top
            .tables("files", &schema::IMAGE_FILE)?
            .iter()
            .map(|table| file(table, folder))
            .collect::<Result<_>>()?,
        texts,
    })
}

/// A list of programs: names, found on the PATH, or absolute paths.
pub(super) fn programs(table: &Table<'_>, key: &str) -> Result<Vec<String>> {
    let mut programs = Vec::new();
    for program in table.strings(key)? {
        let relative = program.contains('/') && !program.starts_with('/');
        if relative || program.contains(char::is_whitespace) || program.contains('\0') {
            return Err(program
                .error(format!("`{}` is not a program of the host", program.escape_debug()))
                .help("write its name, as in \"mount\", or its absolute path"));
        }
        programs.push(program.to_string());
    }
    Ok(programs)
}

fn file(table: &Table<'_>, folder: Option<&Path>) -> Result<ImageFile> {
    let (host, guest) = (table.required("host")?, table.required("guest")?);
    if !is_guest_path(&guest) {
        return Err(guest
            .error(format!("`{}` is not an absolute path of the guest", guest.as_str()))
            .help("for example guest = \"/etc/mke2fs.conf\""));
    }
    let host = match (Path::new(host.as_str()), folder) {
        (path, _) if path.is_absolute() => path.to_path_buf(),
        (path, Some(folder)) => folder.join(path),
        (_, None) => {
            return Err(host
                .error("the embedded image has no folder of its own")
                .help("write an absolute path, or copy the image into images/ of the project"));
        }
    };
    Ok(ImageFile { host, guest: guest.as_str().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Result<ImageSpec> {
        read(&Source::new("images/x.toml", text), "x", Some(Path::new("/project/images")))
    }

    #[test]
    fn the_embedded_image_is_valid() {
        let base = read(&Source::new("base.toml", BASE), "base", None).unwrap();
        assert!(!base.shell.is_empty());
        assert!(base.files.iter().all(|file| file.host.is_absolute()));
    }

    #[test]
    fn host_paths_are_relative_to_the_manifest() {
        let text = r#"
            summary = "s"
            shell = "dash"
            files = [{ host = "conf", guest = "/etc/conf" }]
            texts = { "/etc/x" = "y" }
        "#;
        let image = image(text).unwrap();
        assert_eq!(image.files[0].host, Path::new("/project/images/conf"));
        assert_eq!(image.texts["/etc/x"], "y");
    }

    #[test]
    fn slips_have_their_place() {
        let error = |text: &str| {
            image(&format!("summary = 's'\nshell = 'dash'\n{text}")).unwrap_err().to_string()
        };
        assert!(error("program = []").starts_with("images/x.toml:3:1: unknown key `program`"));
        assert!(error("programs = 'cat'").contains("`programs` wants a list, not a string"));
        assert!(error("programs = ['bin/cat']").contains("is not a program of the host"));
        assert!(error("texts = { 'etc/x' = '' }").starts_with("images/x.toml:3:11: `etc/x`"));
        assert!(error("texts = { '/etc/x' = 1 }").contains("wants a table of strings"));
        assert!(error("files = [{ host = '/x' }]").contains("lacks `guest`"));
    }
}
