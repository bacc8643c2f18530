//! Pulls real kernels from a real mirror, and from mirrors made of it that lie: only apt's own
//! behaviour can show that what the store takes in was verified.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use lab::kernel::{
    AptSource, Arch, Kernel, KernelSpec, MODULES, Origin, Provider, PullError, PullProgress, Store,
    Value,
};
use lab::manifest::Fault;
use tempfile::TempDir;

/// A cache with bookworm's kernel in it; `None` without a network. In the target folder, since
/// nothing drops a static; what a former run left there is used.
static PULLED: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel-cache");
    let store = Store::open(&cache).unwrap();
    match pull(&store, &uml("bookworm"), None) {
        Ok(_) => Some(cache),
        Err(error) => {
            let words = error.into_diagnostic().to_string();
            assert!(std::env::var_os("LAB_REQUIRE").is_none_or(|v| v != "all"), "{words}");
            eprintln!("skipped: {words}");
            None
        }
    }
});

fn debian(suite: &str, package: &str, arch: Arch) -> KernelSpec {
    let provider = Provider::Debian { suite: suite.into(), package: package.into() };
    KernelSpec {
        name: format!("test-{suite}"),
        arch,
        provider,
        cmdline: vec!["quiet".into()],
        asked: None,
    }
}

fn uml(suite: &str) -> KernelSpec {
    debian(suite, "user-mode-linux", Arch::Um)
}

fn pull(store: &Store, spec: &KernelSpec, mirror: Option<String>) -> Result<Kernel, PullError> {
    store.pull(spec, &AptSource { mirror }, &mut |_| {}, &AtomicBool::new(false))
}

/// A cache of its own with the same kernel: hard links would share the damage.
fn copy_of(cache: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let status =
        Command::new("cp").arg("-a").arg(cache.join("kernels")).arg(copy.path()).status().unwrap();
    assert!(status.success());
    copy
}

/// What lies in the store, the index and its locks aside.
fn stored(cache: &Path) -> Vec<String> {
    let items = std::fs::read_dir(cache.join("kernels")).unwrap().flatten();
    let names = items.map(|item| item.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name != "by-spec" && name != ".gate").collect();
    names.sort();
    names
}

#[test]
fn a_pulled_kernel_is_found_and_runs() {
    let Some(cache) = &*PULLED else { return };
    let store = Store::open(cache).unwrap();
    let kernel = store.find(&uml("bookworm")).unwrap().expect("it was pulled");
    assert!(kernel.release.starts_with("6.1."), "{}", kernel.release);
    assert_eq!(kernel.arch, Arch::Um);
    assert_eq!(kernel.cmdline, ["quiet"]);
    let Origin::Debian { suite, package, with } = &kernel.origin else { panic!("not Debian") };
    assert_eq!((suite.as_str(), package.package.as_str()), ("bookworm", "user-mode-linux"));
    assert_eq!((package.sha256.len(), with[0].package.as_str()), (64, "libc6"));

    let config = kernel.config().unwrap();
    assert_eq!(config.get("HOSTFS"), Value::Yes);
    assert_eq!(config.get("OVERLAY_FS"), Value::Module);
    let modules = kernel.modules.as_ref().unwrap();
    assert!(std::fs::read_to_string(modules.join("modules.dep")).unwrap().contains("/overlay.ko:"));

    // The program starts with the libraries that lie beside it.
    let libraries = kernel.libraries.as_ref().unwrap();
    let version = Command::new(libraries.join("ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(libraries)
        .arg(&kernel.boot)
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), kernel.release);
}

#[test]
fn finding_takes_less_than_a_millisecond() {
    let Some(cache) = &*PULLED else { return };
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let begun = Instant::now();
            let store = Store::open(cache).unwrap();
            assert!(store.find(&uml("bookworm")).unwrap().is_some());
            begun.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[10] < Duration::from_millis(1), "median {:?}", times[10]);
}

#[test]
fn a_damaged_boot_file_is_dropped_and_a_copied_one_is_not() {
    let Some(cache) = &*PULLED else { return };
    let copy = copy_of(cache);
    let store = Store::open(copy.path()).unwrap();
    let kernel = store.find(&uml("bookworm")).unwrap().unwrap();
    let boot = kernel.boot.clone();
    drop(kernel);

    let file = std::fs::File::options().write(true).open(&boot).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    assert!(store.find(&uml("bookworm")).unwrap().is_some(), "only its time changed");

    use std::os::unix::fs::FileExt;
    file.write_all_at(b"XXXX", 5_000_000).unwrap();
    assert!(store.find(&uml("bookworm")).unwrap().is_none());
    assert_eq!(stored(copy.path()), [] as [&str; 0]);
}

