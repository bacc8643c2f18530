//! What apt's words mean: it exits with 100 for everything, and even with 0 when an index could not
//! be fetched, so the kind of a failure has to be read from its messages (in the C locale).

/// The kind of a failure, with the line that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Trouble {
    /// The disk is full.
    NoRoom,
    /// The mirror cannot be reached, or does not serve.
    Network(String),
    /// What came is not what Debian signed.
    Verification(String),
    /// The mirror answers, and has no such suite or package.
    Gone(String),
    /// Anything else.
    Other(String),
}

/// Pieces of messages, in the order in which they decide: a suite whose files cannot be fetched is
/// also said to lack a Release file, and one whose signature is bad is also said to be unsigned.
const NO_ROOM: &[&str] =
    &["No space left on device", "Disk quota exceeded", "have enough free space"];
const NETWORK: &[&str] = &[
    "Temporary failure resolving",
    "Could not resolve",
    "Something wicked happened resolving",
    "Could not connect",
    "Cannot initiate the connection",
    "Unable to connect",
    "Connection failed",
    "Connection timed out",
    "Connection refused",
    "Connection reset",
    "Network is unreachable",
    "Error reading from server",
    "Could not handshake",
    "Certificate verification failed",
    "Proxy Authentication Required",
    "Bad Gateway",
    "Service Unavailable",
    "Gateway Time",
    "Internal Server Error",
    "Too Many Requests",
    "  403 ",
];
const VERIFICATION: &[&str] = &[
    "Hash Sum mismatch",
    "File has unexpected size",
    "NO_PUBKEY",
    "BADSIG",
    "signatures were invalid",
    "signatures couldn't be verified",
    "Clearsigned file isn't valid",
    "GPG error",
    "OpenPGP signature verification failed",
    "is not signed",
    "is expired",
    "is not valid yet",
];
const GONE: &[&str] = &[
    "  404 ",
    "File not found",
    "have a Release file",
    "Unable to locate package",
    "No packages found",
    "has no installation candidate",
];

/// Reads apt's output; `None` if it tells of no failure.
pub(in crate::kernel) fn classify(output: &str, succeeded: bool) -> Option<Trouble> {
    let line_with = |pieces: &[&str]| {
        let told = output.lines().find(|line| pieces.iter().any(|piece| line.contains(piece)))?;
        Some(plain(told))
    };
    // apt tries again, or another form of the same file: what it got over ("Ign:", "Err:") does not
    // count, what it ends with does.
    let failed = |line: &str| line.starts_with("E: ") || line.contains("Failed to fetch");
    if succeeded && !output.lines().any(failed) {
        return None;
    }
    if line_with(NO_ROOM).is_some() {
        return Some(Trouble::NoRoom);
    }
    let kind = line_with(NETWORK)
        .map(Trouble::Network)
        .or_else(|| line_with(VERIFICATION).map(Trouble::Verification))
        .or_else(|| line_with(GONE).map(Trouble::Gone));
    Some(kind.unwrap_or_else(|| {
        Trouble::Other(line_with(&["E: "]).unwrap_or_else(|| "it gave no reason".into()))
    }))
}

/// Whether a program's words say that the disk is full.
pub(in crate::kernel) fn is_no_room(output: &str) -> bool {
    NO_ROOM.iter().any(|piece| output.contains(piece))
}

