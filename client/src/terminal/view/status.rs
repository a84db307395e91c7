//! The rows around the messages: title, notices, what is typed, the connection.

use petrel_transport::Kind as TransportKind;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::{bold, dim};
use crate::request::Role;
use crate::terminal::calendar;
use crate::terminal::happened::listed;
use crate::terminal::model::{Composing, Conversation, Link, Model, Presence};
use crate::terminal::prompt::Prompt;
use crate::terminal::wrap::cut;

/// Columns of a name in the prompt, at the most.
const NAME_COLUMNS_MAX: usize = 16;

/// What is typed, in rows, and where the cursor is in them.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) lines: Vec<String>,
    at: (usize, usize),
}

/// What the text will be.
fn prompt(model: &Model) -> String {
    if model.is_picking {
        return "r e + b x d, Enter: menu> ".to_owned();
    }
    match (model.composing, model.on_screen()) {
        (Some(Composing::Reply { seq }), Some(known)) => {
            let sender = known.log.get(seq).map(|row| model.name(row.sender));
            format!("reply to {}> ", cut(&sender.unwrap_or_default(), NAME_COLUMNS_MAX))
        }
        (Some(Composing::Edit { .. }), _) => "edit> ".to_owned(),
        _ => "> ".to_owned(),
    }
}

/// Breaks what is typed anywhere, so that each place of the cursor is a place on the screen.
pub(super) fn typed(model: &Model, width: usize) -> Typed {
    let dots = model.prompt.as_ref().map(Prompt::dots).unwrap_or_default();
    let (prompt, text, before) = match (&model.prompt, &model.search) {
        (Some(prompt), _) => (prompt.question().to_owned(), dots.as_str(), dots.len()),
        (None, Some(search)) => {
            let found = match (search.text.is_empty(), search.matches) {
                (true, _) => String::new(),
                (false, found) => format!(" ({found} found)"),
            };
            (format!("search{found}: "), search.text.as_str(), search.text.len())
        }
        (None, None) => (prompt(model), model.composer.text(), model.composer.before().len()),
    };
    let (width, indent) = (width.max(8), prompt.width().min(width.saturating_sub(4)));
    let mut lines = vec![cut(&prompt, indent)];
    let (mut used, mut at) = (indent, (indent, 0));
    for (place, piece) in text.grapheme_indices(true) {
        if piece == "\n" {
            if place == before {
                at = (used, lines.len() - 1);
            }
            lines.push("  ".to_owned());
            used = 2;
            continue;
        }
        // One column stays free for the cursor.
        if used + piece.width() >= width {
            lines.push("  ".to_owned());
            used = 2;
        }
        if place == before {
            at = (used, lines.len() - 1);
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(piece);
        }
        used += piece.width();
    }
    if before == text.len() {
        at = (used, lines.len() - 1);
    }
    Typed { lines, at }
}

pub(super) fn composer(typed: &Typed, frame: &mut Frame<'_>, area: Rect) {
    let height = usize::from(area.height);
    let (column, row) = typed.at;
    let first = (row + 1).saturating_sub(height);
    for (line, y) in typed.lines.iter().skip(first).zip(area.top()..area.bottom()) {
        frame.buffer_mut().set_stringn(area.x, y, line, usize::from(area.width), Style::new());
    }
    let column = u16::try_from(column).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
    let row = u16::try_from(row - first).unwrap_or(0).min(area.height.saturating_sub(1));
    frame.set_cursor_position(Position { x: area.x + column, y: area.y + row });
}

