//! The `git` program, kept away from what is not its business here: the environment of a hook that
//! called the lab, the user's index, optional writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::PullError;
use super::super::tool::{Output, Watch};
use super::version::KernelVersion;
use crate::manifest::{Diagnostic, Result, nearest};

/// A commit of a repository of the user.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    /// The repository's own folder (`.git`).
    pub git_dir: PathBuf,
    /// What all linked worktrees of the repository share.
    pub common_dir: PathBuf,
    /// 40 digits, or 64.
    pub commit: String,
    /// The id of its tree: equal trees are equal sources.
    pub tree: String,
    /// What its Makefile states.
    pub version: KernelVersion,
}

/// Variables by which a caller's git would speak to ours.
const FOREIGN: [&str; 10] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CEILING_DIRECTORIES",
    "GIT_EXTERNAL_DIFF",
];

/// Settings that would write into the user's repository, or change what is read from it.
const SETTINGS: [&str; 8] = [
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.sparseCheckout=false",
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "core.quotePath=false",
    "advice.detachedHead=false",
];

/// `git` in `folder`: takes no optional locks, asks nothing.
pub(in crate::kernel) fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder);
    for setting in SETTINGS {
        git.args(["-c", setting]);
    }
    for name in FOREIGN {
        git.env_remove(name);
    }
    git.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0");
    git
}

/// Looks a revision up.
///
/// # Errors
/// No repository, no such revision (names the nearest branch or tag), or not a kernel.
pub(super) fn resolve(path: &Path, rev: &str, watch: &mut Watch) -> Result<Commit, PullError> {
    if path.to_string_lossy().contains("://") {
        let message = format!("git:{}#{rev} is not on this host", path.display());
        let clone = format!("git clone --filter=blob:none {} linux", path.display());
        return Err(Diagnostic::usage(message)
            .help(format!("clone it ({clone}) and write git:linux#{rev}"))
            .into());
    }
    if !path.is_dir() {
        let message = format!("there is no folder {}", path.display());
        return Err(Diagnostic::usage(message)
            .help("git:PATH#REV names a local repository")
            .into());
    }
    let mut dirs = git(path);
    dirs.args(["rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir"]);
    let ran = watch.run(dirs, Output::Apart, |_| {})?;
    let mut lines = ran.out.lines().map(PathBuf::from);
    let (true, Some(git_dir), Some(common_dir)) =
        (ran.status.success(), lines.next(), lines.next())
    else {
        let words = ran.err.lines().next().unwrap_or("no message").trim().to_string();
        let message = format!("{} is not a git repository: {words}", path.display());
        return Err(Diagnostic::usage(message)
            .help("without git, name the folder itself: source = \"PATH\"")
            .into());
    };
    let mut parse = git(path);
    parse.args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
    parse.arg(format!("{rev}^{{commit}}"));
    let ran = watch.run(parse, Output::Apart, |_| {})?;
    let commit = ran.out.trim().to_string();
    if !ran.status.success() || commit.is_empty() {
        return Err(unknown(path, rev, watch)?.into());
    }
    let mut parse = git(path);
    parse.args(["rev-parse", "--verify", &format!("{commit}^{{tree}}")]);
    let tree = watch.must(parse, &format!("look at {rev}"))?.trim().to_string();
    let mut show = git(path);
    show.args(["cat-file", "blob", &format!("{commit}:Makefile")]);
    let ran = watch.run(show, Output::Apart, |_| {})?;
    let Some(version) = KernelVersion::parse(&ran.out) else {
        let message = format!("{rev} of {} is not a kernel source", path.display());
        return Err(Diagnostic::usage(message)
            .help("its top folder has no Makefile that begins with VERSION =")
            .into());
    };
    Ok(Commit { git_dir, common_dir, commit, tree, version })
}

