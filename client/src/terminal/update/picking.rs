//! Selecting a message by keys, and the menu of what can be done with it.

use crossterm::event::KeyCode;
use ratatui::layout::Position;

use super::{Effect, message};
use crate::terminal::action::Action;
use crate::terminal::model::{Menu, Model, Overlay};

/// Selects the newest message.
pub(super) fn start(model: &mut Model) {
    let newest = model.on_screen().and_then(|known| known.log.shown().next_back());
    let newest = newest.map(|(seq, _)| seq);
    model.is_picking = newest.is_some();
    pick(model, newest);
}

pub(super) fn stop(model: &mut Model) {
    (model.picked, model.is_picking) = (None, false);
}

fn pick(model: &mut Model, seq: Option<u64>) {
    model.picked = seq;
    let is_visible = |seq| model.drawn.messages.iter().any(|(_, drawn)| *drawn == seq);
    model.wanted = seq.filter(|seq| !is_visible(*seq));
}

/// The message above or below the selected one.
fn next(model: &mut Model, older: bool) {
    let (Some(known), Some(at)) = (model.on_screen(), model.picked) else {
        return;
    };
    let next = if older {
        known.log.shown().rev().find(|(seq, _)| *seq < at)
    } else {
        known.log.shown().find(|(seq, _)| *seq > at)
    };
    match next.map(|(seq, _)| seq) {
        Some(seq) => pick(model, Some(seq)),
        None if older => {}
        None => stop(model),
    }
}

pub(super) fn key(model: &mut Model, code: KeyCode) -> Vec<Effect> {
    match code {
        KeyCode::Up | KeyCode::Char('k') => next(model, true),
        KeyCode::Down | KeyCode::Char('j') => next(model, false),
        KeyCode::End => start(model),
        KeyCode::Home => {
            let oldest = model.on_screen().and_then(|known| known.log.shown().next());
            let oldest = oldest.map(|(seq, _)| seq);
            pick(model, oldest);
        }
        KeyCode::Enter => {
            let drawn = &model.drawn.messages;
            let place = drawn.iter().find(|(_, seq)| Some(*seq) == model.picked);
            let place = place.map(|(area, _)| Position { x: area.x + 6, y: area.y });
            open_menu(model, place.unwrap_or_default());
        }
        KeyCode::Char('/') => {
            // A command for the selected message.
            model.is_picking = false;
            model.composer.set("/");
        }
        KeyCode::Char(key) => return by_key(model, key),
        _ => stop(model),
    }
    Vec::new()
}

fn by_key(model: &mut Model, key: char) -> Vec<Effect> {
    let Some(action) = Action::by_key(key) else {
        model.say(format!("{key} does nothing with a message; Enter shows what does"));
        return Vec::new();
    };
    // What takes a word, or cannot be undone, is written out and waits for Enter.
    let command = match action {
        Action::React => "/react ",
        Action::Recall => "/recall",
        Action::Delete => "/delete",
        _ => return done(model, action),
    };
    model.is_picking = false;
    model.composer.set(command);
    Vec::new()
}

fn done(model: &mut Model, action: Action) -> Vec<Effect> {
    message::act(model, action, "").unwrap_or_else(|why| {
        model.say(why);
        Vec::new()
    })
}

/// Opens the menu for the selected message.
pub(super) fn open_menu(model: &mut Model, place: Position) {
    let offered = model.on_screen().zip(model.picked).and_then(|(known, seq)| {
        let row = known.log.get(seq)?;
        Some(Action::offered(model, known, row))
    });
    match offered {
        Some(actions) if !actions.is_empty() => {
            model.overlay = Some(Overlay::Menu(Menu { actions, at: 0, place }));
        }
        _ => stop(model),
    }
}

pub(super) fn menu_key(model: &mut Model, code: KeyCode) -> Vec<Effect> {
    let Some(Overlay::Menu(menu)) = &mut model.overlay else {
        return Vec::new();
    };
    let count = menu.actions.len().max(1);
    match code {
        KeyCode::Up => menu.at = (menu.at + count - 1) % count,
        KeyCode::Down | KeyCode::Tab => menu.at = (menu.at + 1) % count,
        KeyCode::Enter => {
            let at = menu.at;
            return choose(model, at);
        }
        KeyCode::Char(key) => {
            let found = menu.actions.iter().position(|action| action.label().0 == key);
            if let Some(at) = found {
                return choose(model, at);
            }
        }
        KeyCode::Esc => {
            model.overlay = None;
            stop(model);
        }
        _ => {}
    }
    Vec::new()
}

/// Does what stands at this place of the menu.
pub(super) fn choose(model: &mut Model, at: usize) -> Vec<Effect> {
    let Some(Overlay::Menu(menu)) = model.overlay.take() else {
        return Vec::new();
    };
    match menu.actions.get(at).copied() {
        Some(Action::React) => {
            model.is_picking = false;
            model.composer.set("/react ");
            Vec::new()
        }
        Some(action) => done(model, action),
        None => Vec::new(),
    }
}
