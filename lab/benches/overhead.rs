//! What the lab costs: the whole warm `lab run hostfs-file-dentry -k uml-6.1` against the bare UML
//! process that boots the same kernel, image and command line, does the same steps by a plain
//! script and powers off. Pairs in turn, medians, one run: `make bench`. Timing never fails a test.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::case::Instance;
use lab::image::{self, Extra};
use lab::kernel::{Kernel, Store};
use lab::manifest::{Action, Project};

mod support;

use support::{cache, median, repository};

const PAIRS: usize = 15;
const CASE: &str = "hostfs-file-dentry";
const KERNEL: &str = "uml-6.1";

fn main() {
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
    let mut peak = 0;
    for _ in 0..PAIRS {
        bare_times.push(bare.run());
        let (time, memory) = run_lab(root);
        lab_times.push(time);
        peak = peak.max(memory);
    }
    let (lab, bare) = (median(&mut lab_times), median(&mut bare_times));
    let ms = |d: Duration| d.as_secs_f64() * 1000.0;
    println!("{CASE} on {KERNEL}, medians of {PAIRS} pairs:");
    println!("  bare UML, plain script  {:7.1} ms  ({})", ms(bare), spread(&bare_times));
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
        std::fs::create_dir(folder.path().join("state")).expect("the state folder is made");
        let mut words = lab::case::default_cmdline(&case);
        // As the lab's machine has them.
        for word in ["lpj=36000000", "printk.time=1", "ignore_loglevel"] {
            words.push(word.into());
        }
        Self { kernel, image, folder, words }
    }

    fn run(&self) -> Duration {
        let folder = self.folder.path().display();
        let started = Instant::now();
        let output = Command::new(&self.kernel.boot)
            .args(["mem=268435456", "con=null", "ssl=null", "con0=null,fd:1"])
            .arg(format!("initrd={}", self.image.cpio.display()))
            .arg(format!("uml_dir={folder}/state"))
            .args(&self.words)
            .args(["rdinit=/bin/sh", "--", "-c"])
            .arg(format!("\"mount -t hostfs -o {folder} none /mnt && . /mnt/script\""))
            .stdin(Stdio::null())
            .output()
            .expect("the kernel starts");
        let time = started.elapsed();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("all steps done"), "the plain script failed:\n{text}");
        time
    }
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
