//! Request streams: one request, its answers, the end.

use std::sync::Arc;

use bytes::Bytes;
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, DeviceId, Seq, UserId};
use petrel_core::store::{ListPage, ListPosition, NewAccount, Page, User};
use petrel_core::{account, limits};
use petrel_proto::code::Code;
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, GapReason, frame::What};
use quinn::SendStream;
use rand::RngCore;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::attach::{page_frames, unavailable};
use crate::connection::Context;
use crate::gateway::Gateway;
use crate::session::Session;
use crate::stream::{self, Incoming};
use crate::{clock, metrics, translate};

/// Lines of a page of the list when the client does not say.
const LIST_PAGE_DEFAULT: usize = 50;
/// Entries of a page of history when the client does not say.
const HISTORY_PAGE_DEFAULT: usize = 50;
/// Bytes of a dictionary in one frame.
const DICTIONARY_PART_BYTES: usize = 16 * 1024;

/// The name of a frame in logs, metrics and refusals.
pub(crate) fn name_of(what: &What) -> &'static str {
    match what {
        What::Send(_) => "Send",
        What::Ack(_) => "Ack",
        What::Push(_) => "Push",
        What::Preview(_) => "Preview",
        What::Receipts(_) => "Receipts",
        What::Refusal(_) => "Refusal",
        What::Attach(_) => "Attach",
        What::Reset(_) => "Reset",
        What::Gap(_) => "Gap",
        What::Superseded(_) => "Superseded",
        What::Hello(_) => "Hello",
        What::Welcome(_) => "Welcome",
        What::RefreshDue(_) => "RefreshDue",
        What::Refresh(_) => "Refresh",
        What::Hint(_) => "Hint",
        What::GoAway(_) => "GoAway",
        What::Register(_) => "Register",
        What::Registered(_) => "Registered",
        What::Login(_) => "Login",
        What::Token(_) => "Token",
        What::FindUsers(_) => "FindUsers",
        What::UserFound(_) => "UserFound",
        What::ListConversations(_) => "ListConversations",
        What::Summary(_) => "Summary",
        What::ReadHistory(_) => "ReadHistory",
        What::SetBlock(_) => "SetBlock",
        What::FetchDictionary(_) => "FetchDictionary",
        What::Dictionary(_) => "Dictionary",
        What::Typing(_) => "Typing",
        What::WatchPresence(_) => "WatchPresence",
        What::Presence(_) => "Presence",
        What::CreateGroup(_) => "CreateGroup",
        What::GetGroup(_) => "GetGroup",
        What::Group(_) => "Group",
        What::ChangeGroup(_) => "ChangeGroup",
        What::JoinGroup(_) => "JoinGroup",
        What::MakeLink(_) => "MakeLink",
        What::RevokeLink(_) => "RevokeLink",
        What::ListLinks(_) => "ListLinks",
        What::Link(_) => "Link",
        What::ListMembers(_) => "ListMembers",
        What::MemberFound(_) => "MemberFound",
        What::ListJoinRequests(_) => "ListJoinRequests",
        What::JoinRequest(_) => "JoinRequest",
        What::ReadBy(_) => "ReadBy",
        What::ChangeContact(_) => "ChangeContact",
        What::Contact(_) => "Contact",
        What::ListContacts(_) => "ListContacts",
        What::LogInWithPassword(_) => "LogInWithPassword",
        What::LogInWithToken(_) => "LogInWithToken",
        What::ChangePassword(_) => "ChangePassword",
        What::ListDevices(_) => "ListDevices",
        What::DeviceFound(_) => "DeviceFound",
        What::RevokeDevice(_) => "RevokeDevice",
        What::GetAccount(_) => "GetAccount",
        What::Account(_) => "Account",
        What::ChangeAccount(_) => "ChangeAccount",
        What::SetConversation(_) => "SetConversation",
        What::HideEntries(_) => "HideEntries",
        What::Done(_) => "Done",
    }
}

