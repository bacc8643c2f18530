//! Which package and version each file of an image is from, asked of the host's package database
//! in one go: a transcript that changed is often a program that changed.

use std::collections::BTreeMap;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Where one file of an image came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Its path in the guest, absolute.
    pub guest: String,
    /// Its path on the host, symlinks resolved; `(lab)` for what lab itself carries.
    pub host: String,
    /// The package, where the host knows; the distribution's name for it, without architecture.
    pub package: Option<String>,
    /// The package's version, as the distribution writes it.
    pub version: Option<String>,
}

/// Package and version by path.
type Owners = BTreeMap<String, (String, String)>;

/// Asks for the files of `pairs` (guest path, host path). Hosts without dpkg and rpm, and files of
/// no package, have `None`.
pub fn trace(pairs: Vec<(String, String)>) -> Vec<Provenance> {
    let hosts: Vec<&str> = pairs.iter().map(|(_, host)| host.as_str()).collect();
    let owners = dpkg(&hosts).or_else(|| rpm(&hosts)).unwrap_or_default();
    pairs
        .into_iter()
        .map(|(guest, host)| {
            let (package, version) = owners.get(&host).cloned().unzip();
            Provenance { guest, host, package, version }
        })
        .collect()
}

/// The other name of a path on a host whose /bin, /sbin and /lib are links into /usr: packages
/// own it under either.
fn other_name(path: &str) -> String {
    match path.strip_prefix("/usr") {
        Some(rest) => rest.to_string(),
        None => format!("/usr{path}"),
    }
}

/// `None` where there is no dpkg, or none of the files is a package's (a foreign dpkg).
fn dpkg(paths: &[&str]) -> Option<Owners> {
    let escaped = |path: &str| -> String {
        // dpkg-query takes these for a pattern.
        path.chars()
            .flat_map(|c| {
                matches!(c, '*' | '?' | '[' | '\\').then_some('\\').into_iter().chain([c])
            })
            .collect()
    };
    let asked = paths.iter().flat_map(|path| [escaped(path), escaped(&other_name(path))]);
    // Its status is 1 as soon as one path is nobody's.
    let output =
        Command::new("dpkg-query").env("LC_ALL", "C").arg("-S").arg("--").args(asked).output();
    let packages = parse_search(&String::from_utf8_lossy(&output.ok()?.stdout));
    if packages.is_empty() {
        return None;
    }
    let mut names: Vec<&String> = packages.values().collect();
    names.sort();
    names.dedup();
    let output = Command::new("dpkg-query")
        .env("LC_ALL", "C")
        .args(["-W", "-f", "${binary:Package}\\t${Version}\\n", "--"])
        .args(names)
        .output();
    let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
    let versions: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('\t')).collect();
    let owner = |path: &str| {
        let package = packages.get(path).or_else(|| packages.get(&other_name(path)))?;
        let version = versions.get(package.as_str())?;
        let name = package.split(':').next().unwrap_or(package);
        Some((name.to_string(), (*version).to_string()))
    };
    Some(paths.iter().filter_map(|p| Some(((*p).to_string(), owner(p)?))).collect())
}

/// `dpkg-query -S`: lines of `PACKAGE[:ARCH][, PACKAGE...]: PATH`, and of diversions.
fn parse_search(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with("diversion by "))
        .filter_map(|line| {
            let (packages, path) = line.split_once(": /")?;
            let package = packages.split(", ").next()?;
            Some((format!("/{path}"), package.to_string()))
        })
        .collect()
}

fn rpm(paths: &[&str]) -> Option<Owners> {
    let format = "%{NAME}\\t%{VERSION}-%{RELEASE}\\n";
    let output =
        Command::new("rpm").env("LC_ALL", "C").args(["-qf", "--qf", format]).args(paths).output();
    let text = String::from_utf8_lossy(&output.ok()?.stdout).into_owned();
    parse_rpm(paths, &text)
}

/// One line a path, in order; a file of no package has a line without a tab. `None` where files
/// with several owners break the order.
fn parse_rpm(paths: &[&str], text: &str) -> Option<Owners> {
    let lines: Vec<&str> = text.lines().collect();
    (lines.len() == paths.len()).then(|| {
        let pairs = paths.iter().zip(lines).filter_map(|(path, line)| {
            let (name, version) = line.split_once('\t')?;
            Some(((*path).to_string(), (name.to_string(), version.to_string())))
        });
        pairs.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_output_of_dpkg() {
        let text = "coreutils: /bin/cat\n\
                    libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6\n\
                    a, b:i386: /usr/share/doc\n\
                    diversion by dash from: /bin/sh\n\
                    diversion by dash to: /bin/sh.distrib\n";
        let found = parse_search(text);
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            found,
            [
                ("/bin/cat", "coreutils"),
                ("/lib/x86_64-linux-gnu/libc.so.6", "libc6:amd64"),
                ("/usr/share/doc", "a")
            ]
        );
    }

    #[test]
    fn output_of_rpm() {
        let text = "coreutils\t9.4-1.fc40\nfile /opt/x is not owned by any package\n";
        let owners = parse_rpm(&["/usr/bin/cat", "/opt/x"], text).unwrap();
        assert_eq!(owners.len(), 1);
        assert_eq!(owners["/usr/bin/cat"], ("coreutils".into(), "9.4-1.fc40".into()));
        assert_eq!(parse_rpm(&["/usr/bin/cat"], text), None);
    }

    #[test]
    fn this_hosts_own_database() {
        if Command::new("dpkg-query").arg("--version").output().is_err() {
            return;
        }
        let cat = std::fs::canonicalize("/usr/bin/cat").unwrap();
        let pair = |host: &str| ("/x".to_string(), host.to_string());
        let traced = trace(vec![pair(cat.to_str().unwrap()), pair("/no/such/[file]")]);
        assert!(traced[0].package.is_some() && traced[0].version.is_some(), "{traced:?}");
        assert_eq!(traced[1].package, None);
    }
}
