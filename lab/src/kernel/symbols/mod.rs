//! File and line of a splat's frames, from the debug information of the kernel and its modules: only
//! where it is surely that of the kernel that ran, and of exactly that function. No line is better
//! than a wrong one.

mod image;
mod lines;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::Image;
use lines::Lines;

use super::modinfo::files_below;
use super::{Arch, Kernel};
use crate::console::Frame;

/// No frame is looked up that much later than the first one: docs/architecture.md says what it takes.
const LONGEST: Duration = Duration::from_secs(10);

/// In the store, beside a bzImage with debug information.
pub(super) const VMLINUX: &str = "vmlinux";

/// What a kernel calls itself in the first line of its log, and in `linux_banner` of its ELF file.
const BANNER: &str = "Linux version ";

/// Where debug information may be. Nothing is opened before there is a frame to look up.
#[derive(Clone, Debug)]
pub struct Symbols {
    /// ELF files of the kernel itself; the first that is the kernel that ran counts.
    kernel: Vec<PathBuf>,
    /// One of them is what booted: it need not prove what it is.
    boots: bool,
    /// The module tree that the guest loads from.
    modules: Option<PathBuf>,
}

impl Kernel {
    /// Where the debug information of this kernel may be.
    pub fn symbols(&self) -> Symbols {
        let boots = self.arch == Arch::Um;
        let kernel = match boots {
            true => vec![self.boot.clone()],
            false => beside(&self.boot, &self.release),
        };
        Symbols { kernel, boots, modules: self.modules.clone() }
    }
}

/// Where the ELF file of a bzImage may be: in the store beside it, in the tree that it was built in,
/// and where Debian and Fedora install it.
fn beside(boot: &Path, release: &str) -> Vec<PathBuf> {
    let tree = boot.ancestors().nth(4).filter(|_| boot.ends_with("arch/x86/boot/bzImage"));
    let named = format!("{VMLINUX}-{release}");
    let mut places = vec![boot.with_file_name(VMLINUX), boot.with_file_name(&named)];
    places.extend(tree.map(|tree| tree.join(VMLINUX)));
    places.push(Path::new("/usr/lib/debug/boot").join(&named));
    places.push(Path::new("/usr/lib/debug/lib/modules").join(release).join(VMLINUX));
    places
}

impl Symbols {
    /// Where each frame is in the source, `fs/inode.c:12`; `None` where that is not known for sure.
    /// `log` is the kernel's: its first line says which kernel ran. Errors are answers too: what
    /// cannot be read has no lines.
    pub fn locate(&self, frames: &[Frame<'_>], log: &str) -> Vec<Option<String>> {
        let started = Instant::now();
        let mut found = vec![None; frames.len()];
        let mut of_module: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (at, frame) in frames.iter().enumerate().filter(|(_, frame)| !frame.is_pointer()) {
            of_module.entry(frame.module).or_default().push(at);
        }
        if of_module.is_empty() {
            return found;
        }
        let files = match of_module.keys().any(Option::is_some) {
            true => self.modules.as_deref().and_then(|f| files_below(f).ok()).unwrap_or_default(),
            false => Vec::new(),
        };
        // A module of the tree was compiled from the same source: the same prefixes.
        let kernel = self.kernel.iter().find_map(|file| self.open(file, log));
        let kernel = kernel.as_ref().and_then(|image| Some((image, Lines::of(image)?)));
        let roots = kernel.as_ref().map(|(image, lines)| source_roots(image, lines));
        let roots = roots.unwrap_or_default();
        for (module, places) in of_module {
            let mut look = |image: &Image, lines: &Lines<'_>| {
                for at in places.iter().copied().take_while(|_| started.elapsed() < LONGEST) {
                    // Behind a call that is the last of its line comes the next line.
                    let back = u64::from(!frames[at].exact);
                    let address = image.table().address(&frames[at]);
                    found[at] = address.and_then(|a| lines.at(a - back, &roots));
                }
            };
            match module {
                None => kernel.iter().for_each(|(image, lines)| look(image, lines)),
                Some(name) => {
                    let image = module_file(&files, name).and_then(Image::open);
                    if let Some(image) = &image
                        && let Some(lines) = Lines::of(image)
                    {
                        look(image, &lines);
                    }
                }
            }
        }
        found
    }

    fn open(&self, file: &Path, log: &str) -> Option<Image> {
        let image = Image::open(file)?;
        let ran = log.lines().find_map(|line| Some(&line[line.find(BANNER)?..]));
        let same = match (ran, image.text_of("linux_banner")) {
            (Some(ran), Some(is)) => ran.trim_end() == is.trim_end(),
            // It booted; and a log without its first line is no reason to doubt that.
            _ => self.boots,
        };
        same.then_some(image)
    }
}

/// The kernel's source as the compiler and the assembler knew it, which may differ: what stands
/// before the names of files that every kernel has.
fn source_roots(image: &Image, lines: &Lines<'_>) -> Vec<String> {
    const KNOWN: [(&str, &str); 2] =
        [("start_kernel", "init/main.c"), ("startup_64", "arch/x86/kernel/head_64.S")];
    let root = |(function, name): (&str, &str)| {
        let file = lines.file(image.table().only(function)?)?;
        Some(file.strip_suffix(name)?.to_string())
    };
    // A name that is already relative has none before it.
    KNOWN.into_iter().filter_map(root).filter(|root| root.ends_with('/')).collect()
}

/// The file of a loaded module: its name has `_` where the file's may have `-`.
fn module_file<'a>(files: &'a [PathBuf], module: &str) -> Option<&'a Path> {
    let is = |file: &&PathBuf| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        file.extension().is_some_and(|e| e == "ko") && stem.replace('-', "_") == module
    };
    let mut found = files.iter().filter(is);
    // Of two of one name the guest took one, and nobody knows which.
    found.next().filter(|_| found.next().is_none()).map(PathBuf::as_path)
}
