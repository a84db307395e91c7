//! Staying signed in: dial, Hello, the control stream, and dialing again.

mod sign_in;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use petrel_proto::code::{Action, Code};
use petrel_proto::frame::bare;
use petrel_proto::version::{FEATURE_ECHO, FEATURES};
use petrel_proto::wire::{self, frame::What};
use petrel_transport::{Connection, ConnectionError, SendStream};
use tokio::sync::mpsc;

use crate::backoff::{Backoff, jittered};
use crate::control;
use crate::datagram;
use crate::error::ClientError;
use crate::event::{Event, OfflineReason};
use crate::frames::{FrameSource, StreamEnd};
use crate::id::{ConversationId, UserId};
use crate::identity::Token;
use crate::incoming;
use crate::keep_alive;
use crate::line::Line;
use crate::presence;
use crate::request;
use crate::shared::{Phase, Shared};
use crate::state::unix_ms;
use crate::tend;
use crate::way_back;

/// Receipts in one Hello, at the most (the protocol's limit).
const HELLO_RECEIPTS_MAX: usize = 256;
/// How long sign-in may take.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that held this long ends the series of failures.
const STEADY: Duration = Duration::from_secs(10);
/// How long a connection that is replaced may finish what is under way.
const LINGER: Duration = Duration::from_secs(5);
/// A token is used only if it holds this much longer, in milliseconds.
const TOKEN_LEFT_MS: u64 = 10_000;

/// A connection that is signed in.
pub(crate) struct SignedIn {
    connection: Connection,
    control: FrameSource,
    hello: SendStream,
}

/// Why it is over, and what to do.
pub(crate) struct Ended {
    pub(crate) why: OfflineReason,
    pub(crate) next: Next,
}

pub(crate) enum Next {
    /// Dial again, after the back-off's wait or this one, if it is longer.
    Again(Duration),
    /// Dial now; the old connection goes on meanwhile.
    HandOver,
    /// Go on with this connection, which answered while the old one was silent.
    Moved(Box<SignedIn>),
    Stop,
}

/// Keeps the client online until it is cancelled or has to give up.
pub(crate) async fn run(shared: Arc<Shared>) {
    let cancel = shared.cancel.clone();
    let session = Session {
        line: Line::new(shared.options.dialer.clone(), shared.tasks.clone()),
        token: Mutex::new(shared.options.token.clone()),
        shared: Arc::clone(&shared),
    };
    let stopped = tokio::select! {
        why = session.keep_online() => Some(why),
        () = cancel.cancelled() => None,
    };
    let connection = shared.state.lock().connection.clone();
    if let Some(connection) = connection {
        connection.close(0, b"");
    }
    let why = stopped.unwrap_or_else(|| OfflineReason::Lost("closed by the application".into()));
    let error = match &why {
        OfflineReason::SignInRefused(code, text) => {
            ClientError::Refused { code: *code, text: text.clone(), retry_after_ms: 0 }
        }
        OfflineReason::Closed(code) => ClientError::Refused {
            code: *code,
            text: match code {
                Code::Revoked => "this device was signed out for good",
                _ => "the connection was closed",
            }
            .to_owned(),
            retry_after_ms: 0,
        },
        OfflineReason::Lost(_) => ClientError::Closed,
    };
    let event = Event::Offline { why, retry_in: None };
    shared.disconnected(event, Phase::Stopped(error));
    shared.events.end();
    session.line.finish().await;
}

pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) line: Line,
    token: Mutex<Option<Token>>,
}

/// Receipts that go out with a Hello. What becomes of them is noted also when nobody waits for the
/// Welcome any more.
struct SaidReceipts<'a> {
    shared: &'a Shared,
    receipts: Vec<(ConversationId, u64, u64)>,
    are_taken: bool,
}

impl Drop for SaidReceipts<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().receipts_said(&self.receipts, self.are_taken);
        self.shared.timer.notify_one();
    }
}

