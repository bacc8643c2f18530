//! What a person or a program sees: reporters that consume the one stream of typed [`Event`]s.
//! Nothing else consumes it, and nothing here decides anything.

mod event;
mod json;
mod live;
mod plain;
mod terminal;
pub mod text;

pub use event::{
    Event, Hint, PendingNote, ReasonLine, RunRef, RunResult, Sink, Stream, Tally, What,
};
pub use json::Json;
pub use terminal::{Reporter, Style};
