//! What `lab new` and `lab init` write: commented manifests that are valid as they stand.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::values::is_file_name;
use super::{Diagnostic, Project, Result};

/// A case.toml that runs as it is and explains every section. Lines that begin with `#` and no
/// blank are settings to be turned on.
pub fn case(name: &str) -> String {
    CASE.replace("@NAME@", name)
}

/// A lab.toml that changes nothing and explains every section.
pub fn lab() -> String {
    LAB.into()
}

/// Writes `cases/NAME/case.toml` into a project and returns its path; refuses where it is there.
pub fn create_case(project: &Project, name: &str) -> Result<PathBuf> {
    if !is_file_name(name) {
        return Err(Diagnostic::usage(format!("`{name}` is not a name for a case"))
            .help("small letters, digits, `.`, `_` and `-`, a letter or digit first"));
    }
    let cases = project.root.join("cases");
    let dir = cases.join(name);
    let file = dir.join("case.toml");
    if file.symlink_metadata().is_ok() {
        return Err(Diagnostic::usage(format!("there is a case `{name}` already"))
            .help(format!("edit {}, or take another name", file.display())));
    }
    let made: Vec<&Path> = [&cases, &dir]
        .into_iter()
        .map(PathBuf::as_path)
        .filter(|folder| !folder.exists())
        .collect();
    let written = std::fs::create_dir_all(&dir)
        .map_err(|e| Diagnostic::io("make", &dir, &e))
        .and_then(|()| write_new(&file, &case(name)));
    if let Err(error) = written {
        // Only what this call made, and only while it is empty.
        for folder in made.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
        return Err(error);
    }
    Ok(file)
}

/// Writes `lab.toml` into a folder and returns its path; refuses where it is there.
pub fn init(dir: &Path) -> Result<PathBuf> {
    let file = dir.join("lab.toml");
    if file.symlink_metadata().is_ok() {
        return Err(Diagnostic::usage(format!("{} is there already", file.display()))
            .help("edit it, or remove it first"));
    }
    write_new(&file, &lab())?;
    Ok(file)
}

/// Writes a file as a whole or not at all, never over another.
fn write_new(file: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut options = tempfile::Builder::new();
        // What the umask leaves, as for any file that an editor makes.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        let mut temporary =
            options.prefix(".lab-new").permissions(permissions).tempfile_in(folder)?;
        temporary.write_all(text.as_bytes())?;
        temporary.persist_noclobber(file)?;
        Ok(())
    };
    write().map_err(|error| Diagnostic::io("write", file, &error))
}

const CASE: &str = r##"# cases/@NAME@/case.toml: see docs/writing-cases.md. Lines with # and no blank can be turned on.
summary = "what this shows, in one line"
#refs = ["https://..."]                     # where the experiment comes from
#tags = ["slow"]                            # words to select by; slow: left out of quick runs
#filters = ["addresses", "uuids", "times"]  # makes the transcript stable; also { regex = "..", to = ".." }
#assert = ["read.bw > 0.95 * write.bw"]     # compares measures
#allow = ["WARNING: fs/dcache.c"]           # kernel splats that are part of the experiment

# What it cannot do without: kconfig and backend missing make a skip, programs missing an error.
[needs]
kconfig = []                                # such as "OVERLAY_FS", without CONFIG_
programs = ["uname"]                        # of this host, taken into the image
#backend = ["uml"]                          # default: any
#modules = ["dm-mod"]                       # to load before the first step
#detectors = ["kasan"]                      # that the kernel must have

# The machine; all of it has defaults.
[machine]
#memory = "256M"
#cpus = 1
#cmdline = ["word=value"]                   # words for the kernel's command line
#disks = [{ name = "a", size = "64M" }]     # /dev/lab/a, all zero at the start
#shares = []                                # { host = "fixtures", guest = "/mnt/fixtures", mode = "ro" }
#trace = ["block:block_rq_issue"]           # tracefs events, kept as an artefact
#clock = "real"                             # or "virtual": waits cost nothing, no disks
timeout = "60s"                             # for the whole run
#image = "base"                             # images/NAME.toml

# Each combination of values is a run of its own; steps read $NAME.
[params]
#cluster = ["4k", "64k"]

# Steps share one shell. A step fails where its status is not 0, or not what `status` says.
[[step]]
name = "say which kernel this is"
run = "uname -s"
#status = 0                                 # or "any" where the status itself is the finding
#stop = true                                # for set-up steps: a failure ends the case
#timeout = "5s"                             # within the machine's
#[[step]]
#machine = "reboot"                         # also power-cut, hotplug a, unplug a, resize a 128M, sysrq w

# Kernels that rightly differ, each group with a snapshot of its own.
#[variant.old]
#kernels = ["uml-5.*"]
#reason = "why the output differs"

# A change under which the case must fail; proves that it can. Also params, config, patches, files.
#[[twin]]
#with = { kernel = "uml-5.10" }
#must = "fail:output"
"##;

const LAB: &str = r##"# lab.toml: the kernels, known failures and matrices of this project. Lines with # and no blank can
# be turned on. Without any of it, lab knows Debian's kernels: see `lab kernel list`.

# What runs without -k; names or globs.
default-kernels = ["uml-6.1"]

