//! One connection: let in or turned away, its handshake and sign-in within the time allowed, streams
//! accepted from the first flight to the end.

use std::future::ready;
use std::sync::Arc;

use futures_util::future::join;
use petrel_proto::code::Code;
use petrel_proto::wire::frame::What;
use petrel_transport::{Connection, ConnectionError, Kind, RecvStream, SendStream};
use quinn::{Incoming, ZeroRttAccepted};
use tokio::sync::SetOnce;
use tokio::time::{Instant, sleep_until, timeout};

use crate::doors::{Doors, Handshake, Place, TurnedAway};
use crate::early::Gate;
use crate::gateway::Gateway;
use crate::intake::Intake;
use crate::session::Session;
use crate::{datagram, metrics, stream};

/// Streams that a connection may have open before sign-in.
pub(crate) const STREAMS_BEFORE_SIGN_IN: u32 = 16;
/// Streams that a signed-in client may have open while it has opened few of them. quinn keeps a
/// slot for each stream that is allowed, in tables that double: with 28, and what the server opens
/// left out, they are as small as with 16; with 29 they are twice as large.
const STREAMS_WHILE_FEW: u32 = 28;

/// What the tasks of one connection share.
#[derive(Debug)]
pub(crate) struct Context {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The connection.
    pub connection: Connection,
    /// Whether its handshake is done.
    pub gate: Gate,
    /// Set by the control stream at sign-in; streams that came early wait for it.
    pub session: SetOnce<Arc<Session>>,
    /// Whether a session that began before the handshake was done is known to all others.
    pub is_in: Gate,
    /// What its streams may hold and do together.
    pub intake: Arc<Intake>,
}

impl Context {
    /// Streams of the client that are being read: the task of each holds this context.
    fn streams_open(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 1
    }

    /// The session, once there is one; `None` if the connection ends before.
    pub(crate) async fn signed_in(&self) -> Option<&Arc<Session>> {
        tokio::select! {
            session = self.session.wait() => Some(session),
            _ = self.connection.closed() => None,
        }
    }

    /// Waits until the handshake is done; `false` if the connection ends before.
    pub(crate) async fn is_proven(&self) -> bool {
        self.is_opened(&self.gate).await
    }

    async fn is_opened(&self, gate: &Gate) -> bool {
        tokio::select! {
            biased;
            () = gate.opened() => true,
            _ = self.connection.closed() => false,
        }
    }

    /// The session, once there is one that is told what others do: what is stored after a request of it has read
    /// is pushed. `None` if the connection ends before.
    pub(crate) async fn entered(&self) -> Option<&Arc<Session>> {
        let session = self.signed_in().await?;
        let is_in = !session.is_early() || self.is_opened(&self.is_in).await;
        is_in.then_some(session)
    }

    /// Waits until that may be done which a stream begins with: all but Hello and Attach after the
    /// handshake only. `false` if the connection ends before.
    pub(crate) async fn may_begin(&self, what: &What) -> bool {
        if self.gate.is_open() {
            return true;
        }
        if matches!(what, What::Hello(_) | What::Attach(_)) {
            metrics::early(metrics::Early::Executed);
            return true;
        }
        metrics::early(metrics::Early::Waited);
        self.is_proven().await
    }
}

/// Closes a connection when a task of it panics, so that the client starts anew instead of
/// waiting for what does not come; nobody else notices. Each task of a connection holds one.
#[derive(Debug)]
pub(crate) struct Fuse(Connection);

impl Fuse {
    /// Of the connection that the task belongs to.
    pub(crate) fn of(connection: &Connection) -> Self {
        Self(connection.clone())
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let code = Code::Internal;
            let close = || self.0.close(code.number(), code.label().as_bytes());
            // If the panic came from inside the connection, it is no more to be closed, and a second one here would end the
            // process.
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(close)).ok();
        }
    }
}

