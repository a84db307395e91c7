//! The list of conversations.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

use super::{Drawn, bold, dim, status};
use crate::terminal::model::{Conversation, Last, Model};
use crate::terminal::wrap::cut;

/// Rows of one conversation.
const ROWS: u16 = 2;

pub(super) fn draw(model: &Model, frame: &mut Frame<'_>, area: Rect, drawn: &mut Drawn) {
    let area = requests(model, frame, area, drawn);
    let visible = usize::from(area.height / ROWS).max(1);
    let at = model.order.iter().position(|id| Some(*id) == model.selected).unwrap_or(0);
    let first = (at + 1).saturating_sub(visible);
    let width = usize::from(area.width);
    let mut y = area.y;
    for id in model.order.iter().skip(first) {
        if y + ROWS > area.bottom() {
            break;
        }
        let Some(conversation) = model.conversations.get(id) else {
            continue;
        };
        let place = Rect { x: area.x, y, width: area.width, height: ROWS };
        let badge = match conversation.unread {
            0 => String::new(),
            1..=999 => format!(" ({})", conversation.unread),
            _ => " (999+)".to_owned(),
        };
        let badge = if conversation.mentions > 0 { format!(" @{badge}") } else { badge };
        let dot = conversation.to.peer.filter(|peer| model.is_present(*peer));
        let title = model.title(conversation);
        let title = if dot.is_some() { format!("● {title}") } else { title };
        let title = format!("{}{title}", marks(conversation, model.now_ms));
        let title = cut(&title, width.saturating_sub(badge.len()));
        let space = width.saturating_sub(title.width() + badge.len());
        let style = if Some(*id) == model.selected {
            Style::new().add_modifier(Modifier::REVERSED)
        } else if conversation.settings.archived {
            dim()
        } else if conversation.unread > 0 && !is_silenced(conversation, model.now_ms) {
            bold()
        } else {
            Style::new()
        };
        let line = Line::from(vec![
            Span::styled(title, style),
            Span::styled(" ".repeat(space), style),
            Span::styled(badge, style.fg(Color::Yellow)),
        ]);
        frame.buffer_mut().set_line(area.x, y, &line, area.width);
        let below = status::writing(model, conversation);
        let below = below.unwrap_or_else(|| last(model, conversation));
        let last = Line::styled(cut(&below, width), dim());
        frame.buffer_mut().set_line(area.x, y + 1, &last, area.width);
        drawn.list.push((place, *id));
        y += ROWS;
    }
    if model.order.is_empty() {
        frame.buffer_mut().set_stringn(area.x, area.y, "nobody yet: /dm NAME", width, dim());
    }
}

/// A line about who asks for something, if anybody does. What is left is for the list.
fn requests(model: &Model, frame: &mut Frame<'_>, area: Rect, drawn: &mut Drawn) -> Rect {
    let asking = model.asking();
    if asking == 0 || area.height <= ROWS {
        return area;
    }
    let line = Rect { height: 1, ..area };
    let text = format!("! {asking} ask: /contacts");
    let style = bold().fg(Color::Yellow);
    let width = usize::from(area.width);
    frame.buffer_mut().set_stringn(area.x, area.y, cut(&text, width), width, style);
    drawn.requests = Some(line);
    Rect { y: area.y + 1, height: area.height - 1, ..area }
}

fn is_silenced(known: &Conversation, now_ms: u64) -> bool {
    known.settings.silenced_until_ms > now_ms
}

/// What the user has set for it: `^` pinned, `~` silenced.
fn marks(known: &Conversation, now_ms: u64) -> String {
    let pinned = if known.settings.pinned_ms > 0 { "^" } else { "" };
    let silenced = if is_silenced(known, now_ms) { "~" } else { "" };
    let marks = format!("{pinned}{silenced}");
    if marks.is_empty() { marks } else { format!("{marks} ") }
}

/// What was said or happened last; in a group, also by whom.
fn last(model: &Model, known: &Conversation) -> String {
    let by = |sender| match known.to.peer {
        Some(_) => String::new(),
        None => format!("{}: ", model.name(sender)),
    };
    match &known.last {
        Last::Nothing => String::new(),
        Last::Said(sender, text) => format!("{}{text}", by(*sender)),
        Last::Recalled(sender) => format!("{}(recalled)", by(*sender)),
        Last::Happened(sender, happened) => happened.line(*sender, None, &|user| model.name(user)),
    }
}
