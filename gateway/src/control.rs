//! The control stream: sign-in, token refresh, the end of the session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use petrel_core::error::Rejection;
use petrel_core::id::ConversationId;
use petrel_core::limits;
use petrel_core::store::Receipt;
use petrel_proto::code::Code;
use petrel_proto::wire::{self, frame::What};
use petrel_proto::{frame, version};
use petrel_transport::{Kind, SendStream};
use tokio::task::JoinHandle;

use crate::auth::Identity;
use crate::connection::{Context, Fuse};
use crate::gateway::Gateway;
use crate::metrics::Excess;
use crate::send_queue::SendQueue;
use crate::session::Session;
use crate::stream::{self, End, Incoming, Phase};
use crate::{clock, dispatch, metrics, session_writer, translate};

/// Bytes of the client's name for itself, at the most.
const AGENT_BYTES_MAX: usize = 64;

/// Takes the session out of the table when the control stream ends, however it ends.
struct SignedIn {
    gateway: Arc<Gateway>,
    session: Arc<Session>,
}

impl Drop for SignedIn {
    fn drop(&mut self) {
        self.gateway.leave(&self.session);
        self.session.queue().end(Code::Ok);
    }
}

/// Answers Hello; after a Welcome the control stream is served until it or the connection ends.
pub(crate) async fn begin(
    context: Arc<Context>,
    mut send: SendStream,
    mut incoming: Incoming,
    hello: wire::Hello,
) -> Option<Phase> {
    let session = match sign_in(&context, &hello).await {
        Ok(session) => session,
        Err(rejection) => {
            let code = translate::code(&rejection);
            metrics::sign_in(Some(code));
            incoming.stop(code);
            stream::answer(send, translate::refusal(&rejection, 0)).await;
            return None;
        }
    };
    let gateway = Arc::clone(&context.gateway);
    let signed_in = SignedIn { gateway, session };
    let welcome = welcome(&signed_in.gateway, &signed_in.session, &hello);
    send.write_chunk(welcome).await.ok()?;
    Phase::then(confirm(context, signed_in, send, incoming, hello.receipts))
}

/// Lets the session's streams go on. Nobody else is told of it, and nothing of the control stream is
/// read, before the connection's handshake is done.
async fn confirm(
    context: Arc<Context>,
    signed_in: SignedIn,
    send: SendStream,
    incoming: Incoming,
    receipts: Vec<wire::OwnReceipt>,
) -> Option<Phase> {
    let (gateway, session) = (&signed_in.gateway, &signed_in.session);
    let writer = session_writer::run(Arc::clone(gateway), Arc::clone(session), send);
    let writing = gateway.tasks.spawn(writer);
    // From here on the session is known to streams that waited for it.
    if context.session.set(Arc::clone(session)).is_err() {
        session.queue().end(Code::ProtocolViolation);
    }
    if session.is_early() {
        if !context.is_proven().await {
            return None;
        }
        if let Err(rejection) = enter(gateway, session).await {
            let code = translate::code(&rejection);
            metrics::sign_in(Some(code));
            session.queue().end(code);
            writing.await.ok();
            return None;
        }
        // Fan-out knows it now; what was said since its streams attached is read from the store.
        session.queue().proven();
        let held = session.release_receipts();
        context.is_in.open();
        spawn_receipts(gateway, session, held);
    }
    metrics::sign_in(None);
    tracing::debug!(session = %session.id(), user = %session.user(), "signed in");
    spawn_receipts(gateway, session, readable(receipts));
    Phase::last(serve(context, signed_in, writing, incoming))
}

/// What stays of a session's stream while the client is idle, so it is kept small.
#[allow(clippy::manual_async_fn, reason = "a function's future would hold what it is given twice")]
fn serve(
    context: Arc<Context>,
    signed_in: SignedIn,
    writing: JoinHandle<()>,
    mut incoming: Incoming,
) -> impl Future<Output = ()> + Send {
    async move {
        // It counts the streams that are read.
        let _context = context;
        let (gateway, session) = (&signed_in.gateway, &signed_in.session);
        incoming.set_max(limits::UNAUTHENTICATED_FRAME_BYTES_MAX);
        let code = read(gateway, session, &mut incoming).await;
        session.queue().end(code);
        writing.await.ok();
    }
}

async fn sign_in(context: &Context, hello: &wire::Hello) -> Result<Arc<Session>, Rejection> {
    if context.session.get().is_some() {
        return Err(Rejection::Invalid {
            field: "hello",
            problem: "this connection is signed in already".to_owned(),
        });
    }
    if hello.receipts.len() > limits::HELLO_RECEIPTS_MAX {
        return Err(Rejection::Invalid {
            field: "receipts",
            problem: format!("{}; at most {}", hello.receipts.len(), limits::HELLO_RECEIPTS_MAX),
        });
    }
    if hello.agent.len() > AGENT_BYTES_MAX {
        return Err(Rejection::Invalid {
            field: "agent",
            problem: format!("{} bytes; at most {AGENT_BYTES_MAX}", hello.agent.len()),
        });
    }
    let gateway = &context.gateway;
    let identity = gateway.tokens.verify(&hello.token)?;
    let settings = &gateway.config.gateway;
    let bytes_max = usize::try_from(settings.send_queue.0).unwrap_or(usize::MAX);
    let queue = SendQueue::new(bytes_max, settings.streams_max.to_usize() * 2);
    let is_early = !context.gate.is_open();
    let session = Arc::new(Session::new(
        &identity,
        is_early,
        context.connection.clone(),
        queue,
        gateway.budget.session_share(),
        Arc::clone(&context.intake),
        &features(gateway, context.connection.kind(), hello),
    ));
    if hello.background {
        gateway.begin_in_background(&session);
    }
    if is_early {
        session.queue().wait_for_proof();
        gateway.check_device(session.device()).await?;
    } else {
        enter(gateway, &session).await?;
    }
    Ok(session)
}

