//! `[kernel.NAME]` of lab.toml, and how `extends` is flattened.

use std::collections::BTreeMap;
use std::path::Path;

use super::reader::Table;
use super::source::Text;
use super::values::{is_file_name, is_name, is_word};
use super::{Arch, Diagnostic, KernelSpec, Place, Provider, Result, nearest, schema};

/// One `[kernel.NAME]` as written, before `extends` is followed.
pub(super) struct Written {
    at: Place,
    base: Base,
    arch: Option<(Arch, Place)>,
    kconfig: Words,
    patches: Words,
    modules: Words,
    cmdline: Vec<String>,
}

/// A list of words and where it stands, for an error that needs the whole project to be seen.
struct Words {
    words: Vec<String>,
    at: Place,
}

enum Base {
    Provider(Provider),
    Extends(String, Place),
}

const ARCHES: [(&str, Arch); 2] = [("um", Arch::Um), ("x86_64", Arch::X86_64)];

/// Reads one; relative paths are relative to `root`.
pub(super) fn read(name: &Text<'_>, table: &Table<'_>, root: &Path) -> Result<Written> {
    if !is_name(name) {
        return Err(name
            .error(format!("`{}` is not a name for a kernel", name.as_str()))
            .help("letters, digits, `.`, `_`, `+` and `-`, for example uml-6.1"));
    }
    let ways = ["debian", "source", "path", "extends"];
    let given: Vec<&str> = ways.into_iter().filter(|way| table.get(way).is_some()).collect();
    let base = match given[..] {
        ["debian"] => Base::Provider(debian(&table.required("debian")?)?),
        ["source"] => Base::Provider(source(&table.required("source")?, root)?),
        ["path"] => {
            let path = table.required("path")?;
            Base::Provider(Provider::Path { path: root.join(path.as_str()) })
        }
        [_] => {
            let parent = table.required("extends")?;
            Base::Extends(parent.to_string(), parent.place())
        }
        [] => {
            return Err(table
                .error(format!("kernel `{}` comes from nowhere", name.as_str()))
                .help("give one of `debian`, `source`, `path`, `extends`"));
        }
        [first, second, ..] => {
            return Err(table
                .error_at(second, format!("a kernel has `{first}` or `{second}`, not both"))
                .help("keep one; a second [kernel.NAME] may have the other"));
        }
    };
    let arch = match table.string("arch")? {
        Some(text) => Some((text.choose("an architecture", &ARCHES)?, text.place())),
        None => None,
    };
    let words = |key: &str| -> Result<Words> {
        let words = table.strings(key)?.iter().map(|text| text.to_string()).collect();
        Ok(Words { words, at: table.place_of(key) })
    };
    Ok(Written {
        at: name.place(),
        base,
        arch,
        kconfig: words("kconfig")?,
        patches: words("patches")?,
        modules: modules(table, root)?,
        cmdline: cmdline(table)?,
    })
}

/// The words of a `cmdline` key.
pub(super) fn cmdline(table: &Table<'_>) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for word in table.strings("cmdline")? {
        if word.contains(['\n', '\0']) || (word.contains(' ') && !word.contains('"')) {
            return Err(word
                .error(format!("`{}` is not one word of a command line", word.escape_debug()))
                .help("write each word as an entry of its own"));
        }
        words.push(word.to_string());
    }
    Ok(words)
}

fn debian(text: &Text<'_>) -> Result<Provider> {
    let parts = text.split_once('/').filter(|(suite, package)| {
        is_word(suite, "-") && is_file_name(&package.replace('+', "-")) && !package.contains('_')
    });
    let Some((suite, package)) = parts else {
        return Err(text
            .error(format!("`{}` is not SUITE/PACKAGE", text.as_str()))
            .help("for example debian = \"bookworm/user-mode-linux\""));
    };
    Ok(Provider::Debian { suite: suite.into(), package: package.into() })
}

/// The architecture that a Debian package is made for, where its name tells.
fn packaged_arch(package: &str) -> Option<Arch> {
    if package.starts_with("user-mode-linux") {
        Some(Arch::Um)
    } else if package.starts_with("linux-image-") {
        Some(Arch::X86_64)
    } else {
        None
    }
}