#[test]
fn a_kernel_in_use_is_not_removed() {
    let Some(cache) = &*PULLED else { return };
    let copy = copy_of(cache);
    let store = Store::open(copy.path()).unwrap();
    let spec = uml("bookworm");
    let kernel = store.find(&spec).unwrap().unwrap();
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].in_use && listed[0].wanted_as == [spec.provider.clone()]);

    let refused = store.remove(&spec).unwrap_err();
    assert_eq!(refused.message(), "the kernel test-bookworm is in use by a running lab");
    drop(kernel);
    let freed = store.remove(&spec).unwrap();
    // The record itself comes on top of what it says.
    let own = freed - listed[0].bytes;
    assert!(freed > 50 << 20 && own < 64 << 10, "{freed} {}", listed[0].bytes);
    assert!(store.find(&spec).unwrap().is_none() && store.list().unwrap().is_empty());
    assert_eq!(stored(copy.path()), [] as [&str; 0]);
    assert_eq!(store.remove(&spec).unwrap(), 0);
}

#[test]
fn a_second_pull_downloads_nothing_and_crashed_ones_are_swept() {
    let Some(cache) = &*PULLED else { return };
    let copy = copy_of(cache);
    let store = Store::open(copy.path()).unwrap();
    let left = copy.path().join("kernels/.tmp-crashed");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("lock"), "").unwrap();
    std::fs::create_dir(copy.path().join("kernels/.tmp-broken")).unwrap();
    let mut fetched = false;
    let mut look = |news| fetched |= matches!(news, PullProgress::Fetch { .. });
    let never = AtomicBool::new(false);
    store.pull(&uml("bookworm"), &AptSource::default(), &mut look, &never).unwrap();
    assert!(!fetched);
    assert_eq!(stored(copy.path()).len(), 1, "{:?}", stored(copy.path()));
}

#[test]
fn two_labs_pull_once() {
    let Some(_) = &*PULLED else { return };
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let news = Mutex::new(Vec::new());
    let one = || {
        let mut tell = |one| news.lock().unwrap().push(one);
        let never = AtomicBool::new(false);
        store.pull(&uml("bookworm"), &AptSource::default(), &mut tell, &never).map(|k| k.key)
    };
    let (first, second) = std::thread::scope(|threads| {
        let other = threads.spawn(one);
        (one(), other.join().unwrap())
    });
    assert_eq!(first.unwrap(), second.unwrap());
    let news = news.into_inner().unwrap();
    let count = |wanted: &PullProgress| news.iter().filter(|one| *one == wanted).count();
    assert_eq!(count(&PullProgress::Unpack), 1);
    assert_eq!(count(&PullProgress::Waiting), 1);
    assert_eq!(stored(cache.path()).len(), 1);
}

