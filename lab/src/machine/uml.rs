//! User-Mode Linux: the kernel is a process of the host.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use lab_proto::{GuestDisk, GuestShare};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::layout::{self, Paths};
use super::mconsole::{Mconsole, REPLIES, StateFolder, UMID};
use super::processes;
use super::{
    Channels, Child, Ending, GuestView, Isolation, Launch, LogEnd, LogMemory, Machine, MachinePlan,
    loader,
};
use crate::manifest::{Diagnostic, MachineOp, Result, ShareMode};
use crate::sandbox::Calls;

/// Without it a kernel measures its delay loop at boot, 80 ms of the 150 ms that Debian's 6.1 takes
/// to PID 1. UML has no hardware whose delays must be right to the microsecond; the number is what a
/// machine of 2025 measures.
const LOOPS_PER_JIFFY: &str = "lpj=36000000";

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
        let (log, log_end) = LogMemory::new(layout::limits(plan).file_size)?;
        let (terminal, terminal_end) = channel()?;
        let (control, control_end) = channel()?;
        let (words, words_end) = channel()?;
        let mconsole = Mconsole::new()?;
        if plan.isolation != Isolation::Full {
            state_on_host(plan).clear()?;
        }
        loader::prepare(plan)?;
        layout::make_memory(plan)?;
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
                below: layout::STATE.into(),
            },
            _ => state_on_host(&self.plan),
        }
    }
}

fn state_on_host(plan: &MachinePlan) -> StateFolder {
    StateFolder { base: layout::state(plan), below: PathBuf::new() }
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
    let mut env = vec![
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("TMPDIR".into(), paths.memory.clone()),
        ("HOME".into(), "/".into()),
    ];
    if let Some(libraries) = loader::borrowed(plan) {
        env.push(("LD_LIBRARY_PATH".into(), libraries.to_string_lossy().into_owned()));
    }
    let (reach, clear) = match plan.isolation {
        Isolation::Landlock => (layout::reach(plan), Some(layout::memory(plan))),
        Isolation::Full | Isolation::Off => (Vec::new(), None),
    };
    Launch {
        argv,
        env,
        keep: vec![ends.log, ends.terminal, ends.control],
        folder: paths.state.into(),
        bind: Some((ends.mconsole, REPLIES.into())),
        isolation: plan.isolation,
        root: layout::private_root(plan),
        mount_on: plan.scratch.join("root"),
        reach,
        clear,
        calls: Calls::Machine,
        fixed_addresses: true,
        limits: layout::limits(plan),
    }
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
