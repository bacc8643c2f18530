//! Where a machine's things lie as its process sees them: in the private root, or on the host where
//! there is none; and what of the host that process may reach at all.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{MachinePlan, loader};
use crate::manifest::{Diagnostic, Result, ShareMode};
use crate::sandbox::{Access, Isolation, Limits, Reach, RootEntry};

const BOOT: &str = "/lab/linux";
const INITRAMFS: &str = "/lab/initramfs";
const MODULES: &str = "/lab/modules";
const DISKS: &str = "/lab/disks";
const SHARES: &str = "/lab/shares";
pub(super) const STATE: &str = "/lab/state";
const MEMORY: &str = "/dev/shm";
const LIBRARIES: &str = "/lib/x86_64-linux-gnu";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
/// Where distributions keep what a dynamic program is linked to.
const HOST_LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

/// Beside the guest's RAM its memory file holds the kernel's own image and page tables' backing;
/// the file is sparse and this only bounds it.
const MEMORY_SLACK: u64 = 64 << 20;

/// Each of the guest's address spaces is a process of the host, and a kernel makes no more threads
/// than one for each 128 KiB of its memory (kernel/fork.c, set_max_threads: an eighth of it in
/// stacks of 16 KiB). Beyond these are the machine's own few.
const PROCESSES: u64 = 1024;
const MEMORY_OF_A_THREAD: u64 = 128 << 10;

/// Paths as the UML process sees them: of the private root, or of the host without one.
pub(super) struct Paths {
    pub boot: String,
    pub initramfs: String,
    pub modules: Option<String>,
    pub disks: Vec<(String, String)>,
    pub shares: Vec<String>,
    pub state: String,
    pub memory: String,
}

impl Paths {
    pub fn of(plan: &MachinePlan) -> Self {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let inside = plan.isolation == Isolation::Full;
        let pick = |private: &str, host: &Path| {
            if inside { private.to_string() } else { shown(host) }
        };
        Self {
            boot: pick(BOOT, &loader::boot(plan)),
            initramfs: pick(INITRAMFS, &plan.initramfs),
            modules: plan.modules.as_deref().map(|m| pick(MODULES, m)),
            disks: plan
                .disks
                .iter()
                .map(|(disk, path)| {
                    (disk.name.clone(), pick(&format!("{DISKS}/{}", disk.name), path))
                })
                .collect(),
            shares: plan
                .shares
                .iter()
                .enumerate()
                .map(|(index, share)| pick(&format!("{SHARES}/{index}"), &share.host))
                .collect(),
            state: pick(STATE, &state(plan)),
            memory: match plan.isolation {
                Isolation::Full => MEMORY.to_string(),
                Isolation::Landlock => shown(&memory(plan)),
                Isolation::Off => "/dev/shm".to_string(),
            },
        }
    }
}

/// The machine's state folder (pid file, management console) on the host, where it has no root of
/// its own.
pub(super) fn state(plan: &MachinePlan) -> PathBuf {
    plan.scratch.join("state")
}

/// The folder for guest memory under [`Isolation::Landlock`]: the machine's alone, since the files of
/// others lie in /dev/shm too. Named as the run's scratch folder, which is unique.
pub(super) fn memory(plan: &MachinePlan) -> PathBuf {
    Path::new("/dev/shm").join(plan.scratch.file_name().unwrap_or_default())
}

/// Makes it, where it is wanted; the helper removes it ([`super::Launch::clear`]).
///
/// # Errors
/// /dev/shm cannot be written, or somebody else made a folder of that name.
pub(super) fn make_memory(plan: &MachinePlan) -> Result<()> {
    if plan.isolation != Isolation::Landlock {
        return Ok(());
    }
    let memory = memory(plan);
    let mut private = DirBuilder::new();
    private.mode(0o700).create(&memory).map_err(|e| Diagnostic::io("make", &memory, &e))
}

/// The private root of [`Isolation::Full`].
pub(super) fn private_root(plan: &MachinePlan) -> Vec<RootEntry> {
    let bind = |host: &Path, at: &str, readonly| RootEntry::Bind {
        host: host.to_path_buf(),
        at: PathBuf::from(at),
        readonly,
    };
    let mut root = vec![
        RootEntry::Memory { at: MEMORY.into(), size: plan.memory + MEMORY_SLACK },
        RootEntry::Proc("/proc".into()),
        RootEntry::Folder(STATE.into()),
        bind(Path::new("/dev/null"), "/dev/null", true),
        bind(Path::new("/dev/urandom"), "/dev/random", true),
        bind(&plan.boot, BOOT, true),
        bind(&plan.initramfs, INITRAMFS, true),
    ];
    match &plan.libraries {
        Some(folder) => {
            root.push(bind(folder, LIBRARIES, true));
            root.push(RootEntry::Link {
                at: LOADER.into(),
                to: format!("{LIBRARIES}/ld-linux-x86-64.so.2").into(),
            });
        }
        None => {
            let there = HOST_LIBRARIES.into_iter().filter(|folder| Path::new(folder).is_dir());
            root.extend(there.map(|folder| bind(Path::new(folder), folder, true)));
        }
    }
    if let Some(modules) = &plan.modules {
        root.push(bind(modules, MODULES, true));
    }
    for (disk, path) in &plan.disks {
        root.push(bind(path, &format!("{DISKS}/{}", disk.name), false));
    }
    for (index, share) in plan.shares.iter().enumerate() {
        let readonly = share.mode == ShareMode::Ro;
        root.push(bind(&share.host, &format!("{SHARES}/{index}"), readonly));
    }
    root
}

/// What [`Isolation::Landlock`] lets the machine reach: the same things where they lie. No share is
/// writable: see `case::needs`.
pub(super) fn reach(plan: &MachinePlan) -> Vec<Reach> {
    let to = |path: &Path, access| Reach { path: path.to_path_buf(), access };
    let mut reach = vec![
        to(&loader::boot(plan), Access::Run),
        to(&plan.initramfs, Access::Read),
        to(&state(plan), Access::Own),
        to(&memory(plan), Access::Own),
        to(Path::new("/dev/null"), Access::Write),
        to(Path::new("/dev/random"), Access::Read),
        to(Path::new("/dev/urandom"), Access::Read),
    ];
    match &plan.libraries {
        Some(folder) => reach.push(to(folder, Access::Run)),
        None => {
            let all = HOST_LIBRARIES.into_iter().chain(["/etc/ld.so.cache"]).map(Path::new);
            reach.extend(all.filter(|path| path.exists()).map(|path| to(path, Access::Run)));
        }
    }
    reach.extend(plan.modules.iter().map(|modules| to(modules, Access::Read)));
    reach.extend(plan.disks.iter().map(|(_, path)| to(path, Access::Write)));
    reach.extend(plan.shares.iter().map(|share| to(&share.host, Access::Read)));
    reach
}

/// What the machine may take of the host, as its plan declares it. Its memory is the largest file
/// unless a disk is; so is a file that it makes in a writable share at most.
pub(super) fn limits(plan: &MachinePlan) -> Limits {
    let largest_disk = plan.disks.iter().map(|(disk, _)| disk.size).max().unwrap_or_default();
    Limits {
        file_size: Some(largest_disk.max(plan.memory + MEMORY_SLACK)),
        private_memory: plan.private_memory,
        processes: (plan.isolation == Isolation::Full)
            .then_some(PROCESSES + plan.memory / MEMORY_OF_A_THREAD),
    }
}
