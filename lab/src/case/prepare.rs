//! From a request to a machine that can start: kernel, image, disks, and the plan that says it all.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use lab_proto::Nonce;

use super::needs;
use super::plan::{Instance, PlannedKernel, RunPlan, TwinOf, default_cmdline};
use crate::image::{self, Extra, Image};
use crate::kernel::{Kernel, Kernels};
use crate::machine::{Isolation, Machine, MachinePlan, disk, room, uml::Uml};
use crate::manifest::{Backend, Detector, Diagnostic, ImageSpec, KernelSpec, Project, Result};
use crate::sandbox::Walls;

/// Where a run's disks are, in its folder.
pub const DISKS: &str = "disks";

/// What a UML process has beside guest memory: its image's data, stacks, the C library's heap. Debian's
/// kernels take 4 to 30 MiB of it.
const PRIVATE_MEMORY: u64 = 256 << 20;

/// Where things are made and kept, and under which rules: handed in, never looked up.
#[derive(Debug)]
pub struct Workshop {
    /// The kernels, wherever they come from.
    pub kernels: Kernels,
    /// The cache's folder: images.
    pub cache: PathBuf,
    /// The folder of runs.
    pub runs: PathBuf,
    /// A folder for what lives only as long as a run.
    pub runtime: PathBuf,
    /// How machines are kept from the host.
    pub walls: Walls,
    /// Keep the disks of runs.
    pub keep_disks: bool,
}

/// A run that can start.
#[derive(Debug)]
pub struct Prepared {
    /// What will be done, for the record.
    pub plan: RunPlan,
    /// What the machine is made of.
    pub machine: MachinePlan,
    /// Modules to load before the first step.
    pub modules: Vec<String>,
    /// Keeps the image from being removed.
    pub image: Image,
}

impl Workshop {
    /// The image that `instance` wants.
    ///
    /// # Errors
    /// A program that the host does not have, or no room.
    pub fn image(&self, project: &Project, instance: &Instance) -> Result<Image> {
        let case = &instance.case;
        let spec = image_spec(project, &case.machine.image)?;
        let files = case.files.iter().map(|(name, host)| (format!("/case/{name}"), host.clone()));
        let extra = Extra { programs: case.needs.programs.clone(), files: files.collect() };
        image::assemble(spec, &extra, &self.cache)
    }

