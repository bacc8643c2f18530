//! A program stands for the kernel: it prints its own call sites as the kernel prints frames, so that
//! what is expected comes from the processor and the compiler, not from the code under test.

use std::collections::BTreeMap;
use std::process::Command;

use super::*;

/// The kernel's and the module's source. `HERE(f)` prints where it returns to in `f`, and its line.
const SOURCE: [(&str, &str); 5] = [
    (
        "include/here.h",
        "__attribute__((noinline)) void here(const void *f, const char *name, int line);\n\
         #define HERE(f) here((const void *)(f), #f, __LINE__)\n\
         extern volatile int x;\n\
         static inline __attribute__((always_inline)) void helper(const void *f) {\n\
             x++; here(f, \"outer\", __LINE__);\n\
         }\n",
    ),
    (
        "init/main.c",
        "#include <stdio.h>\n#include \"../include/here.h\"\n\
         const char linux_banner[] = \"Linux version 6.1.0-test (lab@lab) #1\\n\";\n\
         volatile int x;\n\
         __attribute__((noinline)) void here(const void *f, const char *name, int line) {\n\
             long offset = (char *)__builtin_return_address(0) - (char *)f;\n\
             printf(\"%s 0x%lx %d\\n\", name, offset, line);\n\
         }\n\
         void a(void); void b(void); void of_module(void);\n\
         void start_kernel(void) {\n    HERE(start_kernel);\n    x++;\n}\n\
         int main(void) { start_kernel(); a(); b(); of_module(); return 0; }\n",
    ),
    (
        "fs/a.c",
        "#include \"../include/here.h\"\n\
         static __attribute__((noinline)) void same(void) {\n\
             HERE(same);\n    x *= 3; x += 7; x *= x; x += x; x *= 5; x -= 9; x *= x; x += x;\n}\n\
         static __attribute__((noinline)) void twin(void) {\n    HERE(twin);\n    x++;\n}\n\
         __attribute__((noinline)) void outer(void) {\n    x++;\n    helper(outer);\n    x++;\n}\n\
         void a(void) {\n    same();\n    twin();\n    outer();\n}\n",
    ),
    (
        "fs/b.c",
        "#include \"../include/here.h\"\n\n\n\n\
         static __attribute__((noinline)) void same(void) {\n    HERE(same);\n    x++;\n}\n\
         static __attribute__((noinline)) void twin(void) {\n    HERE(twin);\n    x++;\n}\n\
         void b(void) {\n    same();\n    twin();\n    HERE(b); x++;\n}\n",
    ),
    (
        "drivers/my-mod.c",
        "#include \"../include/here.h\"\n\
         __attribute__((noinline, section(\".init.text\"))) void of_init(void) {\n\
             HERE(of_init);\n    x++;\n}\n\
         __attribute__((noinline)) void of_module(void) {\n    HERE(of_module);\n    of_init();\n}\n",
    ),
];

/// The first line of its log.
pub(crate) const LOG: &str = "[    0.000000] Linux version 6.1.0-test (lab@lab) #1\n";

/// A program with debug information, and what it printed.
pub(crate) struct Program {
    pub folder: tempfile::TempDir,
    /// Function, offset of the return, line.
    said: Vec<(String, String, String)>,
    /// Sizes as kallsyms has them, by function.
    sizes: BTreeMap<String, Vec<u64>>,
}

