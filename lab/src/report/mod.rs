//! What a person or a program sees: reporters that consume the one stream of typed [`Event`]s.
//! Nothing else consumes it, and nothing here decides anything.

mod event;
mod live;
mod patch;
mod reporter;
pub mod text;

pub use event::{
    Event, Hint, PendingNote, ReasonLine, RunRef, RunResult, Sink, Stream, Tally, What,
};
pub use patch::{PatchRef, PatchResult};
pub use reporter::{Format, Reporter};

/// The name that a one-off command (`lab run -- CMD`) has in place of a case's.
pub const COMMAND: &str = "command";
