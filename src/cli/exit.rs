//! Exit codes of all commands, and how errors look.

use std::fmt::Display;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Style};

/// It was tried and failed.
pub const FAILED: u8 = 1;
/// Usage or configuration; also a port in use or a bad certificate at `serve`.
pub const USAGE: u8 = 2;
/// What it is about does not exist.
pub const NOT_FOUND: u8 = 3;
/// It was not done: refused, or it would destroy something.
pub const REFUSED: u8 = 4;
/// The node is not well.
pub const UNHEALTHY: u8 = 6;

/// Writes an error to standard error, in colour on a terminal.
pub fn error(text: impl Display) {
    let red = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
    let text = text.to_string();
    // Lists of problems carry the word already, once for each.
    let text = text
        .strip_prefix("error: ")
        .unwrap_or(&text)
        .replace("\nerror: ", &format!("\n{red}error{red:#}: "));
    let green = Style::new().fg_color(Some(AnsiColor::Green.into()));
    let text = text.replace("\n  help: ", &format!("\n  {green}help{green:#}: "));
    anstream::eprintln!("{red}error{red:#}: {text}");
}

/// Writes a warning to standard error, in colour on a terminal.
pub fn warning(text: impl Display) {
    let yellow = Style::new().fg_color(Some(AnsiColor::Yellow.into())).bold();
    anstream::eprintln!("{yellow}warning{yellow:#}: {text}");
}

/// Writes an error and returns the exit code.
pub fn fail(code: u8, text: impl Display) -> ExitCode {
    error(text);
    ExitCode::from(code)
}

/// Writes to standard output. A reader that has gone away, such as `head`, is no error.
pub fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(gone) if gone.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(other) => fail(FAILED, format!("cannot write to standard output: {other}")),
    }
}
