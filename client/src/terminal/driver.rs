//! The shell: the terminal, the client, the clock; all that decides is in `update`.

mod ask;

use std::io::{Stdout, stdout};
use std::time::Duration;

use bytes::Bytes;
use crossterm::event::EventStream;
use crossterm::execute;
use crossterm::terminal::{Clear, ClearType};
use futures_util::StreamExt as _;
use petrel_proto::code::Code;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::effect::{Effect, Input, Purpose};
use super::guard::Guard;
use super::model::{Model, refusal};
use super::update::{PAGE_ENTRIES, update};
use super::view;
use crate::client::{Client, Events};
use crate::error::ClientError;
use crate::id::ConversationId;
use crate::request::{PageRequest, Summaries};
use crate::state::unix_ms;

/// Requests under way, at the most; further ones are refused with a notice.
const REQUESTS_MAX: usize = 32;
/// Pages of the list of conversations that are read at once, at the most.
const LIST_PAGES_MAX: usize = 10;
const LIST_PAGE: u32 = 100;
/// Users that are asked for at once (the protocol's limit).
const USERS_MAX: usize = 100;
/// Events that are taken before a frame is drawn, at the most.
const EVENTS_A_FRAME_MAX: usize = 256;
/// Between two frames, at the least.
const FRAME: Duration = Duration::from_millis(16);
/// Between two looks at the clock and the connection.
const TICK: Duration = Duration::from_secs(1);

