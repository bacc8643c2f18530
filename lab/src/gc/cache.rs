//! The cache, which all projects of a user share: images, kernels and what they are made from, and
//! what killed labs left half-made.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use super::plan::{Aged, Why, unused};
use super::{Thing, Waste};
use crate::image;
use crate::kernel::{KernelSpec, Kernels};
use crate::manifest::Result;

/// Images that nobody used for so long. No manifest names an image's contents: what a case wants is
/// put together again in a moment.
///
/// # Errors
/// The cache cannot be read.
pub fn unused_images(cache: &Path, unused_for: Duration, now: SystemTime) -> Result<Vec<Waste>> {
    let images = image::stored(cache)?;
    let aged =
        |image: &image::StoredImage| Aged { at: image.used, held: image.in_use, wanted: false };
    let fates = unused(&images.iter().map(aged).collect::<Vec<_>>(), unused_for, false, now);
    let waste = images.into_iter().zip(fates).filter_map(|(image, why)| {
        let what = image.digest.get(..12).unwrap_or(&image.digest).to_string();
        Some(Waste { thing: Thing::Image(cache.to_path_buf(), image.digest), what, why: why? })
    });
    Ok(waste.collect())
}

/// Kernels, source trees, build folders and what lies there for the user's own kernels, as far as
/// nobody used it for so long and no kernel of `specs` is made from it; with `all`, also these.
///
/// # Errors
/// The cache cannot be read.
pub fn kernels<'a>(
    kernels: &Kernels,
    specs: impl IntoIterator<Item = &'a KernelSpec>,
    (unused_for, all): (Duration, bool),
    now: SystemTime,
    cancel: &AtomicBool,
) -> Result<Vec<Waste>> {
    let stored = kernels.stored(specs, cancel)?;
    let aged = |part: &crate::kernel::Stored| Aged {
        at: part.used,
        held: part.in_use,
        wanted: part.wanted,
    };
    let fates = unused(&stored.iter().map(aged).collect::<Vec<_>>(), unused_for, all, now);
    let waste = stored.into_iter().zip(fates).filter_map(|(stored, why)| {
        let thing = Thing::Kernel(Box::new(kernels.clone()), stored.part);
        Some(Waste { thing, what: stored.what, why: why? })
    });
    Ok(waste.collect())
}

/// Folders that killed labs were making.
///
/// # Errors
/// The cache cannot be read.
pub fn left_in_cache(kernels: &Kernels, cache: &Path) -> Result<Vec<Waste>> {
    let mut found = kernels.abandoned()?;
    found.extend(image::abandoned(cache)?);
    let waste = found.into_iter().map(|path| Waste {
        what: path.display().to_string(),
        thing: Thing::Temporary(Box::new(kernels.clone()), path),
        why: Why::LeftBehind,
    });
    Ok(waste.collect())
}