/// Who or what it is: of a user with the name that nobody else has, of a group with its size.
fn full_title(model: &Model, known: &Conversation) -> String {
    match (known.to.peer, &known.group) {
        (Some(peer), _) => {
            let name = model.people.full_name(peer);
            match model.present.get(&peer) {
                Some(Presence::Here) => format!("● {name}"),
                Some(Presence::Away(seen_ms @ 1..)) => {
                    format!("{name}, last there {}", calendar::moment(*seen_ms))
                }
                _ => name,
            }
        }
        (None, Some(group)) if group.role == Role::Outside => {
            format!("{} (you are no member)", group.profile.name)
        }
        (None, Some(group)) => {
            let muted = if group.profile.is_muted { ", only admins write" } else { "" };
            format!("{} ({} members{muted})", group.profile.name, group.members)
        }
        (None, None) => model.title(known),
    }
}

/// Who is writing, in words.
pub(super) fn writing(model: &Model, known: &Conversation) -> Option<String> {
    let is = match known.typing.len() {
        0 => return None,
        1 => "is",
        _ => "are",
    };
    Some(format!("{} {is} writing", listed(&known.typing, &|user| model.name(user))))
}

pub(super) fn header(model: &Model, frame: &mut Frame<'_>, area: Rect, is_alone: bool) {
    let mut title = match model.on_screen() {
        Some(conversation) => full_title(model, conversation),
        None => "Petrel".to_owned(),
    };
    if is_alone {
        let away = model.conversations.values().filter(|known| Some(known.to.id) != model.selected);
        let unread: u64 = away.map(|known| known.unread).sum();
        if unread > 0 {
            title = format!("({unread} elsewhere) {title}");
        }
        if model.asking() > 0 {
            title = format!("(! {}) {title}", model.asking());
        }
    }
    if let Some(writing) = model.on_screen().and_then(|known| writing(model, known)) {
        title = format!("{title} ({writing})");
    }
    let width = usize::from(area.width);
    frame.buffer_mut().set_stringn(area.x, area.y, cut(&title, width), width, bold());
}

pub(super) fn rule(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let width = usize::from(area.width);
    match &model.notice {
        Some((notice, _)) => {
            let text = cut(&format!("! {notice}"), width);
            let style = Style::new().fg(Color::Yellow);
            frame.buffer_mut().set_stringn(area.x, area.y, text, width, style);
        }
        None => {
            frame.buffer_mut().set_stringn(area.x, area.y, "─".repeat(width), width, dim());
        }
    }
}

/// The connection: state, round trip, loss, outbox.
pub(super) fn bar(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let stats = &model.stats;
    let mut text = match &model.link {
        Link::Connecting => "connecting".to_owned(),
        Link::Online(TransportKind::Tcp) if stats.online => {
            let (ms, tenth_ms) = (stats.rtt_us / 1_000, stats.rtt_us % 1_000 / 100);
            format!("online TCP (no UDP here) rtt {ms}.{tenth_ms} ms")
        }
        Link::Online(TransportKind::Quic) if stats.online => {
            let (sent, lost) = (stats.sent_packets.max(1), stats.lost_packets);
            let per_mille = lost.saturating_mul(1_000) / sent;
            let (whole, tenth) = (per_mille / 10, per_mille % 10);
            let (ms, tenth_ms) = (stats.rtt_us / 1_000, stats.rtt_us % 1_000 / 100);
            format!("online QUIC rtt {ms}.{tenth_ms} ms loss {whole}.{tenth} %")
        }
        Link::Online(_) => "online".to_owned(),
        Link::Waiting { why, at_ms } => {
            let seconds = at_ms.saturating_sub(model.now_ms).div_ceil(1_000);
            format!("reconnecting in {seconds} s ({why})")
        }
        Link::Stopped { why } => format!("signed out: {why}"),
    };
    if stats.outbox_len > 0 {
        text = format!("outbox {} | {text}", stats.outbox_len);
    }
    let width = usize::from(area.width);
    let help = "F1 help";
    let text = cut(&text, width.saturating_sub(help.len() + 1));
    let space = width.saturating_sub(text.width() + help.len());
    let line = format!("{text}{}{help}", " ".repeat(space));
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.buffer_mut().set_stringn(area.x, area.y, line, width, style);
}
