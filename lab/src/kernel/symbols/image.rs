//! An ELF file with debug information: mapped, not read, because a vmlinux has half a gigabyte of
//! it; and a module, which is not linked, laid out and relocated as far as its debug information goes.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use object::read::elf::ElfFile64;
use object::{
    CompressionFormat, LittleEndian, Object, ObjectKind, ObjectSection, ObjectSymbol,
    RelocationKind, RelocationTarget, SectionFlags, SectionIndex, elf,
};

use super::table::Table;

/// A module's debug information is relocated in memory: not more of it than this.
const MOST_RELOCATED: u64 = 256 << 20;

/// Between the sections of a module, so that an address past the end of one is not in the next.
const GAP: u64 = 1 << 16;

/// An ELF file with debug information.
pub(super) struct Image {
    map: Mmap,
    table: Table,
    /// Of a module: its sections of debug information, relocated.
    relocated: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// `None` where it has no debug information, or none that is understood.
    pub fn open(file: &Path) -> Option<Self> {
        let file = File::open(file).ok()?;
        // SAFETY: nobody may shorten the file while it is mapped. The store's files never change;
        // ld makes a new file in a tree that is built meanwhile, and a module tree is ours. Its
        // bytes may change: then a parser that expects any bytes finds nothing.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let (table, relocated) = {
            let elf = ElfFile64::<LittleEndian>::parse(&*map).ok()?;
            elf.section_by_name(".debug_info")?;
            // Compressed ones (DEBUG_INFO_COMPRESSED) are not expanded: a gigabyte of memory.
            let mut debug = elf.sections().filter(|s| s.name().is_ok_and(is_debug));
            let plain = CompressionFormat::None;
            if !debug.all(|s| s.compressed_file_range().is_ok_and(|range| range.format == plain)) {
                return None;
            }
            let bases = match elf.kind() {
                ObjectKind::Relocatable => layout(&elf),
                _ => HashMap::new(),
            };
            let relocated = match bases.is_empty() {
                true => BTreeMap::new(),
                false => relocate(&elf, &bases)?,
            };
            (Table::of(&elf, &bases), relocated)
        };
        Some(Self { map, table, relocated })
    }

    /// Its functions.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// A section of debug information; empty where there is none.
    pub fn debug_section(&self, name: &str) -> &[u8] {
        if let Some(bytes) = self.relocated.get(name) {
            return bytes;
        }
        let find = || self.elf()?.section_by_name(name)?.data().ok();
        find().unwrap_or_default()
    }

    /// The text in a variable, up to its NUL.
    pub fn text_of(&self, variable: &str) -> Option<String> {
        let elf = self.elf()?;
        let symbol = elf.symbol_by_name(variable)?;
        let section = elf.section_by_index(symbol.section_index()?).ok()?;
        let bytes = section.data_range(symbol.address(), symbol.size()).ok()??;
        let text = bytes.split(|b| *b == 0).next()?;
        String::from_utf8(text.to_vec()).ok()
    }

    fn elf(&self) -> Option<ElfFile64<'_, LittleEndian>> {
        ElfFile64::parse(&*self.map).ok()
    }
}

fn is_debug(section: &str) -> bool {
    section.starts_with(".debug_")
}

/// An address for each section that is loaded: in an unlinked file all begin at 0.
fn layout(elf: &ElfFile64<'_, LittleEndian>) -> HashMap<SectionIndex, u64> {
    let mut next = GAP;
    let mut bases = HashMap::new();
    for section in elf.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        if sh_flags.contains(elf::SHF_ALLOC) {
            bases.insert(section.index(), next);
            next += section.size().next_multiple_of(GAP) + GAP;
        }
    }
    bases
}

/// The sections of debug information with the addresses of `bases` in them.
fn relocate(
    elf: &ElfFile64<'_, LittleEndian>,
    bases: &HashMap<SectionIndex, u64>,
) -> Option<BTreeMap<String, Vec<u8>>> {
    let base = |index: SectionIndex| bases.get(&index).copied().unwrap_or(0);
    let mut relocated = BTreeMap::new();
    let mut sum = 0;
    for section in elf.sections() {
        let Ok(name) = section.name() else { continue };
        if !is_debug(name) {
            continue;
        }
        sum += section.size();
        if sum > MOST_RELOCATED {
            return None;
        }
        let mut bytes = section.data().ok()?.to_vec();
        for (offset, relocation) in section.relocations() {
            if relocation.kind() != RelocationKind::Absolute {
                continue;
            }
            let value = match relocation.target() {
                RelocationTarget::Symbol(index) => {
                    let symbol = elf.symbol_by_index(index).ok()?;
                    let Some(section) = symbol.section_index() else { continue };
                    base(section).checked_add(symbol.address())?
                }
                RelocationTarget::Section(index) => base(index),
                _ => continue,
            };
            let value = value.wrapping_add_signed(relocation.addend());
            let width = usize::from(relocation.size()) / 8;
            let at = usize::try_from(offset).ok()?;
            let place = bytes.get_mut(at..at.checked_add(width)?)?;
            place.copy_from_slice(value.to_le_bytes().get(..width)?);
        }
        relocated.insert(name.to_string(), bytes);
    }
    Some(relocated)
}
