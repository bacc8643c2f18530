//! Boots a UML kernel with the PID 1 under test, on three socket pairs, and plays the host.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use lab_proto::{
    Decoder, Direction, Encoder, GuestMessage, GuestPlan, GuestShare, GuestStep, HostMessage,
    Nonce, Work,
};

/// The kernel and its module tree, if this run of the tests is to boot any.
pub fn kernel() -> Option<(PathBuf, PathBuf)> {
    let kernel = std::env::var_os("LAB_TEST_UML")?;
    let modules = std::env::var_os("LAB_TEST_UML_MODULES").expect("LAB_TEST_UML_MODULES is set");
    Some((kernel.into(), modules.into()))
}

/// A plan of these steps with all that the tests need.
pub fn plan(steps: &[&str]) -> GuestPlan {
    let (_, modules) = kernel().expect("a kernel");
    let release = modules.file_name().expect("a release").to_string_lossy().into_owned();
    let env = |name: &str, value: &str| (name.to_string(), value.to_string());
    GuestPlan {
        nonce: Nonce(*b"0123456789abcdef"),
        clock_ns: Some(1_700_000_000_000_000_000),
        boot: 0,
        env: vec![env("PATH", "/bin:/sbin"), env("HOME", "/root"), env("LC_ALL", "C")],
        modules_from: Some(GuestShare {
            fstype: "hostfs".into(),
            source: "modules".into(),
            data: modules.to_string_lossy().into_owned(),
            guest: format!("/lib/modules/{release}"),
            readonly: true,
        }),
        modules: vec![],
        disks: vec![],
        shares: vec![],
        work: Work::Steps(steps.iter().map(|run| GuestStep::run(*run)).collect()),
    }
}

/// What one boot left.
#[derive(Debug)]
pub struct Boot {
    /// All records, with the time since the machine's start.
    pub records: Vec<(Duration, GuestMessage)>,
    /// The terminal channel's bytes.
    pub terminal: Vec<u8>,
    /// The kernel's log.
    pub log: String,
    /// From the machine's start to its process' end.
    pub took: Duration,
}

impl Boot {
    /// The terminal's bytes by step, with the step's status, as the records cut them; then what
    /// came after the last one. Fails where the counts and the bytes do not agree.
    pub fn steps(&self) -> (Vec<(i32, Vec<u8>)>, Vec<u8>) {
        let mut rest = &self.terminal[..];
        let mut take = |n: u64| {
            assert!(rest.len() as u64 >= n, "terminal ended early: {self:#?}");
            let (part, after) = rest.split_at(n as usize);
            rest = after;
            part.to_vec()
        };
        let mut steps = Vec::new();
        let mut last = None;
        for (_, record) in &self.records {
            match record {
                GuestMessage::StepStarted { late, .. } => drop(take(*late)),
                GuestMessage::StepEnded { status, bytes, .. } => {
                    steps.push((*status, take(*bytes)))
                }
                GuestMessage::End { late, steps: count, left_mounted, tainted } => {
                    assert_eq!(*tainted, Some(0));
                    assert_eq!(*count as usize, steps.len());
                    assert_eq!(left_mounted, &Vec::<String>::new());
                    last = Some(take(*late));
                }
                _ => {}
            }
        }
        let last = last.unwrap_or_else(|| panic!("no end record: {self:#?}"));
        assert!(
            rest.is_empty(),
            "bytes that no record counts: {:?}",
            String::from_utf8_lossy(rest)
        );
        (steps, last)
    }

    /// The outputs of the steps as text.
    pub fn texts(&self) -> Vec<String> {
        let (steps, _) = self.steps();
        steps.into_iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }
}

/// A machine that runs.
pub struct Machine {
    child: Child,
    control: UnixStream,
    /// The host's end of the terminal channel.
    pub terminal: UnixStream,
    log: JoinHandle<String>,
    encoder: Encoder,
    decoder: Decoder,
    began: Instant,
    records: Vec<(Duration, GuestMessage)>,
    folder: PathBuf,
}