/// `None` on a host without compiler.
pub(crate) fn program() -> Option<Program> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for (name, text) in SOURCE {
        std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        std::fs::write(root.join(name), text).unwrap();
    }
    std::fs::create_dir_all(root.join("out/modules/kernel")).unwrap();
    // As kbuild does with O=: from another folder, and with `..` in the names.
    let cc = |arguments: &[&str]| {
        let mut cc = Command::new("cc");
        cc.current_dir(root.join("out")).args(["-g", "-O2", "-fno-pie", "-falign-functions=16"]);
        match cc.args(arguments).status() {
            Ok(status) => Some(status.success()),
            Err(_) => {
                eprintln!("this host has no cc");
                None
            }
        }
    };
    let module = "modules/kernel/my-mod.ko";
    assert!(cc(&["-c", "-o", module, "../drivers/my-mod.c"])?);
    let files = ["../init/main.c", "../fs/a.c", "../fs/b.c"];
    let link = ["-no-pie", "-fno-optimize-sibling-calls", "-o", "vmlinux"];
    assert!(cc(&[&link[..], &files, &["-x", "none", "./modules/kernel/my-mod.ko"]].concat())?);
    let text = |program: &str, arguments: &[&str]| {
        let out = Command::new(program).args(arguments).current_dir(root.join("out")).output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    let said = text("./vmlinux", &[]);
    let said = said.lines().map(|line| {
        let [name, offset, line] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        (name.to_string(), offset.to_string(), line.to_string())
    });
    let said = said.collect();
    let mut sizes = BTreeMap::<_, Vec<_>>::new();
    for file in ["vmlinux", module] {
        let symbols = text("nm", &["-n", file]);
        let symbols: Vec<(u64, &str)> = symbols
            .lines()
            .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
                [address, "t" | "T", name] => Some((u64::from_str_radix(address, 16).ok()?, name)),
                _ => None,
            })
            .collect();
        for (address, name) in &symbols {
            // The last of a module's section: the kernel counts to what it loaded behind it.
            let next = symbols.iter().find(|(next, _)| next > address);
            let size = next.map_or(0x1000, |(next, _)| next - address);
            sizes.entry((*name).to_string()).or_default().push(size);
        }
    }
    Some(Program { folder, said, sizes })
}

impl Program {
    pub fn vmlinux(&self) -> PathBuf {
        self.folder.path().join("out/vmlinux")
    }

    pub fn symbols(&self, boots: bool) -> Symbols {
        let modules = self.folder.path().join("out/modules");
        Symbols { kernel: vec![self.vmlinux()], boots, modules: Some(modules) }
    }

    /// The nth call in `function`, as a frame; its size is that of the nth function of the name.
    pub fn frame(&self, function: &str, nth: usize) -> String {
        let (_, offset, _) = self.said.iter().filter(|said| said.0 == function).nth(nth).unwrap();
        format!("{function}+{offset}/{:#x}", self.sizes[function][nth])
    }

    fn locate(&self, line: &str) -> Option<String> {
        let frame = Frame::parse(line).unwrap_or_else(|| panic!("no frame: {line}"));
        self.symbols(false).locate(&[frame], LOG).remove(0)
    }

    fn host(&self, program: &str, arguments: &[&str]) {
        let done = Command::new(program).args(arguments).arg(self.vmlinux()).status().unwrap();
        assert!(done.success());
    }
}

#[test]
fn lines_are_those_of_the_calls() {
    let Some(program) = program() else { return };
    let at = |function, nth| program.locate(&program.frame(function, nth));
    let line = |function: &str, nth| {
        let (_, _, line) = program.said.iter().filter(|said| said.0 == function).nth(nth).unwrap();
        line.clone()
    };
    assert_eq!(at("start_kernel", 0).unwrap(), format!("init/main.c:{}", line("start_kernel", 0)));
    assert_eq!(at("b", 0).unwrap(), format!("fs/b.c:{}", line("b", 0)));
    let inlined = format!("include/here.h:{} helper, inlined at fs/a.c:", line("outer", 0));
    assert!(at("outer", 0).unwrap().starts_with(&inlined), "{:?}", at("outer", 0));
    // Where it returns to is the next line, and that is what a fault there is shown with.
    let fault = format!("RIP: 0010:{}", program.frame("start_kernel", 0));
    let after = format!("init/main.c:{}", line("start_kernel", 0).parse::<u32>().unwrap() + 1);
    assert_eq!(program.locate(&fault).unwrap(), after);
}

