//! What the lab costs: the whole warm `lab run hostfs-file-dentry -k uml-6.1` against the bare UML
//! process that boots the same kernel, image and command line, does the same steps by a plain
//! script and powers off; and what of that are the walls and channels alone, by the same process
//! behind them. In turn, medians, one run: `make bench`. Timing never fails a test.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::case::Instance;
use lab::image::{self, Extra};
use lab::kernel::{Kernel, Store};
use lab::manifest::{Action, Project};
use lab::sandbox::{self, Calls, Child, Ending, Isolation, Launch, RootEntry};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

mod support;

use support::{cache, median, repository};

const PAIRS: usize = 15;
const CASE: &str = "hostfs-file-dentry";
const KERNEL: &str = "uml-6.1";

fn main() {
    // The walls are put up by this program, started again.
    sandbox::dispatch();
    let root = repository();
    let lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .current_dir(root)
        .args(["run", CASE, "-k", KERNEL, "--no-pending"])
        .output()
        .expect("lab runs");
    assert!(lab.status.success(), "{}", String::from_utf8_lossy(&lab.stdout));

    let bare = Bare::new(root);
    let mut lab_times = Vec::new();
    let mut bare_times = Vec::new();
    let mut walled_times = Vec::new();
    let mut peak = 0;
    for _ in 0..PAIRS {
        bare_times.push(bare.run());
        walled_times.push(bare.run_behind_walls());
        let (time, memory) = run_lab(root);
        lab_times.push(time);
        peak = peak.max(memory);
    }
    let (lab, bare) = (median(&mut lab_times), median(&mut bare_times));
    let walled = median(&mut walled_times);
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    println!("{CASE} on {KERNEL}, medians of {PAIRS} pairs:");
    println!("  bare UML, plain script  {:7.1} ms  ({})", ms(bare), spread(&bare_times));
    println!("  behind walls            {:7.1} ms  ({})", ms(walled), spread(&walled_times));
    println!("  walls and channels      {:7.1} ms  (target 15)", ms(walled) - ms(bare));
    println!("  ratio                   {:7.2}", ms(walled) / ms(bare));
    println!("  lab run, warm           {:7.1} ms  ({})", ms(lab), spread(&lab_times));
    println!("  on top                  {:7.1} ms  (target 60)", ms(lab) - ms(bare));
    println!("  ratio                   {:7.2}", ms(lab) / ms(bare));
    println!("  lab's resident memory   {:7.1} MB  (target 40)", peak as f64 / 1024.0);
}

fn spread(sorted: &[Duration]) -> String {
    let ms = |d: &Duration| d.as_secs_f64() * 1000.0;
    format!("{:.0} to {:.0}", ms(&sorted[0]), ms(&sorted[sorted.len() - 1]))
}

/// Wall time, and the peak of the lab's own resident memory in KiB (VmHWM of proc(5)): its guests
/// are other processes.
fn run_lab(root: &Path) -> (Duration, u64) {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lab"))
        .current_dir(root)
        .args(["run", CASE, "-k", KERNEL, "--no-pending"])
        .stdout(Stdio::null())
        .spawn()
        .expect("lab starts");
    let status = format!("/proc/{}/status", child.id());
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(line) = line else { break };
            peak = line.trim().trim_end_matches(" kB").parse().unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(20));
        }
        peak
    });
    let status = child.wait().expect("lab is waited for");
    let time = started.elapsed();
    assert!(status.success(), "the case must pass to be measured");
    (time, watcher.join().expect("the watcher ends"))
}

/// The same without the lab.
struct Bare {
    kernel: Kernel,
    image: image::Image,
    folder: tempfile::TempDir,
    fixtures: PathBuf,
    words: Vec<String>,
}

impl Bare {
    fn new(root: &Path) -> Self {
        let cache = cache();
        let project = Project::load(root).expect("the repository's own lab.toml");
        let spec = &project.kernels[KERNEL];
        let kernel = Store::open(&cache).and_then(|s| s.find(spec)).expect("the store is sound");
        let kernel = kernel.expect("the run before this has fetched it");
        let case = project.cases[CASE].clone().expect("the case is valid");
        let extra = Extra { programs: case.needs.programs.clone(), files: BTreeMap::new() };
        let image = image::assemble(&project.images["base"], &extra, &cache).expect("assembles");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = script(&Instance::new(&case, BTreeMap::new()), &kernel, root);
        std::fs::write(folder.path().join("script"), script).expect("the script is written");
        for name in ["state", "root"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder is made");
        }
        let mut words = lab::case::default_cmdline(&case);
        // As the lab's machine has them.
        for word in ["lpj=36000000", "printk.time=1", "ignore_loglevel"] {
            words.push(word.into());
        }
        let fixtures = root.join("cases").join(CASE).join("fixtures");
        Self { kernel, image, folder, fixtures, words }
    }