impl Session {
    async fn keep_online(&self) -> OfflineReason {
        let options = &self.shared.options;
        let mut backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let mut handed_over: Option<SignedIn> = None;
        let mut moved: Option<SignedIn> = None;
        loop {
            let connected = match moved.take() {
                Some(signed_in) => Ok(signed_in),
                // What is under way on a connection that is still good is not put at stake.
                None => self.connect(handed_over.is_none()).await,
            };
            let ended = match connected {
                Ok(mut signed_in) => {
                    if let Some(old) = handed_over.take() {
                        self.linger(old);
                    }
                    let since = Instant::now();
                    let ended = self.serve(&mut signed_in).await;
                    if since.elapsed() >= STEADY {
                        backoff.reset();
                    }
                    if matches!(ended.next, Next::HandOver) {
                        handed_over = Some(signed_in);
                        continue;
                    }
                    signed_in.connection.close(0, b"");
                    ended
                }
                Err(ended) => ended,
            };
            if let Some(old) = handed_over.take() {
                self.linger(old);
            }
            let at_least = match ended.next {
                Next::Again(at_least) => at_least,
                Next::Moved(signed_in) => {
                    moved = Some(*signed_in);
                    continue;
                }
                Next::HandOver | Next::Stop => return ended.why,
            };
            backoff.set_max(self.shared.backoff_max());
            let wait = backoff.next(rand::random()).max(at_least);
            tracing::debug!(why = %ended.why, ?wait, "offline");
            let event = Event::Offline { why: ended.why, retry_in: Some(wait) };
            self.shared.disconnected(event, Phase::Connecting);
            self.shared.events.room().await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shared.dial_now.notified() => {}
            }
        }
    }

    /// Lets a connection that was replaced finish what is under way.
    fn linger(&self, old: SignedIn) {
        let cancel = self.shared.cancel.clone();
        self.shared.tasks.spawn(async move {
            tokio::select! {
                _ = old.connection.closed() => {}
                () = tokio::time::sleep(LINGER) => {}
                () = cancel.cancelled() => {}
            }
            old.connection.close(0, b"");
            drop((old.control, old.hello));
        });
    }

    /// Dials and signs in; `may_be_early`: with early data, if the server gave all that it takes.
    pub(crate) async fn connect(&self, may_be_early: bool) -> Result<SignedIn, Ended> {
        // Without a token there is nothing to say early: logging in is not repeatable.
        if may_be_early && let Some(token) = self.usable_token() {
            let dialed = self.line.connect_early(&self.shared.dial_now).await;
            let (connection, handshake) = dialed.map_err(failed)?;
            *self.shared.endpoint.lock() = self.line.own_endpoint();
            let Some(handshake) = handshake else {
                return self.sign_in_within(connection).await;
            };
            if let Some(outcome) = self.connected_early(connection, handshake, token).await {
                return outcome;
            }
        }
        let connection = self.line.connect(&self.shared.dial_now).await.map_err(failed)?;
        *self.shared.endpoint.lock() = self.line.own_endpoint();
        self.sign_in_within(connection).await
    }

    async fn sign_in_within(&self, connection: Connection) -> Result<SignedIn, Ended> {
        let signing_in = tokio::time::timeout(SIGN_IN_TIMEOUT, self.sign_in(&connection));
        let outcome = signing_in.await.unwrap_or(Err(ClientError::TimedOut));
        signed_in_or_ended(connection, outcome)
    }

    async fn sign_in(
        &self,
        connection: &Connection,
    ) -> Result<(FrameSource, SendStream), ClientError> {
        let mut is_new = false;
        let token = match self.usable_token() {
            Some(token) => token,
            None => {
                is_new = true;
                self.log_in(connection).await?
            }
        };
        let mut said = self.say_receipts();
        let signed_in = self.introduce(connection, token, is_new, &said.receipts).await;
        said.are_taken = signed_in.is_ok();
        signed_in
    }

    /// Receipts for a Hello.
    fn say_receipts(&self) -> SaidReceipts<'_> {
        let receipts = self.shared.state.lock().take_receipts(HELLO_RECEIPTS_MAX);
        SaidReceipts { shared: &self.shared, receipts, are_taken: false }
    }

    fn usable_token(&self) -> Option<String> {
        let offset = self.shared.state.lock().clock_offset_ms;
        let now = unix_ms().saturating_add_signed(offset);
        self.token
            .lock()
            .as_ref()
            .filter(|token| token.expires_ms > now + TOKEN_LEFT_MS)
            .map(|token| token.text.clone())
    }

    async fn log_in(&self, connection: &Connection) -> Result<String, ClientError> {
        let token = request::login(connection, &self.shared.options.identity).await?;
        let text = token.text.clone();
        *self.token.lock() = Some(token);
        Ok(text)
    }

    async fn write_hello(
        &self,
        stream: &mut SendStream,
        token: String,
        receipts: &[(ConversationId, u64, u64)],
    ) -> Result<(), ClientError> {
        let agent = &self.shared.options.agent;
        let end = (0..=64).rev().find(|at| agent.is_char_boundary(*at)).unwrap_or(0);
        let hello = wire::Hello {
            token,
            features: FEATURES
                .iter()
                .filter(|&&feature| feature != FEATURE_ECHO || self.shared.options.echo)
                .map(|&feature| feature.to_owned())
                .collect(),
            dictionaries: crate::body::dictionaries(),
            receipts: receipts
                .iter()
                .map(|(conversation, delivered, read)| wire::OwnReceipt {
                    conversation: conversation.to_bytes(),
                    delivered: *delivered,
                    read: *read,
                })
                .collect(),
            agent: agent.get(..end).unwrap_or(agent).to_owned(),
            background: self.shared.attention.say(),
        };
        write_frame(stream, What::Hello(hello)).await
    }

    fn welcome(&self, connection: &Connection, said: &wire::Welcome) -> Result<(), ClientError> {
        let bad = |_| ClientError::Protocol("a Welcome with ids of another size".to_owned());
        let user = UserId::from_slice(&said.user).map_err(bad)?;
        if user != self.shared.options.identity.user {
            return Err(ClientError::Protocol("the token belongs to another user".to_owned()));
        }
        if !said.log.is_empty() && said.log != self.shared.own_log.to_bytes() {
            return Err(ClientError::Protocol("a Welcome with another user's log".to_owned()));
        }
        let mut session = [0; 16];
        if said.session.len() == session.len() {
            session.copy_from_slice(&said.session);
        }
        self.shared.attention.welcomed(said);
        let transport = connection.kind();
        *self.shared.dictionaries.lock() = said.dictionaries.iter().copied().take(64).collect();
        self.shared.connected(
            connection.clone(),
            said.streams_max,
            said.server_time_ms,
            &said.features,
            |clock_offset_ms| Event::Online { user, session, clock_offset_ms, transport },
        );
        Ok(())
    }

    /// Serves a connection until something ends it.
    async fn serve(&self, signed_in: &mut SignedIn) -> Ended {
        let SignedIn { connection, control, hello } = signed_in;
        let shared = Arc::clone(&self.shared);
        let (answers, answered) = mpsc::channel(4);
        let way_back = self.line.way_back(connection);
        let mut found = None;
        let ended = tokio::select! {
            ended = control::read(&shared, control, answers) => ended,
            () = datagram::read(&shared, connection) => lost(connection).await,
            () = tend::send_echo(&shared) => lost(connection).await,
            () = tend::accept_streams(&shared, connection) => lost(connection).await,
            ended = self.refresh(connection, hello, answered) => ended,
            () = tend::keep_time(&shared) => lost(connection).await,
            ended = self.stand_by(connection) => ended,
            better = way_back::wanted(way_back, &shared.redial) => {
                found = better;
                let why = OfflineReason::Lost("another connection is wanted".to_owned());
                Ended { why, next: Next::HandOver }
            }
            never = keep_alive::run(&shared, connection) => match never {},
        };
        self.line.go_on_with(found);
        self.line.prefer(std::mem::take(&mut *shared.alternatives.lock()));
        match (&ended.next, connection.close_reason()) {
            // The connection's own reason says more than what became of one stream.
            (Next::Again(_), Some(reason)) => closed(&reason),
            _ => ended,
        }
    }

    /// Says who is watched and whether the user looks, and gets a new token whenever one is asked for.
    async fn refresh(
        &self,
        connection: &Connection,
        control: &mut SendStream,
        mut answered: mpsc::Receiver<Result<u64, incoming::Refusal>>,
    ) -> Ended {
        loop {
            tokio::select! {
                () = self.shared.refresh.notified() => {}
                () = self.shared.watch.notified() => {
                    if let Err(error) = presence::say_watched(&self.shared, control).await {
                        return failed(error);
                    }
                    continue;
                }
                () = self.shared.attention.changed() => {
                    let background = self.shared.attention.say();
                    let said = What::Attention(wire::Attention { background });
                    if let Err(error) = write_frame(control, said).await {
                        return failed(error);
                    }
                    continue;
                }
            }
            loop {
                let renewal = self.renew(connection, control, &mut answered);
                let renewed = tokio::time::timeout(SIGN_IN_TIMEOUT, renewal)
                    .await
                    .unwrap_or(Err(ClientError::TimedOut));
                let error = match renewed {
                    Ok(()) => break,
                    Err(error) => error,
                };
                let ended = failed(error);
                if matches!(ended.next, Next::Stop) || connection.close_reason().is_some() {
                    return ended;
                }
                tracing::warn!(why = %ended.why, "no new token yet");
                tokio::time::sleep(jittered(Duration::from_secs(1), rand::random())).await;
            }
            self.shared.token_renewed();
        }
    }

    async fn renew(
        &self,
        connection: &Connection,
        control: &mut SendStream,
        answered: &mut mpsc::Receiver<Result<u64, incoming::Refusal>>,
    ) -> Result<(), ClientError> {
        // An answer that came too late for the try before is not this one's.
        while answered.try_recv().is_ok() {}
        let token = self.log_in(connection).await?;
        write_frame(control, What::Refresh(wire::Refresh { token })).await?;
        match answered.recv().await {
            Some(Ok(_expires_ms)) => Ok(()),
            Some(Err(refusal)) => Err(request::refused(refusal)),
            None => Err(ClientError::Connection("the control stream ended".into())),
        }
    }
}

