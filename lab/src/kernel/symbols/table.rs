//! The functions of an ELF file by name, and whether one of them is what the kernel printed: names
//! are not unique, but with the size that kallsyms gives a function few are mistaken.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use object::read::elf::ElfFile64;
use object::{
    LittleEndian, Object, ObjectSection, ObjectSymbol, SectionFlags, SectionIndex, SymbolKind, elf,
};

use crate::console::Frame;

/// Beginnings of names that scripts/kallsyms.c leaves out, so that they end no function.
const LEFT_OUT: [&str; 9] =
    ["$", ".L", "L0", "__pfx_", "__cfi_", "__crc_", "__pi_", "__efistub_", "__kvm_nvhe_"];

/// A symbol in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Symbol {
    address: u64,
    /// As the ELF file has it.
    size: u64,
}

/// The symbols in the code of a file.
#[derive(Debug, Default)]
pub(super) struct Table {
    named: HashMap<Box<[u8]>, Vec<Symbol>>,
    /// Where symbols are: all, and those that kallsyms lists.
    all: BTreeSet<u64>,
    listed: BTreeSet<u64>,
    /// Where sections with code begin, and where they end.
    sections: BTreeMap<u64, u64>,
    /// It is linked: addresses are those of the running kernel, and no section is loaded elsewhere.
    linked: bool,
}

impl Table {
    /// Reads the symbol table; `bases` are added to a module's addresses.
    pub fn of(elf: &ElfFile64<'_, LittleEndian>, bases: &HashMap<SectionIndex, u64>) -> Self {
        let mut table = Self { linked: bases.is_empty(), ..Self::default() };
        let mut code = HashMap::new();
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            if sh_flags.contains(elf::SHF_EXECINSTR) {
                let base = bases.get(&section.index()).copied().unwrap_or(0);
                let start = base + section.address();
                table.sections.insert(start, start.saturating_add(section.size()));
                code.insert(section.index(), base);
            }
        }
        for symbol in elf.symbols() {
            let Some(base) = symbol.section_index().and_then(|index| code.get(&index)) else {
                continue;
            };
            let Ok(name) = symbol.name_bytes() else { continue };
            if name.is_empty() || matches!(symbol.kind(), SymbolKind::Section | SymbolKind::File) {
                continue;
            }
            let address = base.saturating_add(symbol.address());
            table.all.insert(address);
            if !LEFT_OUT.iter().any(|start| name.starts_with(start.as_bytes())) {
                table.listed.insert(address);
            }
            let of_name = table.named.entry(name.into()).or_default();
            let symbol = Symbol { address, size: symbol.size() };
            if !of_name.contains(&symbol) {
                of_name.push(symbol);
            }
        }
        table
    }

    /// The address of a frame; `None` unless it can be of one function only.
    pub fn address(&self, frame: &Frame<'_>) -> Option<u64> {
        // A call that never returns may end a function: it returns to just behind it.
        let inside = frame.offset < frame.size || (frame.offset == frame.size && !frame.exact);
        if !inside || (frame.offset == 0 && !frame.exact) {
            return None;
        }
        let of_name = self.named.get(frame.function.as_bytes())?;
        let mut fitting = of_name.iter().filter(|symbol| self.fits(symbol, frame));
        let symbol = fitting.next().filter(|_| fitting.next().is_none())?;
        symbol.address.checked_add(frame.offset)
    }

    /// The address of a name that there is once.
    pub fn only(&self, name: &str) -> Option<u64> {
        match self.named.get(name.as_bytes())?.as_slice() {
            [symbol] => Some(symbol.address),
            _ => None,
        }
    }

    /// Whether the kernel may have printed `frame` for `symbol`. To kallsyms a function goes to the
    /// next symbol, padding included (get_symbol_pos of kernel/kallsyms.c, find_kallsyms_symbol of
    /// kernel/module).
    fn fits(&self, symbol: &Symbol, frame: &Frame<'_>) -> bool {
        let start = symbol.address;
        if self.linked
            && let Some(printed) = frame.address
            && is_fixed(start)
        {
            return start.checked_add(frame.offset) == Some(printed);
        }
        let end = self.sections.range(..=start).next_back().map_or(start, |(_, end)| *end);
        let behind = |symbols: &BTreeSet<u64>| symbols.range(start + 1..).next().copied();
        let next = [behind(&self.all), behind(&self.listed)];
        if next.iter().flatten().any(|next| next - start == frame.size) {
            return true;
        }
        // The last of a module's section: behind it is what the kernel loaded there.
        let last = !self.linked && next[0].is_none_or(|next| next >= end);
        last && symbol.size > 0 && symbol.size <= frame.size && frame.offset <= symbol.size
    }
}

/// User-Mode Linux runs where it was linked, in the lower half; others may be moved (KASLR).
fn is_fixed(address: u64) -> bool {
    address >> 63 == 0
}