/// Serves one request stream.
pub(crate) async fn serve(
    context: Arc<Context>,
    mut send: SendStream,
    mut incoming: Incoming,
    request: What,
) {
    let began = std::time::Instant::now();
    let name = name_of(&request);
    let answered = match request {
        What::Register(_) | What::Login(_) => {
            let gateway = &context.gateway;
            let source = context.connection.remote_address().ip();
            let taken = match request {
                What::Register(_) => gateway.doors.take_registration(source),
                _ => gateway.doors.take_login(source),
            };
            match taken {
                Ok(()) => before_sign_in(gateway, request).await,
                Err(retry_after_ms) => Err(Rejection::RateLimited { retry_after_ms }),
            }
        }
        request @ (What::FindUsers(_)
        | What::ListConversations(_)
        | What::ReadHistory(_)
        | What::SetBlock(_)
        | What::FetchDictionary(_)) => {
            let Some(session) = context.signed_in().await else { return };
            let Ok(_turn) = session.requests_under_way().try_acquire() else {
                let text = format!("at most {} requests at once", crate::session::REQUESTS_AT_ONCE);
                return stream::refuse(send, &mut incoming, Code::TooManyStreams, text).await;
            };
            let judged = admit(&context.gateway, session);
            match judged {
                Ok(()) => for_session(&context.gateway, session, request).await,
                Err(rejection) => Err(rejection),
            }
        }
        other => {
            let text = format!("{} does not begin a stream", name_of(&other));
            return stream::refuse(send, &mut incoming, Code::Unexpected, text).await;
        }
    };
    metrics::request(name, began.elapsed());
    match answered {
        Ok(mut frames) => {
            // The peer may be gone; then nobody waits for the answer.
            if send.write_all_chunks(&mut frames).await.is_ok() {
                send.finish().ok();
            }
        }
        Err(rejection) => {
            metrics::refused(translate::code(&rejection));
            stream::answer(send, translate::refusal(&rejection, 0)).await;
        }
    }
}

fn admit(gateway: &Gateway, session: &Session) -> Result<(), Rejection> {
    if clock::unix_ms() >= session.token_expires_ms() {
        return Err(Rejection::Reauthenticate);
    }
    session
        .take_request(gateway.rates.requests)
        .map_err(|retry_after_ms| Rejection::RateLimited { retry_after_ms })
}

async fn before_sign_in(gateway: &Gateway, request: What) -> Result<Vec<Bytes>, Rejection> {
    match request {
        What::Register(register) => self::register(gateway, register).await,
        What::Login(login) => self::login(gateway, &login).await,
        _ => Err(Rejection::Internal),
    }
}

async fn for_session(
    gateway: &Arc<Gateway>,
    session: &Arc<Session>,
    request: What,
) -> Result<Vec<Bytes>, Rejection> {
    match request {
        What::FindUsers(find) => find_users(gateway, find).await,
        What::ListConversations(list) => list_conversations(gateway, session, &list).await,
        What::ReadHistory(read) => read_history(gateway, session, &read).await,
        What::SetBlock(set) => set_block(gateway, session, &set).await,
        What::FetchDictionary(fetch) => fetch_dictionary(gateway, &fetch),
        _ => Err(Rejection::Internal),
    }
}

/// Makes the ids and the secret of a new account. The store gets only the secret's hash.
pub(crate) fn new_account(
    name: String,
    label: String,
) -> (NewAccount, [u8; limits::DEVICE_SECRET_BYTES]) {
    let mut secret = [0; limits::DEVICE_SECRET_BYTES];
    rand::rng().fill_bytes(&mut secret);
    let account = NewAccount {
        user: User::named(Uuid::now_v7().into(), name),
        device: Uuid::now_v7().into(),
        device_label: label,
        secret_hash: Sha256::digest(secret).into(),
        created_ms: clock::unix_ms(),
        password: None,
        outside: None,
    };
    (account, secret)
}

async fn register(gateway: &Gateway, register: wire::Register) -> Result<Vec<Bytes>, Rejection> {
    account::check_user_name(&register.user_name)?;
    account::check_device_label(&register.device_label)?;
    let (account, secret) = new_account(register.user_name, register.device_label);
    let made = gateway.store.register(&account).await.map_err(|error| unavailable(&error))?;
    if !made {
        return Err(Rejection::NameTaken);
    }
    Ok(vec![encode(&bare(What::Registered(wire::Registered {
        user: Bytes::copy_from_slice(account.user.id.as_bytes()),
        device: Bytes::copy_from_slice(account.device.as_bytes()),
        device_secret: Bytes::copy_from_slice(&secret),
    })))])
}

