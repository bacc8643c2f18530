//! Writes a tree as the kernel reads it: a newc cpio archive, the same bytes for the same tree.
//! The format is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

use std::fs;
use std::io::{self, Write};

use cpio::newc::{Builder, ModeFileType, trailer};

use super::tree::{Node, Source, Tree};
use crate::manifest::{Diagnostic, Result};

/// Writes all entries: sorted, numbered from 1, owned by root, of time 0. Fails where a host file
/// cannot be read; an error of the output is one of `WRITE FILE`, said by `failed`.
pub fn write(
    tree: &Tree,
    mut out: impl Write,
    failed: impl Fn(io::Error) -> Diagnostic,
) -> Result<()> {
    for (number, (path, node)) in (1u32..).zip(tree.iter()) {
        let entry = Builder::new(path).ino(number);
        let (entry, data) = match node {
            Node::Dir(mode) => {
                (entry.mode(*mode).set_mode_file_type(ModeFileType::Directory).nlink(2), Vec::new())
            }
            Node::File(mode, source) => {
                (entry.mode(*mode).set_mode_file_type(ModeFileType::Regular), read(source)?)
            }
            Node::Link(target) => {
                let entry = entry.mode(0o777).set_mode_file_type(ModeFileType::Symlink);
                (entry, target.clone().into_bytes())
            }
            Node::Char(mode, major, minor) => {
                let entry = entry.mode(*mode).set_mode_file_type(ModeFileType::Char);
                (entry.rdev_major(*major).rdev_minor(*minor), Vec::new())
            }
        };
        let size = u32::try_from(data.len()).map_err(|_| {
            Diagnostic::usage(format!("/{path} is too large for an image: 4 GiB is the most"))
                .help("bring it along as a share instead")
        })?;
        let mut writer = entry.write(&mut out, size);
        writer.write_all(&data).and_then(|()| writer.finish().map(drop)).map_err(&failed)?;
    }
    trailer(&mut out).and_then(|out| out.flush()).map_err(&failed)
}

fn read(source: &Source) -> Result<Vec<u8>> {
    match source {
        Source::Host(path) => fs::read(path).map_err(|e| Diagnostic::io("read", path, &e)),
        Source::Embedded(data) => Ok(data.to_vec()),
        Source::Text(text) => Ok(text.clone().into_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::newc::Reader;

    #[test]
    fn entries_come_back_as_they_were_written() {
        let mut tree = Tree::default();
        tree.put("/usr/bin", Node::Dir(0o755)).unwrap();
        tree.put("/usr/bin/x", Node::File(0o755, Source::Text("odd".into()))).unwrap();
        tree.put("/bin", Node::Link("usr/bin".into())).unwrap();
        tree.put("/dev/console", Node::Char(0o600, 5, 1)).unwrap();
        let mut archive = Vec::new();
        write(&tree, &mut archive, |e| panic!("{e}")).unwrap();
        assert_eq!(archive.len() % 4, 0);

        let mut rest = &archive[..];
        let mut seen = Vec::new();
        loop {
            let mut reader = Reader::new(rest).unwrap();
            let entry = reader.entry().clone_facts();
            if entry.0 == "TRAILER!!!" {
                break;
            }
            let mut data = Vec::new();
            io::copy(&mut reader, &mut data).unwrap();
            rest = reader.finish().unwrap();
            seen.push((entry.0, entry.1, entry.2, data));
        }
        let expected = [
            ("bin", 0o120777, (0, 0), &b"usr/bin"[..]),
            ("dev", 0o040755, (0, 0), b""),
            ("dev/console", 0o020600, (5, 1), b""),
            ("usr", 0o040755, (0, 0), b""),
            ("usr/bin", 0o040755, (0, 0), b""),
            ("usr/bin/x", 0o100755, (0, 0), b"odd"),
        ];
        let seen: Vec<_> = seen.iter().map(|(n, m, d, b)| (n.as_str(), *m, *d, &b[..])).collect();
        assert_eq!(seen, expected);
    }

    trait Facts {
        fn clone_facts(&self) -> (String, u32, (u32, u32));
    }
    impl Facts for cpio::newc::Entry {
        fn clone_facts(&self) -> (String, u32, (u32, u32)) {
            assert_eq!((self.uid(), self.gid(), self.mtime()), (0, 0, 0));
            (self.name().into(), self.mode(), (self.rdev_major(), self.rdev_minor()))
        }
    }
}