#[test]
fn an_interrupted_pull_leaves_nothing() {
    let Some(_) = &*PULLED else { return };
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let cancel = AtomicBool::new(false);
    let mut stop = |news| {
        if matches!(news, PullProgress::Fetch { .. } | PullProgress::Unpack) {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let stopped = store.pull(&uml("bookworm"), &AptSource::default(), &mut stop, &cancel);
    assert!(matches!(stopped, Err(PullError::Interrupted)));
    assert_eq!(stored(cache.path()), [] as [&str; 0]);
    assert!(store.find(&uml("bookworm")).unwrap().is_none());
}

/// A `file:` mirror of bookworm with nothing in its pool, made of what apt fetched itself.
fn local_mirror() -> TempDir {
    let mirror = tempfile::tempdir().unwrap();
    let base = AptSource::default().url().unwrap();
    let dist = mirror.path().join("dists/bookworm");
    std::fs::create_dir_all(dist.join("main/binary-amd64")).unwrap();
    for file in ["InRelease", "main/binary-amd64/Packages.xz"] {
        let status = Command::new("/usr/lib/apt/apt-helper")
            .args(["-o", "APT::Sandbox::User=root", "download-file"])
            .arg(format!("{base}/dists/bookworm/{file}"))
            .arg(dist.join(file))
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{file}");
    }
    mirror
}

/// The pool's file of a package, from the mirror's own index.
fn pool_path(mirror: &Path, package: &str) -> PathBuf {
    let index = mirror.join("dists/bookworm/main/binary-amd64/Packages.xz");
    let text = Command::new("xz").arg("-dc").arg(index).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout);
    let head = format!("Package: {package}\n");
    let stanza = text.split("\n\n").find(|stanza| stanza.starts_with(&head)).unwrap();
    let file = stanza.lines().find_map(|line| line.strip_prefix("Filename: ")).unwrap();
    mirror.join(file)
}

fn refused(cache: &Path, mirror: &Path) -> PullError {
    let store = Store::open(cache).unwrap();
    let url = format!("file://{}", mirror.display());
    let error = pull(&store, &uml("bookworm"), Some(url)).expect_err("a mirror that lies");
    assert_eq!(stored(cache), [] as [&str; 0], "nothing may stay");
    assert!(store.find(&uml("bookworm")).unwrap().is_none());
    error
}

fn failed_verification(error: PullError) {
    let PullError::Other(diagnostic) = error else { panic!("{error:?}") };
    assert_eq!(diagnostic.fault(), Fault::Trouble);
    assert!(diagnostic.message().contains("failed verification"), "{diagnostic}");
}

#[test]
fn tampered_mirrors_are_refused() {
    let Some(_) = &*PULLED else { return };
    // A folder's name with a blank and a quote goes through apt unharmed.
    let odd = tempfile::Builder::new().prefix("odd \"name ").tempdir().unwrap();
    let mirror = local_mirror();
    let packages = ["user-mode-linux", "libc6", "libgcc-s1"];
    let [kernel, libc, unwinder] = packages.map(|package| pool_path(mirror.path(), package));
    for file in [&kernel, &libc, &unwinder] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    }

    // Not in the pool: gone, not tampered with.
    let error = refused(odd.path(), mirror.path());
    assert!(matches!(&error, PullError::Gone { suite, .. } if suite == "bookworm"), "{error:?}");

    // The true packages: the mirror itself is good.
    let debs = tempfile::tempdir().unwrap();
    let base = AptSource::default().url().unwrap();
    for file in [&kernel, &libc, &unwinder] {
        let url = format!("{base}/{}", file.strip_prefix(mirror.path()).unwrap().display());
        let status = Command::new("/usr/lib/apt/apt-helper")
            .args(["-o", "APT::Sandbox::User=root", "download-file", &url])
            .arg(file)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
    let good = tempfile::tempdir_in(debs.path()).unwrap();
    let url = format!("file://{}", mirror.path().display());
    let store = Store::open(good.path()).unwrap();
    pull(&store, &uml("bookworm"), Some(url)).expect("a true mirror");

    // Four other bytes in the middle; then cut short.
    use std::os::unix::fs::FileExt;
    let deb = std::fs::File::options().write(true).open(&kernel).unwrap();
    deb.write_all_at(b"XXXX", 20_000_000).unwrap();
    failed_verification(refused(odd.path(), mirror.path()));
    deb.set_len(20_000_000).unwrap();
    failed_verification(refused(odd.path(), mirror.path()));

    // The index, then its signature.
    let index = mirror.path().join("dists/bookworm/main/binary-amd64/Packages.xz");
    let file = std::fs::File::options().write(true).open(&index).unwrap();
    file.write_all_at(b"XXXX", 2_000_000).unwrap();
    failed_verification(refused(odd.path(), mirror.path()));
    let release = mirror.path().join("dists/bookworm/InRelease");
    let text = std::fs::read_to_string(&release).unwrap();
    std::fs::write(&release, text.replacen("Label: Debian", "Label: Xebian", 1)).unwrap();
    failed_verification(refused(odd.path(), mirror.path()));

    // No such suite.
    std::fs::remove_dir_all(mirror.path().join("dists/bookworm")).unwrap();
    let error = refused(odd.path(), mirror.path());
    assert!(matches!(error, PullError::Gone { .. }), "{error:?}");
}

#[test]
fn mirrors_and_packages_that_are_not_there() {
    let Some(_) = &*PULLED else { return };
    let cache = tempfile::tempdir().unwrap();
    let store = Store::open(cache.path()).unwrap();
    let said = |spec: &KernelSpec, mirror: Option<&str>| {
        let error = pull(&store, spec, mirror.map(str::to_string)).unwrap_err();
        assert_eq!(stored(cache.path()), [] as [&str; 0]);
        error
    };
    let gone = |error: PullError| matches!(error, PullError::Gone { .. });
    assert!(gone(said(&uml("no-such-suite"), None)));
    assert!(gone(said(&debian("bookworm", "no-such-package", Arch::Um), None)));

    let PullError::Other(offline) = said(&uml("bookworm"), Some("http://127.0.0.1:9/debian"))
    else {
        panic!()
    };
    assert_eq!(offline.fault(), Fault::Trouble);
    assert!(offline.message().contains("Could not connect"), "{offline}");
    let PullError::Other(wrong) = said(&debian("bookworm", "hello", Arch::Um), None) else {
        panic!()
    };
    assert_eq!(wrong.fault(), Fault::Usage);
    assert!(wrong.message().contains("holds no um kernel"), "{wrong}");
    let PullError::Other(wrong) = said(&uml("bookworm"), Some("my mirror")) else { panic!() };
    assert_eq!(wrong.fault(), Fault::Usage);
    let source = Provider::Source {
        source: ".".into(),
        kconfig: vec![],
        patches: vec![],
        config: vec![],
        modules: vec![],
        inputs: None,
    };
    let spec = KernelSpec { provider: source, ..uml("bookworm") };
    let PullError::Other(later) = said(&spec, None) else { panic!() };
    assert_eq!(later.fault(), Fault::Usage);
}

/// What this crate makes of the modules of a UML package is what depmod made of them at Debian.
#[test]
fn our_index_of_modules_is_depmods() {
    let Some(cache) = &*PULLED else { return };
    let copy = copy_of(cache);
    let kernel = Store::open(copy.path()).unwrap().find(&uml("bookworm")).unwrap().unwrap();
    let folder = kernel.modules.clone().unwrap();
    let parse = |text: String| -> BTreeMap<String, Vec<String>> {
        let line = |line: &str| {
            let (module, needs) = line.split_once(':').unwrap();
            (module.to_string(), needs.split_whitespace().map(str::to_string).collect())
        };
        text.lines().map(line).collect()
    };
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let theirs = parse(read("modules.dep"));
    lab::kernel::index_modules(&folder).unwrap();
    let ours = parse(read("modules.dep"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let set = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    for (module, needs) in &ours {
        assert_eq!(set(needs), set(&theirs[module]), "{module}");
        // Loaded from right to left, each finds what it needs.
        for (at, name) in needs.iter().enumerate() {
            assert!(set(&ours[name]).is_subset(&set(&needs[at + 1..])), "{module}: {name}");
        }
    }
    assert!(read("modules.alias").contains("alias fs-overlay overlay\n"));
}

/// Every module of the table that a real kernel has is called what the table says. UML kernels of
/// two ages, and a PC's (whose package is split, compressed and not indexed).
#[test]
fn the_table_of_modules_is_right() {
    let Some(cache) = &*PULLED else { return };
    // A cache of its own: other tests copy theirs.
    let store = Store::open(&cache.with_file_name("kernel-cache-more")).unwrap();
    let mut checked = BTreeSet::new();
    for spec in
        [uml("bookworm"), uml("sid"), debian("sid", "linux-image-cloud-amd64", Arch::X86_64)]
    {
        let kernel = match store.find(&spec).unwrap() {
            Some(kernel) => kernel,
            None => pull(&store, &spec, None).map_err(PullError::into_diagnostic).unwrap(),
        };
        let modules = kernel.modules.clone().unwrap();
        let index = std::fs::read_to_string(modules.join("modules.dep")).unwrap();
        assert!(!index.contains(".ko."), "compressed modules in {}", kernel.release);
        let names: BTreeSet<_> = index
            .lines()
            .filter_map(|line| line.split(':').next()?.rsplit('/').next()?.strip_suffix(".ko"))
            .collect();
        for (symbol, module) in MODULES {
            if kernel.config().unwrap().get(symbol) == Value::Module {
                assert!(names.contains(module), "{symbol}: no {module} in {}", kernel.release);
                checked.insert(symbol);
            }
        }
        println!("{} {} {}", kernel.origin, kernel.release, kernel.boot.display());
    }
    let unchecked: Vec<_> =
        MODULES.iter().map(|(symbol, _)| symbol).filter(|s| !checked.contains(s)).collect();
    println!("never a module: {unchecked:?}");
    assert!(unchecked.len() < 6, "{unchecked:?}");
}
