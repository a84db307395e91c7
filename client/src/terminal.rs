//! The full-screen terminal chat, as a library: `run` takes a signed-in client and a terminal.
//!
//! A [`Model`](model::Model) is all that the screen shows. `update` changes it by what was
//! typed and heard and says what is to be done; `view` draws it. Both are pure: they know no
//! client, no clock and no terminal. `driver` is the shell around them. **Invariant:** text
//! from outside goes into the model through [`clean`] alone.

mod action;
mod calendar;
mod clean;
mod command;
mod composer;
mod conversation;
mod driver;
mod effect;
mod guard;
mod happened;
mod log;
mod model;
mod people;
mod prompt;
mod reference;
mod sheet;
#[cfg(test)]
mod tests;
mod update;
mod view;
mod wrap;

pub use clean::{line as clean_line, text as clean_text};
pub use driver::{TerminalError, run};
pub use reference::reference;
