//! What Debian's signed index tells of a package, before any of it is fetched.

use crate::kernel::entry::Package;

/// What the signed index says about a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Candidate {
    pub id: Package,
    /// Names in `Depends` and `Pre-Depends`, the first alternative of each.
    pub depends: Vec<String>,
    /// The .deb's bytes.
    pub size: u64,
    /// Its files' bytes, as its maintainer counted them.
    pub installed: u64,
}

impl Candidate {
    /// Reads the first stanza that `apt-cache show` printed.
    pub fn parse(text: &str) -> Option<Self> {
        let stanza = text.split("\n\n").next()?;
        let field = |name: &str| {
            let has = |line: &&str| line.strip_prefix(name).is_some_and(|r| r.starts_with(": "));
            stanza.lines().find(has).map(|line| line[name.len() + 2..].trim())
        };
        let first_alternatives = |list: &str| {
            let names = list.split(',').map(|alternatives| {
                let name = alternatives.split('|').next().unwrap_or_default().trim();
                name.split([' ', ':', '(']).next().unwrap_or_default().to_string()
            });
            names.filter(|name| !name.is_empty()).collect::<Vec<_>>()
        };
        let depends = ["Pre-Depends", "Depends"].into_iter().filter_map(field);
        Some(Self {
            id: Package {
                package: field("Package")?.to_string(),
                version: field("Version")?.to_string(),
                sha256: field("SHA256")?.to_string(),
            },
            depends: depends.flat_map(first_alternatives).collect(),
            size: field("Size")?.parse().ok()?,
            installed: field("Installed-Size").and_then(|kib| kib.parse().ok()).unwrap_or(0) * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_describes_a_package() {
        // Printed by apt-cache 2.6 for bookworm, shortened.
        let text = "Package: linux-image-cloud-amd64
Source: linux-signed-amd64 (6.1.176+1)
Version: 6.1.176-1
Installed-Size: 13
Depends: linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1), kmod | other, libc6:any
Size: 1500
MD5sum: ef6a2fe5529609fd70b86e38dd1914ae
SHA256: 6f32a25a6ee7b58852de01577ba261fda873c3002c736a2148bf0a6593bd93c8

Package: another
";
        let candidate = Candidate::parse(text).unwrap();
        assert_eq!(candidate.id.package, "linux-image-cloud-amd64");
        assert_eq!(candidate.id.version, "6.1.176-1");
        assert_eq!(candidate.depends, ["linux-image-6.1.0-50-cloud-amd64", "kmod", "libc6"]);
        assert_eq!((candidate.size, candidate.installed), (1500, 13 * 1024));
        assert_eq!(Candidate::parse("Package: x\nVersion: 1\n"), None);
    }
}