# How many runs are kept, and how long; how long what is unused stays in the cache (`lab gc`).
#[runs]
#keep = 500
#days = 30
#[cache]
#days = 30

# Where Debian's packages come from; default: what apt uses on this host.
#[debian]
#mirror = "http://mirror.example/debian"

# A prebuilt kernel: SUITE/PACKAGE.
#[kernel."uml-bookworm"]
#debian = "bookworm/user-mode-linux"
#cmdline = ["initcall_blacklist=raid6_select_algo"]

# A kernel that is built here: a directory, a tarball, git:PATH#REV or debian:SUITE/linux-source-X.Y.
#[kernel."uml-5.10-src"]
#source = "debian:bullseye/linux-source-5.10"
#arch = "um"                                # or "x86_64", which runs in QEMU
#kconfig = ["uml", "fs", "block"]           # kconfigs/NAME.config

# The same with a patch; lists are appended to.
#[kernel."uml-5.10-fixed"]
#extends = "uml-5.10-src"
#patches = ["my-fix"]                       # patches/my-fix/series
#modules = [{ source = "../my-module" }]    # built with it: a folder, or debian:SUITE/PACKAGE

# A kernel that is there: a boot file or a built tree.
#[kernel.mine]
#path = "../linux"
#arch = "um"

# A failure that is known; a different one is a new one.
#[[known]]
#case = "my-case"
#kernel = ["uml-5.*"]
#reason = "fixed in 6.1 by ..."
#signature = "splat:WARNING"                # only where it is not a difference of output

# Kernels x cases, for `lab matrix ci`.
#[matrix.ci]
#kernels = ["uml-5.10", "uml-6.1", "uml-6.12"]
#cases = ["*"]
"##;

#[cfg(test)]
mod tests {
    use super::super::project::tests::folder;
    use super::super::schema::{Manifest, SECTIONS};
    use super::*;

    /// The text with its settings turned on.
    fn turned_on(text: &str) -> String {
        let on = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with([' ', '#']) => rest.to_string(),
            _ => line.to_string(),
        };
        text.lines().map(on).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn both_are_valid_as_they_stand_and_turned_on() {
        for change in [str::to_string as fn(&str) -> String, turned_on] {
            let (lab, case) = (change(&lab()), change(&case("mine")));
            let folder = folder(&[("lab.toml", &lab), ("cases/mine/case.toml", &case)]);
            let project = Project::load(folder.path()).unwrap();
            let case = project.cases["mine"].as_ref().unwrap();
            assert_eq!(case.name, "mine");
        }
    }

    #[test]
    fn every_section_and_top_key_is_explained() {
        for section in SECTIONS {
            let text = match section.manifest {
                Manifest::Lab => lab(),
                Manifest::Case => case("mine"),
                Manifest::Image => continue,
            };
            let missing: Vec<&str> = section
                .keys
                .iter()
                .map(|key| key.name)
                .filter(|name| !text.contains(name))
                // Rare: docs/writing-cases.md has it.
                .filter(|name| *name != "outside")
                .collect();
            assert!(missing.is_empty(), "{} lacks {missing:?}", section.title);
        }
    }

    #[test]
    fn they_refuse_to_overwrite() {
        let folder = folder(&[]);
        let project = Project::load(folder.path()).unwrap();
        let file = create_case(&project, "mine").unwrap();
        assert!(file.ends_with("cases/mine/case.toml"));
        std::fs::write(&file, "kept").unwrap();
        let error = create_case(&project, "mine").unwrap_err();
        assert!(error.message().contains("there is a case `mine` already"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
        assert!(create_case(&project, "../x").is_err());
        let lab = init(folder.path()).unwrap();
        assert!(lab.is_file() && init(folder.path()).is_err());
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = folder(&[("cases", "a file, not a folder")]);
        let mut project = Project::load(tempfile::tempdir().unwrap().path()).unwrap();
        project.root = folder.path().into();
        assert!(create_case(&project, "mine").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn mangled_manifests_are_errors_with_a_place_and_never_panics() {
        let folder = folder(&[("lab.toml", ""), ("cases/mine/x", "")]);
        let file = folder.path().join("cases/mine/case.toml");
        let whole = turned_on(&case("mine"));
        let cuts = whole.char_indices().step_by(37).map(|(at, _)| whole[..at].to_string());
        let swaps = [('"', "'"), ('=', "= 1 #"), ('[', "{"), ('\n', "\0"), ('a', "ü")];
        let swaps = swaps.into_iter().map(|(from, to)| whole.replace(from, to));
        let missing = (0..whole.lines().count()).map(|gone| {
            let rest = whole.lines().enumerate().filter(|(number, _)| *number != gone);
            rest.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
        });
        for text in cuts.chain(swaps).chain(missing) {
            std::fs::write(&file, &text).unwrap();
            let project = Project::load(folder.path()).unwrap();
            if let Err(error) = &project.cases["mine"] {
                let place = error.place().unwrap_or_else(|| panic!("no place: {error}"));
                assert!(place.span.end <= text.len() && text.get(place.span.clone()).is_some());
                assert!(error.way_out().is_some(), "no way out: {error}");
            }
        }
    }
}
