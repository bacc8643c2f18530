//! User-Mode Linux: the kernel is a process of the host.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab_proto::{GuestDisk, GuestShare};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::mconsole::{Mconsole, REPLIES, StateFolder, UMID};
use super::processes;
use super::{
    Channels, Child, Ending, GuestView, Isolation, Launch, LogEnd, LogMemory, Machine, MachinePlan,
    RootEntry,
};
use crate::manifest::{Diagnostic, MachineOp, Result, ShareMode};

/// Where things lie in the private root.
const BOOT: &str = "/lab/linux";
const INITRAMFS: &str = "/lab/initramfs";
const MODULES: &str = "/lab/modules";
const DISKS: &str = "/lab/disks";
const SHARES: &str = "/lab/shares";
const STATE: &str = "/lab/state";
const MEMORY: &str = "/dev/shm";
const LIBRARIES: &str = "/lib/x86_64-linux-gnu";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// Without it a kernel measures its delay loop at boot, 80 ms of the 150 ms that Debian's 6.1 takes
/// to PID 1. UML has no hardware whose delays must be right to the microsecond; the number is what a
/// machine of 2025 measures.
const LOOPS_PER_JIFFY: &str = "lpj=36000000";

/// Beside the guest's RAM its memory file holds the kernel's own image and page tables' backing;
/// the file is sparse and this only bounds it.
const MEMORY_SLACK: u64 = 64 << 20;

/// As long as a silence that counts as a hang. A guest with interrupts off never answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// For each question to a machine that is killed next: it answers within a millisecond or not at all.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// A running UML machine.
#[derive(Debug)]
pub struct Uml {
    child: Child,
    channels: Channels,
    mconsole: Mconsole,
    plan: MachinePlan,
}

/// The guest's ends of the channels, as descriptors that the process inherits.
#[derive(Clone, Copy, Debug)]
pub struct GuestEnds {
    /// con0: printk.
    pub log: RawFd,
    /// con1: the steps' terminal.
    pub terminal: RawFd,
    /// ssl0: records.
    pub control: RawFd,
    /// Not the guest's, but the lab's end of the management console: bound before the start.
    pub mconsole: RawFd,
}

impl Uml {
    /// Starts the machine.
    ///
    /// # Errors
    /// No descriptors or processes to be had; what fails later is the machine's [`Ending`].
    pub fn start(plan: &MachinePlan) -> Result<Self> {
        let (log, log_end) = LogMemory::new()?;
        let (terminal, terminal_end) = channel()?;
        let (control, control_end) = channel()?;
        let (words, words_end) = channel()?;
        let mconsole = Mconsole::new()?;
        if plan.isolation != Isolation::Full {
            state_on_host(plan).clear()?;
        }
        let ends = GuestEnds {
            log: log_end.as_raw_fd(),
            terminal: terminal_end.as_raw_fd(),
            control: control_end.as_raw_fd(),
            mconsole: mconsole.socket().as_raw_fd(),
        };
        let child = Child::start(&launch(plan, ends), words_end)?;
        Ok(Self {
            child,
            channels: Channels { log: LogEnd::Memory(log), terminal, control, words },
            mconsole,
            plan: plan.clone(),
        })
    }

    /// The machine's state folder, as the lab sees it.
    fn state(&self) -> StateFolder {
        match self.plan.isolation {
            // The helper's root is the private one since pivot_root(2). It is our child and not
            // waited for, so that the number is its own.
            Isolation::Full => StateFolder {
                base: format!("/proc/{}/root", self.child.helper_pid()).into(),
                below: STATE.into(),
            },
            _ => state_on_host(&self.plan),
        }
    }
}

fn state_on_host(plan: &MachinePlan) -> StateFolder {
    StateFolder { base: plan.scratch.join("state"), below: PathBuf::new() }
}

impl Machine for Uml {
    fn channels(&self) -> &Channels {
        &self.channels
    }

    fn guest_view(&self) -> GuestView {
        guest_view(&self.plan)
    }

