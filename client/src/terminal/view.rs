//! Draws the model. Pure: the same model and size make the same frame.

mod help;
mod list;
mod messages;
mod sheet;
mod status;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

pub(super) use messages::height;

use super::model::{Model, Overlay};
use crate::id::ConversationId;

/// Smaller screens show nothing.
const COLUMNS_MIN: u16 = 20;
const ROWS_MIN: u16 = 6;
/// Narrower screens show no list.
const LIST_FROM_COLUMNS: u16 = 60;
const LIST_COLUMNS_MIN: u16 = 18;
const LIST_COLUMNS_MAX: u16 = 32;
/// Rows of the composer, at the most.
const COMPOSER_ROWS_MAX: usize = 6;

/// What the last frame looked like, for the mouse, for scrolling and for the read cursor.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Drawn {
    pub(super) conversation: Option<ConversationId>,
    /// The newest message that is on the screen whole.
    pub(super) highest: Option<u64>,
    /// Rows below the screen, corrected.
    pub(super) scroll: usize,
    /// The oldest message that is loaded is on the screen.
    pub(super) is_top: bool,
    /// Columns and rows of the messages.
    pub(super) width: usize,
    pub(super) rows: usize,
    /// Where the conversations of the list are.
    pub(super) list: Vec<(Rect, ConversationId)>,
    /// Where it says that somebody asks for something.
    pub(super) requests: Option<Rect>,
    /// Where messages are, row by row.
    pub(super) messages: Vec<(Rect, u64)>,
    /// Where the lines of the menu are.
    pub(super) menu: Vec<(Rect, usize)>,
}

pub(super) fn draw(model: &Model, frame: &mut Frame<'_>) -> Drawn {
    let mut drawn = Drawn::default();
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        if !area.is_empty() {
            frame.buffer_mut().set_stringn(
                area.x,
                area.y,
                "too small",
                usize::from(area.width),
                dim(),
            );
        }
        return drawn;
    }
    let (mut rest, mut side) = (area, None);
    if area.width >= LIST_FROM_COLUMNS {
        let columns = (area.width / 4).clamp(LIST_COLUMNS_MIN, LIST_COLUMNS_MAX);
        let [left, edge, right] = Layout::horizontal([
            Constraint::Length(columns),
            Constraint::Length(1),
            Constraint::Min(1),
        ])
        .areas(area);
        for y in edge.top()..edge.bottom().saturating_sub(1) {
            frame.buffer_mut().set_string(edge.x, y, "│", dim());
        }
        side = Some(Rect { height: left.height.saturating_sub(1), ..left });
        rest = right;
    }
    let typed = status::typed(model, usize::from(rest.width));
    let lines = u16::try_from(typed.lines.len().min(COMPOSER_ROWS_MAX)).unwrap_or(1);
    let lines = lines.min(area.height / 3).max(1);
    let [header, pane, rule, composer, _] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
        Constraint::Length(lines),
        Constraint::Length(1),
    ])
    .areas(rest);
    let bottom = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area };
    status::header(model, frame, header, side.is_none());
    match &model.overlay {
        Some(Overlay::Help { scroll }) => help::draw(*scroll, frame, pane),
        Some(Overlay::Sheet(lines)) => sheet::draw(lines, frame, pane),
        Some(Overlay::Menu(menu)) => {
            messages::draw(model, frame, pane, &mut drawn);
            sheet::menu(menu, frame, pane, &mut drawn);
        }
        None => messages::draw(model, frame, pane, &mut drawn),
    }
    status::rule(model, frame, rule);
    status::composer(&typed, frame, composer);
    status::bar(model, frame, bottom);
    if let Some(side) = side {
        list::draw(model, frame, side, &mut drawn);
    }
    drawn.width = usize::from(pane.width);
    drawn.rows = usize::from(pane.height);
    drawn
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dimmed(text: impl Into<String>) -> Line<'static> {
    Line::from(Span::styled(text.into(), dim()))
}