/// Lets a connection attempt in or turns it away, before any cryptography is done for it. The first
/// and dearest part of the handshake is done here and now, by the one task that accepts, and not by
/// as many tasks as there are attempts: in a storm of them all others wait for one at the most. Beside chat
/// each waits for its turn; who is turned away or has to prove its address does not.
pub(crate) async fn admit(gateway: &Arc<Gateway>, incoming: Incoming) {
    let source = incoming.remote_address().ip();
    let entered = Doors::enter(gateway, source, incoming.remote_address_validated());
    let (place, counted) = match entered {
        Ok(places) => places,
        Err(TurnedAway::Retry) => {
            metrics::get().retries.increment(1);
            // It cannot fail for an address that is not validated; if it does, we are full for it.
            return incoming.retry().unwrap_or_else(|error| error.into_incoming().ignore());
        }
        Err(TurnedAway::Refuse(reason)) => {
            metrics::connection_refused(Kind::Quic, reason);
            return incoming.refuse();
        }
        Err(TurnedAway::Ignore(reason)) => {
            metrics::connection_refused(Kind::Quic, reason);
            return incoming.ignore();
        }
    };
    if incoming.remote_address_validated() {
        metrics::address_known();
    }
    gateway.pace.turn().await;
    let began = std::time::Instant::now();
    match incoming.accept() {
        Ok(connecting) => {
            // Of a server's connection this never fails: streams of the first flight are accepted before
            // the handshake is done, and what they say is bounded by the gate.
            let Ok((connection, done)) = connecting.into_0rtt() else { return };
            let proof = Proof { done, _counted: counted };
            let beginning = ready(Some((connection.into(), Some(proof))));
            gateway.tasks.spawn(run(Arc::clone(gateway), beginning, began, Some(place)));
        }
        Err(error) => handshake_failed(Kind::Quic, &error),
    }
}

/// A handshake came to nothing.
pub(crate) fn handshake_failed(kind: Kind, error: &dyn std::fmt::Display) {
    metrics::connection_refused(kind, "handshake");
    tracing::debug!(%kind, %error, "a handshake failed");
}

/// A connection that is begun, and what is still to come of its handshake.
pub(crate) type Begun = (Connection, Option<Proof>);

/// The handshake of a connection that is served already.
pub(crate) struct Proof {
    done: ZeroRttAccepted,
    _counted: Handshake,
}

/// Serves a connection from its beginning to its end. Its place is held here, or by who holds the
/// socket.
pub(crate) fn run(
    gateway: Arc<Gateway>,
    beginning: impl Future<Output = Option<Begun>> + Send + 'static,
    began: std::time::Instant,
    place: Option<Place>,
) -> impl Future<Output = ()> + Send {
    // Boxed: an idle connection is not to keep room for its beginning.
    let beginning = Box::pin(begin(gateway, beginning, began));
    async move {
        let _place = place;
        let Some(connected) = beginning.await else { return };
        let Connected { context, began, mut code } = connected;
        let _fuse = Fuse::of(&context.connection);
        if code.is_none() {
            join(accept_streams(&context), datagram::read(&context)).await;
        }
        if let Some(code) = code.take() {
            context.connection.close(code.number(), code.label().as_bytes());
        }
        if let Some(session) = context.session.get() {
            context.gateway.leave(session);
            session.queue().end(Code::Ok);
        }
        let reason = context.connection.close_reason();
        metrics::connection_closed(context.connection.kind(), reason.as_ref());
        tracing::debug!(
            reason = reason.map(|r| r.to_string()),
            seconds = began.elapsed().as_secs(),
            "connection closed"
        );
    }
}

/// A connection after its handshake and sign-in.
struct Connected {
    context: Arc<Context>,
    began: std::time::Instant,
    /// With which code it has to be closed, if nobody signed in.
    code: Option<Code>,
}

