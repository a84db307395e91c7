//! What reaches the terminal. Text from others cannot carry escape sequences
//! or turn the direction of writing round.

use std::io::Write as _;

use petrel_client::Undecodable;

/// A body as a line of text.
pub(super) fn text(body: &Result<bytes::Bytes, Undecodable>) -> String {
    match body {
        Ok(bytes) => clean(&String::from_utf8_lossy(bytes)),
        Err(error) => format!("[{error}]"),
    }
}

/// One line of what others said, made fit for a terminal.
pub(super) fn clean(text: &str) -> String {
    petrel_client::terminal::clean_line(text)
}

/// Writes a line that is clean already.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // With the terminal gone there is nobody to read it.
    writeln!(out, "{text}").and_then(|()| out.flush()).ok();
}