/// Makes a session known to all others.
async fn enter(gateway: &Gateway, session: &Arc<Session>) -> Result<(), Rejection> {
    if !gateway.enter(session) {
        return Err(Rejection::Overloaded { what: "this user's sessions here" });
    }
    // Once it is in the table: a device that is revoked from here on is found there.
    if let Err(rejection) = gateway.check_device(session.device()).await {
        gateway.leave(session);
        return Err(rejection);
    }
    if session.is_attentive() {
        gateway.seen.note(session.device());
    }
    Ok(())
}

/// What both sides have.
fn features(gateway: &Gateway, kind: Kind, hello: &wire::Hello) -> Vec<&'static str> {
    let mut common = version::common_features(hello.features.iter().map(String::as_str));
    // On TCP the kernel sends again what was lost, and a copy would stand behind it.
    let echo = gateway.config.gateway.echo && kind == Kind::Quic;
    common.retain(|feature| *feature != version::FEATURE_ECHO || echo);
    common
}

fn welcome(gateway: &Gateway, session: &Session, hello: &wire::Hello) -> Bytes {
    frame::encode(&frame::bare(What::Welcome(wire::Welcome {
        server_time_ms: clock::unix_ms(),
        session: Bytes::copy_from_slice(session.id().as_bytes()),
        user: Bytes::copy_from_slice(session.user().as_bytes()),
        features: features(gateway, session.connection().kind(), hello)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        dictionaries: gateway.dictionaries.versions(),
        body_bytes_max: u32::try_from(limits::BODY_BYTES_MAX).unwrap_or(u32::MAX),
        streams_max: gateway.config.gateway.streams_max.to_u32(),
        token_expires_ms: session.token_expires_ms(),
        log: Bytes::copy_from_slice(ConversationId::of_user(session.user()).as_bytes()),
        idle_timeout_ms: u32::try_from(gateway.config.gateway.idle_timeout.0).unwrap_or(u32::MAX),
    })))
}

/// Reads the control stream to its end; says with which code the session ends.
async fn read(gateway: &Gateway, session: &Arc<Session>, incoming: &mut Incoming) -> Code {
    loop {
        let next = incoming.next().await;
        if next.is_ok() {
            // They share the rate of requests. Boxed: it is rare that one waits.
            while let Err(wait_ms) = session.take_request(gateway.rates.requests) {
                metrics::excess(Excess::Control);
                Box::pin(tokio::time::sleep(Duration::from_millis(wait_ms))).await;
            }
        }
        match next {
            Ok((_, What::Refresh(refresh))) => {
                let answer = match refreshed(gateway, session, &refresh.token).await {
                    Ok(identity) => frame::encode(&frame::bare(What::Token(wire::Token {
                        token: String::new(),
                        expires_ms: identity.expires_ms(),
                    }))),
                    Err(rejection) => {
                        metrics::refused(translate::code(&rejection));
                        translate::refusal(&rejection, 0)
                    }
                };
                session.queue().put_control(answer);
            }
            Ok((_, What::WatchPresence(watch))) => {
                if let Err(rejection) = gateway.presence.watch(session, &watch.users) {
                    metrics::refused(translate::code(&rejection));
                    session.queue().put_control(translate::refusal(&rejection, 0));
                }
            }
            Ok((_, What::Attention(said))) if gateway.hear_attention(session, said.background) => {}
            Ok((_, what)) => {
                let text =
                    format!("{} has no place on the control stream", dispatch::name_of(&what));
                metrics::refused(Code::Unexpected);
                session.queue().put_control(translate::refusal_of(Code::Unexpected, text));
                return Code::ProtocolViolation;
            }
            Err(End::Broken(error)) => {
                let code = stream::broken_code(&error);
                metrics::refused(code);
                session.queue().put_control(translate::refusal_of(code, error.to_string()));
                return Code::ProtocolViolation;
            }
            Err(End::Finished | End::Gone | End::NoRoom) => return Code::Ok,
        }
    }
}

async fn refreshed(
    gateway: &Gateway,
    session: &Session,
    token: &str,
) -> Result<Identity, Rejection> {
    let identity = gateway.tokens.verify(token)?;
    gateway.check_device(identity.device()).await?;
    if session.refresh(&identity) {
        return Ok(identity);
    }
    Err(Rejection::TokenInvalid { problem: "it is another user's or device's" })
}

/// The receipts that a Hello carries, as far as they can be read.
fn readable(receipts: Vec<wire::OwnReceipt>) -> Vec<(ConversationId, Receipt)> {
    let read = |own: wire::OwnReceipt| {
        let id = ConversationId::from_slice(&own.conversation)?;
        Some((id, translate::receipt(own.delivered, own.read).ok()?))
    };
    receipts.into_iter().filter_map(read).collect()
}

/// Applies receipts; those that are not allowed are left out.
fn spawn_receipts(
    gateway: &Arc<Gateway>,
    session: &Arc<Session>,
    receipts: Vec<(ConversationId, Receipt)>,
) {
    if receipts.is_empty() {
        return;
    }
    let (gateway, user) = (Arc::clone(gateway), session.user());
    let fuse = Fuse::of(session.connection());
    let tasks = gateway.tasks.clone();
    tasks.spawn(async move {
        let _fuse = fuse;
        for (id, receipt) in receipts {
            if let Ok(Some(cell)) = gateway.conversation(id).await
                && cell.with(|c| c.is_member(user)).unwrap_or(false)
            {
                gateway.receipts.raise(&cell, user, receipt);
            }
        }
    });
}
