//! Holds docs/writing-cases.md to what the reader really takes.

use super::Project;
use super::project::tests::folder;
use super::schema::{KERNEL, KNOWN, MODULE, Manifest, SECTIONS};

const REFERENCE: &str = include_str!("../../../docs/writing-cases.md");

#[test]
fn the_reference_mentions_every_key() {
    let case = SECTIONS.into_iter().filter(|section| section.manifest == Manifest::Case);
    for section in case.chain([&KERNEL, &MODULE, &KNOWN]) {
        for key in section.keys {
            let forms = [format!("`{}`", key.name), format!("[{}", key.name)];
            let inner = ["disks", "shares", "filters"].iter().any(|of| section.title.contains(of));
            let there = forms.iter().any(|form| REFERENCE.contains(form));
            // Entries of lists stand as `{ name, size }`.
            let listed = inner
                && REFERENCE.lines().any(|line| {
                    let list = line.split_once("`{ ").and_then(|(_, rest)| rest.split_once(" }`"));
                    list.is_some_and(|(list, _)| list.split(", ").any(|name| name == key.name))
                });
            assert!(there || listed, "`{}` of {}", key.name, section.title);
        }
    }
}

#[test]
fn the_examples_of_the_reference_are_valid() {
    let mut files = vec![];
    for block in REFERENCE.split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        let Some(line) = text.strip_prefix("# ").and_then(|rest| rest.lines().next()) else {
            continue;
        };
        if line.starts_with("cases/") {
            files.push((line, text));
        }
    }
    let count = files.len();
    assert!(count >= 4, "{count}");
    let fixtures: Vec<String> =
        files.iter().map(|(file, _)| file.replace("case.toml", "fixtures/greeting")).collect();
    files.extend(fixtures.iter().map(|file| (file.as_str(), "hello\n")));
    files.push(("lab.toml", ""));
    let folder = folder(&files);
    let project = Project::load(folder.path()).unwrap();
    assert_eq!(project.cases.len(), count);
    for case in project.cases.values() {
        case.as_ref().unwrap();
    }
}
