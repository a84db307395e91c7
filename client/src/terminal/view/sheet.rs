//! What covers the messages: a page of lines, the menu of a message.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};
use unicode_width::UnicodeWidthStr as _;

use super::{Drawn, bold, dimmed};
use crate::terminal::model::Menu;
use crate::terminal::sheet::Sheet;
use crate::terminal::wrap::{cut, wrap};

pub(super) fn draw(sheet: &Sheet, frame: &mut Frame<'_>, area: Rect) {
    let width = usize::from(area.width);
    let mut lines = vec![Line::styled(cut(&sheet.title, width), bold())];
    for line in &sheet.lines {
        lines.extend(wrap(line, width).into_iter().map(Line::raw));
    }
    let more = if sheet.more.is_some() { "; n: the next page" } else { "" };
    lines.push(dimmed(format!("Esc closes this; Up and Down scroll{more}")));
    let last = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(area.height);
    frame.render_widget(Paragraph::new(lines).scroll((sheet.scroll.min(last), 0)), area);
}

/// The menu, at the place where it was asked for as far as there is room.
pub(super) fn menu(menu: &Menu, frame: &mut Frame<'_>, pane: Rect, drawn: &mut Drawn) {
    let labels = menu.actions.iter().map(|action| {
        let (key, label) = action.label();
        format!("{key} {label}")
    });
    let labels: Vec<_> = labels.collect();
    let widest = labels.iter().map(|label| label.width()).max().unwrap_or(0) + 2;
    let width = u16::try_from(widest).unwrap_or(u16::MAX).min(pane.width);
    let rows = u16::try_from(labels.len() + 2).unwrap_or(u16::MAX);
    let height = rows.min(pane.height);
    let area = Rect {
        x: menu.place.x.clamp(pane.x, pane.right() - width),
        y: menu.place.y.clamp(pane.y, pane.bottom() - height),
        width,
        height,
    };
    frame.render_widget(Clear, area);
    frame.render_widget(Block::bordered(), area);
    let room = usize::from(height.saturating_sub(2)).max(1);
    let first = (menu.at + 1).saturating_sub(room);
    let places = area.y.saturating_add(1)..area.bottom().saturating_sub(1);
    for ((at, label), y) in labels.iter().enumerate().skip(first).zip(places) {
        let row = Rect { x: area.x + 1, y, width: width.saturating_sub(2), height: 1 };
        let style = if at == menu.at {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        frame.buffer_mut().set_stringn(row.x, y, label, usize::from(row.width), style);
        drawn.menu.push((row, at));
    }
}
