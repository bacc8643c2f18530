//! Which Debian mirror to use when lab.toml names none: the one that the host's apt uses. A host
//! that ever ran `apt-get update` knows which of its sources is Debian's own; on others (fresh
//! containers) its source files are read.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kernel::PullError;
use crate::kernel::tool::{Output, Watch};

/// A mirror of Debian's main archive that the host's apt uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct HostMirror {
    /// Without a slash at its end.
    pub url: String,
    /// The keyring that the source names, if it does.
    pub keyring: Option<PathBuf>,
}

/// One line or stanza of the host's sources (sources.list(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Source {
    urls: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    keyring: Option<PathBuf>,
}

/// What apt tells of each index: address, origin, label, component.
const FORMAT: &str = "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(COMPONENT)";

/// Asks the host's apt; `None` where it knows no Debian archive.
pub(in crate::kernel) fn of_host(watch: &mut Watch) -> Result<Option<HostMirror>, PullError> {
    let mut config = Command::new("apt-config");
    config.args(["shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]);
    let places = watch.must(config, "read apt's configuration")?;
    let sources = read_sources(&places);

    let mut ask = Command::new("apt-get");
    ask.args(["indextargets", "--format", FORMAT, "Created-By: Packages"]);
    let told = watch.run(ask, Output::Apart, |_| {})?;
    if let Some(url) = from_targets(&told.out) {
        let same = |source: &&Source| source.urls.iter().any(|u| without_slash(u) == url);
        let keyring = sources.iter().find(same).and_then(|source| source.keyring.clone());
        return Ok(Some(HostMirror { url, keyring }));
    }
    Ok(from_sources(&sources))
}

/// The first index that the archive itself calls Debian's main one.
fn from_targets(told: &str) -> Option<String> {
    told.lines().find_map(|line| {
        let [url, "Debian", "Debian", "main"] = line.split('|').collect::<Vec<_>>()[..] else {
            return None;
        };
        Some(without_slash(url).to_string())
    })
}

/// The source that looks most like Debian's main archive.
fn from_sources(sources: &[Source]) -> Option<HostMirror> {
    let mut best = None;
    for source in sources {
        let main = source.components.iter().any(|c| c == "main");
        let plain = |suite: &String| !suite.contains(['-', '/']);
        if !main || !source.suites.iter().any(plain) {
            continue;
        }
        for url in &source.urls {
            let likeness = likeness(without_slash(url), source.keyring.as_deref());
            if likeness > best.as_ref().map_or(0, |(known, _)| *known) {
                let url = without_slash(url).to_string();
                best = Some((likeness, HostMirror { url, keyring: source.keyring.clone() }));
            }
        }
    }
    best.map(|(_, mirror)| mirror)
}

/// How much an address looks like a mirror of Debian: 0 not at all, 3 certain.
fn likeness(url: &str, keyring: Option<&Path>) -> u8 {
    match keyring.and_then(Path::file_name).map(|name| name.to_string_lossy()) {
        Some(name) if name.starts_with("debian-archive") => return 3,
        // Signed by somebody else.
        Some(_) => return 0,
        None => {}
    }
    // Debian's cloud images name a local list of mirrors.
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => url,
    };
    match path {
        "debian" | "etc/apt/mirrors/debian.list" => 2,
        path if path.ends_with("/debian") || path.ends_with("/debian.list") => 1,
        _ => 0,
    }
}

/// Reads the files that `apt-config shell` named.
fn read_sources(places: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in places.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let path = PathBuf::from(value.trim_matches('\''));
        match name {
            "LIST" => sources.extend(read_file(&path)),
            "PARTS" => {
                let folder = std::fs::read_dir(&path);
                let mut files: Vec<_> =
                    folder.into_iter().flatten().flatten().map(|item| item.path()).collect();
                files.sort();
                sources.extend(files.iter().flat_map(|file| read_file(file)));
            }
            _ => {}
        }
    }
    sources
}

/// A file that cannot be read has no sources: apt itself would say so, this only looks for a hint.
fn read_file(file: &Path) -> Vec<Source> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    match file.extension().and_then(|e| e.to_str()) {
        Some("list") => text.lines().filter_map(one_line).collect(),
        Some("sources") => stanzas(&text),
        _ => Vec::new(),
    }
}

