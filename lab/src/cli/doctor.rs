//! `lab doctor`: whether this host has what the lab needs, found by trying, with the way to fix
//! what is missing.

use std::path::Path;

use serde::Serialize;

use super::edge;
use super::environment::Context;
use super::programs;
use crate::machine::{Isolation, Scratch, room};
use crate::manifest::{Diagnostic, Result};
use crate::report::text::{self, BAD, BOLD, GOOD, LOOK, paint};
use crate::sandbox;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    Good,
    /// Something of the lab is not to be had here; the rest works.
    Limited,
    Bad,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    health: Health,
    detail: String,
    /// The way out, where something is missing.
    fix: Option<String>,
}

fn good(what: &'static str, detail: impl Into<String>) -> Finding {
    Finding { what, health: Health::Good, detail: detail.into(), fix: None }
}

fn finding(
    what: &'static str,
    health: Health,
    detail: impl Into<String>,
    fix: impl Into<String>,
) -> Finding {
    Finding { what, health, detail: detail.into(), fix: Some(fix.into()) }
}

/// Looks, and prints what it found; exit code 3 if something that every run needs is missing.
///
/// # Errors
/// The cache cannot be opened.
pub fn doctor(context: &Context, json: bool) -> Result<u8> {
    let findings = findings(context)?;
    if json {
        let text = serde_json::to_string(&findings).expect("findings are plain data");
        edge::print(&format!("{text}\n"));
    } else {
        let mut rows = Vec::new();
        for finding in &findings {
            let mark = match finding.health {
                Health::Good => paint(GOOD, "ok"),
                Health::Limited => paint(LOOK, "limited"),
                Health::Bad => paint(BAD, "missing"),
            };
            rows.push(vec![mark, paint(BOLD, finding.what), finding.detail.clone()]);
            if let Some(fix) = &finding.fix {
                rows.push(vec![String::new(), String::new(), format!("fix: {fix}")]);
            }
        }
        edge::print(&text::columns(&rows));
    }
    let bad = findings.iter().any(|finding| finding.health == Health::Bad);
    Ok(if bad { 3 } else { 0 })
}

fn findings(context: &Context) -> Result<[Finding; 10]> {
    Ok([
        architecture(),
        namespaces(context),
        memory(),
        shared_memory(),
        cache(context),
        packages(),
        image(context),
        cases(context),
        kernels(context)?,
        kvm(),
    ])
}

/// This host as a bundle describes it: the lab, the kernel (uname(2) without the host's name), the
/// findings.
///
/// # Errors
/// The cache cannot be opened.
pub fn host(context: &Context) -> Result<serde_json::Value> {
    let kernel = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name));
        text.map(|text| text.trim().to_string()).ok()
    };
    Ok(serde_json::json!({
        "lab": env!("CARGO_PKG_VERSION"),
        "system": kernel("ostype"),
        "release": kernel("osrelease"),
        "version": kernel("version"),
        "machine": std::env::consts::ARCH,
        "processors": super::run::cores(),
        "findings": findings(context)?,
    }))
}

/// Prints what has to be installed for the cases; nothing where nothing has to be.
///
/// # Errors
/// None so far.
pub fn packages_to_install(context: &Context) -> Result<u8> {
    edge::print(&programs::lines(&programs::missing(&context.project)));
    Ok(0)
}

fn architecture() -> Finding {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => good("host", "Linux on x86_64"),
        (os, arch) => finding(
            "host",
            Health::Bad,
            format!("{os} on {arch}"),
            "Debian's UML kernels are programs for Linux on x86_64; use such a host",
        ),
    }
}

fn namespaces(context: &Context) -> Finding {
    let what = "namespaces";
    let scratch = match Scratch::create(&context.dirs.runtime) {
        Ok(folder) => folder,
        Err(error) => {
            let fix = "set TMPDIR to a folder that can be written";
            return finding(what, Health::Bad, error.message(), fix);
        }
    };
    let probe = |isolation| match sandbox::probe(isolation, scratch.path()) {
        Ok(refused) => refused,
        Err(error) => Some(error.to_string()),
    };
    let Some(why) = probe(Isolation::Full) else {
        return good(
            what,
            "user, mount, pid, network and ipc namespaces, mounts tried: isolation is full",
        );
    };
    match probe(Isolation::Landlock) {
        None => {
            let version = sandbox::landlock_version().unwrap_or_default();
            let detail = format!(
                "{why}; isolation is landlock (version {version} of it), which is weak: see \"The \
                 walls\" in docs/architecture.md"
            );
            finding(what, Health::Limited, detail, namespace_fix())
        }
        Some(none) => {
            let detail = format!("{why}; nor is isolation landlock to be had: {none}");
            finding(what, Health::Bad, detail, namespace_fix())
        }
    }
}

/// The switches that turn unprivileged user namespaces off, as they stand on this host.
fn namespace_fix() -> String {
    let is = |file: &str, value: &str| {
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == value)
    };
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl kernel.unprivileged_userns_clone=1".into()
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for lab"
            .into()
    } else if is("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl user.max_user_namespaces=10000".into()
    } else {
        "in a container, allow it user namespaces and mounts (its seccomp profile forbids them); \
         or --sandbox=off, which runs guests without walls"
            .into()
    }
}

