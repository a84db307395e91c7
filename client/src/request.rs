//! Requests: one stream each.

mod account;
mod check;
mod contact;
mod group;
mod link;
mod list;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use petrel_proto::code::{Action, Code};
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, Frame, frame::What};
use petrel_transport::{Connection, WriteError};

use crate::backoff::jittered;
use crate::error::ClientError;
use crate::frames::FrameSource;
use crate::id::ConversationId;
use crate::identity::{Identity, Secret, Token};
use crate::incoming;
use crate::shared::{Phase, Shared};

pub use account::{
    Account, AccountCommand, Audience, Device, MemberSettings, Password, Privacy, Setting,
    UserFound,
};
pub(crate) use account::{member_settings, privacy};
pub(crate) use check::{bytes as checked_bytes, conversation as conversation_id};
pub(crate) use check::{
    device as device_id, text as checked_text, user as user_id, users as user_ids,
};
pub(crate) use contact::contact;
pub use contact::{Contact, ContactCommand, Contacts, Friendship};
pub use group::{
    Group, GroupCommand, GroupProfile, JoinBy, JoinRequest, JoinRequests, Joins, Member, Members,
    Role,
};
pub(crate) use group::{known_user, profile};
pub use link::{Link, LinkSecret};
pub use list::{ListRequest, Page, PageRequest, Summaries, Summary};

/// Frames that one answer has, at the most.
const ANSWER_FRAMES_MAX: usize = 1_024;
/// Bytes of bodies that one answer has, at the most.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Entries of one page, at the most (the protocol's limit).
const PAGE_ENTRIES_MAX: u32 = 200;
/// Bytes of a token, at the most.
const TOKEN_BYTES_MAX: usize = 2_048;
/// How long to wait before a request that was refused for now is made again, at the least.
const RETRY_MIN: Duration = Duration::from_millis(50);

/// Makes one request; `each` takes the answers and says whether that was the last.
pub(crate) async fn exchange(
    connection: &Connection,
    request: &Frame,
    mut each: impl FnMut(Frame, What) -> Result<bool, ClientError>,
) -> Result<(), ClientError> {
    let lost = |why: String| ClientError::Connection(why);
    let (mut send, recv) = connection.open_bi().await.map_err(|error| lost(error.to_string()))?;
    let bytes = petrel_proto::frame::encode(request);
    match send.write_chunk(bytes).await {
        // A server that refuses may ask us to stop; its refusal is still to be read.
        Ok(()) | Err(WriteError::Stopped(_)) => {
            send.finish().ok();
        }
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

/// Registers, or logs in with something else than a device's secret: makes a device, whose token
/// comes with it when it was a log-in.
pub(crate) async fn sign_up(
    connection: &Connection,
    request: What,
    user_name: &str,
) -> Result<(Identity, Option<Token>), ClientError> {
    let wants_token = !matches!(request, What::Register(_));
    let mut registered = None;
    let mut token = None;
    exchange(connection, &bare(request), |_, what| {
        match what {
            What::Registered(said) => registered = Some(said),
            What::Token(said) => token = Some(token_of(said)?),
            What::Done(_) => return Ok(true),
            _ => return Err(unexpected()),
        }
        Ok(registered.is_some() && (!wants_token || token.is_some()))
    })
    .await?;
    let registered: wire::Registered = registered.ok_or_else(unexpected)?;
    let secret = <[u8; 32]>::try_from(registered.device_secret.as_ref())
        .map_err(|_| ClientError::Protocol("a secret of another size".to_owned()))?;
    let identity = Identity {
        user: user_id(&registered.user)?,
        user_name: user_name.to_owned(),
        device: device_id(&registered.device)?,
        secret: Secret::new(secret),
    };
    Ok((identity, token))
}

fn token_of(said: wire::Token) -> Result<Token, ClientError> {
    let text = checked_text("a token", said.token, TOKEN_BYTES_MAX)?;
    Ok(Token { text, expires_ms: said.expires_ms })
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
    exchange(connection, &bare(request), |_, what| match what {
        What::Token(said) => {
            answer = Some(token_of(said)?);
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
        let is_change = is_change(&request);
        let mut request = bare(request);
        if is_change {
            // The same id each time: what was carried out before its answer was lost is not done twice.
            request.id = self.state.lock().next_id().to_bytes();
        }
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
                match exchange(&connection, &request, each).await {
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

    /// A request that is answered with Done alone.
    pub(crate) async fn request_done(&self, request: What) -> Result<(), ClientError> {
        self.request(request, |(): &mut (), _, what| match what {
            What::Done(_) => Ok(true),
            _ => Err(unexpected()),
        })
        .await
    }
}

/// Whether the request changes something, so that it carries an id.
fn is_change(request: &What) -> bool {
    matches!(
        request,
        What::CreateGroup(_)
            | What::ChangeGroup(_)
            | What::JoinGroup(_)
            | What::MakeLink(_)
            | What::RevokeLink(_)
            | What::ChangeContact(_)
            | What::ChangePassword(_)
            | What::RevokeDevice(_)
            | What::ChangeAccount(_)
            | What::SetConversation(_)
            | What::HideEntries(_)
    )
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
