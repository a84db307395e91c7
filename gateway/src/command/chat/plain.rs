//! Chats line by line: for pipes, for terminals that can do little, and for those who like it.

use std::collections::HashMap;
use std::io::Write as _;

use anyhow::{Context, Result, bail};
use petrel_client::{Client, ConversationRef, Entry, Event, Events, PageRequest, UserId};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::screen;

/// Entries that `/history` shows.
const HISTORY_DEFAULT: u32 = 20;
/// Names that are looked up at once, and conversations that are listed.
const LIST_MAX: u32 = 50;

const HELP: &str = "\
/dm NAME TEXT      write to NAME (also @NAME TEXT); plain lines go on to the same one
/list             your conversations, with what is unread
/history [N]      the last N messages with whom you are writing
/block NAME       no messages between you and NAME; /unblock NAME lifts it
/help  /quit";

/// Until the user leaves or there is nothing more to read. The client is left running.
pub(super) async fn run(client: &Client, events: &mut Events, name: &str) -> Result<()> {
    let mut chat = Chat {
        names: HashMap::from([(client.user(), name.to_owned())]),
        client: client.clone(),
        to: None,
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    screen::line("connecting; /help tells what can be typed");
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => chat.hear(event).await?,
                None => break,
            },
            line = lines.next_line() => match line.context("cannot read the keyboard")? {
                Some(line) if line.trim() == "/quit" => break,
                Some(line) => {
                    if let Err(error) = chat.say(line.trim()).await {
                        screen::line(&format!("! {error:#}"));
                    }
                }
                None => break,
            },
        }
    }
    Ok(())
}

struct Chat {
    client: Client,
    names: HashMap<UserId, String>,
    to: Option<ConversationRef>,
}

impl Chat {
    async fn hear(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Online { .. } => {
                screen::line("* online");
                if let Err(error) = self.catch_up().await {
                    screen::line(&format!("! what you missed cannot be listed: {error:#}"));
                }
            }
            Event::Offline { why, retry_in: Some(after) } => {
                screen::line(&format!("* offline ({why}); next try in {} ms", after.as_millis()));
            }
            Event::Offline { why, retry_in: None } => bail!("{why}"),
            Event::Entry(entry) => self.show(&entry, "").await,
            Event::Preview(preview) => {
                let name = self.name(preview.sender).await;
                let text = screen::text(&preview.body);
                screen::line(&format!("({name}: {text} ...)"));
            }
            Event::Refused(refused) => {
                screen::line(&format!("! not sent: {}: {}", refused.code, refused.text));
            }
            Event::Gap { from, to, .. } => {
                screen::line(&format!("* {} earlier messages; /history shows them", to - from + 1));
            }
            Event::Reset { .. } => {
                screen::line("* the server's history has changed; reading it again")
            }
            Event::Hint { conversation, peer, .. } => {
                // No stream was free: attach, so that it is shown.
                self.client.attach(&ConversationRef { id: conversation, peer }, None)?;
            }
            Event::OutboxUnavailable { .. } => {
                screen::line("! the outbox file cannot be written; nothing is sent until it can");
            }
            Event::Acked(_)
            | Event::Receipts { .. }
            | Event::Attached { .. }
            | Event::AttachRefused { .. }
            | Event::Own(_)
            | Event::OwnMissed
            | Event::Typing { .. }
            | Event::Presence { .. } => {}
        }
        Ok(())
    }

    /// Attaches the conversations in which something came while this device was away.
    async fn catch_up(&self) -> Result<()> {
        let mut page = bytes::Bytes::new();
        loop {
            let list = self.client.list(page, LIST_MAX).await?;
            for line in list.summaries.iter().filter(|line| line.unread > 0) {
                let peer = line.peer.as_ref().map(|p| p.user);
                self.client.attach(&ConversationRef { id: line.conversation, peer }, None)?;
            }
            if list.next_page.is_empty() || list.summaries.iter().all(|line| line.unread == 0) {
                return Ok(());
            }
            page = list.next_page;
        }
    }

    async fn show(&mut self, entry: &Entry, mark: &str) {
        let name = self.name(entry.sender).await;
        screen::line(&format!("{mark}{name}: {}", screen::text(&entry.body)));
        self.client.read_up_to(entry.conversation, entry.seq);
        if self.to.is_none() && entry.sender != self.client.user() {
            self.to = Some(self.client.pair(entry.sender));
            screen::line(&format!("* plain lines go to {name} now"));
        }
    }

    async fn name(&mut self, user: UserId) -> String {
        if let Some(name) = self.names.get(&user) {
            return name.clone();
        }
        match self.client.find_users(&[], &[user]).await {
            Ok(found) => {
                let name = found.into_iter().next().map_or_else(|| user.to_string(), |f| f.name);
                let name = screen::clean(&name);
                self.names.insert(user, name.clone());
                name
            }
            Err(_) => user.to_string(),
        }
    }

    async fn find(&mut self, name: &str) -> Result<UserId> {
        let found = self.client.find_users(&[name], &[]).await?;
        let user = found.first().with_context(|| format!("there is no user {name:?}"))?.user;
        self.names.insert(user, name.to_owned());
        Ok(user)
    }

    async fn say(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => Ok(()),
            "/help" => {
                screen::line(HELP);
                Ok(())
            }
            "/list" => self.list().await,
            "/history" => self.history(rest.trim().parse().unwrap_or(HISTORY_DEFAULT)).await,
            "/block" => self.block(rest.trim(), true).await,
            "/unblock" => self.block(rest.trim(), false).await,
            "/dm" => {
                let (name, text) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
                self.say_to(name, text).await
            }
            _ if word.starts_with('/') => bail!("unknown: {word}; /help"),
            _ if word.starts_with('@') => self.say_to(&word[1..], rest).await,
            _ => {
                let to = self.to.context("to whom? /dm NAME TEXT")?;
                self.send(to, line)
            }
        }
    }

    async fn say_to(&mut self, name: &str, text: &str) -> Result<()> {
        let user = self.find(name).await?;
        let to = self.client.pair(user);
        self.to = Some(to);
        self.send(to, text.trim())
    }

    fn send(&self, to: ConversationRef, text: &str) -> Result<()> {
        if !text.is_empty() {
            self.client.send(&to, petrel_client::kind::TEXT, text.as_bytes().to_vec())?;
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<()> {
        let page = self.client.list(bytes::Bytes::new(), LIST_MAX).await?;
        for line in page.summaries {
            let name =
                line.peer.map_or_else(|| line.conversation.to_string(), |p| screen::clean(&p.name));
            let last = line.last.map(|entry| screen::text(&entry.body)).unwrap_or_default();
            screen::line(&format!("{name} ({} unread): {last}", line.unread));
        }
        Ok(())
    }

    async fn history(&mut self, limit: u32) -> Result<()> {
        let conversation = self.to.context("with whom? /dm NAME first")?.id;
        let request = PageRequest { conversation, from: 0, to: 0, limit, newest: true };
        let page = self.client.history(request).await?;
        for entry in &page.entries {
            self.show(entry, "| ").await;
        }
        Ok(())
    }

    async fn block(&mut self, name: &str, blocks: bool) -> Result<()> {
        let user = self.find(name).await?;
        self.client.set_block(user, blocks).await?;
        screen::line(if blocks { "* blocked" } else { "* no longer blocked" });
        std::io::stdout().flush().context("cannot write to the terminal")
    }
}
