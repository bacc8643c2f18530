//! Where text leaves the program: errors become one paragraph with the manifest's line drawn, and
//! a reader that went away (`lab list | head`) is no error.

use std::io::Write;
use std::process::ExitCode;

use miette::{GraphicalReportHandler, LabeledSpan, NamedSource, SourceCode};

use crate::manifest::{Diagnostic, Fault};

/// Writes to standard output; colours are stripped where they are not wanted.
pub fn print(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to standard error.
pub fn aside(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints an error, and gives the exit code that it means.
pub fn report(error: &Diagnostic) -> ExitCode {
    aside(&paragraph(error));
    ExitCode::from(match error.fault() {
        Fault::Usage => 2,
        Fault::Trouble => 3,
    })
}

/// An error as people read it.
pub fn paragraph(error: &Diagnostic) -> String {
    let mut text = String::new();
    if error.place().is_none() {
        text = format!("lab: {}", error.message());
        if let Some(help) = error.way_out() {
            text.push_str(&format!("\n  help: {help}"));
        }
        return text;
    }
    // Colours and box characters only where a terminal reads them.
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let theme = match (terminal, colours) {
        (true, true) => miette::GraphicalTheme::unicode(),
        (true, false) => miette::GraphicalTheme::unicode_nocolor(),
        (false, _) => miette::GraphicalTheme::none(),
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_context_lines(1).with_width(100);
    match handler.render_report(&mut text, &Drawn::new(error)) {
        Ok(()) => text.trim_end().to_string(),
        Err(_) => format!("lab: {error}"),
    }
}

/// The library's error as miette wants it.
#[derive(Debug)]
struct Drawn<'a> {
    error: &'a Diagnostic,
    source: Option<NamedSource<String>>,
}

impl<'a> Drawn<'a> {
    fn new(error: &'a Diagnostic) -> Self {
        let source = error
            .place()
            .map(|p| NamedSource::new(p.file.display().to_string(), p.text.to_string()));
        Self { error, source }
    }
}

impl std::fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.error.message())
    }
}

impl std::error::Error for Drawn<'_> {}

impl miette::Diagnostic for Drawn<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.error.way_out().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|s| s as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.error.place()?;
        let span = place.span.start..place.span.end.max(place.span.start);
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".into()), span))))
    }
}

/// A path as a person would type it: relative to the current folder if below it.
pub fn typed(path: &std::path::Path) -> std::path::Display<'_> {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path).display()
}