    fn ending_fd(&self) -> BorrowedFd<'_> {
        self.child.ending_fd()
    }

    fn ending(&mut self) -> Option<Ending> {
        self.child.ending()
    }

    fn request(&mut self, op: &MachineOp) -> Result<()> {
        match op {
            MachineOp::Sysrq(key) => {
                // What the kernel prints comes over the log channel, as everything does.
                let (state, command) = (self.state(), format!("sysrq {key}"));
                self.mconsole.request(&state, &command, self.child.ending_fd(), PATIENCE).map(drop)
            }
            _ => Err(Diagnostic::trouble(format!("a UML machine that runs cannot do \"{op}\""))),
        }
    }

    fn ask_for_tasks(&mut self) -> Result<()> {
        let state = self.state();
        // p is the task that runs; t last, because a kernel of 5.11 or later dies of it.
        for key in ['w', 'p', 't'] {
            let asked = self.mconsole.request(
                &state,
                &format!("sysrq {key}"),
                self.child.ending_fd(),
                LAST_LOOK,
            );
            match asked {
                Err(error) if key == 'w' => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn host_view(&self, deep: bool) -> Option<String> {
        let pids = processes::descendants(self.child.helper_pid());
        let mut text = processes::describe(&pids);
        // The kernel is the one whose parent is no other of its kind: the first that runs its file.
        let runs = |pid: &&u32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|words| words.contains(&format!("umid={UMID}")))
        };
        if let Some(pid) = pids.iter().find(runs).filter(|_| deep) {
            text.push_str(&format!("\nstack of process {pid}, by gdb\n"));
            match processes::backtrace(*pid, &self.plan.boot, LAST_LOOK) {
                Ok(stack) => text.push_str(&stack),
                Err(why) => text.push_str(&format!("{why}\n")),
            }
        }
        (!pids.is_empty()).then_some(text)
    }

    fn waited_for_cpu(&self) -> Duration {
        processes::waited_for_cpu(&processes::descendants(self.child.helper_pid()))
    }

    fn freeze(&mut self) -> Result<()> {
        self.child.freeze()
    }

    fn start_again(&mut self) -> Result<()> {
        self.kill();
        *self = Self::start(&self.plan)?;
        Ok(())
    }

    fn kill(&mut self) {
        self.child.kill();
    }
}

/// What is started for `plan`: a pure function.
pub fn launch(plan: &MachinePlan, ends: GuestEnds) -> Launch {
    let paths = Paths::of(plan);
    let mut argv = vec![
        paths.boot.clone(),
        format!("mem={}", plan.memory),
        format!("initrd={}", paths.initramfs),
        // "con=null ssl=null" first: without it every console asks for an xterm or a pty.
        "con=null".into(),
        "ssl=null".into(),
        format!("con0=null,fd:{}", ends.log),
        format!("con1=fd:{}", ends.terminal),
        format!("ssl0=fd:{}", ends.control),
        // The current folder: see `mconsole`.
        "uml_dir=.".into(),
        format!("umid={UMID}"),
        LOOPS_PER_JIFFY.into(),
        "lab.terminal=/dev/tty1".into(),
        "lab.control=/dev/ttyS0".into(),
    ];
    for (index, (_, path)) in paths.disks.iter().enumerate() {
        argv.push(format!("ubd{index}={path}"));
    }
    argv.extend(plan.cmdline.iter().cloned());
    Launch {
        argv,
        env: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("TMPDIR".into(), paths.memory.clone()),
            ("HOME".into(), "/".into()),
        ],
        keep: vec![ends.log, ends.terminal, ends.control],
        folder: paths.state.into(),
        bind: Some((ends.mconsole, REPLIES.into())),
        isolation: plan.isolation,
        root: private_root(plan),
        mount_on: plan.scratch.join("root"),
        fixed_addresses: true,
        file_limit: None,
    }
}

/// Paths as the UML process sees them: of the private root, or of the host without one.
struct Paths {
    boot: String,
    initramfs: String,
    modules: Option<String>,
    disks: Vec<(String, String)>,
    shares: Vec<String>,
    state: String,
    memory: String,
}

impl Paths {
    fn of(plan: &MachinePlan) -> Self {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let inside = plan.isolation == Isolation::Full;
        let pick = |private: &str, host: &Path| {
            if inside { private.to_string() } else { shown(host) }
        };
        Self {
            boot: pick(BOOT, &plan.boot),
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
            state: pick(STATE, &plan.scratch.join("state")),
            memory: pick(MEMORY, Path::new("/dev/shm")),
        }
    }
}

fn private_root(plan: &MachinePlan) -> Vec<RootEntry> {
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
            for folder in ["/lib", "/lib64", "/usr/lib", "/usr/lib64"] {
                if Path::new(folder).is_dir() {
                    root.push(bind(Path::new(folder), folder, true));
                }
            }
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

fn guest_view(plan: &MachinePlan) -> GuestView {
    let paths = Paths::of(plan);
    let hostfs = |folder: &str, guest: String, readonly| GuestShare {
        fstype: "hostfs".into(),
        source: "none".into(),
        data: folder.to_string(),
        guest,
        readonly,
    };
    GuestView {
        disks: paths
            .disks
            .iter()
            .zip('a'..='p')
            .map(|((name, _), letter)| GuestDisk {
                name: name.clone(),
                device: format!("/dev/ubd{letter}"),
            })
            .collect(),
        shares: plan
            .shares
            .iter()
            .zip(&paths.shares)
            .map(|(share, folder)| {
                let guest = share.guest.to_string_lossy().into_owned();
                hostfs(folder, guest, share.mode == ShareMode::Ro)
            })
            .collect(),
        modules: paths
            .modules
            .as_deref()
            .map(|folder| hostfs(folder, format!("/lib/modules/{}", plan.release), true)),
    }
}

/// A pair of stream sockets: the host's end non-blocking, both closed on exec.
fn channel() -> Result<(OwnedFd, OwnedFd)> {
    let failed = |e: nix::errno::Errno| {
        Diagnostic::trouble(format!("cannot make a channel: {}", e.desc()))
            .help("see the limit of open files: ulimit -n")
    };
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(failed)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
    Ok((ours, theirs))
}
