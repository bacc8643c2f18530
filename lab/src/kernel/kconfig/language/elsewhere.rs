//! Looks for a symbol in the Kconfig files that an architecture does not read: "only s390 has it"
//! is a better answer than "no such symbol".

use std::collections::BTreeSet;
use std::path::Path;

use super::Line;

/// Where the data of a source lies that never has Kconfig files of the kernel itself.
const SKIPPED: [&str; 3] = ["tools", "scripts", "Documentation"];

/// Finds `config NAME` in a file that is not in `read`. Architectures come first.
pub(super) fn find(root: &Path, name: &str, read: &BTreeSet<String>) -> Option<Line> {
    let mut folders = vec![root.to_path_buf()];
    let arch = root.join("arch");
    if arch.is_dir() {
        folders.push(arch);
    }
    while let Some(folder) = folders.pop() {
        let mut items: Vec<_> = std::fs::read_dir(&folder).ok()?.flatten().collect();
        items.sort_by_key(|item| std::cmp::Reverse(item.file_name()));
        for item in items {
            let file_name = item.file_name();
            let file_name = file_name.to_string_lossy();
            let Ok(kind) = item.file_type() else { continue };
            if kind.is_dir() {
                let top = folder == root && (file_name == "arch" || SKIPPED.contains(&&*file_name));
                if !top && !file_name.starts_with('.') {
                    folders.push(item.path());
                }
                continue;
            }
            if !kind.is_file() || !file_name.starts_with("Kconfig") {
                continue;
            }
            let path = item.path();
            let shown = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if !read.contains(&shown)
                && let Some(line) = line_in(&path, name)
            {
                return Some(Line { file: shown.into(), line });
            }
        }
    }
    None
}

fn line_in(path: &Path, name: &str) -> Option<usize> {
    let text = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text);
    let defines = |line: &str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("config" | "menuconfig")) && words.next() == Some(name)
    };
    text.lines().position(defines).map(|index| index + 1)
}