    fn run(&self) -> Duration {
        let started = Instant::now();
        let output = Command::new(&self.kernel.boot)
            .args(self.arguments(&[]))
            .stdin(Stdio::null())
            .output()
            .expect("the kernel starts");
        let time = started.elapsed();
        all_done(&output.stdout);
        time
    }

    /// All arguments; words that the walls' own channels add stand before the script.
    fn arguments(&self, channels: &[String]) -> Vec<String> {
        let folder = self.folder.path().display();
        let mut all =
            ["mem=268435456", "con=null", "ssl=null", "con0=null,fd:1"].map(String::from).to_vec();
        all.push(format!("initrd={}", self.image.cpio.display()));
        all.push(format!("uml_dir={folder}/state"));
        all.extend(self.words.iter().chain(channels).cloned());
        all.extend(["rdinit=/bin/sh", "--", "-c"].map(String::from));
        all.push(format!("\"mount -t hostfs -o {folder} none /mnt && . /mnt/script\""));
        all
    }

    /// The same process with the walls of isolation `full` around it, and the terminal's and the
    /// control channel's sockets beside the log; until all of it is gone.
    fn run_behind_walls(&self) -> Duration {
        let started = Instant::now();
        let pair = || {
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .expect("sockets")
        };
        let ((mut log, words), (_terminal, con1), (_control, ssl0)) = {
            let (ours, theirs) = pair();
            ((std::fs::File::from(ours), theirs), pair(), pair())
        };
        let (con1_fd, ssl0_fd) = (con1.as_raw_fd(), ssl0.as_raw_fd());
        let channels = [format!("con1=fd:{con1_fd}"), format!("ssl0=fd:{ssl0_fd}")];
        let boot = self.kernel.boot.display().to_string();
        let bind = |path: &Path, readonly| RootEntry::Bind {
            host: path.to_path_buf(),
            at: path.to_path_buf(),
            readonly,
        };
        let mut root = vec![
            RootEntry::Memory { at: "/dev/shm".into(), size: 512 << 20 },
            RootEntry::Proc("/proc".into()),
            bind(Path::new("/dev/null"), true),
            bind(Path::new("/dev/random"), true),
            bind(self.folder.path(), false),
        ];
        let modules = self.kernel.modules.as_deref();
        let files = [&*self.kernel.boot, &*self.image.cpio, &*self.fixtures];
        let libraries = ["/lib", "/lib64", "/usr/lib"].map(Path::new);
        let all = files.into_iter().chain(modules).chain(libraries);
        root.extend(all.filter(|path| path.exists()).map(|path| bind(path, true)));
        let launch = Launch {
            argv: std::iter::once(boot).chain(self.arguments(&channels)).collect(),
            env: vec![("TMPDIR".into(), "/dev/shm".into())],
            keep: vec![con1_fd, ssl0_fd],
            isolation: Isolation::Full,
            root,
            mount_on: self.folder.path().join("root"),
            calls: Calls::Machine,
            fixed_addresses: true,
            ..Launch::default()
        };
        let mut child = Child::start(&launch, words).expect("the supervisor starts");
        drop((con1, ssl0));
        let mut text = Vec::new();
        log.read_to_end(&mut text).expect("the log is read");
        let ending = loop {
            if let Some(ending) = child.ending() {
                break ending;
            }
        };
        drop(child);
        let time = started.elapsed();
        assert_eq!(ending, Ending::Exited(0), "{}", String::from_utf8_lossy(&text));
        all_done(&text);
        time
    }
}

fn all_done(output: &[u8]) {
    let text = String::from_utf8_lossy(output);
    assert!(text.contains("all steps done"), "the plain script failed:\n{text}");
}

/// The case's steps as a plain script, with just the mounts that they need.
fn script(instance: &Instance, kernel: &Kernel, root: &Path) -> String {
    let modules = kernel.modules.as_deref().expect("Debian's kernel has modules");
    let fixtures = root.join("cases").join(CASE).join("fixtures");
    let mut script = format!(
        "mount -t proc none /proc\nmount -t sysfs none /sys\n\
         mkdir -p /lib/modules/{release} /mnt/fixtures\n\
         mount -t hostfs -o {modules} none /lib/modules/{release}\n\
         mount -t tmpfs none /mnt && mkdir /mnt/fixtures\n\
         mount -t hostfs -o {fixtures} none /mnt/fixtures\n",
        release = kernel.release,
        modules = modules.display(),
        fixtures = fixtures.display(),
    );
    for step in &instance.case.steps {
        if let Action::Run(run) = &step.action {
            script.push_str(run);
            script.push('\n');
        }
    }
    script
        .push_str("echo all steps done > /dev/console\necho o > /proc/sysrq-trigger\nsleep 100\n");
    script
}
