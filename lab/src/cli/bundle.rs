//! `lab runs bundle`: a run in one archive.

use std::path::{Path, PathBuf};

use super::doctor;
use super::edge;
use super::environment::{Cancel, Context, home};
use super::runs::find;
use crate::bundle::{Bundle, Compression};
use crate::kernel::PullError;
use crate::manifest::Result;
use crate::report::text;

/// Writes the archive of the run that `name` means, to `out` or into the current folder.
///
/// # Errors
/// See [`Bundle::write`].
pub fn bundle(
    context: &Context,
    name: Option<&str>,
    out: Option<&Path>,
    with_kernel: bool,
) -> Result<u8> {
    let run = find(context, name)?;
    let out: PathBuf = match out {
        Some(out) => out.to_path_buf(),
        None => format!("{}{}", run.id, Compression::best_ending()).into(),
    };
    let compression = Compression::of_name(&out.to_string_lossy())?;
    let cancel = Cancel::install()?;
    let kernels = context.kernels()?;
    let home = home();
    let bundle = Bundle {
        project: &context.project,
        run: &run,
        kernels: &kernels,
        cache: &context.dirs.cache,
        runtime: &context.dirs.runtime,
        home: home.as_deref(),
        host: doctor::host(context)?,
        with_kernel,
    };
    match bundle.write(&out, compression, &cancel.flag) {
        Ok(written) => {
            edge::print(&format!("{}: {}\n", out.display(), text::size(written.bytes)));
            written.notes.iter().for_each(|note| edge::aside(&format!("note: {note}")));
            Ok(0)
        }
        Err(PullError::Interrupted) => Ok(130),
        Err(error) => Err(error.into_diagnostic()),
    }
}
