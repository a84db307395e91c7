//! The mouse.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::{Effect, answered, picking, scroll, select};
use crate::terminal::model::{Model, Overlay};

/// Rows that one turn of the wheel scrolls.
const WHEEL_ROWS: usize = 3;

/// A click opens a conversation of the list, the menu of a message, or chooses from the menu.
fn click(model: &mut Model, at: Position) -> Vec<Effect> {
    let drawn = &model.drawn;
    if let Some(Overlay::Menu(_)) = model.overlay {
        let hit = drawn.menu.iter().find(|(area, _)| area.contains(at)).map(|(_, at)| *at);
        if let Some(at) = hit {
            return picking::choose(model, at);
        }
        model.overlay = None;
        picking::stop(model);
        return Vec::new();
    }
    if let Some((_, id)) = drawn.list.iter().find(|(area, _)| area.contains(at)).copied() {
        return select(model, id);
    }
    if drawn.requests.is_some_and(|area| area.contains(at)) {
        answered::show_contacts(model);
        return Vec::new();
    }
    let hit = drawn.messages.iter().find(|(area, _)| area.contains(at)).map(|(_, seq)| *seq);
    if hit.is_some() {
        model.picked = hit;
        picking::open_menu(model, at);
    }
    Vec::new()
}

pub(super) fn mouse(model: &mut Model, mouse: MouseEvent) -> Vec<Effect> {
    let at = Position { x: mouse.column, y: mouse.row };
    match mouse.kind {
        MouseEventKind::Down(MouseButton::Left) => click(model, at),
        MouseEventKind::ScrollUp => scroll(model, WHEEL_ROWS, true),
        MouseEventKind::ScrollDown => scroll(model, WHEEL_ROWS, false),
        _ => Vec::new(),
    }
}
