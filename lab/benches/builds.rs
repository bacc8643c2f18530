//! What the lab adds to a kernel build, as ratios of two things done in turn in one session:
//!
//! - a variant that differs by a one-file patch, against plain incremental `make` of the same tree
//!   after the same edit, at the same paths;
//! - `lab run` of a kernel that the store has, against the same boot file as a prebuilt kernel;
//! - with LAB_BENCH_CLEAN=1, which takes ten minutes and more: a build from clean against plain
//!   `make` from clean. One pair, as it is long enough to be even.
//!
//! Ten pairs each (LAB_BENCH_PAIRS says otherwise). `make bench`, on an idle machine. Timing never
//! fails a bench.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::manifest::Project;

const KERNEL: &str = "uml-6.1-src";
const FILE: &str = "fs/squashfs/xattr.c";

fn main() {
    let bench = Bench::new();
    bench.variants();
    bench.hits();
    match std::env::var_os("LAB_BENCH_CLEAN") {
        Some(_) => bench.clean(),
        None => println!("build from clean: left out (LAB_BENCH_CLEAN=1 does it)"),
    }
}

/// The repository's kernel, its tree and build folder, and copies of these for plain make.
struct Bench {
    root: PathBuf,
    cache: PathBuf,
    /// Of the lab, in its cache.
    build: PathBuf,
    tree: PathBuf,
    /// `tree`, `build`, `store`, `project`.
    own: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("lab/ has a parent");
        let cache = cache().canonicalize().expect("the cache is there");
        // On the cache's file system: plain make has the same disk.
        let own = tempfile::tempdir_in(&cache).expect("a folder in the cache");
        for name in ["store", "project/cases"] {
            std::fs::create_dir_all(own.path().join(name)).expect("a folder");
        }
        let mut bench = Self {
            root: root.to_path_buf(),
            cache,
            build: PathBuf::new(),
            tree: PathBuf::new(),
            own,
        };
        finish(bench.lab(&[KERNEL]).stdout(Stdio::null()).spawn().expect("lab starts"));
        // The first variant also makes the build folder that of this kernel, and says which it is.
        bench.patch(0);
        let child = bench.variant().spawn().expect("lab starts");
        while bench.build.as_os_str().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
            bench.build = folder_of(&child).unwrap_or_default();
        }
        finish(child);
        let source = bench.build.join("out/source").canonicalize();
        bench.tree = source.expect("kbuild links the source");
        println!("copying the source and the build folder for plain make ...");
        for (from, name) in [(&bench.tree, "tree"), (&bench.build, "build")] {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(from).arg(bench.own.path().join(name));
            finish(copy.spawn().expect("cp starts"));
        }
        bench
    }

    /// `lab kernel build ...` with the repository's project and cache.
    fn lab(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.current_dir(&self.root).env("LAB_CACHE", &self.cache);
        command.args(["kernel", "build"]).args(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs `command` with folders of our own at the places of the cache's.
    fn with(&self, places: &[(&Path, &str)], command: &Command) -> Command {
        let mut script = String::from("set -e");
        for (at, name) in places {
            let own = self.own.path().join(name);
            script.push_str(&format!("; mount --bind '{}' '{}'", own.display(), at.display()));
        }
        script.push_str("; exec \"$@\"");
        let mut wrapped = Command::new("unshare");
        wrapped.args(["-rm", "sh", "-c", &script, "sh"]);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped.current_dir(command.get_current_dir().unwrap_or(&self.root));
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        wrapped.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        wrapped
    }

    fn patch_file(&self) -> PathBuf {
        self.own.path().join("edit.patch")
    }

    /// Writes the patch of a number, which no store has.
    fn patch(&self, number: usize) {
        let unique = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos();
        let text = format!(
            "--- a/{FILE}\n+++ b/{FILE}\n@@ -7,4 +7,5 @@\n  * xattr.c\n  */\n\
             +/* {unique} {number} */\n \n #include <linux/init.h>\n"
        );
        std::fs::write(self.patch_file(), text).expect("the patch is written");
    }

    fn variant(&self) -> Command {
        let patch = self.patch_file();
        let build = self.lab(&[KERNEL, "--patch", &patch.to_string_lossy()]);
        // What is built here is not kept.
        self.with(&[(&self.cache.join("kernels"), "store")], &build)
    }

    /// make as the lab calls it, in the copies.
    fn plain(&self, args: &[&str]) -> Command {
        let mut make = Command::new("make");
        make.arg("-C").arg(&self.tree).arg(format!("O={}", self.build.join("out").display()));
        make.args(["ARCH=um", "KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab"]);
        make.args(["KBUILD_BUILD_VERSION=1", "LOCALVERSION="]);
        make.arg("KBUILD_BUILD_TIMESTAMP=1970-01-01 00:00:00 UTC").args(args);
        make.env("LC_ALL", "C").env("TZ", "UTC");
        self.with(&[(&self.tree, "tree"), (&self.build, "build")], &make)
    }

    fn variants(&self) {
        let jobs = jobs();
        let make = [jobs.as_str(), "linux", "modules"];
        finish(self.plain(&make).spawn().expect("make starts"));
        let (mut lab, mut plain) = (Vec::new(), Vec::new());
        for number in 1..=pairs() {
            self.patch(number);
            lab.push(timed(|| finish(self.variant().spawn().expect("lab starts"))));
            let file = self.own.path().join("tree").join(FILE);
            let text = std::fs::read_to_string(&file).expect("the source is read");
            std::fs::write(&file, format!("{text}/* {number} */\n")).expect("it is edited");
            plain.push(timed(|| finish(self.plain(&make).spawn().expect("make starts"))));
        }
        told("a one-file patch", "plain incremental make", "lab kernel build", plain, lab, 1.3);
    }

    fn hits(&self) {
        let project = Project::load(&self.root).expect("the repository's own lab.toml");
        let spec = &project.kernels[KERNEL];
        let listed = Command::new(env!("CARGO_BIN_EXE_lab"))
            .current_dir(&self.root)
            .env("LAB_CACHE", &self.cache)
            .args(["run", "--no-pending", "-k", KERNEL, "--", "true"])
            .output()
            .expect("lab runs");
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stdout));
        let boot = self.boot_file();
        // The same file and command line, as a kernel that nobody has to look up.
        let words: Vec<String> = spec.cmdline.iter().map(|word| format!("{word:?}")).collect();
        let manifest = format!(
            "[kernel.prebuilt]\npath = {:?}\narch = \"um\"\ncmdline = [{}]\n",
            boot.display().to_string(),
            words.join(", ")
        );
        let own = self.own.path().join("project");
        std::fs::write(own.join("lab.toml"), manifest).expect("a manifest is written");
        let run = |folder: &Path, kernel: &str| {
            let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
            lab.current_dir(folder).env("LAB_CACHE", &self.cache).stdout(Stdio::null());
            lab.args(["run", "--no-pending", "-k", kernel, "--", "true"]);
            timed(|| finish(lab.spawn().expect("lab starts")))
        };
        run(&own, "prebuilt");
        let (mut hit, mut prebuilt) = (Vec::new(), Vec::new());
        for _ in 0..pairs() {
            prebuilt.push(run(&own, "prebuilt"));
            hit.push(run(&self.root, KERNEL));
        }
        told("a hit in the store", "a prebuilt kernel", "uml-6.1-src", prebuilt, hit, 1.0);
    }

    fn boot_file(&self) -> PathBuf {
        let listed = Command::new(env!("CARGO_BIN_EXE_lab"))
            .current_dir(&self.root)
            .env("LAB_CACHE", &self.cache)
            .args(["kernel", "list", "--json"])
            .output()
            .expect("lab lists");
        let kernels: serde_json::Value =
            serde_json::from_slice(&listed.stdout).expect("the list is JSON");
        let all = kernels.as_array().expect("a list");
        let ours = all.iter().find(|kernel| kernel["name"] == KERNEL).expect("it is in lab.toml");
        self.cache.join("kernels").join(ours["key"].as_str().expect("it is built")).join("boot")
    }

    fn clean(&self) {
        let own = |name: &str| self.own.path().join(name);
        for name in ["empty-store", "empty-builds", "build"] {
            let _ = std::fs::remove_dir_all(own(name));
            std::fs::create_dir_all(own(name)).expect("a folder");
        }
        let places = [
            (self.cache.join("kernels"), "empty-store"),
            (self.cache.join("builds"), "empty-builds"),
        ];
        let places: Vec<(&Path, &str)> = places.iter().map(|(at, n)| (at.as_path(), *n)).collect();
        let lab = timed(|| {
            let build = self.with(&places, &self.lab(&[KERNEL]));
            finish({ build }.spawn().expect("lab starts"));
        });
        let name = self.build.file_name().expect("a folder of builds");
        let seed = own("empty-builds").join(name).join("lab.config");
        std::fs::create_dir_all(own("build/out")).expect("a folder");
        std::fs::copy(seed, own("build/lab.config")).expect("the lab's own seed");
        let config = format!("KCONFIG_ALLCONFIG={}/lab.config", self.build.display());
        let plain = timed(|| {
            finish(self.plain(&[&config, "allnoconfig"]).spawn().expect("make starts"));
            let build = self.plain(&[&jobs(), "linux", "modules"]).spawn();
            finish(build.expect("make starts"));
        });
        told("from clean", "plain make", "lab kernel build", vec![plain], vec![lab], 1.03);
    }
}

