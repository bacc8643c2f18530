//! The one table of known keys: suggestions, type errors and the documentation's test read it.

use super::nearest;

/// Which file a section stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    /// lab.toml
    Lab,
    /// images/NAME.toml
    Image,
    /// cases/NAME/case.toml
    Case,
}

/// A table of a manifest.
#[derive(Debug)]
pub(super) struct Section {
    /// The file it stands in.
    pub manifest: Manifest,
    /// How an error names it, for example `[machine]`.
    pub title: &'static str,
    /// What may stand in it.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name.
    pub name: &'static str,
    /// A correct line, for the help of an error.
    pub example: &'static str,
}

const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

/// The top of lab.toml.
pub(super) static LAB: Section = Section {
    manifest: Manifest::Lab,
    title: "lab.toml",
    keys: &[
        key("default-kernels", r#"default-kernels = ["uml-6.1"]"#),
        key("cache", r#"[cache]"#),
        key("debian", r#"[debian]"#),
        key("kernel", r#"[kernel."uml-6.1"]"#),
        key("known", r#"[[known]]"#),
        key("matrix", r#"[matrix.ci]"#),
        key("runs", r#"[runs]"#),
    ],
};

/// `[runs]`.
pub(super) static RUNS: Section = Section {
    manifest: Manifest::Lab,
    title: "[runs]",
    keys: &[key("keep", r#"keep = 500"#), key("days", r#"days = 30"#)],
};

/// `[cache]`.
pub(super) static CACHE: Section =
    Section { manifest: Manifest::Lab, title: "[cache]", keys: &[key("days", r#"days = 30"#)] };

/// `[debian]`.
pub(super) static DEBIAN: Section = Section {
    manifest: Manifest::Lab,
    title: "[debian]",
    keys: &[key("mirror", r#"mirror = "http://mirror.example/debian""#)],
};

/// `[kernel.NAME]`.
pub(super) static KERNEL: Section = Section {
    manifest: Manifest::Lab,
    title: "[kernel.NAME]",
    keys: &[
        key("debian", r#"debian = "bookworm/user-mode-linux""#),
        key("source", r#"source = "debian:bullseye/linux-source-5.10""#),
        key("path", r#"path = "../linux""#),
        key("extends", r#"extends = "uml-6.1""#),
        key("arch", r#"arch = "um""#),
        key("kconfig", r#"kconfig = ["uml", "fs"]"#),
        key("patches", r#"patches = ["hostfs-file-dentry"]"#),
        key("modules", r#"modules = [{ source = "../my-module" }]"#),
        key("cmdline", r#"cmdline = ["initcall_blacklist=raid6_select_algo"]"#),
    ],
};

/// An entry of `modules`.
pub(super) static MODULE: Section = Section {
    manifest: Manifest::Lab,
    title: "an entry of `modules`",
    keys: &[key("source", r#"source = "debian:bookworm/dm-writeboost-dkms""#)],
};

/// `[[known]]`.
pub(super) static KNOWN: Section = Section {
    manifest: Manifest::Lab,
    title: "[[known]]",
    keys: &[
        key("case", r#"case = "hostfs-file-dentry""#),
        key("kernel", r#"kernel = ["uml-5.10*"]"#),
        key("reason", r#"reason = "fixed by ...""#),
        key("signature", r#"signature = "splat:WARNING""#),
    ],
};

/// `[matrix.NAME]`.
pub(super) static MATRIX: Section = Section {
    manifest: Manifest::Lab,
    title: "[matrix.NAME]",
    keys: &[
        key("kernels", r#"kernels = ["uml-5.10", "uml-6.1"]"#),
        key("cases", r#"cases = ["*"]"#),
    ],
};

/// The top of images/NAME.toml.
pub(super) static IMAGE: Section = Section {
    manifest: Manifest::Image,
    title: "an image",
    keys: &[
        key("summary", r#"summary = "what it is for""#),
        key("shell", r#"shell = "dash""#),
        key("programs", r#"programs = ["mount", "cat"]"#),
        key("optional", r#"optional = ["fio"]"#),
        key("files", r#"files = [{ host = "/etc/mke2fs.conf", guest = "/etc/mke2fs.conf" }]"#),
        key("texts", r#"[texts]"#),
    ],
};

/// An entry of `files`.
pub(super) static IMAGE_FILE: Section = Section {
    manifest: Manifest::Image,
    title: "an entry of `files`",
    keys: &[
        key("host", r#"host = "/etc/mke2fs.conf""#),
        key("guest", r#"guest = "/etc/mke2fs.conf""#),
    ],
};

/// The top of case.toml.
pub(super) static CASE: Section = Section {
    manifest: Manifest::Case,
    title: "case.toml",
    keys: &[
        key("summary", r#"summary = "what it shows, in one line""#),
        key("refs", r#"refs = ["https://..."]"#),
        key("tags", r#"tags = ["slow"]"#),
        key("filters", r#"filters = ["uuids", { regex = "pid [0-9]+", to = "pid N" }]"#),
        key("assert", r#"assert = ["read_bw.sockets4 > 0.95 * read_bw.sockets1"]"#),
        key("allow", r#"allow = ["WARNING: fs/dcache.c"]"#),
        key("needs", r#"[needs]"#),
        key("machine", r#"[machine]"#),
        key("params", r#"[params]"#),
        key("step", r#"[[step]]"#),
        key("variant", r#"[variant.NAME]"#),
        key("twin", r#"[[twin]]"#),
    ],
};

/// `[needs]`.
pub(super) static NEEDS: Section = Section {
    manifest: Manifest::Case,
    title: "[needs]",
    keys: &[
        key("kconfig", r#"kconfig = ["OVERLAY_FS"]"#),
        key("backend", r#"backend = ["uml"]"#),
        key("programs", r#"programs = ["mount"]"#),
        key("modules", r#"modules = ["dm-mod"]"#),
        key("detectors", r#"detectors = ["kasan"]"#),
    ],
};

/// `[machine]`.
pub(super) static MACHINE: Section = Section {
    manifest: Manifest::Case,
    title: "[machine]",
    keys: &[
        key("memory", r#"memory = "256M""#),
        key("cpus", r#"cpus = 1"#),
        key("cmdline", r#"cmdline = ["dm_mod.dm_mq_nr_hw_queues=2"]"#),
        key("disks", r#"disks = [{ name = "a", size = "64M" }]"#),
        key("shares", r#"shares = [{ host = "fixtures", guest = "/mnt/fixtures" }]"#),
        key("trace", r#"trace = ["block:block_rq_issue"]"#),
        key("clock", r#"clock = "virtual""#),
        key("timeout", r#"timeout = "20s""#),
        key("hang", r#"hang = "10s""#),
        key("boot", r#"boot = "20s""#),
        key("image", r#"image = "base""#),
    ],
};

/// An entry of `disks`.
pub(super) static DISK: Section = Section {
    manifest: Manifest::Case,
    title: "an entry of `disks`",
    keys: &[key("name", r#"name = "a""#), key("size", r#"size = "64M""#)],
};

/// An entry of `shares`.
pub(super) static SHARE: Section = Section {
    manifest: Manifest::Case,
    title: "an entry of `shares`",
    keys: &[
        key("host", r#"host = "fixtures""#),
        key("guest", r#"guest = "/mnt/fixtures""#),
        key("mode", r#"mode = "ro""#),
        key("outside", r#"outside = true"#),
    ],
};

/// `[[step]]`.
pub(super) static STEP: Section = Section {
    manifest: Manifest::Case,
    title: "[[step]]",
    keys: &[
        key("name", r#"name = "read through the overlay""#),
        key("run", r#"run = "cat m/etc/greeting""#),
        key("machine", r#"machine = "power-cut""#),
        key("status", r#"status = 0"#),
        key("stop", r#"stop = true"#),
        key("timeout", r#"timeout = "5s""#),
    ],
};

/// An entry of `filters` that is a table.
pub(super) static FILTER: Section = Section {
    manifest: Manifest::Case,
    title: "an entry of `filters`",
    keys: &[key("regex", r#"regex = "pid [0-9]+""#), key("to", r#"to = "pid N""#)],
};

/// `[variant.NAME]`.
pub(super) static VARIANT: Section = Section {
    manifest: Manifest::Case,
    title: "[variant.NAME]",
    keys: &[
        key("kernels", r#"kernels = ["uml-5.*"]"#),
        key("reason", r#"reason = "5.x prints the size in sectors""#),
    ],
};

/// `[[twin]]`.
pub(super) static TWIN: Section = Section {
    manifest: Manifest::Case,
    title: "[[twin]]",
    keys: &[
        key("with", r#"with = { kernel = "uml-5.10" }"#),
        key("must", r#"must = "fail:output""#),
    ],
};

/// `with` of a twin.
pub(super) static CHANGE: Section = Section {
    manifest: Manifest::Case,
    title: "`with` of a [[twin]]",
    keys: &[
        key("kernel", r#"kernel = "uml-5.10""#),
        key("params", r#"params = { cluster = "1k" }"#),
        key("config", r#"config = ["DEBUG_VM=y"]"#),
        key("patches", r#"patches = ["break-hostfs"]"#),
        key("files", r#"files = { "greeting" = "twin/greeting" }"#),
    ],
};

/// Every section of every manifest.
pub(super) static SECTIONS: [&Section; 20] = [
    &LAB,
    &RUNS,
    &CACHE,
    &DEBIAN,
    &KERNEL,
    &MODULE,
    &KNOWN,
    &MATRIX,
    &IMAGE,
    &IMAGE_FILE,
    &CASE,
    &NEEDS,
    &MACHINE,
    &DISK,
    &SHARE,
    &STEP,
    &FILTER,
    &VARIANT,
    &TWIN,
    &CHANGE,
];

impl Section {
    /// The entry of a key.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// What a person probably meant by an unknown key here, and where it belongs.
    pub(super) fn suggest(&self, unknown: &str) -> String {
        let known = self.keys.iter().map(|key| key.name);
        let elsewhere: Vec<&str> = SECTIONS
            .iter()
            .filter(|other| other.manifest == self.manifest && other.key(unknown).is_some())
            .map(|other| other.title)
            .collect();
        if !elsewhere.is_empty() {
            let top = |title: &&str| ["case.toml", "lab.toml", "an image"].contains(title);
            let place = |title: &&str| match top(title) {
                true => "at the top of the file, before the first [section]".into(),
                false => format!("in {title}"),
            };
            let places = elsewhere.iter().map(place).collect::<Vec<String>>().join(" or ");
            return format!("`{unknown}` belongs {places}");
        }
        match nearest(unknown, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_examples_are_of_their_key() {
        for section in SECTIONS {
            for (i, key) in section.keys.iter().enumerate() {
                assert!(section.keys[..i].iter().all(|other| other.name != key.name));
                let start = key.example.trim_start_matches('[');
                assert!(start.starts_with(key.name), "{} of {}", key.name, section.title);
                toml::de::DeTable::parse(key.example).expect(key.example);
            }
        }
    }

    #[test]
    fn suggestions_name_the_nearest_key_or_the_right_section() {
        assert_eq!(MACHINE.suggest("memmory"), "did you mean `memory`?");
        let top = STEP.suggest("filters");
        assert_eq!(top, "`filters` belongs at the top of the file, before the first [section]");
        assert_eq!(CASE.suggest("timeout"), "`timeout` belongs in [machine] or in [[step]]");
        assert_eq!(DISK.suggest("colour"), "known here: name, size");
    }
}