/// A message without apt's marks and addresses.
fn plain(line: &str) -> String {
    let line = line.trim();
    let line = line.strip_prefix("E: ").or(line.strip_prefix("W: ")).unwrap_or(line);
    // "Failed to fetch URL  REASON"
    match line.strip_prefix("Failed to fetch ").and_then(|rest| rest.split_once("  ")) {
        Some((_, reason)) => reason.trim().to_string(),
        None => line.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each text is what apt-get 2.6 really said to `-q update` or `-q download`, host names aside.
    #[test]
    fn suites_that_are_gone() {
        let http = "Ign:1 http://mirror.test/debian nosuite InRelease
Err:2 http://mirror.test/debian nosuite Release
  404  Not Found [IP: 192.0.2.1 80]
Reading package lists...
E: The repository 'http://mirror.test/debian nosuite Release' does not have a Release file.";
        assert_eq!(
            classify(http, false),
            Some(Trouble::Gone("404  Not Found [IP: 192.0.2.1 80]".into()))
        );
        let file = "Ign:1 file:/mirror bookworm InRelease
Get:2 file:/mirror bookworm Release
Err:2 file:/mirror bookworm Release
  File not found - /mirror/dists/bookworm/Release (2: No such file or directory)
Reading package lists...
E: The repository 'file:/mirror bookworm Release' does not have a Release file.";
        assert!(matches!(classify(file, false), Some(Trouble::Gone(_))));
    }

    #[test]
    fn packages_that_are_gone() {
        for text in [
            "E: No packages found",
            "E: Unable to locate package no-such-package",
            "Get:1 file:/mirror bookworm/main amd64 user-mode-linux amd64 6.1um4+b13 [41.4 MB]
Err:1 file:/mirror bookworm/main amd64 user-mode-linux amd64 6.1um4+b13
  File not found - /mirror/pool/main/u/u_6.1um4+b13_amd64.deb (2: No such file or directory)
E: Failed to fetch file:/mirror/pool/main/u/u_6.1um4%2bb13_amd64.deb  File not found - /mirror/pool/main/u/u_6.1um4+b13_amd64.deb (2: No such file or directory)",
        ] {
            assert!(matches!(classify(text, false), Some(Trouble::Gone(_))), "{text}");
        }
    }

    #[test]
    fn networks_that_do_not_work() {
        // apt exits with 0 here: no index, no error.
        let resolving = "Ign:1 http://mirror.test/debian bookworm InRelease
Err:1 http://mirror.test/debian bookworm InRelease
  Temporary failure resolving 'mirror.test'
Reading package lists...
W: Failed to fetch http://mirror.test/debian/dists/bookworm/InRelease  Temporary failure resolving 'mirror.test'
W: Some index files failed to download. They have been ignored, or old ones used instead.";
        let said = Trouble::Network("Temporary failure resolving 'mirror.test'".into());
        assert_eq!(classify(resolving, true), Some(said));
        let refused = "Err:1 http://127.0.0.1:9/debian bookworm InRelease
  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)
W: Failed to fetch http://127.0.0.1:9/debian/dists/bookworm/InRelease  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)";
        assert!(matches!(classify(refused, true), Some(Trouble::Network(_))));
        let silent = "Err:1 http://127.0.0.1:8765/debian bookworm InRelease
  Connection failed [IP: 127.0.0.1 8765]
W: Failed to fetch http://127.0.0.1:8765/debian/dists/bookworm/InRelease  Connection failed [IP: 127.0.0.1 8765]";
        assert!(matches!(classify(silent, true), Some(Trouble::Network(_))));
        // No route, and yet "does not have a Release file": that is not a suite that is gone.
        let unreachable = "Ign:1 http://10.1.2.3/debian bookworm InRelease
Err:2 http://10.1.2.3/debian bookworm Release
  Cannot initiate the connection to 10.1.2.3:80 (10.1.2.3). - connect (101: Network is unreachable)
Reading package lists...
E: The repository 'http://10.1.2.3/debian bookworm Release' does not have a Release file.";
        assert!(matches!(classify(unreachable, false), Some(Trouble::Network(_))));
    }

    #[test]
    fn files_that_fail_verification() {
        let hash = "Err:1 file:/mirror bookworm/main amd64 user-mode-linux amd64 6.1um4+b13
  Hash Sum mismatch
  Hashes of expected file:
   - SHA256:0ce700f835c385ab09860ad33137817402403a29e424177510244bd75a81c687
E: Failed to fetch file:/mirror/pool/main/u/user-mode-linux_6.1um4%2bb13_amd64.deb  Hash Sum mismatch";
        let unsigned = "Ign:3 file:/mirror bookworm Release.gpg
Reading package lists...
E: The repository 'file:/mirror bookworm Release' is not signed.";
        let bad = "  The following signatures were invalid: BADSIG 6ED0E7B82643E131 Debian Archive Automatic Signing Key (12/bookworm) <ftpmaster@mirror.example>
W: GPG error: file:/mirror bookworm InRelease: The following signatures were invalid: BADSIG 6ED0E7B82643E131
E: The repository 'file:/mirror bookworm InRelease' is not signed.";
        let key = "  The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 6ED0E7B82643E131
E: The repository 'http://mirror.test/debian bookworm InRelease' is not signed.";
        let portal = "Err:1 file:/mirror bookworm InRelease
  Clearsigned file isn't valid, got 'NOSPLIT' (does the network require authentication?)
E: The repository 'file:/mirror bookworm InRelease' is not signed.";
        for text in [hash, unsigned, bad, key, portal] {
            assert!(matches!(classify(text, false), Some(Trouble::Verification(_))), "{text}");
        }
        assert_eq!(classify(hash, false), Some(Trouble::Verification("Hash Sum mismatch".into())));
    }

    #[test]
    fn full_disks_before_all_else() {
        let full = "Err:2 http://mirror.test/debian bookworm/main amd64 Packages
  Error writing to file - write (28: No space left on device) [IP: 192.0.2.1 80]
E: Failed to fetch http://mirror.test/debian/dists/bookworm/main/binary-amd64/Packages  Error writing to file - write (28: No space left on device) [IP: 192.0.2.1 80]
E: The package lists or status file could not be parsed or opened.";
        assert_eq!(classify(full, false), Some(Trouble::NoRoom));
        assert!(is_no_room("tar: ./usr/bin/linux.uml: Cannot write: No space left on device"));
    }

    #[test]
    fn success_and_what_nobody_foresaw() {
        let good = "Get:1 file:/mirror bookworm InRelease [151 kB]
Ign:2 file:/mirror bookworm/main amd64 Packages
Get:2 file:/mirror bookworm/main amd64 Packages [8790 kB]
Reading package lists...";
        assert_eq!(classify(good, true), None);
        let got_over =
            format!("Err:2 file:/mirror bookworm/main amd64 Packages\n  File not found\n{good}");
        assert_eq!(classify(&got_over, true), None);
        let odd = "E: Malformed entry 1 in sources file /tmp/x (URI parse)";
        let words = "Malformed entry 1 in sources file /tmp/x (URI parse)".to_string();
        assert_eq!(classify(odd, false), Some(Trouble::Other(words)));
        assert_eq!(classify("", false), Some(Trouble::Other("it gave no reason".into())));
    }
}