fn pairs() -> usize {
    std::env::var("LAB_BENCH_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(10)
}

fn jobs() -> String {
    format!("-j{}", std::thread::available_parallelism().map_or(1, usize::from))
}

/// The build folder whose lock a lab holds.
fn folder_of(lab: &Child) -> Option<PathBuf> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", lab.id())).ok()?.flatten();
    let mut files = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let is_lock = |f: &PathBuf| f.ends_with("lock") && f.to_string_lossy().contains("/builds/");
    Some(files.find(is_lock)?.parent()?.to_path_buf())
}

fn finish(mut child: Child) {
    let status = child.wait().expect("it is waited for");
    assert!(status.success(), "what is measured must succeed: {status}");
}

fn timed(act: impl FnOnce()) -> Duration {
    let started = Instant::now();
    act();
    started.elapsed()
}

fn told(
    what: &str,
    a: &str,
    b: &str,
    mut base: Vec<Duration>,
    mut ours: Vec<Duration>,
    target: f64,
) {
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        (times[times.len() / 2].as_secs_f64(), times[0].as_secs_f64(), times[times.len() - 1])
    };
    let (base, ours) = (median(&mut base), median(&mut ours));
    println!("{what}:");
    for (name, (median, least, most)) in [(a, base), (b, ours)] {
        let most = most.as_secs_f64();
        println!("  {name:<24} {median:8.2} s  ({least:.2} to {most:.2})");
    }
    println!("  ratio                    {:8.2}    (target {target})", ours.0 / base.0);
}

/// As the lab itself finds it.
fn cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("LAB_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("lab")))
        .unwrap_or_else(|| set("HOME").expect("a home folder").join(".cache/lab"))
}