    /// Puts a run together: disks in its `folder`, mount points in its own temporary one.
    ///
    /// # Errors
    /// No room for the guest's memory, a disk that cannot be made, a configuration that cannot be
    /// read.
    #[expect(clippy::too_many_arguments, reason = "each is a different noun of the run")]
    pub fn prepare(
        &self,
        id: &str,
        instance: &Instance,
        spec: &KernelSpec,
        kernel: &Kernel,
        image: Image,
        (twin_of, review): (Option<TwinOf>, bool),
        (folder, scratch): (&Path, &Path),
    ) -> Result<Prepared> {
        let case = &instance.case;
        self.check_room(case.machine.memory)?;
        // Beside the run's logs, not in the temporary folder: that is often memory.
        let disks = disk::create(&case.machine.disks, &folder.join(DISKS))?;
        for name in ["root", "state"] {
            let path = scratch.join(name);
            std::fs::create_dir_all(&path).map_err(|e| Diagnostic::io("make", &path, &e))?;
        }
        let mut cmdline = default_cmdline(case);
        // A line of /dev/kmsg looks like the kernel's own on the console, so that what user space
        // writes there would be believed. A case that wants its words in the log may take this
        // back; they are then taken for the kernel's.
        cmdline.push("printk.devkmsg=off".into());
        cmdline.extend(kernel.cmdline.iter().chain(&case.machine.cmdline).cloned());
        // Last, so that nothing takes them back: splats are known by printk's stamp, and a level
        // that hides warnings would make a silent kernel look like a healthy one.
        cmdline.extend(["printk.time=1".to_string(), "ignore_loglevel".to_string()]);
        // Debian's kernels refuse most keys of the host's sysrq, those that explain a hang among
        // them (CONFIG_MAGIC_SYSRQ_DEFAULT_ENABLE=0x01b6).
        cmdline.push("sysrq_always_enabled".into());
        let programs: BTreeMap<String, String> = case
            .needs
            .programs
            .iter()
            .filter_map(|program| {
                let (package, version) = image.package_of(program)?;
                Some((program.clone(), format!("{package} {version}")))
            })
            .collect();
        let plan = RunPlan {
            id: id.to_string(),
            lab: env!("CARGO_PKG_VERSION").to_string(),
            instance: instance.clone(),
            twin_of,
            review,
            kernel: PlannedKernel {
                spec: spec.clone(),
                key: kernel.key.to_string(),
                release: kernel.release.clone(),
                origin: kernel.origin.to_string(),
            },
            image: image.digest.clone(),
            programs,
            isolation: self.walls.isolation,
            cmdline: cmdline.clone(),
            keep_disks: self.keep_disks,
        };
        let machine = MachinePlan {
            boot: kernel.boot.clone(),
            libraries: kernel.libraries.clone(),
            modules: kernel.modules.clone(),
            release: kernel.release.clone(),
            initramfs: image.cpio.clone(),
            memory: case.machine.memory,
            cpus: case.machine.cpus,
            cmdline,
            disks,
            shares: case.machine.shares.clone(),
            isolation: self.walls.isolation,
            private_memory: kernel
                .detectors()
                .is_ok_and(|detectors| !detectors.contains(&Detector::Kasan))
                .then_some(PRIVATE_MEMORY),
            scratch: scratch.to_path_buf(),
        };
        Ok(Prepared { plan, machine, modules: needs::modules(case, kernel)?, image })
    }

    fn check_room(&self, memory: u64) -> Result<()> {
        let available = room::available_memory()?;
        let mib = |bytes: u64| bytes >> 20;
        if memory > available {
            return Err(Diagnostic::trouble(format!(
                "no room for the guest's memory: it wants {} MiB and this host has {} MiB left",
                mib(memory),
                mib(available)
            ))
            .help("lower [machine] memory, or run fewer at once with -j"));
        }
        if self.walls.isolation != Isolation::Full {
            let free = room::free_space(Path::new("/dev/shm"))?;
            if memory > free {
                return Err(Diagnostic::trouble(format!(
                    "no room for the guest's memory: it wants {} MiB and /dev/shm has {} MiB left",
                    mib(memory),
                    mib(free)
                ))
                .help(
                    "make /dev/shm larger (mount -o remount,size=...), or lower [machine] memory",
                ));
            }
        }
        Ok(())
    }
}

/// Starts a machine with the backend that its kernel wants.
///
/// # Errors
/// See the backends.
pub fn start(backend: Backend, plan: &MachinePlan) -> Result<Box<dyn Machine>> {
    match backend {
        Backend::Uml => Ok(Box::new(Uml::start(plan)?)),
        Backend::Qemu => Err(Diagnostic::trouble("the QEMU backend is not there yet")),
    }
}

/// A fresh secret for a run.
///
/// # Errors
/// /dev/urandom cannot be read.
pub fn new_nonce() -> Result<Nonce> {
    let mut nonce = Nonce::default();
    let path = Path::new("/dev/urandom");
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut nonce.0))
        .map_err(|e| Diagnostic::io("read", path, &e))?;
    Ok(nonce)
}

fn image_spec<'a>(project: &'a Project, name: &str) -> Result<&'a ImageSpec> {
    project.images.get(name).ok_or_else(|| {
        let known = project.images.keys().map(String::as_str);
        let error = Diagnostic::usage(format!("there is no image {name:?}"));
        match crate::manifest::nearest(name, known) {
            Some(near) => error.help(format!("did you mean {near:?}?")),
            None => error.help("images are declared in images/NAME.toml"),
        }
    })
}
