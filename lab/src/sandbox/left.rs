//! What a process behind walls left in a folder that it could write to. A link that it planted there
//! leads, on the host, where the process itself could not go: so none is followed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

/// Opens the regular file `path` below the folder `root` to read it, following no link below `root`.
///
/// # Errors
/// It is not there; a link, or what is no regular file, is in its place or in that of a folder above
/// it; `path` leads out of `root`.
pub fn open_below(root: &Path, path: &Path) -> io::Result<File> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::CurDir => {}
            _ => return Err(io::Error::other("the path leads out of its folder")),
        }
    }
    let Some((last, folders)) = parts.split_last() else {
        return Err(io::Error::other("no file is named"));
    };
    let is_link = |errno| match errno {
        Errno::ELOOP | Errno::ENOTDIR => io::Error::other("a link or a file is in the way"),
        errno => errno.into(),
    };
    // Links above belong to the user.
    let way = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at: OwnedFd = open(root, way, Mode::empty())?;
    for name in folders {
        at = openat(&at, *name, way | OFlag::O_NOFOLLOW, Mode::empty()).map_err(is_link)?;
    }
    // A pipe would wait for a writer.
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(&at, *last, read, Mode::empty()).map_err(is_link)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// The text of such a file.
///
/// # Errors
/// As [`open_below`], or it is no UTF-8.
pub fn read_below(root: &Path, path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_below(root, path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_below_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("root/sub")).unwrap();
        std::fs::write(at("root/sub/file"), "own").unwrap();
        std::fs::write(at("file"), "the user's").unwrap();
        symlink("../../file", at("root/sub/link")).unwrap();
        symlink("..", at("root/up")).unwrap();
        symlink("sub", at("root/same")).unwrap();
        nix::unistd::mkfifo(&at("root/pipe"), Mode::S_IRWXU).unwrap();
        symlink("root", at("by-link")).unwrap();
        let read = |path: &str| read_below(&at("by-link"), Path::new(path));
        assert_eq!(read("sub/file").unwrap(), "own");
        assert_eq!(read("./sub/file").unwrap(), "own");
        for path in
            ["sub/link", "up/file", "same/file", "pipe", "sub", "../file", "/etc/passwd", ""]
        {
            assert!(read(path).is_err(), "{path}");
        }
        assert_eq!(read("sub/none").unwrap_err().kind(), io::ErrorKind::NotFound);
        // What std does: the links are sound.
        for path in ["sub/link", "up/file"] {
            assert_eq!(std::fs::read_to_string(at("root").join(path)).unwrap(), "the user's");
        }
    }
}
