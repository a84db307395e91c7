//! Requests: one stream each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use petrel_proto::code::{Action, Code};
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, Frame, frame::What};
use quinn::Connection;

use crate::backoff::jittered;
use crate::error::ClientError;
use crate::event::{Entry, GapReason};
use crate::frames::FrameSource;
use crate::id::{ConversationId, UserId};
use crate::identity::{Identity, Token};
use crate::incoming;
use crate::shared::{Phase, Shared};

/// Which part of a conversation's log to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The first seq wanted.
    pub from: u64,
    /// The last seq wanted; 0: the head.
    pub to: u64,
    /// Entries, at most 200; 0: the server's choice.
    pub limit: u32,
    /// Whether the page ends at `to` instead of starting at `from`.
    pub newest: bool,
}

/// A part of a conversation's log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// The entries, in rising order.
    pub entries: Vec<Entry>,
    /// What is missing among them: first, last, why.
    pub gaps: Vec<(u64, u64, GapReason)>,
    /// The conversation's last entry's place.
    pub head: u64,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserFound {
    /// Who.
    pub user: UserId,
    /// The user's name.
    pub name: String,
}

/// One conversation of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Which.
    pub conversation: ConversationId,
    /// Of a pair: the other one.
    pub peer: Option<UserFound>,
    /// Messages of others above the read cursor.
    pub unread: u64,
    /// Own cursors: delivered and read.
    pub own: (u64, u64),
    /// The peer's cursors: delivered and read.
    pub peer_receipt: (u64, u64),
    /// When something happened last, Unix milliseconds.
    pub last_activity_ms: u64,
    /// The last entry.
    pub last: Option<Entry>,
}

/// One page of the list of conversations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summaries {
    /// Most recently active first.
    pub summaries: Vec<Summary>,
    /// Where the next page starts; empty after the last.
    pub next_page: Bytes,
}

/// Bytes of a user name that are believed.
const NAME_BYTES_MAX: usize = 256;
/// Frames that one answer has, at the most.
const ANSWER_FRAMES_MAX: usize = 1_024;
/// Bytes of bodies that one answer has, at the most.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Entries of one page, at the most (the protocol's limit).
const PAGE_ENTRIES_MAX: u32 = 200;
/// How long to wait before a request that was refused for now is made again, at the least.
const RETRY_MIN: Duration = Duration::from_millis(50);

/// Makes one request; `each` takes the answers and says whether that was the last.
pub(crate) async fn exchange(
    connection: &Connection,
    request: What,
    mut each: impl FnMut(Frame, What) -> Result<bool, ClientError>,
) -> Result<(), ClientError> {
    let lost = |why: String| ClientError::Connection(why);
    let (mut send, recv) = connection.open_bi().await.map_err(|error| lost(error.to_string()))?;
    let bytes = petrel_proto::frame::encode(&bare(request));
    match send.write_chunk(bytes).await {
        // A server that refuses may ask us to stop; its refusal is still to be read.
        Ok(()) | Err(quinn::WriteError::Stopped(_)) => drop(send.finish()),
        Err(error) => return Err(lost(error.to_string())),
    }
    let mut source = FrameSource::new(recv);
    let mut bytes = 0;
    for _ in 0..ANSWER_FRAMES_MAX {
        match source.next().await? {
            (_, What::Refusal(said)) => return Err(refused(incoming::refusal(said))),
            (frame, what) => {
                bytes += frame.body.len();
                if bytes > ANSWER_BYTES_MAX {
                    break;
                }
                if each(frame, what)? {
                    return Ok(());
                }
            }
        }
    }
    source.stop(Code::TooLarge);
    Err(unexpected())
}

pub(crate) fn refused(refusal: incoming::Refusal) -> ClientError {
    ClientError::Refused {
        code: refusal.code,
        text: refusal.text,
        retry_after_ms: refusal.retry_after_ms,
    }
}

fn unexpected() -> ClientError {
    ClientError::Protocol("an answer that does not belong to the request".to_owned())
}

fn bad(frame: incoming::BadFrame) -> ClientError {
    ClientError::Protocol(frame.0.to_owned())
}