pub(crate) async fn write_frame(stream: &mut SendStream, what: What) -> Result<(), ClientError> {
    stream
        .write_chunk(petrel_proto::frame::encode(&bare(what)))
        .await
        .map_err(|error| ClientError::Connection(error.to_string()))
}

/// What became of a sign-in.
fn signed_in_or_ended(
    connection: Connection,
    outcome: Result<(FrameSource, SendStream), ClientError>,
) -> Result<SignedIn, Ended> {
    match outcome {
        Ok((control, hello)) => Ok(SignedIn { connection, control, hello }),
        Err(error) => {
            let ended = match connection.close_reason() {
                Some(reason) => closed(&reason),
                None => failed(error),
            };
            connection.close(0, b"");
            Err(ended)
        }
    }
}

async fn lost(connection: &Connection) -> Ended {
    closed(&connection.closed().await)
}

pub(crate) fn control_ended(end: StreamEnd) -> Ended {
    match end {
        StreamEnd::Reset(code) => by_code(code, OfflineReason::Closed),
        StreamEnd::Finished => again("the server ended the session".to_owned()),
        StreamEnd::Lost(why) | StreamEnd::Broken(why) => again(why),
    }
}

fn again(why: String) -> Ended {
    Ended { why: OfflineReason::Lost(why), next: Next::Again(Duration::ZERO) }
}

