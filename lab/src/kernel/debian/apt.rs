//! Debian's own client does the fetching and the verifying, with a state of its own: one suite, one
//! index, no root, and the host's package lists, caches and hooks left alone (apt.conf(5)).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::candidate::Candidate;
use super::mirror::{self, without_slash};
use super::trouble::{Trouble, classify};
use crate::kernel::tool::{Output, Ran, Watch};
use crate::kernel::{PullError, PullProgress};
use crate::manifest::{Diagnostic, Result};

/// Where packages come from.
#[derive(Clone, Debug, Default)]
pub struct AptSource {
    /// `[debian] mirror`: any address that apt takes, `file:` too; `None`: what the host's apt uses.
    pub mirror: Option<String>,
}

/// apt with a private state in `folder`, set up for one suite.
pub(in crate::kernel) struct Apt {
    folder: PathBuf,
    suite: String,
    mirror: String,
}

/// Debian's keys, as its package debian-archive-keyring installs them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What options on the command line cannot do: hooks are lists, and lists only grow.
const CONFIG: &str = "#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Post-Invoke-Stats;
#clear APT::Architectures;
";

/// Options that are the same for every pull.
const OPTIONS: [&str; 14] = [
    "APT::Architecture=amd64",
    "APT::Architectures=amd64",
    // The host's pins and default release are about the host.
    "APT::Default-Release=",
    "Dir::Etc::Preferences=/dev/null",
    "Dir::Etc::PreferencesParts=/dev/null",
    "Dir::Etc::SourceParts=/dev/null",
    "Dir::State::status=/dev/null",
    // apt's own unprivileged user cannot reach a cache below /root.
    "APT::Sandbox::User=root",
    "Acquire::Languages=none",
    "Acquire::PDiffs=false",
    "Acquire::GzipIndexes=true",
    "Acquire::Retries=1",
    "Acquire::AllowInsecureRepositories=false",
    "APT::Update::Error-Mode=any",
];

impl AptSource {
    /// The mirror that a pull would use, without a slash at its end.
    ///
    /// # Errors
    /// There is none, its name is no URL, Debian's keys are missing, or the host has no apt.
    pub fn url(&self) -> Result<String> {
        let mut watch = Watch { progress: &mut |_| {}, cancel: &AtomicBool::new(false) };
        Ok(choose(self, &mut watch).map_err(PullError::into_diagnostic)?.0)
    }
}

impl Apt {
    /// Fetches and verifies the index of `suite` into `folder`.
    pub fn open(
        source: &AptSource,
        suite: &str,
        folder: &Path,
        watch: &mut Watch,
    ) -> Result<Self, PullError> {
        check_word("suite", suite)?;
        let (mirror, keyring) = choose(source, watch)?;
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).map_err(|e| Diagnostic::io("write", &file, &e))
        };
        for name in ["lists/partial", "cache/archives/partial", "debs"] {
            let name = folder.join(name);
            std::fs::create_dir_all(&name).map_err(|e| Diagnostic::io("make", &name, &e))?;
        }
        write("apt.conf", CONFIG)?;
        write(
            "lab.sources",
            &format!(
                "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n\
                 Architectures: amd64\nTargets: Packages\nSigned-By: {}\n",
                keyring.display()
            ),
        )?;
        let apt = Self { folder: folder.to_path_buf(), suite: suite.to_string(), mirror };
        (watch.progress)(PullProgress::Index { suite: suite.to_string() });
        let mut update = apt.command("apt-get");
        update.args(["-q", "update"]);
        let ran = watch.run(update, Output::Together, |_| {})?;
        apt.judge(&ran, &format!("the suite {suite}"))?;
        Ok(apt)
    }

    /// The newest version of a package in the suite.
    pub fn candidate(&self, package: &str, watch: &mut Watch) -> Result<Candidate, PullError> {
        check_word("package", package)?;
        let mut show = self.command("apt-cache");
        show.args(["show", "--no-all-versions", package]);
        let ran = watch.run(show, Output::Apart, |_| {})?;
        let what = format!("the package {package} in {}", self.suite);
        self.judge(&ran, &what)?;
        Candidate::parse(&ran.out).ok_or_else(|| {
            let message = format!("apt-cache's description of {what} has an unknown form");
            Diagnostic::trouble(message).into()
        })
    }

    /// Fetches and verifies packages; their .deb files, in the same order.
    pub fn download(
        &self,
        candidates: &[Candidate],
        watch: &mut Watch,
    ) -> Result<Vec<PathBuf>, PullError> {
        let debs = self.folder.join("debs");
        let total = candidates.iter().map(|c| c.size).sum();
        let mut download = self.command("apt-get");
        download.args(["-q", "download"]).current_dir(&debs);
        for Candidate { id, .. } in candidates {
            download.arg(format!("{}={}", id.package, id.version));
        }
        (watch.progress)(PullProgress::Fetch { done: 0, total });
        let partial = self.folder.join("cache/archives/partial");
        let mut last = 0;
        let ran = watch.run(download, Output::Together, |watch| {
            let done = (bytes_in(&debs) + bytes_in(&partial)).min(total);
            if done != last {
                last = done;
                (watch.progress)(PullProgress::Fetch { done, total });
            }
        })?;
        let names: Vec<_> = candidates.iter().map(|c| c.id.package.as_str()).collect();
        self.judge(&ran, &format!("{} of {}", names.join(" and "), self.suite))?;
        (watch.progress)(PullProgress::Fetch { done: total, total });
        candidates.iter().map(|candidate| deb_of(&debs, candidate)).collect()
    }

    /// A program of apt with the private state; paths go in as options, whatever they contain.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.join("apt.conf"));
        for option in OPTIONS {
            command.args(["-o", option]);
        }
        for (name, place) in [
            ("Dir::State", ""),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Cache::archives", "cache/archives"),
            ("Dir::Etc::SourceList", "lab.sources"),
        ] {
            let mut option = OsString::from(format!("{name}="));
            option.push(self.folder.join(place));
            command.arg("-o").arg(option);
        }
        command
    }

    /// Turns what apt said into an error; `what` was wanted.
    fn judge(&self, ran: &Ran, what: &str) -> Result<(), PullError> {
        let Some(trouble) = classify(&ran.err, ran.status.success()) else { return Ok(()) };
        let mirror = shown(&self.mirror);
        Err(PullError::Other(match trouble {
            Trouble::Gone(words) => {
                let what = format!("{mirror} has not got {what}: {words}");
                return Err(PullError::Gone { suite: self.suite.clone(), what });
            }
            Trouble::NoRoom => {
                Diagnostic::trouble(format!("cannot fetch {what}: the disk is full"))
                    .help("free some room, or point LAB_CACHE to a larger file system")
            }
            Trouble::Network(words) => {
                Diagnostic::trouble(format!("cannot fetch {what} from {mirror}: {words}")).help(
                    "check the network and apt's proxy settings, or name another mirror in \
                     lab.toml: [debian] mirror = \"...\"; kernels that are in the store need no \
                     network",
                )
            }
            Trouble::Verification(words) => {
                let message = format!("{what} from {mirror} failed verification: {words}");
                Diagnostic::trouble(message).help(
                    "nothing of it was kept; try again later, try another mirror in lab.toml \
                     ([debian] mirror = \"...\"), and see that debian-archive-keyring is up to date",
                )
            }
            Trouble::Other(words) => {
                Diagnostic::trouble(format!("apt could not fetch {what} from {mirror}: {words}"))
            }
        }))
    }
}