fn source(text: &Text<'_>, root: &Path) -> Result<Provider> {
    let from = |source: String| Provider::Source {
        source,
        kconfig: vec![],
        patches: vec![],
        config: vec![],
        modules: vec![],
        inputs: None,
    };
    let joined = |path: &str| root.join(path).to_string_lossy().into_owned();
    if let Some(package) = text.strip_prefix("debian:") {
        let parts = package.split_once('/').filter(|(suite, package)| {
            is_word(suite, "-") && package.starts_with("linux-source-") && is_file_name(package)
        });
        return match parts {
            Some(_) => Ok(from(text.to_string())),
            None => Err(text
                .error(format!("`{}` is not debian:SUITE/linux-source-X.Y", text.as_str()))
                .help("for example source = \"debian:bullseye/linux-source-5.10\"")),
        };
    }
    if let Some(tree) = text.strip_prefix("git:") {
        let parts = tree.rsplit_once('#').filter(|(path, rev)| !path.is_empty() && !rev.is_empty());
        let Some((path, rev)) = parts else {
            return Err(text
                .error(format!("`{}` is not git:PATH#REV", text.as_str()))
                .help("for example source = \"git:../linux#v6.1\""));
        };
        let path = if path.contains("://") { path.to_string() } else { joined(path) };
        return Ok(from(format!("git:{path}#{rev}")));
    }
    Ok(from(joined(text)))
}

/// The sources of `modules`.
fn modules(table: &Table<'_>, root: &Path) -> Result<Words> {
    let entries = table.tables("modules", &schema::MODULE).map_err(|error| {
        // There it is a key of its own, and so a likely slip.
        match error.message().starts_with("unknown key `debian`") {
            true => error.help("write source = \"debian:SUITE/PACKAGE\""),
            false => error,
        }
    })?;
    let mut words = Vec::new();
    for entry in entries {
        words.push(module(&entry.required("source")?, root)?);
    }
    Ok(Words { words, at: table.place_of("modules") })
}

fn module(text: &Text<'_>, root: &Path) -> Result<String> {
    if let Some(package) = text.strip_prefix("debian:") {
        let sound = package.split_once('/').is_some_and(|(suite, package)| {
            is_word(suite, "-") && is_file_name(&package.replace('+', "-"))
        });
        return match sound {
            true => Ok(text.to_string()),
            false => Err(text
                .error(format!("`{}` is not debian:SUITE/PACKAGE", text.as_str()))
                .help("for example source = \"debian:bookworm/dm-writeboost-dkms\"")),
        };
    }
    if text.starts_with("git:") {
        return Err(text
            .error("modules come from a folder or from a Debian package")
            .help("check it out (git worktree add) and name that folder"));
    }
    Ok(root.join(text.as_str()).to_string_lossy().into_owned())
}

/// Every kernel with `extends` followed.
pub(super) fn flatten(written: &BTreeMap<String, Written>) -> Result<BTreeMap<String, KernelSpec>> {
    let one = |name: &String| Ok((name.clone(), flat(written, name, &mut Vec::new())?));
    written.keys().map(one).collect()
}

/// `trail` is the way from the kernel that was asked for, to find a circle.
fn flat<'a>(
    all: &'a BTreeMap<String, Written>,
    name: &'a str,
    trail: &mut Vec<&'a str>,
) -> Result<KernelSpec> {
    let this = &all[name];
    trail.push(name);
    let (provider, cmdline, arch) = match &this.base {
        Base::Provider(provider) => (provider.clone(), Vec::new(), None),
        Base::Extends(parent, at) => {
            if trail.contains(&parent.as_str()) {
                let way = trail.join(" -> ");
                return Err(Diagnostic::usage(format!(
                    "`extends` runs in a circle: {way} -> {parent}"
                ))
                .at(at.clone())
                .help("one of them must have `debian`, `source` or `path`"));
            }
            if !all.contains_key(parent) {
                return Err(unknown(parent, all.keys()).at(at.clone()));
            }
            let parent = flat(all, parent, trail)?;
            (parent.provider, parent.cmdline, Some(parent.arch))
        }
    };
    let mut spec = KernelSpec { name: name.into(), arch: Arch::Um, provider, cmdline, asked: None };
    spec.arch = settle_arch(name, this, &spec.provider, arch)?;
    spec.cmdline.extend(this.cmdline.iter().cloned());
    match &mut spec.provider {
        Provider::Source { kconfig, patches, modules, .. } => {
            kconfig.extend(this.kconfig.words.iter().cloned());
            patches.extend(this.patches.words.iter().cloned());
            modules.extend(this.modules.words.iter().cloned());
        }
        Provider::Debian { .. } | Provider::Path { .. } => {
            let lists = [
                ("kconfig", &this.kconfig),
                ("patches", &this.patches),
                ("modules", &this.modules),
            ];
            for (key, list) in lists {
                if !list.words.is_empty() {
                    return Err(Diagnostic::usage(format!(
                        "kernel `{name}` is not built here, so it cannot have `{key}`"
                    ))
                    .at(list.at.clone())
                    .help("take a kernel with `source`, or leave it away"));
                }
            }
        }
    }
    Ok(spec)
}