fn memory() -> Finding {
    const WANTED: u64 = 1 << 30;
    match room::available_memory() {
        Ok(bytes) if bytes >= WANTED => good("memory", format!("{} to be had", text::size(bytes))),
        Ok(bytes) => finding(
            "memory",
            Health::Limited,
            format!("{} to be had; a guest takes 256 MiB by default", text::size(bytes)),
            "run fewer at once (-j 1), or lower [machine] memory in case.toml",
        ),
        Err(error) => finding("memory", Health::Bad, error.to_string(), "mount /proc"),
    }
}

/// With namespaces each guest's memory is a tmpfs of its own; the other levels use /dev/shm.
fn shared_memory() -> Finding {
    const WANTED: u64 = 512 << 20;
    let folder = Path::new("/dev/shm");
    match room::free_space(folder) {
        Ok(bytes) if bytes >= WANTED => good("/dev/shm", format!("{} free", text::size(bytes))),
        Ok(bytes) => finding(
            "/dev/shm",
            Health::Limited,
            format!("{} free; does not matter to isolation full", text::size(bytes)),
            "mount -o remount,size=2G /dev/shm",
        ),
        Err(error) => finding(
            "/dev/shm",
            Health::Limited,
            format!("{}; does not matter to isolation full", error.message()),
            "mount a tmpfs there",
        ),
    }
}

fn cache(context: &Context) -> Finding {
    const WANTED: u64 = 1 << 30;
    let folder = &context.dirs.cache;
    let shown = folder.display();
    if let Err(e) = std::fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder)) {
        let words = crate::manifest::errno_words(&e);
        let fix = "set LAB_CACHE to a folder that can be written";
        return finding("cache", Health::Bad, format!("{shown}: {words}"), fix);
    }
    match room::free_space(folder) {
        Ok(bytes) if bytes < WANTED => finding(
            "cache",
            Health::Limited,
            format!("{shown}: {} free; a kernel takes about 100 MiB", text::size(bytes)),
            "set LAB_CACHE to a larger file system, or remove kernels: lab kernel rm",
        ),
        Ok(bytes) => good("cache", format!("{shown}, {} free", text::size(bytes))),
        Err(error) => finding("cache", Health::Bad, error.to_string(), "set LAB_CACHE elsewhere"),
    }
}

/// What fetches and unpacks prebuilt kernels.
fn packages() -> Finding {
    let missing: Vec<&str> = ["apt-get", "dpkg-deb"]
        .into_iter()
        .filter(|program| !crate::image::on_host(program))
        .collect();
    if missing.is_empty() {
        return good("packages", "apt-get and dpkg-deb, for prebuilt kernels");
    }
    finding(
        "packages",
        Health::Limited,
        format!("{} is not here: prebuilt kernels cannot be fetched", missing.join(" and ")),
        "install the packages apt and dpkg (many other distributions carry them)",
    )
}

/// Whether the base image can be put together from this host's programs.
fn image(context: &Context) -> Finding {
    let assembled = super::run::blank_case(context, &[]).and_then(|case| {
        let instance = crate::case::Instance::new(&case, Default::default());
        context.workshop(Some(Isolation::Full), false)?.image(&context.project, &instance)
    });
    match assembled {
        Ok(image) => good("image", format!("{} files of this host", image.provenance.len())),
        Err(error) => finding(
            "image",
            Health::Bad,
            error.message(),
            error.way_out().unwrap_or("install what is missing"),
        ),
    }
}

/// Whether the cases' own programs are here; a case whose program is not here cannot run.
fn cases(context: &Context) -> Finding {
    let missing = programs::missing(&context.project);
    let what = "programs";
    if missing.is_empty() {
        return good(what, format!("all that {} cases want", context.project.cases.len()));
    }
    let shown = |m: &programs::Missing| format!("{} (for {})", m.program, m.askers.join(", "));
    let detail = missing.iter().map(shown).collect::<Vec<_>>().join("; ");
    let mut packages: Vec<&str> = missing.iter().filter_map(|m| m.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let fix = match packages.is_empty() {
        true => "install them; the lab does not know their packages".into(),
        false => format!("on Debian: apt install {}", packages.join(" ")),
    };
    finding(what, Health::Limited, format!("not here: {detail}"), fix)
}

fn kernels(context: &Context) -> Result<Finding> {
    let store = context.kernels()?.store;
    let wanted = context.project.select_kernels(&[])?;
    let mut missing = Vec::new();
    for spec in &wanted {
        if store.find(spec).map_err(|e: Diagnostic| e)?.is_none() {
            missing.push(spec.name.as_str());
        }
    }
    Ok(if missing.is_empty() {
        let names: Vec<_> = wanted.iter().map(|spec| spec.name.as_str()).collect();
        good("kernels", format!("{} here", names.join(", ")))
    } else {
        let detail =
            format!("{} not here yet; the first run fetches what it needs", missing.join(", "));
        finding("kernels", Health::Limited, detail, "lab kernel pull")
    })
}

/// That the device opens proves little; the accelerator is proved by a boot once there is QEMU.
fn kvm() -> Finding {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
    match opened {
        Ok(_) => good("KVM", "/dev/kvm opens; UML does not use it"),
        Err(e) => finding(
            "KVM",
            Health::Limited,
            format!("/dev/kvm: {}; UML does not need it", crate::manifest::errno_words(&e)),
            "join the group kvm, or load the module kvm_intel or kvm_amd",
        ),
    }
}