/// Makes the working tree `tree` be what `commit` is, touching only what differs. The index is ours
/// (`index`), so that the user's checkout knows nothing of it.
pub(super) fn check_out(
    commit: &Commit,
    tree: &Path,
    index: &Path,
    watch: &mut Watch,
) -> Result<(), PullError> {
    let ours = |args: &[&str]| {
        let mut git = git(tree);
        git.arg("--git-dir").arg(&commit.git_dir).arg("--work-tree").arg(tree);
        git.env("GIT_INDEX_FILE", index).args(args);
        git
    };
    // Of a lab that died; nobody else is here.
    let _ = std::fs::remove_file(index.with_extension("lock"));
    if index.exists() {
        // Fails where files differ, which is what comes next.
        watch.run(ours(&["update-index", "-q", "--really-refresh"]), Output::Apart, |_| {})?;
    }
    watch.must(
        ours(&["read-tree", "--reset", "-u", &commit.commit]),
        &format!("check {} out", &commit.commit[..12.min(commit.commit.len())]),
    )?;
    Ok(())
}

/// Removes what a crash left in a working tree and what no index knows.
pub(super) fn clean(
    commit: &Commit,
    tree: &Path,
    index: &Path,
    watch: &mut Watch,
) -> Result<(), PullError> {
    let mut git = git(tree);
    git.arg("--git-dir").arg(&commit.git_dir).arg("--work-tree").arg(tree);
    git.env("GIT_INDEX_FILE", index).args(["clean", "-ffdxq"]);
    watch.must(git, "clean the copy of the source").map(drop)
}

/// `v6.1-3-g0123456789ab-dirty` of the checkout that `folder` is in, if it is in one.
pub(in crate::kernel) fn describe(folder: &Path, watch: &mut Watch) -> Option<String> {
    let mut said = |args: &[&str]| {
        let mut git = git(folder);
        git.args(args);
        let ran = watch.run(git, Output::Apart, |_| {}).ok()?;
        ran.status.success().then(|| ran.out.trim().to_string())
    };
    let words = said(&["describe", "--always", "--abbrev=12"]).filter(|words| !words.is_empty())?;
    // `describe --dirty` rewrites the index, optional locks or not (git 2.47); status does not.
    let status = ["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"];
    let dirty = said(&status).is_none_or(|changes| !changes.is_empty());
    Some(if dirty { format!("{words}-dirty") } else { words })
}

/// The paths that make up a checkout: tracked, and new ones that git does not ignore. `None` if
/// `folder` is not a checkout with a tracked Makefile.
pub(super) fn files(folder: &Path, watch: &mut Watch) -> Result<Option<Vec<PathBuf>>, PullError> {
    let mut tracked = git(folder);
    tracked.args(["ls-files", "--error-unmatch", "--", "Makefile"]);
    match watch.run(tracked, Output::Apart, |_| {}) {
        Ok(ran) if ran.status.success() => {}
        Ok(_) => return Ok(None),
        Err(PullError::Interrupted) => return Err(PullError::Interrupted),
        // A host without git still has sources that are plain folders.
        Err(_) => return Ok(None),
    }
    let mut list = git(folder);
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]);
    let out = watch.must(list, &format!("list the files of {}", folder.display()))?;
    Ok(Some(out.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from).collect()))
}

/// The error of a revision that does not exist.
fn unknown(path: &Path, rev: &str, watch: &mut Watch) -> Result<Diagnostic, PullError> {
    let mut refs = git(path);
    refs.args(["for-each-ref", "--format=%(refname:short)"]);
    let refs = watch.must(refs, "list branches and tags")?;
    let error = Diagnostic::usage(format!("{} has no revision `{rev}`", path.display()));
    let base = rev.split(['~', '^', '@']).next().unwrap_or(rev);
    let near = nearest(base, refs.lines());
    Ok(match (near, refs.lines().count()) {
        // Further back than the history goes, perhaps of a shallow clone.
        (Some(near), _) if near == base => {
            error.help(format!("`{base}` exists: look how far its history goes"))
        }
        (Some(near), _) => error.help(format!("did you mean `{near}`?")),
        (None, 0) => error.help("it has neither branches nor tags"),
        (None, _) => {
            error.help("see git branch -a and git tag; perhaps it has to be fetched first")
        }
    })
}