/// `deb [OPTIONS] URL SUITE COMPONENT...`.
fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut keyring = None;
    if let Some(inner) = rest.strip_prefix('[') {
        let (options, after) = inner.split_once(']')?;
        keyring = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .filter(|path| path.starts_with('/'))
            .map(PathBuf::from);
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_string);
    let urls = vec![words.next()?];
    let suites = vec![words.next()?];
    Some(Source { urls, suites, components: words.collect(), keyring })
}

/// The deb822 format: stanzas of `Key: values`, apart by empty lines.
fn stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut source = Source::default();
    let (mut binary, mut enabled) = (false, true);
    let mut key = String::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            if binary && enabled && !source.urls.is_empty() {
                sources.push(std::mem::take(&mut source));
            }
            source = Source::default();
            (binary, enabled) = (false, true);
            key.clear();
            continue;
        }
        let values = if line.starts_with([' ', '\t']) {
            line
        } else {
            let Some((name, values)) = line.split_once(':') else { continue };
            key = name.to_ascii_lowercase();
            values
        };
        let mut words = values.split_whitespace().map(str::to_string);
        match key.as_str() {
            "types" => binary |= words.any(|word| word == "deb"),
            "enabled" => enabled = !words.any(|word| matches!(word.as_str(), "no" | "false")),
            "uris" => source.urls.extend(words),
            "suites" => source.suites.extend(words),
            "components" => source.components.extend(words),
            "signed-by" if source.keyring.is_none() => {
                source.keyring = words.find(|word| word.starts_with('/')).map(PathBuf::from);
            }
            _ => {}
        }
    }
    sources
}

/// Addresses are compared and joined without their last slash.
pub(in crate::kernel) fn without_slash(url: &str) -> &str {
    url.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

    #[test]
    fn apt_knows_which_index_is_debians() {
        // Printed by apt-get 2.6, host names aside.
        let told = "http://other.test/debian/|bookworm|Hashicorp|main
http://security.test/debian-security/|Debian|Debian-Security|main
http://mirror.test/some/where/|Debian|Debian|contrib
http://mirror.test/some/where/|Debian|Debian|main
http://second.test/debian/|Debian|Debian|main";
        assert_eq!(from_targets(told).as_deref(), Some("http://mirror.test/some/where"));
        assert_eq!(from_targets(""), None);
    }

    #[test]
    fn stanzas_of_a_fresh_container() {
        let text = format!(
            "Types: deb
# a comment within
URIs: http://security.test/debian-security
Suites: bookworm-security
Components: main
Signed-By: {KEYRING}

Types: deb deb-src
URIs: http://mirror.test/debian/
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: {KEYRING}
"
        );
        let mirror = from_sources(&stanzas(&text)).unwrap();
        assert_eq!(mirror.url, "http://mirror.test/debian");
        assert_eq!(mirror.keyring.as_deref(), Some(Path::new(KEYRING)));
        let disabled = text.replace("Types: deb deb-src", "Enabled: no\nTypes: deb deb-src");
        assert_eq!(from_sources(&stanzas(&disabled)), None);
        assert_eq!(from_sources(&stanzas(&text.replace("deb deb-src", "deb-src"))), None);
    }

    #[test]
    fn lines_of_an_older_host() {
        let text = "# deb http://commented.test/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/maria.gpg] http://maria.test/repo/11/debian bookworm main
deb http://docker.test/linux/debian bookworm stable
deb http://security.test/debian-security bookworm-security main
deb-src http://source.test/debian bookworm main
deb http://nested.test/pub/debian bookworm main
deb http://mirror.test/debian bookworm main contrib # ours";
        let sources: Vec<_> = text.lines().filter_map(one_line).collect();
        assert_eq!(sources.len(), 5);
        assert_eq!(from_sources(&sources).unwrap().url, "http://mirror.test/debian");
        assert_eq!(from_sources(&sources[..4]).unwrap().url, "http://nested.test/pub/debian");
        assert_eq!(from_sources(&sources[..3]), None);
    }

    #[test]
    fn cloud_images_and_other_distributions() {
        let cloud = "deb mirror+file:///etc/apt/mirrors/debian.list bookworm main";
        let sources: Vec<_> = one_line(cloud).into_iter().collect();
        let url = from_sources(&sources).unwrap().url;
        assert_eq!(url, "mirror+file:///etc/apt/mirrors/debian.list");
        let ubuntu = "deb http://archive.test/ubuntu noble main restricted";
        assert_eq!(from_sources(&one_line(ubuntu).into_iter().collect::<Vec<_>>()), None);
    }
}