#[test]
fn of_two_functions_of_a_name_the_size_tells() {
    let Some(program) = program() else { return };
    assert_ne!(program.sizes["same"][0], program.sizes["same"][1]);
    let same = |nth| program.locate(&program.frame("same", nth)).unwrap();
    assert!(same(0).starts_with("fs/a.c:") && same(1).starts_with("fs/b.c:"));
    // Both fit: no line is better than that of the other one.
    assert_eq!(program.sizes["twin"][0], program.sizes["twin"][1]);
    assert_eq!(program.locate(&program.frame("twin", 0)), None);
    // User-Mode Linux prints the address too, and that tells.
    let symbols = Command::new("nm").arg(program.vmlinux()).output().unwrap().stdout;
    let symbols = String::from_utf8(symbols).unwrap();
    let addresses = symbols.lines().filter(|line| line.ends_with(" t twin"));
    let mut places: Vec<_> = addresses
        .map(|line| {
            let start = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
            let frame = program.frame("twin", 0);
            let offset = Frame::parse(&frame).unwrap().offset;
            let place = program.locate(&format!("[<{:x}>] ? {frame}", start + offset)).unwrap();
            place.split(':').next().unwrap().to_string()
        })
        .collect();
    places.sort();
    assert_eq!(places, ["fs/a.c", "fs/b.c"]);
}

#[test]
fn a_module_has_its_own() {
    let Some(program) = program() else { return };
    for (function, line) in [("of_init", 3), ("of_module", 7)] {
        let frame = program.frame(function, 0);
        let place = format!("drivers/my-mod.c:{line}");
        assert_eq!(program.locate(&format!("{frame} [my_mod]")), Some(place), "{frame}");
        assert_eq!(program.locate(&format!("{frame} [other]")), None);
    }
    // The kernel's functions are none of the module's.
    assert_eq!(program.locate(&format!("{} [my_mod]", program.frame("b", 0))), None);
    let modules = program.folder.path().join("out/modules");
    std::fs::create_dir(modules.join("updates")).unwrap();
    std::fs::copy(modules.join("kernel/my-mod.ko"), modules.join("updates/my_mod.ko")).unwrap();
    let frame = format!("{} [my_mod]", program.frame("of_module", 0));
    assert_eq!(program.locate(&frame), None, "nobody knows which of the two was loaded");
}

#[test]
fn what_is_not_sure_has_no_line() {
    let Some(program) = program() else { return };
    let frame = program.frame("b", 0);
    assert!(program.locate(&frame).is_some());
    // Of another build: another size, beyond the end, a name that is not there.
    let size = program.sizes["b"][0];
    for wrong in [
        format!("b+0x1/{:#x}", size + 16),
        format!("b+{:#x}/{size:#x}", size + 1),
        format!("RIP: 0010:b+{size:#x}/{size:#x}"),
        format!("b+0x0/{size:#x}"),
        "nothing+0x1/0x2".to_string(),
        format!("[<1234>] ? {frame}"),
    ] {
        assert_eq!(program.locate(&wrong), None, "{wrong}");
    }
    let found = |boots, log: &str| {
        program.symbols(boots).locate(&[Frame::parse(&frame).unwrap()], log).remove(0).is_some()
    };
    let other = LOG.replace("#1", "#2");
    assert!(found(false, LOG) && found(true, LOG) && found(true, ""));
    assert!(!found(false, "") && !found(false, &other) && !found(true, &other));
}

#[test]
fn what_has_no_debug_information_has_no_lines() {
    let Some(program) = program() else { return };
    let frame = program.frame("b", 0);
    assert!(program.locate(&frame).is_some());
    program.host("objcopy", &["--compress-debug-sections"]);
    assert_eq!(program.locate(&frame), None, "compressed");
    program.host("objcopy", &["--decompress-debug-sections"]);
    assert!(program.locate(&frame).is_some());
    program.host("strip", &["--strip-debug"]);
    assert_eq!(program.locate(&frame), None, "stripped");
    std::fs::write(program.vmlinux(), "").unwrap();
    assert_eq!(program.locate(&frame), None, "empty");
}

#[test]
fn broken_debug_information_has_no_lines_and_no_panic() {
    let Some(program) = program() else { return };
    let whole = std::fs::read(program.vmlinux()).unwrap();
    let frame = program.frame("b", 0);
    let place = program.locate(&frame);
    for seed in 0..200_usize {
        let mut bytes = whole.clone();
        for n in 0..8 {
            let at = (seed * 7919 + n * 104_729) % bytes.len();
            bytes[at] ^= 1 << (seed % 8);
        }
        bytes.truncate(whole.len() - (seed * 131) % (whole.len() / 2));
        std::fs::write(program.vmlinux(), bytes).unwrap();
        program.locate(&frame);
    }
    std::fs::write(program.vmlinux(), whole).unwrap();
    assert_eq!(program.locate(&frame), place);
}
