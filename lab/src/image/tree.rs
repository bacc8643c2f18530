//! The guest's file tree while it is put together: paths are resolved through the guest's own
//! symlinks, so that what the host has in /bin and the guest in /usr/bin is one file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::manifest::{Diagnostic, Result};

/// Where the bytes of a file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file of the host, resolved.
    Host(PathBuf),
    /// A program that lab itself carries.
    Embedded(&'static [u8]),
    /// A few bytes.
    Text(String),
}

/// One entry of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder and its permission bits.
    Dir(u32),
    /// A file and its permission bits.
    File(u32, Source),
    /// A symlink and its text.
    Link(String),
    /// A character device: permission bits, major, minor.
    Char(u32, u32, u32),
}

/// Guest paths without the leading slash, parents before what is in them.
#[derive(Clone, Debug, Default)]
pub struct Tree(BTreeMap<String, Node>);

/// As many symlinks as the kernel follows in one path (MAXSYMLINKS).
const MAX_LINKS: u32 = 40;

impl Tree {
    /// All entries, in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// The entry at a real path (one that [`Tree::place`] or [`Tree::resolve`] returned).
    pub fn get(&self, place: &str) -> Option<&Node> {
        self.0.get(place)
    }

    /// Where an entry of this absolute path belongs: its parent resolved, missing folders made.
    /// Fails where a parent is a file, or links go in a circle.
    pub fn place(&mut self, path: &str) -> Result<String> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if matches!(name, "" | "." | "..") {
            return Err(Diagnostic::usage(format!("{path:?} does not name a file in the guest")));
        }
        match self.walk(parent) {
            Some(parent) => Ok(join(&parent, name)),
            None => Err(Diagnostic::usage(format!(
                "{path} cannot be put into the image: a parent of it is no folder there"
            ))),
        }
    }

    /// The real path that the guest's kernel would arrive at, every symlink followed; `None` where
    /// there is nothing.
    pub fn resolve(&self, path: &str) -> Option<String> {
        walk(&self.0, path, &mut |_| false)
    }

    /// Puts an entry in its place; what was there is replaced, except that a folder stays one.
    pub fn put(&mut self, path: &str, node: Node) -> Result<String> {
        let place = self.place(path)?;
        if let (Some(Node::Dir(mode)), Node::Dir(new)) = (self.0.get_mut(&place), &node) {
            *mode = *new;
            return Ok(place);
        }
        if matches!(self.0.get(&place), Some(Node::Dir(_)))
            && self.0.range(format!("{place}/")..format!("{place}0")).next().is_some()
        {
            return Err(Diagnostic::usage(format!(
                "/{place} is a folder of the image and cannot be replaced by a file"
            )));
        }
        self.0.insert(place.clone(), node);
        Ok(place)
    }

    /// Resolves a folder, making what is missing of it.
    fn walk(&mut self, path: &str) -> Option<String> {
        let mut made = Vec::new();
        let place = walk(&self.0, path, &mut |missing| {
            made.push(missing.to_string());
            true
        })?;
        self.0.extend(made.into_iter().map(|folder| (folder, Node::Dir(0o755))));
        (place.is_empty() || matches!(self.0.get(&place), Some(Node::Dir(_)))).then_some(place)
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_string() } else { format!("{parent}/{name}") }
}

/// Follows `path` from the root; `missing` says whether a missing entry counts as a folder.
fn walk(
    map: &BTreeMap<String, Node>,
    path: &str,
    missing: &mut dyn FnMut(&str) -> bool,
) -> Option<String> {
    let split = |text: &str| text.split('/').rev().map(str::to_string).collect::<Vec<_>>();
    let mut pending = split(path);
    let mut at = String::new();
    let mut links = 0;
    while let Some(name) = pending.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let next = join(&at, &name);
        match map.get(&next) {
            Some(Node::Dir(_)) => at = next,
            Some(Node::Link(target)) => {
                links += 1;
                if links > MAX_LINKS {
                    return None;
                }
                if target.starts_with('/') {
                    at.clear();
                }
                pending.extend(split(target));
            }
            Some(_) if pending.iter().all(|rest| rest.is_empty()) => at = next,
            Some(_) => return None,
            None if missing(&next) => at = next,
            None => return None,
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged() -> Tree {
        let mut tree = Tree::default();
        tree.put("/usr/bin", Node::Dir(0o755)).unwrap();
        tree.put("/bin", Node::Link("usr/bin".into())).unwrap();
        tree
    }

    fn text(text: &str) -> Node {
        Node::File(0o644, Source::Text(text.into()))
    }

    #[test]
    fn a_file_goes_where_the_guest_would_look_for_it() {
        let mut tree = merged();
        assert_eq!(tree.put("/bin/x", text("1")).unwrap(), "usr/bin/x");
        assert_eq!(tree.put("/usr/bin/x", text("2")).unwrap(), "usr/bin/x");
        assert_eq!(tree.get("usr/bin/x"), Some(&text("2")));
        tree.put("/usr/bin/y", Node::Link("/bin/x".into())).unwrap();
        assert_eq!(tree.resolve("/bin/y").as_deref(), Some("usr/bin/x"));
        assert_eq!(tree.resolve("/bin/z"), None);
        let paths: Vec<&str> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["bin", "usr", "usr/bin", "usr/bin/x", "usr/bin/y"]);
    }

    #[test]
    fn missing_folders_are_made_and_their_mode_can_be_set() {
        let mut tree = Tree::default();
        tree.put("/a/b/c", text("")).unwrap();
        tree.put("/a/b", Node::Dir(0o700)).unwrap();
        assert_eq!(tree.get("a/b"), Some(&Node::Dir(0o700)));
        assert!(tree.get("a/b/c").is_some());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut tree = merged();
        tree.put("/bin/x", text("")).unwrap();
        tree.put("/l1", Node::Link("l2".into())).unwrap();
        tree.put("/l2", Node::Link("l1".into())).unwrap();
        for path in ["/bin/x/y", "/l1/y", "/", "/bin/..", ""] {
            assert!(tree.put(path, text("")).is_err(), "{path}");
        }
        assert!(tree.put("/usr", text("")).is_err());
    }

    #[test]
    fn dots_stay_within_the_root() {
        let mut tree = merged();
        tree.put("/usr/bin/x", Node::Link("../../../../bin/y".into())).unwrap();
        tree.put("/bin/y", text("")).unwrap();
        assert_eq!(tree.resolve("/usr/bin/x").as_deref(), Some("usr/bin/y"));
    }
}
