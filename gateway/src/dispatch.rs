//! Request streams: one request, its answers, the end. What is asked is answered in the files
//! here, by topic.

mod account;
pub(crate) mod group;
mod list;
mod member;
mod name;
mod page;
mod relation;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use petrel_core::error::Rejection;
use petrel_proto::code::Code;
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, frame::What};
use petrel_transport::SendStream;

use crate::connection::Context;
use crate::gateway::Gateway;
use crate::session::Session;
use crate::stream::{self, Incoming};
use crate::{clock, metrics, translate};

pub(crate) use name::name_of;

/// Bytes of a dictionary in one frame.
const DICTIONARY_PART_BYTES: usize = 16 * 1024;

/// The first frame of a request stream.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The header's id: the request's name, if it carries one.
    pub id: Bytes,
    /// What is asked.
    pub what: What,
}

/// Serves one request stream.
pub(crate) async fn serve(
    context: Arc<Context>,
    mut send: SendStream,
    mut incoming: Incoming,
    asked: Asked,
) {
    let Asked { id, what: request } = asked;
    let began = std::time::Instant::now();
    let name = name_of(&request);
    let answered = match request {
        What::Register(_)
        | What::Login(_)
        | What::LogInWithPassword(_)
        | What::LogInWithToken(_) => {
            let gateway = &context.gateway;
            let source = context.connection.remote_address().ip();
            let taken = match request {
                What::Register(_) => gateway.doors.take_registration(source),
                _ => gateway.doors.take_login(source),
            };
            match taken {
                Ok(()) => before_sign_in(gateway, source, request).await,
                Err(retry_after_ms) => Err(Rejection::RateLimited { retry_after_ms }),
            }
        }
        request @ (What::FindUsers(_)
        | What::ListConversations(_)
        | What::ReadHistory(_)
        | What::FetchDictionary(_)
        | What::CreateGroup(_)
        | What::GetGroup(_)
        | What::ChangeGroup(_)
        | What::JoinGroup(_)
        | What::MakeLink(_)
        | What::RevokeLink(_)
        | What::ListLinks(_)
        | What::ListMembers(_)
        | What::ListJoinRequests(_)
        | What::ReadBy(_)
        | What::ChangeContact(_)
        | What::ListContacts(_)
        | What::AddDevice(_)
        | What::ChangePassword(_)
        | What::ListDevices(_)
        | What::RevokeDevice(_)
        | What::GetAccount(_)
        | What::ChangeAccount(_)
        | What::SetConversation(_)
        | What::HideEntries(_)) => {
            let Some(session) = context.entered().await else { return };
            let Ok(_turn) = session.requests_under_way().try_acquire() else {
                let text = format!("at most {} requests at once", crate::session::REQUESTS_AT_ONCE);
                return stream::refuse(send, &mut incoming, Code::TooManyStreams, text).await;
            };
            let judged = admit(&context.gateway, session);
            match judged {
                Ok(()) => for_session(&context.gateway, session, &id, request).await,
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
            let is_page = frames.iter().map(Bytes::len).sum::<usize>() > page::BYTES_MIN;
            let written = if is_page {
                page::write(&context.connection, &mut send, frames).await
            } else {
                send.write_all_chunks(&mut frames).await
            };
            // The peer may be gone; then nobody waits for the answer.
            if written.is_ok() {
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

async fn before_sign_in(
    gateway: &Arc<Gateway>,
    source: IpAddr,
    request: What,
) -> Result<Vec<Bytes>, Rejection> {
    match request {
        What::Register(register) => account::register(gateway, register).await,
        What::Login(login) => account::login(gateway, &login).await,
        What::LogInWithPassword(log_in) => {
            account::log_in_with_password(gateway, source, log_in).await
        }
        What::LogInWithToken(log_in) => account::log_in_with_token(gateway, source, log_in).await,
        _ => Err(Rejection::Internal),
    }
}

async fn for_session(
    gateway: &Arc<Gateway>,
    session: &Arc<Session>,
    id: &Bytes,
    request: What,
) -> Result<Vec<Bytes>, Rejection> {
    match request {
        What::FindUsers(find) => account::find_users(gateway, find).await,
        What::ListConversations(list) => list::list_conversations(gateway, session, &list).await,
        What::ReadHistory(read) => list::read_history(gateway, session, &read).await,
        What::FetchDictionary(fetch) => fetch_dictionary(gateway, &fetch),
        What::CreateGroup(create) => group::create(gateway, session, id, create).await,
        What::GetGroup(get) => member::get_group(gateway, session, &get).await,
        What::ChangeGroup(change) => group::change(gateway, session, id, change).await,
        What::JoinGroup(join) => group::join(gateway, session, id, join).await,
        What::MakeLink(make) => group::make_link(gateway, session, id, make).await,
        What::RevokeLink(revoke) => group::revoke_link(gateway, session, id, revoke).await,
        What::ListLinks(list) => member::list_links(gateway, session, &list).await,
        What::ListMembers(list) => member::list_members(gateway, session, &list).await,
        What::ListJoinRequests(list) => member::list_join_requests(gateway, session, &list).await,
        What::ReadBy(read) => member::read_by(gateway, session, &read).await,
        What::ChangeContact(change) => relation::change_contact(gateway, session, id, change).await,
        What::ListContacts(list) => relation::list_contacts(gateway, session, &list).await,
        What::AddDevice(add) => account::add_device(gateway, session, add).await,
        What::ChangePassword(change) => {
            account::change_password(gateway, session, id, change).await
        }
        What::ListDevices(_) => account::list_devices(gateway, session).await,
        What::RevokeDevice(revoke) => account::revoke_device(gateway, session, id, revoke).await,
        What::GetAccount(_) => account::get_account(gateway, session).await,
        What::ChangeAccount(change) => account::change_account(gateway, session, id, change).await,
        What::SetConversation(set) => member::set_conversation(gateway, session, id, set).await,
        What::HideEntries(hide) => member::hide_entries(gateway, session, id, hide).await,
        _ => Err(Rejection::Internal),
    }
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

fn done(done: wire::Done) -> Bytes {
    encode(&bare(What::Done(done)))
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
