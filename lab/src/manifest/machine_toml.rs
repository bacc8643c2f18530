//! `[machine]` of a case: its shape, and the steps that do something to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::reader::Table;
use super::source::Text;
use super::values::{DURATION_HELP, SIZE_HELP, is_guest_path, is_word, parse_duration, parse_size};
use super::{
    Clock, Disk, ImageSpec, MachineOp, MachineSpec, Result, Share, ShareMode, kernel_toml, nearest,
    schema,
};

/// The longest name of a disk: VIRTIO_BLK_ID_BYTES, by which the guest finds it.
const DISK_NAME: usize = 20;

/// What a case's machine is validated against.
pub(super) struct Around<'a> {
    /// The project's folder.
    pub root: &'a Path,
    /// The case's folder.
    pub dir: &'a Path,
    /// The project's images.
    pub images: &'a BTreeMap<String, ImageSpec>,
}

impl Default for MachineSpec {
    /// The machine of a case that says nothing about it.
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            cpus: 1,
            cmdline: Vec::new(),
            disks: Vec::new(),
            shares: Vec::new(),
            trace: Vec::new(),
            clock: Clock::Real,
            timeout: Duration::from_secs(60),
            hang: super::script::default_hang(),
            boot: None,
            image: "base".into(),
        }
    }
}

/// Reads `[machine]`; defaults where there is none.
pub(super) fn read(table: Option<&Table<'_>>, around: &Around<'_>) -> Result<MachineSpec> {
    let mut spec = MachineSpec::default();
    let Some(table) = table else { return Ok(spec) };
    if let Some(text) = table.string("memory")? {
        spec.memory = size(&text)?;
        // Below this no kernel of the last ten years reaches PID 1; "256" for "256M" is likely.
        if spec.memory < 16 << 20 {
            return Err(text
                .error(format!("{} bytes of memory are too little for a kernel", spec.memory))
                .help("16M at least; for example memory = \"256M\""));
        }
    }
    if let Some(cpus) = table.whole("cpus", 1..257)? {
        spec.cpus = u32::try_from(cpus).unwrap_or(1);
    }
    spec.cmdline = kernel_toml::cmdline(table)?;
    spec.disks = disks(table)?;
    for share in table.tables("shares", &schema::SHARE)? {
        spec.shares.push(read_share(&share, &spec.shares, around)?);
    }
    for event in table.strings("trace")? {
        let parts = event
            .split_once(':')
            .filter(|(system, event)| is_word(system, "_-") && is_word(event, "_-*?"));
        if parts.is_none() {
            return Err(event
                .error(format!("`{}` is not SUBSYSTEM:EVENT", event.as_str()))
                .help("for example trace = [\"block:block_rq_issue\"]"));
        }
        spec.trace.push(event.to_string());
    }
    if let Some(clock) = table.string("clock")? {
        spec.clock =
            clock.choose("a clock", &[("real", Clock::Real), ("virtual", Clock::Virtual)])?;
    }
    if spec.clock == Clock::Virtual && !spec.disks.is_empty() {
        return Err(table
            .error_at("disks", "disks of the host cannot live by a virtual clock")
            .help(
                "make them in the guest (brd, or loop on tmpfs), or remove clock = \"virtual\"",
            ));
    }
    if let Some(text) = table.string("timeout")? {
        spec.timeout = duration(&text)?;
    }
    if let Some(text) = table.string("hang")? {
        spec.hang = patience(&text)?;
    }
    if let Some(text) = table.string("boot")? {
        spec.boot = Some(patience(&text)?);
    }
    if let Some(image) = table.string("image")? {
        if !around.images.contains_key(image.as_str()) {
            let known = around.images.keys().map(String::as_str);
            let help = match nearest(&image, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
            };
            let name = image.as_str();
            return Err(image.error(format!("there is no images/{name}.toml")).help(help));
        }
        spec.image = image.to_string();
    }
    Ok(spec)
}

/// A deadline of the lab's own: below a second a busy host would miss it, above ten minutes nobody
/// waits for it.
fn patience(text: &Text<'_>) -> Result<Duration> {
    let time = duration(text)?;
    match (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&time) {
        true => Ok(time),
        false => Err(text
            .error(format!("`{}` is no sensible deadline", text.as_str()))
            .help("from \"1s\" to \"10m\"; `timeout` is the one for the whole run")),
    }
}

