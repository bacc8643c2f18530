//! What one run does, effective and complete: serialisable, so that `lab runs again` does the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::Isolation;
use crate::manifest::{Case, KernelSpec, Provider, Twin};

/// A case with one value for each of its parameters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// The case, with a twin's changes already in it.
    pub case: Case,
    /// Parameter names and values.
    pub params: BTreeMap<String, String>,
    /// The twin that this is, if it is one: what it must end in.
    pub twin: Option<Twin>,
}

/// The run that a twin is a changed copy of, and whose accepted transcript it is held against.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TwinOf {
    /// Its parameters.
    pub params: BTreeMap<String, String>,
    /// Its kernel.
    pub kernel: String,
}

/// The kernel of a run, as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlannedKernel {
    /// How lab.toml describes it.
    pub spec: KernelSpec,
    /// The store's key.
    pub key: String,
    /// `uname -r`.
    pub release: String,
    /// What it was made from, in words.
    pub origin: String,
}

/// The effective manifest of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunPlan {
    /// The run's name, also its folder's.
    pub id: String,
    /// Version of the lab that planned it.
    pub lab: String,
    /// What is run.
    pub instance: Instance,
    /// Whether there is a transcript to be held against at all.
    pub review: bool,
    /// For a twin: what it is a changed copy of.
    pub twin_of: Option<TwinOf>,
    /// On what.
    pub kernel: PlannedKernel,
    /// Digest of the image.
    pub image: String,
    /// Package and version of each program that the case declares.
    pub programs: BTreeMap<String, String>,
    /// How it is kept from the host.
    pub isolation: Isolation,
    /// Words of the kernel's command line, beyond the backend's own.
    pub cmdline: Vec<String>,
    /// Keep the disks' files in the run's folder.
    pub keep_disks: bool,
}

impl RunPlan {
    /// The plan with each path of the host as `change` gives it: a bundle's are relative to the
    /// project, so that it can be unpacked anywhere.
    pub fn with_paths(mut self, change: &dyn Fn(&Path) -> PathBuf) -> Self {
        let case = &mut self.instance.case;
        case.dir = change(&case.dir);
        case.files.values_mut().for_each(|file| *file = change(file));
        case.machine.shares.iter_mut().for_each(|share| share.host = change(&share.host));
        let text = |path: &str| change(Path::new(path)).to_string_lossy().into_owned();
        match &mut self.kernel.spec.provider {
            Provider::Path { path } => *path = change(path),
            Provider::Source { source, .. } if source.starts_with("debian:") => {}
            Provider::Source { source, .. } => {
                *source = match source.strip_prefix("git:").and_then(|it| it.rsplit_once('#')) {
                    Some((path, _)) if path.contains("://") => source.clone(),
                    Some((path, rev)) => format!("git:{}#{rev}", text(path)),
                    None => text(source),
                }
            }
            Provider::Debian { .. } => {}
        }
        self
    }
}

impl Instance {
    /// The case as it is, with these parameter values.
    pub fn new(case: &Case, params: BTreeMap<String, String>) -> Self {
        Self { case: case.clone(), params, twin: None }
    }

    /// `NAME [a=1 b=2]`, for people.
    pub fn title(&self) -> String {
        let mut title = self.case.name.clone();
        if !self.params.is_empty() {
            let values: Vec<_> = self.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
            title = format!("{title} [{}]", values.join(" "));
        }
        title
    }

    /// The environment of the case's shell, complete.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let fixed =
            [("PATH", path), ("HOME", "/root"), ("LC_ALL", "C"), ("TZ", "UTC"), ("TERM", "dumb")];
        let fixed = fixed.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string()));
        fixed.chain(self.params.iter().map(|(k, v)| (k.clone(), v.clone()))).collect()
    }
}

/// Words that every boot of this case gets unless the case needs what they leave out.
///
/// Debian's kernels measure the raid6 algorithms at boot, which takes a second (6.1: 1.35 s to
/// 0.40 s from exec to root mount; 7.2 does the same in `raid6_init`); only raid456 and btrfs'
/// raid5/6 use the result. And they make 256 pairs of BSD ptys, each with its device node (6.1:
/// 0.35 s to 0.14 s from start to init, 5.10: 0.52 s to 0.16 s); programs use /dev/ptmx.
pub fn default_cmdline(case: &Case) -> Vec<String> {
    let raid6 = ["MD_RAID456", "RAID6_PQ", "DM_RAID"];
    let wants = case.needs.kconfig.iter().any(|symbol| raid6.contains(&symbol.as_str()))
        || case
            .needs
            .modules
            .iter()
            .any(|module| module.starts_with("raid4") || module == "raid6_pq");
    let mut words = vec!["pty.legacy_count=0".to_string()];
    if !wants {
        words.push("initcall_blacklist=raid6_select_algo,raid6_init".into());
    }
    words
}