async fn login(gateway: &Gateway, login: &wire::Login) -> Result<Vec<Bytes>, Rejection> {
    let device = translate::id("device", &login.device, DeviceId::from_slice)?;
    let found = gateway.store.device(device).await.map_err(|error| unavailable(&error))?;
    // Both sides are hashes of random secrets: how long comparing takes tells nothing of use.
    let hash: [u8; 32] = Sha256::digest(&login.device_secret).into();
    let record = found.filter(|r| r.secret_hash == hash).ok_or(Rejection::WrongSecret)?;
    if record.revoked {
        return Err(Rejection::Revoked);
    }
    let (token, expires_ms) =
        gateway.tokens.issue(record.user.id, record.device, clock::unix_ms())?;
    Ok(vec![encode(&bare(What::Token(wire::Token { token, expires_ms })))])
}

async fn find_users(gateway: &Gateway, find: wire::FindUsers) -> Result<Vec<Bytes>, Rejection> {
    let asked = find.names.len() + find.users.len();
    if asked > limits::LOOKUP_MAX {
        return Err(Rejection::Invalid {
            field: "names",
            problem: format!("{asked} names and ids; at most {}", limits::LOOKUP_MAX),
        });
    }
    // A name that cannot be one is not found; it never reaches the store.
    let names: Vec<String> =
        find.names.into_iter().filter(|n| account::check_user_name(n).is_ok()).collect();
    let mut ids = Vec::with_capacity(find.users.len());
    for user in &find.users {
        ids.push(translate::id("users", user, UserId::from_slice)?);
    }
    let mut users = Vec::new();
    if !names.is_empty() {
        users = gateway.store.users_by_name(&names).await.map_err(|error| unavailable(&error))?;
    }
    if !ids.is_empty() {
        users.extend(gateway.store.users(&ids).await.map_err(|error| unavailable(&error))?);
    }
    let found = users.iter().map(|u| encode(&bare(What::UserFound(translate::user_found(u)))));
    Ok(found.chain([done(wire::Done::default())]).collect())
}

fn done(done: wire::Done) -> Bytes {
    encode(&bare(What::Done(done)))
}

async fn list_conversations(
    gateway: &Gateway,
    session: &Session,
    list: &wire::ListConversations,
) -> Result<Vec<Bytes>, Rejection> {
    let after = read_position(&list.page)?;
    let limit = bounded("limit", list.limit, LIST_PAGE_DEFAULT, limits::LIST_PAGE_MAX)?;
    let lines = gateway
        .store
        .list(session.user(), ListPage { after, since_ms: 0, limit })
        .await
        .map_err(|error| unavailable(&error))?;
    let next_page = match lines.last() {
        Some(last) if lines.len() == limit => write_position(last.last_activity_ms, last.id),
        _ => Bytes::new(),
    };
    let mut frames: Vec<Bytes> =
        lines.iter().map(|line| translate::summary(line, session.user())).collect();
    frames.push(done(wire::Done { next_page, head: 0 }));
    Ok(frames)
}

fn read_position(page: &[u8]) -> Result<Option<ListPosition>, Rejection> {
    if page.is_empty() {
        return Ok(None);
    }
    let invalid = || Rejection::Invalid { field: "page", problem: "not from a Done".to_owned() };
    let (time, id) = page.split_at_checked(8).ok_or_else(invalid)?;
    let time = u64::from_be_bytes(time.try_into().map_err(|_| invalid())?);
    Ok(Some(ListPosition {
        last_activity_ms: translate::seq("page", time)?.0,
        id: ConversationId::from_slice(id).ok_or_else(invalid)?,
    }))
}

fn write_position(last_activity_ms: u64, id: ConversationId) -> Bytes {
    [&last_activity_ms.to_be_bytes()[..], id.as_bytes()].concat().into()
}