/// Why the terminal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the terminal: {0}")]
pub struct TerminalError(#[from] std::io::Error);

struct Driver {
    client: Client,
    model: Model,
    requests: JoinSet<Input>,
    terminal: Terminal<CrosstermBackend<Stdout>>,
    is_over: bool,
}

/// Chats on the whole screen until the user leaves, or the process is asked to end. The client
/// is left running.
///
/// # Errors
/// [`TerminalError`] if standard input and output are no usable terminal.
pub async fn run(client: &Client, events: &mut Events, name: &str) -> Result<(), TerminalError> {
    let ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
    let [mut terminate, mut hangup, mut interrupt] = ends.map(signal);
    let guard = Guard::enter()?;
    let terminal = fresh()?;
    let mut driver = Driver {
        model: Model::new(client.user(), name, unix_ms()),
        client: client.clone(),
        requests: JoinSet::new(),
        terminal,
        is_over: false,
    };
    let mut keys = EventStream::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn_at = None::<Instant>;
    let mut is_dirty = true;
    while !driver.is_over {
        let draw_at = drawn_at.map_or_else(Instant::now, |at| at + FRAME);
        tokio::select! {
            () = tokio::time::sleep_until(draw_at), if is_dirty => {
                driver.draw()?;
                drawn_at = Some(Instant::now());
                is_dirty = false;
                continue;
            }
            key = keys.next() => match key {
                Some(key) => driver.take(Input::Terminal(key?)),
                None => break,
            },
            event = events.next() => match event {
                Some(event) => {
                    driver.take(Input::Client(event));
                    for _ in 0..EVENTS_A_FRAME_MAX {
                        let Some(event) = events.try_next() else {
                            break;
                        };
                        driver.take(Input::Client(event));
                    }
                }
                None => break,
            },
            Some(done) = driver.requests.join_next() => match done {
                Ok(input) => driver.take(input),
                Err(error) => driver.take(Input::Said(error.to_string())),
            },
            _ = ticks.tick() => driver.tick(),
            () = told(&mut terminate) => break,
            () = told(&mut hangup) => break,
            () = told(&mut interrupt) => break,
        }
        is_dirty = true;
    }
    drop(guard);
    Ok(())
}

/// An empty screen, which the next frame fills whole. Asks the terminal nothing: `Terminal::clear`
/// would ask for the cursor's place and wait for the answer.
fn fresh() -> std::io::Result<Terminal<CrosstermBackend<Stdout>>> {
    execute!(stdout(), Clear(ClearType::All))?;
    Terminal::new(CrosstermBackend::new(stdout()))
}

/// Waits for a signal; for ever if it cannot be heard.
async fn told(signal: &mut std::io::Result<Signal>) {
    match signal {
        Ok(signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

impl Driver {
    fn draw(&mut self) -> Result<(), TerminalError> {
        self.model.now_ms = unix_ms();
        let mut drawn = view::Drawn::default();
        let model = &self.model;
        self.terminal.draw(|frame| drawn = view::draw(model, frame))?;
        self.take(Input::Drawn(drawn));
        Ok(())
    }

    fn tick(&mut self) {
        self.take(Input::Clock(unix_ms()));
        self.take(Input::Stats(self.client.stats()));
    }

    fn take(&mut self, input: Input) {
        let is_event = matches!(input, Input::Client(_));
        let effects = update(&mut self.model, input);
        for effect in effects {
            self.carry_out(effect);
        }
        if is_event && !self.model.stats.online {
            let stats = self.client.stats();
            update(&mut self.model, Input::Stats(stats));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Quit => self.is_over = true,
            Effect::DrawAnew => match fresh() {
                Ok(terminal) => self.terminal = terminal,
                Err(error) => self.model.say(error.to_string()),
            },
            Effect::Attach(to) => {
                if let Err(error) = self.client.attach(&to, None) {
                    self.model.say(error.to_string());
                }
            }
            Effect::Watch(users) => {
                if let Err(error) = self.client.watch_presence(&users) {
                    self.model.say(error.to_string());
                }
            }
            Effect::Typing { conversation, is_typing } => {
                self.client.typing(conversation, is_typing);
            }
            Effect::Read { conversation, seq } => self.client.read_up_to(conversation, seq),
            Effect::Send { to, what } => match self.client.send_draft(&to, what.draft()) {
                Ok(id) => self.take(Input::Queued { to, id, what }),
                Err(error) => {
                    if let Some(typed) = what.typed() {
                        self.model.composer.set(typed);
                    }
                    self.model.say(format!("not sent: {error}"));
                }
            },
            request => self.request(request),
        }
    }

    /// Starts a request; its answer comes as an input.
    fn request(&mut self, effect: Effect) {
        if self.requests.len() >= REQUESTS_MAX {
            if let Effect::History { conversation, .. } = effect {
                let why = "too much is asked for at once".to_owned();
                self.take(Input::NoPage { conversation, why });
            } else {
                self.model.say("too much is asked for at once; try again");
            }
            return;
        }
        let client = self.client.clone();
        self.requests.spawn(async move { answer(&client, effect).await });
    }
}

async fn answer(client: &Client, effect: Effect) -> Input {
    match effect {
        Effect::List => list(client).await,
        Effect::History { conversation, to } => history(client, conversation, to).await,
        Effect::Names(users) => {
            let mut found = Vec::new();
            for some in users.chunks(USERS_MAX) {
                match client.find_users(&[], some).await {
                    Ok(names) => found.extend(names),
                    // They are asked for again with the next message.
                    Err(_) => break,
                }
            }
            Input::Names(found)
        }
        Effect::Group(conversation) => match client.group(conversation).await {
            Ok(group) => Input::Group { conversation, group: Some(group) },
            Err(error) if error.code() == Some(Code::NotFound) => {
                Input::Group { conversation, group: None }
            }
            Err(error) => Input::Said(explain(&error)),
        },
        Effect::Ask(ask) => ask::answer(client, ask).await,
        Effect::Find { names, purpose } => find(client, names, purpose).await,
        // All others are carried out at once.
        _ => Input::Said("nothing was done".to_owned()),
    }
}

async fn list(client: &Client) -> Input {
    let mut all = Summaries::default();
    let mut page = Bytes::new();
    for _ in 0..LIST_PAGES_MAX {
        match client.list(page, LIST_PAGE).await {
            Ok(list) => {
                all.summaries.extend(list.summaries);
                page = list.next_page;
            }
            Err(error) => {
                return Input::Said(format!("conversations cannot be listed: {}", explain(&error)));
            }
        }
        if page.is_empty() {
            break;
        }
    }
    Input::Listed(all)
}

async fn history(client: &Client, conversation: ConversationId, to: u64) -> Input {
    let request = PageRequest { conversation, from: 0, to, limit: PAGE_ENTRIES, newest: true };
    match client.history(request).await {
        Ok(page) => Input::Page { conversation, page },
        Err(error) => Input::NoPage { conversation, why: explain(&error) },
    }
}

async fn find(client: &Client, names: Vec<String>, purpose: Purpose) -> Input {
    let wanted: Vec<_> = names.iter().map(String::as_str).collect();
    match client.find_users(&wanted, &[]).await {
        Ok(found) => Input::Found { found, names, purpose },
        Err(error) => Input::Said(explain(&error)),
    }
}

fn explain(error: &ClientError) -> String {
    match error {
        ClientError::Refused { code, text, .. } => refusal(*code, text),
        other => other.to_string(),
    }
}