/// The mirror and the keyring to hold it to.
fn choose(source: &AptSource, watch: &mut Watch) -> Result<(String, PathBuf), PullError> {
    let keyring = PathBuf::from(KEYRING);
    let (url, keyring) = match &source.mirror {
        Some(url) => (without_slash(url).to_string(), Some(keyring).filter(|k| k.is_file())),
        None => {
            let host = mirror::of_host(watch)?.ok_or_else(|| {
                Diagnostic::trouble("this host's apt has no source of Debian's main archive")
                    .help("name a mirror in lab.toml: [debian] mirror = \"...\"")
            })?;
            let keyring = [Some(keyring), host.keyring].into_iter().flatten();
            (host.url, keyring.into_iter().find(|k| k.is_file()))
        }
    };
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    let sound = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if scheme.is_empty() || !scheme.chars().all(sound) || url.contains(char::is_whitespace) {
        return Err(Diagnostic::usage(format!("the Debian mirror `{url}` is not a URL"))
            .help("write it as apt takes it, for example with http:, https: or file: in front")
            .into());
    }
    let keyring = keyring.ok_or_else(|| {
        Diagnostic::trouble(format!("Debian's keys are not on this host ({KEYRING})"))
            .help("install the package debian-archive-keyring (on Fedora: debian-keyring)")
    })?;
    Ok((url, keyring))
}

/// Names go into a source file and a command line.
fn check_word(what: &str, word: &str) -> Result<()> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "+-.~_/".contains(c);
    if word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(sound) {
        return Ok(());
    }
    Err(Diagnostic::usage(format!("`{word}` cannot be the name of a Debian {what}"))
        .help("write debian = \"SUITE/PACKAGE\", for example \"bookworm/user-mode-linux\""))
}

/// The file that apt made of a package: it encodes the name in its own way, so look for it.
fn deb_of(folder: &Path, candidate: &Candidate) -> Result<PathBuf, PullError> {
    let prefix = format!("{}_", candidate.id.package);
    let files = std::fs::read_dir(folder).map_err(|e| Diagnostic::io("read", folder, &e))?;
    let named = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && name.ends_with(".deb")
    };
    files.flatten().map(|item| item.path()).find(named).ok_or_else(|| {
        let message = format!("apt-get fetched {} and left no file", candidate.id.package);
        Diagnostic::trouble(message).into()
    })
}

/// An address for people: without a password.
fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            let slash = if rest.contains('/') { "/" } else { "" };
            format!("{scheme}://{host}{slash}{path}")
        }
        None => url.to_string(),
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
    items.filter_map(|item| item.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_smuggle_anything_in() {
        assert!(check_word("suite", "bookworm-backports").is_ok());
        assert!(check_word("package", "linux-image-6.1.0-50-cloud-amd64").is_ok());
        for bad in ["", "-o", "a b", "x\nURIs: y", "a=1"] {
            assert!(check_word("suite", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn passwords_stay_out_of_messages() {
        assert_eq!(shown("https://me:secret@mirror.test/debian"), "https://mirror.test/debian");
        assert_eq!(shown("https://me:secret@mirror.test"), "https://mirror.test");
        assert_eq!(shown("file:///srv/debian"), "file:///srv/debian");
    }
}