fn bounded(
    field: &'static str,
    given: u32,
    default: usize,
    max: usize,
) -> Result<usize, Rejection> {
    match usize::try_from(given) {
        Ok(0) => Ok(default),
        Ok(n) if n <= max => Ok(n),
        _ => Err(Rejection::Invalid { field, problem: format!("{given}; at most {max}") }),
    }
}

async fn read_history(
    gateway: &Arc<Gateway>,
    session: &Session,
    read: &wire::ReadHistory,
) -> Result<Vec<Bytes>, Rejection> {
    let id = translate::id("conversation", &read.conversation, ConversationId::from_slice)?;
    let entries_max = bounded("limit", read.limit, HISTORY_PAGE_DEFAULT, limits::PAGE_ENTRIES_MAX)?;
    let (from, to) = (translate::seq("from", read.from)?, translate::seq("to", read.to)?);
    let cell = gateway.conversation(id).await?;
    let Some(cell) = cell else { return Err(Rejection::NotFound) };
    if gateway.store.is_shared() {
        // Another gateway may know of a newer head and other members.
        let standing = gateway.store.standing(id, &[]).await.map_err(|e| unavailable(&e))?;
        gateway.learn(&cell, &standing.ok_or(Rejection::NotFound)?).await?;
    } else if cell.with(|c| c.visible_to(session.user())).is_none_or(|v| v.is_err())
        && !gateway.reload(&cell).await
    {
        return Err(Rejection::Unavailable);
    }
    let ((first, until), head, floor) = cell
        .with(|c| c.visible_to(session.user()).map(|v| (v, c.head().0, c.floor())))
        .ok_or(Rejection::NotFound)??;
    let last = until.unwrap_or(head).min(head);
    let to = if to == Seq(0) { last } else { to.min(last) };
    let wanted = from.max(Seq(1));
    let from = wanted.max(first);
    let mut frames = Vec::new();
    if wanted < from && wanted <= to {
        frames.push(translate::gap(wanted, from.previous().min(to), GapReason::NotAMember));
    }
    if from <= to {
        let page =
            Page { from, to, entries_max, bytes_max: limits::PAGE_BYTES_MAX, newest: read.newest };
        let entries = gateway
            .store
            .entries(id, Some(session.user()), page)
            .await
            .map_err(|e| unavailable(&e))?;
        let begins = match entries.first() {
            Some(entry) if read.newest => entry.placed.seq,
            _ => from,
        };
        frames.extend(page_frames(&entries, begins, floor)?.0);
    }
    frames.push(done(wire::Done { next_page: Bytes::new(), head: head.0 }));
    Ok(frames)
}

async fn set_block(
    gateway: &Gateway,
    session: &Session,
    set: &wire::SetBlock,
) -> Result<Vec<Bytes>, Rejection> {
    let other = translate::id("user", &set.user, UserId::from_slice)?;
    if other == session.user() {
        return Err(Rejection::Invalid { field: "user", problem: "that is you".to_owned() });
    }
    let done_it = gateway.store.set_block(session.user(), other, set.blocks).await;
    if !done_it.map_err(|error| unavailable(&error))? {
        return Err(Rejection::NotFound);
    }
    let id = ConversationId::of_pair(session.user(), other);
    if let Some(cell) = gateway.conversations.cached(id) {
        // Should it fail, the next send is found stale by the store and judged again.
        gateway.reload(&cell).await;
    }
    Ok(vec![done(wire::Done::default())])
}

fn fetch_dictionary(
    gateway: &Gateway,
    fetch: &wire::FetchDictionary,
) -> Result<Vec<Bytes>, Rejection> {
    let found = gateway.dictionaries.bytes(fetch.version);
    let dictionary = found.ok_or_else(|| Rejection::Invalid {
        field: "version",
        problem: format!("there is no dictionary {}", fetch.version),
    })?;
    let part = |bytes: &[u8]| {
        let mut frame = bare(What::Dictionary(wire::Dictionary {}));
        frame.body = Bytes::copy_from_slice(bytes);
        encode(&frame)
    };
    let parts = dictionary.chunks(DICTIONARY_PART_BYTES).map(part);
    Ok(parts.chain([done(wire::Done::default())]).collect())
}
