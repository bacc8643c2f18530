//! What is known of the files of a folder source: a digest for each, good for as long as its stamp
//! holds. So a look at 80,000 files reads none of them, and yet the identity is that of their
//! contents.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::super::entry::write_whole;
use super::files::{Found, Stamp};
use crate::manifest::Result;

/// The first 16 bytes of a BLAKE3: enough against accidents.
pub(super) type Digest = [u8; 16];

/// Path, the stamp in the source at the time, and what it held.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(pub HashMap<PathBuf, (Stamp, Digest)>);

/// The first bytes of the file.
const MAGIC: &[u8] = b"lab source index 1\n";

/// Bytes of a record before its path.
const FIXED: usize = 16 + 8 * 3 + 1 + 2;

impl Index {
    /// Reads the file; `None` if there is none, or one that cannot be used.
    pub fn read(file: &Path) -> Option<Self> {
        let bytes = std::fs::read(file).ok()?;
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let mut files = HashMap::with_capacity(rest.len() / 80);
        while !rest.is_empty() {
            let (record, more) = rest.split_at_checked(FIXED)?;
            let number = |at: usize| record[at..at + 8].try_into().map(i64::from_le_bytes).ok();
            let length = u16::from_le_bytes([record[41], record[42]]);
            let (path, more) = more.split_at_checked(length.into())?;
            let stamp = Stamp {
                size: number(16)? as u64,
                mtime: number(24)?,
                ctime: number(32)?,
                executable: record[40] & 1 != 0,
                link: record[40] & 2 != 0,
            };
            let digest = record[..16].try_into().ok()?;
            files.insert(PathBuf::from(OsStr::from_bytes(path)), (stamp, digest));
            rest = more;
        }
        Some(Self(files))
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, file: &Path) -> Result<()> {
        let mut bytes = Vec::with_capacity(self.0.len() * 90);
        bytes.extend_from_slice(MAGIC);
        for (path, (stamp, digest)) in &self.0 {
            let path = path.as_os_str().as_bytes();
            let Ok(length) = u16::try_from(path.len()) else { continue };
            bytes.extend_from_slice(digest);
            bytes.extend_from_slice(&stamp.size.to_le_bytes());
            bytes.extend_from_slice(&stamp.mtime.to_le_bytes());
            bytes.extend_from_slice(&stamp.ctime.to_le_bytes());
            bytes.push(u8::from(stamp.executable) | u8::from(stamp.link) << 1);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(path);
        }
        write_whole(file, &bytes)
    }

    /// The digest of a file that is as it was.
    pub fn known(&self, found: &Found) -> Option<Digest> {
        let (stamp, digest) = self.0.get(&found.path)?;
        (*stamp == found.stamp && stamp.ctime != 0).then_some(*digest)
    }

    /// The identity of a listing. Files that changed since this index was written are read; without
    /// an index none is, and the identity is one of stamps, which no finished copy has.
    pub fn identity(this: Option<&Self>, root: &Path, files: &[Found]) -> io::Result<String> {
        let mut hash = blake3::Hasher::new();
        for found in files {
            let stamp = &found.stamp;
            let token = match this {
                None => {
                    hash.update(b"stamp");
                    let mut token = [0; 16];
                    token[..8].copy_from_slice(&stamp.size.to_le_bytes());
                    token[8..].copy_from_slice(&stamp.mtime.to_le_bytes());
                    token
                }
                Some(index) => match index.known(found) {
                    Some(digest) => digest,
                    None => digest_of(&root.join(&found.path), stamp.link)?,
                },
            };
            add(&mut hash, &found.path, stamp, &token);
        }
        Ok(hash.finalize().to_hex()[..32].to_string())
    }
}

/// What a file or a link holds.
pub(super) fn digest_of(file: &Path, link: bool) -> io::Result<Digest> {
    let mut hash = blake3::Hasher::new();
    if link {
        hash.update(std::fs::read_link(file)?.as_os_str().as_bytes());
    } else {
        hash.update_reader(File::open(file)?)?;
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    Ok(digest)
}

fn add(hash: &mut blake3::Hasher, path: &Path, stamp: &Stamp, token: &Digest) {
    let path = path.as_os_str().as_bytes();
    hash.update(&(path.len() as u32).to_le_bytes());
    hash.update(path);
    hash.update(&[u8::from(stamp.executable && !stamp.link) | u8::from(stamp.link) << 1]);
    hash.update(token);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_survives_the_disk_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("index");
        let stamp = Stamp { size: 7, mtime: -3, ctime: 9, executable: true, link: false };
        let mut index = Index::default();
        index.0.insert("fs/inode.c".into(), (stamp, [5; 16]));
        index.0.insert("b".into(), (Stamp { ctime: 0, ..stamp }, [6; 16]));
        index.write(&file).unwrap();
        let again = Index::read(&file).unwrap();
        assert_eq!(again.0, index.0);
        let found = |path: &str, stamp| Found { path: path.into(), stamp };
        assert_eq!(again.known(&found("fs/inode.c", stamp)), Some([5; 16]));
        assert_eq!(again.known(&found("fs/inode.c", Stamp { mtime: 0, ..stamp })), None);
        assert_eq!(again.known(&found("b", Stamp { ctime: 0, ..stamp })), None, "too fresh");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        assert!(Index::read(&file).is_none());
        std::fs::write(&file, "x").unwrap();
        assert!(Index::read(&file).is_none());
    }
}
