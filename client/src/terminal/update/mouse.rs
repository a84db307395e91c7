//! The mouse.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::{Effect, scroll, select};
use crate::terminal::model::Model;

/// Rows that one turn of the wheel scrolls.
const WHEEL_ROWS: usize = 3;

pub(super) fn mouse(model: &mut Model, mouse: MouseEvent) -> Vec<Effect> {
    let at = Position { x: mouse.column, y: mouse.row };
    match mouse.kind {
        MouseEventKind::Down(MouseButton::Left) => {
            let hit = model.drawn.list.iter().find(|(area, _)| area.contains(at));
            match hit.map(|(_, id)| *id) {
                Some(id) => select(model, id),
                None => Vec::new(),
            }
        }
        MouseEventKind::ScrollUp => scroll(model, WHEEL_ROWS, true),
        MouseEventKind::ScrollDown => scroll(model, WHEEL_ROWS, false),
        _ => Vec::new(),
    }
}