impl Machine {
    /// Boots with more words on the kernel's command line.
    pub fn boot(name: &str, cmdline: &[&str]) -> Self {
        let (kernel, _) = kernel().expect("a kernel");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("uml-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let initramfs = initramfs();
        let [(log, log_fd), (terminal, terminal_fd), (control, control_fd)] =
            [(); 3].map(|()| channel());
        let began = Instant::now();
        let child = Command::new(kernel)
            .args(["mem=256M", "con=null", "ssl=null", "initcall_blacklist=raid6_select_algo"])
            .args(["lab.control=/dev/ttyS0", "lab.terminal=/dev/tty1"])
            .arg(format!("con0=null,fd:{}", log_fd.as_raw_fd()))
            .arg(format!("con1=fd:{}", terminal_fd.as_raw_fd()))
            .arg(format!("ssl0=fd:{}", control_fd.as_raw_fd()))
            .arg(format!("initrd={}", initramfs.display()))
            .arg(format!("uml_dir={}", folder.display()))
            .args(cmdline)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop((log_fd, terminal_fd, control_fd));
        control.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self {
            child,
            control,
            terminal,
            log: collect(log, |bytes| String::from_utf8_lossy(&bytes).into_owned()),
            encoder: Encoder::new(Direction::ToGuest),
            decoder: Decoder::new(Direction::FromGuest),
            began,
            records: Vec::new(),
            folder,
        }
    }

    /// The next record; `None` when the channel has ended.
    pub fn hear(&mut self) -> Option<GuestMessage> {
        loop {
            if let Some(record) = self.decoder.next_record::<GuestMessage>() {
                let body = record.unwrap().body;
                self.records.push((self.began.elapsed(), body.clone()));
                return Some(body);
            }
            let mut buffer = [0; 4096];
            match self.control.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.decoder.feed(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("control: {error}; so far {:#?}", self.records),
            }
        }
    }

    /// Waits for the first record that fits.
    pub fn hear_until(&mut self, fits: impl Fn(&GuestMessage) -> bool) {
        while let Some(message) = self.hear() {
            if fits(&message) {
                return;
            }
        }
        panic!("the guest is gone: {:#?}", self.records);
    }

    /// Says something.
    pub fn say(&mut self, message: &HostMessage) {
        self.control.write_all(&self.encoder.encode(message)).unwrap();
    }

    /// Answers Hello with a plan.
    pub fn plan(&mut self, plan: GuestPlan) {
        self.hear_until(|m| matches!(m, GuestMessage::Hello { .. }));
        let nonce = plan.nonce;
        self.say(&HostMessage::Plan(Box::new(plan)));
        self.encoder.set_nonce(nonce);
        self.decoder.set_nonce(nonce);
    }

    /// Writes bytes that no encoder made.
    pub fn write_control(&mut self, bytes: &[u8]) {
        self.control.write_all(bytes).unwrap();
    }

    /// Reads the terminal from now on, in a thread of its own.
    pub fn read_terminal(&self) -> JoinHandle<Vec<u8>> {
        collect(self.terminal.try_clone().unwrap(), |bytes| bytes)
    }

    /// Hears everything until the machine is off.
    pub fn finish(mut self, terminal: JoinHandle<Vec<u8>>) -> Boot {
        while self.hear().is_some() {}
        self.child.wait().unwrap();
        let took = self.began.elapsed();
        let _ = fs::remove_dir_all(&self.folder);
        Boot {
            records: std::mem::take(&mut self.records),
            terminal: terminal.join().unwrap(),
            log: std::mem::replace(&mut self.log, spawn(String::new)).join().unwrap(),
            took,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // UML has a process a CPU and more: they end when the first one dies of SIGTERM.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Boots, runs the plan to its end.
pub fn run(name: &str, plan: GuestPlan) -> Boot {
    let mut machine = Machine::boot(name, &[]);
    let terminal = machine.read_terminal();
    machine.plan(plan);
    machine.finish(terminal)
}

fn channel() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    nix::fcntl::fcntl(&theirs, flags).unwrap();
    (ours, theirs)
}

fn collect<T: Send + 'static>(
    mut from: UnixStream,
    finish: impl FnOnce(Vec<u8>) -> T + Send + 'static,
) -> JoinHandle<T> {
    spawn(move || {
        let mut bytes = Vec::new();
        // A reset is an end too: UML does not read what it did not want.
        let _ = from.read_to_end(&mut bytes);
        finish(bytes)
    })
}

/// The initramfs with PID 1, two shells and a few programs of the host; made once.
fn initramfs() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("uml-root");
        let _ = fs::remove_dir_all(&root);
        for folder in ["bin", "sbin", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let init = std::env::var("LAB_TEST_INIT");
        let init = init.unwrap_or_else(|_| env!("CARGO_BIN_EXE_lab-init").into());
        add(&root, Path::new(&init), "init");
        symlink("dash", root.join("bin/sh")).unwrap();
        let programs =
            "dash bash cat ls mount umount head sleep seq sha256sum stty mkdir tr date losetup";
        for program in programs.split(' ') {
            let found = ["/bin", "/usr/sbin"].map(|folder| Path::new(folder).join(program));
            let file = found.iter().find(|file| file.exists()).expect("the host has it");
            add(&root, file, &format!("bin/{program}"));
        }
        let archive = root.with_extension("cpio");
        let mut cpio = Command::new("cpio")
            .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
            .current_dir(&root)
            .stdin(Stdio::piped())
            .stdout(File::create(&archive).unwrap())
            .spawn()
            .expect("cpio is installed");
        let mut names = Vec::new();
        list(&root, Path::new(""), &mut names);
        cpio.stdin.take().unwrap().write_all(names.join("\n").as_bytes()).unwrap();
        assert!(cpio.wait().unwrap().success());
        archive
    })
}

fn add(root: &Path, file: &Path, target: &str) {
    fs::copy(file, root.join(target)).unwrap();
    let ldd = Command::new("ldd").arg(file).output().unwrap();
    for word in String::from_utf8_lossy(&ldd.stdout).split_whitespace() {
        if let Some(relative) = word.strip_prefix('/') {
            let library = root.join(relative);
            fs::create_dir_all(library.parent().unwrap()).unwrap();
            if !library.exists() {
                fs::copy(word, library).unwrap();
            }
        }
    }
}

fn list(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = folder.join(entry.file_name());
        names.push(name.to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            list(root, &name, names);
        }
    }
}