/// What a connection's end means.
fn closed(reason: &ConnectionError) -> Ended {
    match reason {
        ConnectionError::ApplicationClosed { code, .. } => {
            let code = Code::from_number(*code).unwrap_or(Code::Internal);
            by_code(code, OfflineReason::Closed)
        }
        other => again(other.to_string()),
    }
}

/// What a dial or a sign-in that did not work means.
fn failed(error: ClientError) -> Ended {
    match error {
        ClientError::Refused { code, text, retry_after_ms } => {
            let mut ended = by_code(code, |code| OfflineReason::SignInRefused(code, text));
            if let Next::Again(wait) = &mut ended.next
                && retry_after_ms > 0
            {
                *wait = jittered(Duration::from_millis(retry_after_ms.into()), rand::random());
            }
            ended
        }
        other => again(other.to_string()),
    }
}

fn by_code(code: Code, why: impl FnOnce(Code) -> OfflineReason) -> Ended {
    let next = match (code, code.action()) {
        // An orderly end by the server; it may come back.
        (Code::Ok, _) | (_, Action::Reauthenticate) => Next::Again(Duration::ZERO),
        (_, Action::GiveUp) => Next::Stop,
        (_, Action::Retry { after_ms } | Action::Reconnect { after_ms }) => {
            let wait = Duration::from_millis(after_ms.into());
            Next::Again(jittered(wait, rand::random()))
        }
    };
    Ended { why: why(code), next }
}
