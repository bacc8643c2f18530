//! From an address to file and line, with the functions that were inlined there.

use std::path::{Component, Path, PathBuf};

use addr2line::Context;
use addr2line::gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};

use super::image::Image;

/// More functions inlined into one another are not shown; the innermost are.
const MOST_INLINED: usize = 8;

/// The lines of an image.
pub(super) struct Lines<'a> {
    context: Context<EndianSlice<'a, LittleEndian>>,
}

impl<'a> Lines<'a> {
    /// Reads the units' headers; `None` where the debug information is broken.
    pub fn of(image: &'a Image) -> Option<Self> {
        let load = |id: SectionId| -> Result<_, addr2line::gimli::Error> {
            Ok(EndianSlice::new(image.debug_section(id.name()), LittleEndian))
        };
        let context = Context::from_dwarf(Dwarf::load(load).ok()?).ok()?;
        Some(Self { context })
    }

    /// The place of an address, `fs/a.c:1`, or `fs/b.h:2 helper, inlined at fs/a.c:1`; files below
    /// one of `roots` without it.
    pub fn at(&self, address: u64, roots: &[String]) -> Option<String> {
        let mut frames = self.context.find_frames(address).skip_all_loads().ok()?;
        let mut places = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let place = frame.location.as_ref().and_then(|l| Some((l.file?, l.line?)));
            // Line 0: the compiler does not know either.
            let Some((file, line)) = place.filter(|(_, line)| *line > 0) else { break };
            let name = frame.function.and_then(|f| Some(f.raw_name().ok()?.into_owned()));
            places.push((format!("{}:{line}", shorten(file, roots)), name));
            if places.len() == MOST_INLINED {
                break;
            }
        }
        let mut places = places.into_iter();
        let (mut text, mut inner) = places.next()?;
        for (place, name) in places {
            let helper = inner.map(|name| format!(" {name}")).unwrap_or_default();
            text = format!("{text}{helper}, inlined at {place}");
            inner = name;
        }
        Some(text)
    }

    /// The file of an address, whole.
    pub fn file(&self, address: u64) -> Option<String> {
        let location = self.context.find_location(address).ok()??;
        Some(normal(location.file?))
    }
}

fn shorten(file: &str, roots: &[String]) -> String {
    let file = normal(file);
    match roots.iter().find_map(|root| file.strip_prefix(root.as_str())) {
        Some(below) => below.to_string(),
        None => file,
    }
}

/// Without `.` and `..`, which a build with O= has in it.
fn normal(file: &str) -> String {
    let mut whole = PathBuf::new();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir if whole.file_name().is_some() => {
                whole.pop();
            }
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole.to_string_lossy().into_owned()
}