pub(crate) async fn register(
    connection: &Connection,
    user_name: &str,
    device_label: &str,
) -> Result<wire::Registered, ClientError> {
    let request = What::Register(wire::Register {
        user_name: user_name.to_owned(),
        device_label: device_label.to_owned(),
        password: String::new(),
    });
    let mut answer = None;
    exchange(connection, request, |_, what| match what {
        What::Registered(registered) => {
            answer = Some(registered);
            Ok(true)
        }
        _ => Err(unexpected()),
    })
    .await?;
    answer.ok_or_else(unexpected)
}

/// Exchanges the device's secret for a token.
pub(crate) async fn login(
    connection: &Connection,
    identity: &Identity,
) -> Result<Token, ClientError> {
    let request = What::Login(wire::Login {
        device: identity.device.to_bytes(),
        device_secret: Bytes::copy_from_slice(identity.secret.expose()),
    });
    let mut answer = None;
    exchange(connection, request, |_, what| match what {
        What::Token(token) => {
            answer = Some(Token { text: token.token, expires_ms: token.expires_ms });
            Ok(true)
        }
        _ => Err(unexpected()),
    })
    .await?;
    answer.ok_or_else(unexpected)
}

impl Shared {
    /// Makes a request once there is a connection, and again when it is refused for now or
    /// the connection breaks, as long as there is time.
    pub(crate) async fn request<A: Default>(
        &self,
        request: What,
        take: impl Fn(&mut A, Frame, What) -> Result<bool, ClientError>,
    ) -> Result<A, ClientError> {
        let attempts = async {
            loop {
                let _permit = self.requests.acquire().await.map_err(|_| ClientError::Closed)?;
                self.online().await?;
                let connection = self.state.lock().connection.clone();
                let Some(connection) = connection else {
                    // It was lost just now.
                    tokio::time::sleep(RETRY_MIN).await;
                    continue;
                };
                self.busy.notify_one();
                let mut answer = A::default();
                let each = |frame, what| take(&mut answer, frame, what);
                match exchange(&connection, request.clone(), each).await {
                    Ok(()) => return Ok(answer),
                    Err(error) => {
                        let Some(wait) = retry_after(&error) else {
                            return Err(error);
                        };
                        if error.code() == Some(Code::Reauthenticate) {
                            self.refresh.notify_one();
                        }
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        };
        tokio::time::timeout(self.options.request_timeout, attempts)
            .await
            .map_err(|_| ClientError::TimedOut)?
    }

    pub(crate) async fn online(&self) -> Result<(), ClientError> {
        let mut phase = self.phase.subscribe();
        let reached = phase
            .wait_for(|phase| !matches!(phase, Phase::Connecting))
            .await
            .map_err(|_| ClientError::Closed)?;
        match &*reached {
            Phase::Stopped(why) => Err(why.clone()),
            Phase::Online | Phase::Connecting => Ok(()),
        }
    }

    pub(crate) async fn history(&self, page: PageRequest) -> Result<Page, ClientError> {
        let request = What::ReadHistory(wire::ReadHistory {
            conversation: page.conversation.to_bytes(),
            from: page.from,
            to: page.to,
            limit: page.limit,
            newest: page.newest,
        });
        let answered = self
            .request(request, move |answer: &mut Page, frame, what| {
                match what {
                    What::Push(_) => answer
                        .entries
                        .push(incoming::entry(page.conversation, &frame).map_err(bad)?),
                    What::Gap(gap) => answer.gaps.push(incoming::read_gap(&gap).map_err(bad)?),
                    What::Done(done) => {
                        answer.head = done.head;
                        return Ok(true);
                    }
                    _ => return Err(unexpected()),
                }
                Ok(false)
            })
            .await;
        let mut page = answered?;
        self.complete(page.entries.iter_mut().map(|entry| &mut entry.body)).await;
        Ok(page)
    }

    pub(crate) async fn list(&self, page: Bytes, limit: u32) -> Result<Summaries, ClientError> {
        let request = What::ListConversations(wire::ListConversations { page, limit, since_ms: 0 });
        let answered = self
            .request(request, |answer: &mut Summaries, frame, what| {
                match what {
                    What::Summary(said) => answer.summaries.push(summary(&frame, said)?),
                    What::Done(done) => {
                        answer.next_page = done.next_page;
                        return Ok(true);
                    }
                    _ => return Err(unexpected()),
                }
                Ok(false)
            })
            .await;
        let mut page = answered?;
        let last = page.summaries.iter_mut().filter_map(|line| line.last.as_mut());
        self.complete(last.map(|entry| &mut entry.body)).await;
        Ok(page)
    }

    pub(crate) async fn find_users(
        &self,
        names: &[&str],
        users: &[UserId],
    ) -> Result<Vec<UserFound>, ClientError> {
        let request = What::FindUsers(wire::FindUsers {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            users: users.iter().map(|user| user.to_bytes()).collect(),
        });
        self.request(request, |answer: &mut Vec<UserFound>, _, what| match what {
            What::UserFound(found) => {
                answer.push(user_found(found)?);
                Ok(false)
            }
            What::Done(_) => Ok(true),
            _ => Err(unexpected()),
        })
        .await
    }

    pub(crate) async fn set_block(&self, user: UserId, blocks: bool) -> Result<(), ClientError> {
        let what = Some(wire::change_contact::What::Block(blocks));
        let request = What::ChangeContact(wire::ChangeContact { user: user.to_bytes(), what });
        self.request(request, |(): &mut (), _, what| match what {
            What::Contact(_) => Ok(true),
            _ => Err(unexpected()),
        })
        .await
    }
}

/// When a request may be made again; `None`: never.
fn retry_after(error: &ClientError) -> Option<Duration> {
    let (code, said_ms) = match error {
        ClientError::Refused { code, retry_after_ms, .. } => (*code, *retry_after_ms),
        ClientError::Connection(_) => (Code::Unavailable, 0),
        _ => return None,
    };
    let after_ms = match code.action() {
        Action::GiveUp => return None,
        Action::Retry { after_ms } | Action::Reconnect { after_ms } => after_ms,
        Action::Reauthenticate => 100,
    };
    let wait = Duration::from_millis(u64::from(if said_ms > 0 { said_ms } else { after_ms }));
    Some(jittered(wait.max(RETRY_MIN), rand::random()))
}

fn user_found(found: wire::UserFound) -> Result<UserFound, ClientError> {
    if found.name.len() > NAME_BYTES_MAX {
        return Err(ClientError::Protocol("a user name that is too long".to_owned()));
    }
    Ok(UserFound { user: incoming::user_id(&found.user).map_err(bad)?, name: found.name })
}

fn summary(frame: &Frame, said: wire::Summary) -> Result<Summary, ClientError> {
    let conversation = ConversationId::from_slice(&said.conversation)
        .map_err(|_| ClientError::Protocol("a Summary without a conversation".to_owned()))?;
    let cursors = |receipt: Option<wire::MemberReceipt>| {
        receipt.map_or((0, 0), |receipt| (receipt.delivered, receipt.read))
    };
    let last =
        (frame.seq > 0).then(|| incoming::entry(conversation, frame).map_err(bad)).transpose()?;
    Ok(Summary {
        conversation,
        peer: said.peer.map(user_found).transpose()?,
        unread: said.unread,
        own: cursors(said.own),
        peer_receipt: cursors(said.peer_receipt),
        last_activity_ms: said.last_activity_ms,
        last,
    })
}

/// Reads a gap of a conversation from history, page by page, and hands it over.
pub(crate) async fn fill(
    shared: Arc<Shared>,
    conversation: ConversationId,
    fill: u64,
    from: u64,
    to: u64,
) {
    let mut next = from;
    while next <= to {
        let page =
            PageRequest { conversation, from: next, to, limit: PAGE_ENTRIES_MAX, newest: false };
        let Ok(page) = shared.history(page).await else {
            break;
        };
        let last_entry = page.entries.last().map_or(0, |entry| entry.seq);
        let last_gap = page.gaps.last().map_or(0, |gap| gap.1);
        let last = last_entry.max(last_gap);
        let mut wanted = false;
        shared.with(conversation, |conversation, cx, fx| {
            wanted = conversation.is_filling(fill);
            if !wanted {
                return;
            }
            for (from, to, reason) in page.gaps {
                conversation.fill_gap(from, to, reason, fx);
            }
            for entry in page.entries {
                conversation.fill_entry(entry, cx, fx);
            }
        });
        if !wanted || last < next {
            break;
        }
        next = last + 1;
        shared.events.room().await;
    }
    shared.with(conversation, |conversation, cx, fx| {
        conversation.fill_ended(fill, to, cx, fx);
    });
}