fn settle_arch(
    name: &str,
    this: &Written,
    provider: &Provider,
    parent: Option<Arch>,
) -> Result<Arch> {
    let fixed = match provider {
        Provider::Debian { package, .. } => packaged_arch(package).or(parent),
        Provider::Path { .. } => parent,
        Provider::Source { .. } => None,
    };
    match (&this.arch, fixed) {
        (Some((arch, at)), Some(fixed)) if *arch != fixed => {
            Err(Diagnostic::usage(format!("kernel `{name}` is {} already", word(fixed)))
                .at(at.clone())
                .help("remove `arch`: it follows from where the kernel comes from"))
        }
        (Some((arch, _)), _) => Ok(*arch),
        (None, _) => fixed.or(parent).ok_or_else(|| {
            Diagnostic::usage(format!("kernel `{name}` lacks `arch`"))
                .at(this.at.clone())
                .help("add arch = \"um\" (User-Mode Linux) or arch = \"x86_64\" (QEMU)")
        }),
    }
}

fn word(arch: Arch) -> &'static str {
    ARCHES.iter().find(|(_, known)| *known == arch).map_or("", |(word, _)| word)
}

/// The error of a kernel's name that lab.toml does not have.
pub(super) fn unknown<'a>(
    name: &str,
    known: impl Iterator<Item = &'a String> + Clone,
) -> Diagnostic {
    let names = known.clone().map(String::as_str);
    let error = Diagnostic::usage(format!("there is no kernel `{name}`"));
    match nearest(name, names) {
        Some(near) => error.help(format!("did you mean `{near}`? `lab kernel list` shows all")),
        None => {
            let names = known.cloned().collect::<Vec<_>>().join(", ");
            error
                .help(format!("known are {names}; add [kernel.\"{name}\"] to lab.toml for another"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn kernels(text: &str) -> Result<BTreeMap<String, KernelSpec>> {
        let source = Source::new("lab.toml", text);
        let document = source.parse()?;
        let top = Table::top(&source, &document, &schema::LAB)?;
        let mut written = BTreeMap::new();
        for (name, table) in top.named("kernel", &schema::KERNEL)? {
            written.insert(name.to_string(), read(&name, &table, Path::new("/project"))?);
        }
        flatten(&written)
    }

    fn error(text: &str) -> String {
        kernels(text).unwrap_err().to_string()
    }

    #[test]
    fn extends_appends_to_the_parents_lists() {
        let all = kernels(
            r#"
            [kernel.b]
            extends = "a"
            kconfig = ["fs"]
            patches = ["fix"]
            cmdline = ["two"]
            [kernel.a]
            source = "debian:bullseye/linux-source-5.10"
            arch = "um"
            kconfig = ["uml"]
            cmdline = ["one"]
            [kernel.c]
            extends = "b"
            arch = "x86_64"
            "#,
        )
        .unwrap();
        let Provider::Source { kconfig, patches, .. } = &all["c"].provider else { panic!() };
        assert_eq!((kconfig.join(" "), patches.join(" ")), ("uml fs".into(), "fix".into()));
        assert_eq!(all["c"].cmdline, ["one", "two"]);
        assert_eq!((all["b"].arch, all["c"].arch), (Arch::Um, Arch::X86_64));
    }

    #[test]
    fn the_architecture_follows_from_the_package() {
        let all = kernels(
            "kernel.a.debian = 'sid/user-mode-linux'\nkernel.b.debian = 'sid/linux-image-cloud-amd64'",
        )
        .unwrap();
        assert_eq!((all["a"].arch, all["b"].arch), (Arch::Um, Arch::X86_64));
        let text = "kernel.a.debian = 'sid/user-mode-linux'\nkernel.a.arch = 'x86_64'";
        assert!(error(text).starts_with("lab.toml:2:17: kernel `a` is um already"));
        assert!(error("kernel.a.path = 'x'").starts_with("lab.toml:1:8: kernel `a` lacks `arch`"));
    }

    #[test]
    fn relative_paths_are_the_projects() {
        let all = kernels(
            "[kernel.a]\npath = '../linux'\narch = 'um'\n[kernel.b]\nsource = 'git:tree#v6.1'\narch = 'um'",
        )
        .unwrap();
        assert_eq!(all["a"].provider, Provider::Path { path: "/project/../linux".into() });
        let Provider::Source { source, .. } = &all["b"].provider else { panic!() };
        assert_eq!(source, "git:/project/tree#v6.1");
    }

    #[test]
    fn modules_come_from_folders_and_packages() {
        let all = kernels(
            r#"
            [kernel.a]
            source = "linux"
            arch = "um"
            modules = [{ source = "../mod" }]
            [kernel.b]
            extends = "a"
            modules = [{ source = "debian:sid/dm-writeboost-dkms" }, { source = "/m" }]
            "#,
        )
        .unwrap();
        let Provider::Source { modules, .. } = &all["b"].provider else { panic!() };
        assert_eq!(modules, &["/project/../mod", "debian:sid/dm-writeboost-dkms", "/m"]);

        let of = |entry: &str| {
            error(&format!("[kernel.a]\nsource = 'x'\narch = 'um'\nmodules = [{entry}]"))
        };
        let text = of("{ debian = 'sid/x' }");
        assert!(text.starts_with("lab.toml:4:14: unknown key `debian`"), "{text}");
        assert!(text.contains("source = \"debian:SUITE/PACKAGE\""), "{text}");
        assert!(of("'mod'").contains("wants a table here, not a string"));
        assert!(of("{}").contains("lacks `source`"));
        assert!(of("{ source = 'debian:x' }").contains("is not debian:SUITE/PACKAGE"));
        assert!(of("{ source = 'git:x#y' }").contains("a folder or from a Debian package"));
        let text = error("[kernel.a]\npath = 'x'\narch = 'um'\nmodules = [{ source = 'm' }]");
        assert!(text.starts_with("lab.toml:4:11: kernel `a` is not built here"), "{text}");
        assert!(text.contains("it cannot have `modules`"), "{text}");
        let text =
            error("[kernel.a]\ndebian = 'sid/user-mode-linux'\nmodules = [{ source = 'm' }]");
        assert!(text.starts_with("lab.toml:3:11: kernel `a` is not built here"), "{text}");
    }

    #[test]
    fn slips_have_their_place_and_way_out() {
        let circle = "[kernel.a]\nextends = 'b'\n[kernel.b]\nextends = 'a'";
        let text = error(circle);
        assert!(
            text.starts_with("lab.toml:4:11: `extends` runs in a circle: a -> b -> a"),
            "{text}"
        );
        let text = error("[kernel.uml-six]\nextends = 'uml-sixx'");
        assert!(text.contains("no kernel `uml-sixx` (did you mean `uml-six`?"), "{text}");
        let text = error("[kernel.uml-6.1]\ndebian = 'bookworm/user-mode-linux'");
        assert!(text.starts_with("lab.toml:1:15: unknown key `1`"), "{text}");
        assert!(text.contains("[kernel.\"uml-6.1\"]"), "{text}");
        let text = error("[kernel.a]\ndebian = 'sid/user-mode-linux'\npatches = ['x']");
        assert!(text.starts_with("lab.toml:3:11: kernel `a` is not built here"), "{text}");
        let text = error("[kernel.a]\ndebian = 'x/y'\npath = 'z'");
        assert!(text.contains("`debian` or `path`, not both"), "{text}");
        assert!(error("[kernel.a]\narch = 'um'").contains("comes from nowhere"));
        assert!(error("[kernel.a]\ndebian = 'user-mode-linux'").contains("is not SUITE/PACKAGE"));
        let text = error("[kernel.a]\nsource = 'git:x'\narch = 'um'");
        assert!(text.contains("is not git:PATH#REV"), "{text}");
        let text = error("[kernel.a]\npath = 'x'\narch = 'umm'");
        assert!(text.contains("`umm` is not an architecture (did you mean `um`?"), "{text}");
    }
}