fn disks(table: &Table<'_>) -> Result<Vec<Disk>> {
    let mut disks: Vec<Disk> = Vec::new();
    for entry in table.tables("disks", &schema::DISK)? {
        let name = entry.required("name")?;
        if !is_word(&name, "-_") || name.len() > DISK_NAME {
            return Err(name
                .error(format!("`{}` is not a name for a disk", name.as_str()))
                .help(format!("letters, digits, `-` and `_`, at most {DISK_NAME}")));
        }
        if disks.iter().any(|disk| disk.name == name.as_str()) {
            return Err(name
                .error(format!("there are two disks `{}`", name.as_str()))
                .help("each is /dev/lab/NAME in the guest: give one another name"));
        }
        let size = disk_size(&entry.required("size")?)?;
        disks.push(Disk { name: name.to_string(), size });
    }
    Ok(disks)
}

fn read_share(table: &Table<'_>, others: &[Share], around: &Around<'_>) -> Result<Share> {
    let (host, guest) = (table.required("host")?, table.required("guest")?);
    let outside = table.flag("outside")?;
    let path = std::fs::canonicalize(around.dir.join(host.as_str())).ok();
    let Some(path) = path.filter(|path| path.is_dir()) else {
        return Err(host
            .error(format!("there is no folder `{}` to share", host.as_str()))
            .help("the path is relative to the case's folder: make it, or correct the path"));
    };
    if path.to_str().is_none() {
        return Err(host
            .error(format!("the folder's full path, {}, is not UTF-8", path.display()))
            .help("share one whose name is"));
    }
    let root = std::fs::canonicalize(around.root).unwrap_or_else(|_| around.root.to_path_buf());
    if !outside && !path.starts_with(&root) {
        return Err(host
            .error(format!("{} lies outside the project", path.display()))
            .help("add outside = true to this share if the guest is to see it"));
    }
    let taken = ["/case", "/dev", "/proc", "/sys"];
    let in_taken = |t: &&str| {
        guest.strip_prefix(*t).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if !is_guest_path(&guest) {
        return Err(guest
            .error(format!("`{}` is not an absolute path of the guest", guest.as_str()))
            .help("for example guest = \"/mnt/fixtures\""));
    }
    if let Some(taken) = taken.iter().find(|taken| in_taken(taken)) {
        return Err(guest
            .error(format!("{taken} of the guest is the lab's own"))
            .help("for example guest = \"/mnt/fixtures\""));
    }
    let guest_path = Path::new(guest.as_str());
    if others.iter().any(|other| other.guest == guest_path) {
        return Err(guest
            .error(format!("two folders are shared as {}", guest.as_str()))
            .help("give one another `guest`"));
    }
    let mode = match table.string("mode")? {
        Some(mode) => mode.choose("a mode", &[("ro", ShareMode::Ro), ("rw", ShareMode::Rw)])?,
        None => ShareMode::Ro,
    };
    Ok(Share { host: path, guest: guest_path.into(), mode })
}

fn size(text: &Text<'_>) -> Result<u64> {
    parse_size(text).map_err(|why| text.error(format!("`{}` {why}", text.as_str())).help(SIZE_HELP))
}

fn disk_size(text: &Text<'_>) -> Result<u64> {
    let bytes = parse_size(text)
        .map_err(|why| text.error(format!("`{}` {why}", text.as_str())).help(SIZE_HELP))?;
    if bytes % 512 != 0 {
        return Err(text.error(format!("{bytes} bytes are not whole sectors")).help(format!(
            "a disk is a multiple of 512; for example {}",
            bytes.next_multiple_of(512)
        )));
    }
    Ok(bytes)
}

/// A duration with its place.
pub(super) fn duration(text: &Text<'_>) -> Result<Duration> {
    parse_duration(text)
        .map_err(|why| text.error(format!("`{}` {why}", text.as_str())).help(DURATION_HELP))
}

/// Keys that would end what the lab needs for its verdict, what they do, and what to write instead
/// (Documentation/admin-guide/sysrq.rst). `c` is not among them: a panic is a finding.
const KEYS_NOT_FOR_STEPS: [(&str, &str, &str); 4] = [
    (
        "b",
        "restarts the machine at once, without syncing or unmounting",
        "that is machine = \"power-cut\"; in an orderly way it is machine = \"reboot\"",
    ),
    (
        "o",
        "switches the machine off, and the case's other steps with it",
        "machine = \"power-cut\" does it and starts the machine again; so does \"reboot\", in order",
    ),
    (
        "ei",
        "ends the shell that all steps share",
        "kill what you mean in a step with `run`, or restart with machine = \"reboot\"",
    ),
    (
        "axy",
        "does nothing on this architecture",
        "for example \"sysrq w\" (blocked tasks), \"sysrq m\" (memory) or \"sysrq s\" (sync)",
    ),
];

/// `machine = "..."` of a step.
pub(super) fn operation(text: &Text<'_>, disks: &[Disk]) -> Result<MachineOp> {
    const KNOWN: [(&str, &str); 6] = [
        ("power-cut", "power-cut"),
        ("reboot", "reboot"),
        ("hotplug", "hotplug DISK"),
        ("unplug", "unplug DISK"),
        ("resize", "resize DISK SIZE"),
        ("sysrq", "sysrq KEY"),
    ];
    let words: Vec<&str> = text.split_whitespace().collect();
    let disk = |name: &str| -> Result<String> {
        if disks.iter().any(|disk| disk.name == name) {
            return Ok(name.into());
        }
        let known: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => format!(
                "declare it: disks = [{{ name = \"{name}\", size = \"64M\" }}] in [machine]"
            ),
            None => format!("declared in [machine] are {}", known.join(", ")),
        };
        Err(text.error(format!("this machine has no disk `{name}`")).help(help))
    };
    match words[..] {
        ["power-cut"] => Ok(MachineOp::PowerCut),
        ["reboot"] => Ok(MachineOp::Reboot),
        ["hotplug", name] => Ok(MachineOp::Hotplug(disk(name)?)),
        ["unplug", name] => Ok(MachineOp::Unplug(disk(name)?)),
        ["resize", name, new] => {
            let size = Text::clone(text);
            let name = disk(name)?;
            let bytes = parse_size(new)
                .map_err(|why| size.error(format!("`{new}` {why}")).help(SIZE_HELP))?;
            if bytes % 512 != 0 {
                return Err(size
                    .error(format!("{bytes} bytes are not whole sectors"))
                    .help("a disk is a multiple of 512"));
            }
            Ok(MachineOp::Resize(name, bytes))
        }
        ["sysrq", key] if key.len() == 1 && is_word(key, "") && key.to_lowercase() == key => {
            let key = key.chars().next().unwrap_or('h');
            match KEYS_NOT_FOR_STEPS.iter().find(|(keys, ..)| keys.contains(key)) {
                Some((_, what, help)) => {
                    Err(text.error(format!("the sysrq key `{key}` {what}")).help(*help))
                }
                None => Ok(MachineOp::Sysrq(key)),
            }
        }
        _ => {
            let first = words.first().copied().unwrap_or_default();
            let all = KNOWN.map(|(_, form)| form).join(", ");
            let form = KNOWN.iter().find(|(name, _)| *name == first).map(|(_, form)| *form);
            let near = nearest(first, KNOWN.map(|(name, _)| name));
            let help = match (form, near) {
                (Some(form), _) => format!("it is written \"{form}\""),
                (None, Some(near)) => format!("did you mean `{near}`? There are {all}"),
                (None, None) => format!("one of {all}"),
            };
            Err(text
                .error(format!("`{}` is nothing that can be done to a machine", text.as_str()))
                .help(help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::case_toml::tests::{error, load};

    #[test]
    fn machines() {
        let e = |text: &str| error(&format!("[machine]\n{text}"));
        assert!(e("memory = '64MB'").contains("`64MB` is not a size"));
        assert!(e("memory = '256'").contains("too little"));
        assert!(e("timeout = '20'").contains("`20` is not a duration"));
        assert!(e("timeout = '0s'").contains("no time at all"));
        assert!(e("clock = 'virtal'").contains("did you mean `virtual`?"));
        assert!(e("image = 'bsae'").contains("did you mean `base`?"));
        assert!(e("cmdline = ['a b']").contains("not one word"));
        assert!(e("trace = ['block']").contains("is not SUBSYSTEM:EVENT"));
        let disk = |text: &str| e(&format!("disks = [{text}]"));
        assert!(disk("{ name = 'a', size = '1000' }").contains("whole sectors"));
        assert!(disk("{ name = 'a/b', size = '1M' }").contains("not a name for a disk"));
        assert!(disk("{ name = 'a' }").contains("lacks `size`"));
        let two = "{ name = 'a', size = '1M' }, { name = 'a', size = '1M' }";
        assert!(disk(two).starts_with("cases/c/case.toml:3:48: there are two disks `a`"));
        let clock = e("clock = 'virtual'\ndisks = [{ name = 'a', size = '1M' }]");
        assert!(clock.starts_with("cases/c/case.toml:4:9: disks of the host"), "{clock}");
        let share = |text: &str| e(&format!("shares = [{{ {text} }}]"));
        assert!(share("host = 'nope', guest = '/m'").contains("no folder `nope`"));
        assert!(share("host = 'fixtures', guest = 'm'").contains("not an absolute path"));
        assert!(share("host = 'fixtures', guest = '/dev/x'").contains("the lab's own"));
        assert!(share("host = '/', guest = '/m'").contains("outside = true"));
        assert!(share("host = 'fixtures', guest = '/m', mode = 'rx'").contains("not a mode"));
        let text = "[machine]\nshares = [{ host = '/', guest = '/m', outside = true }]";
        assert!(load(&format!("{text}\n[[step]]\nrun = 'true'")).is_ok());
    }
}
