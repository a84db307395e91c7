//! The help: the tables of keys and commands.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::{bold, dimmed};
use crate::terminal::command::{COMMANDS, KEYS};
use crate::terminal::wrap::wrap;

pub(super) fn draw(scroll: u16, frame: &mut Frame<'_>, area: Rect) {
    let width = usize::from(area.width);
    let mut lines = vec![dimmed("Esc closes this; Up and Down scroll")];
    let mut section = |title: &str, rows: &mut dyn Iterator<Item = (String, &str)>| {
        lines.push(Line::default());
        lines.push(Line::styled(title.to_owned(), bold()));
        for (left, right) in rows {
            lines.extend(wrap(&format!("{left}: {right}"), width).into_iter().map(Line::raw));
        }
    };
    let commands = COMMANDS.iter().map(|command| {
        let spelled = format!("{} {}", command.word, command.arguments);
        (spelled.trim_end().to_owned(), command.what)
    });
    section("Commands", &mut commands.into_iter());
    section("Keys", &mut KEYS.iter().map(|(key, what)| ((*key).to_owned(), *what)));
    let last = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(area.height);
    frame.render_widget(Paragraph::new(lines).scroll((scroll.min(last), 0)), area);
}