/// The handshake, and what comes until it is done and somebody has signed in.
async fn begin(
    gateway: Arc<Gateway>,
    beginning: impl Future<Output = Option<Begun>> + Send,
    began: std::time::Instant,
) -> Option<Connected> {
    let (connection, proof) = beginning.await?;
    let _fuse = Fuse::of(&connection);
    let intake = Arc::new(Intake::new(Arc::clone(&gateway), connection.clone()));
    let context = Arc::new(Context {
        gateway,
        connection,
        gate: Gate::default(),
        session: SetOnce::new(),
        is_in: Gate::default(),
        intake,
    });
    let accepting = async {
        let mut is_first = true;
        while let Ok((send, recv)) = context.connection.accept_bi().await {
            if std::mem::take(&mut is_first) && !context.gate.is_open() {
                metrics::early_data(metrics::EarlyData::Accepted);
            }
            give_way(&context).await;
            spawn_stream(&context, send, recv);
        }
    };
    let dropping = datagram::forget(&context.connection);
    let signing_in = async {
        if !prove(&context, proof, began).await {
            return None;
        }
        let allowed = context.gateway.config.gateway.sign_in_timeout.duration();
        tokio::select! {
            _ = context.session.wait() => Some(None),
            () = sleep_until(Instant::now() + allowed) => Some(Some(Code::SignInTimeout)),
        }
    };
    let outcome = tokio::select! {
        // The handshake's end says more than that no stream comes any more.
        biased;
        outcome = signing_in => outcome,
        // Nothing is left to accept from: the connection is gone.
        _ = join(accepting, dropping) => Some(None),
    };
    match outcome {
        Some(code) => Some(Connected { context, began, code }),
        None => {
            // A session that began with the first flight goes with it; nobody had been told of it.
            context.connection.close(0, b"");
            None
        }
    }
}

/// Waits for the end of the handshake, and opens the gate. `false` if it fails.
async fn prove(context: &Context, proof: Option<Proof>, began: std::time::Instant) -> bool {
    let kind = context.connection.kind();
    if let Some(proof) = proof {
        let allowed = context.gateway.config.gateway.handshake_timeout.duration();
        // What the future resolves to means something to clients alone.
        if timeout(allowed, proof.done).await.is_err() {
            metrics::connection_refused(kind, "handshake_timeout");
            return false;
        }
        match context.connection.close_reason() {
            None => {}
            Some(ConnectionError::ApplicationClosed { .. }) if has_keys(&context.connection) => {}
            Some(error) => {
                handshake_failed(kind, &error);
                return false;
            }
        }
    }
    metrics::connection_accepted(kind);
    metrics::get().handshake.record(began.elapsed());
    context.gate.open();
    true
}

/// Whether the handshake came to its end before the connection did. A client may well close the
/// connection right after; but so can whoever sends its first flight again, in a packet of the handshake's
/// beginning, whose keys are known to everybody (RFC 9001, section 5.2).
fn has_keys(connection: &Connection) -> bool {
    let exported = |quic: &quinn::Connection| {
        quic.export_keying_material(&mut [0; 32], b"EXPORTER-petrel-gate", b"").is_ok()
    };
    connection.quic().is_none_or(exported)
}

/// Accepts the streams of a signed-in client until its connection ends. It is allowed more once it
/// has half of what it may have.
async fn accept_streams(context: &Arc<Context>) {
    let all = streams_allowed(context.gateway.config.gateway.streams_max.to_u32());
    let mut allowed = all.min(STREAMS_WHILE_FEW);
    let connection = &context.connection;
    connection.set_streams_max(allowed);
    while let Ok((send, recv)) = connection.accept_bi().await {
        give_way(context).await;
        spawn_stream(context, send, recv);
        if allowed < all && context.streams_open() >= allowed as usize / 2 {
            allowed = all;
            connection.set_streams_max(allowed);
        }
    }
}

/// Streams that QUIC allows a client with so many conversations in use: the control stream and requests
/// come on top, and what quinn keeps back. It tells of streams that are over only when they are more
/// than an eighth of all; a client that finishes one for each that it opens would wait for ever.
const fn streams_allowed(conversations: u32) -> u32 {
    let in_use = conversations + 1 + crate::session::REQUESTS_AT_ONCE;
    in_use + in_use / 7 + 2
}

/// Waits while the client opens streams faster than it may.
async fn give_way(context: &Context) {
    while let Some(wait) = context.intake.take_stream() {
        // Boxed: it is rare, and an idle connection is not to keep room for it.
        Box::pin(tokio::time::sleep(wait)).await;
    }
}

fn spawn_stream(context: &Arc<Context>, send: SendStream, recv: RecvStream) {
    metrics::get().streams.increment(1);
    context.gateway.tasks.spawn(stream::accepted(Arc::clone(context), send, recv));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_back_of_credit_is_less_than_what_is_allowed_on_top() {
        for conversations in 4..=1_024 {
            let all = streams_allowed(conversations);
            let in_use = conversations + 1 + crate::session::REQUESTS_AT_ONCE;
            assert!(all - in_use > all / 8, "{conversations}: {all}");
        }
    }
}
