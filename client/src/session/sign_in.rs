//! Signing in: Hello and Welcome, after the handshake or before its end.
//!
//! Coming back with early data (0-RTT): Hello, the Attach of what is open or has messages without an
//! answer, and those messages leave with the first flight, before the server has said anything. If
//! it does not take the flight (it was restarted, or has forgotten the TLS session), all of it is said
//! again on the same connection once the handshake is done. A flight that somebody recorded and says again
//! changes nothing: so nothing but these leaves early.

use std::cmp::Reverse;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use petrel_proto::code::Code;
use petrel_proto::wire::frame::What;
use petrel_transport::{Connection, SendStream};
use tokio::sync::mpsc;

use super::{Ended, SIGN_IN_TIMEOUT, Session, SignedIn, signed_in_or_ended};
use crate::echo::Echo;
use crate::error::ClientError;
use crate::frames::FrameSource;
use crate::id::ConversationId;
use crate::line::Handshake;
use crate::shared::Shared;
use crate::state::State;
use crate::{incoming, request};

impl Session {
    /// Signs in on a connection whose handshake is under way. `None`: nobody answers, and what was said is
    /// to be said on another connection.
    pub(super) async fn connected_early(
        &self,
        connection: Connection,
        handshake: Handshake,
        token: String,
    ) -> Option<Result<SignedIn, Ended>> {
        let mut said = self.say_receipts();
        let signing_in = self.introduce_early(&connection, handshake, token, &said.receipts);
        let outcome = tokio::time::timeout(SIGN_IN_TIMEOUT, signing_in)
            .await
            .unwrap_or(Err(ClientError::TimedOut))
            .transpose();
        let Some(outcome) = outcome else {
            connection.close(0, b"");
            return None;
        };
        said.are_taken = outcome.is_ok();
        drop(said);
        Some(signed_in_or_ended(connection, outcome))
    }

    async fn introduce_early(
        &self,
        connection: &Connection,
        handshake: Handshake,
        token: String,
        receipts: &[(ConversationId, u64, u64)],
    ) -> Result<Option<(FrameSource, SendStream)>, ClientError> {
        let control = self.open_control(connection, token.clone(), receipts).await?;
        let mut early_streams = self.shared.begin_early(connection.clone());
        let is_accepted = self.line.proven(handshake, connection, &self.shared.dial_now).await?;
        tracing::debug!(is_accepted, "early data");
        self.shared.early_ended(is_accepted);
        match is_accepted {
            None => Ok(None),
            Some(false) => {
                // Their numbers are given again, and quinn (0.11) lets go with a stream of whoever waits
                // for its number, even if that is the next one's reader, who would then wait for ever.
                drop(control);
                early_streams.recv().await;
                self.introduce(connection, token, false, receipts).await.map(Some)
            }
            Some(true) => match self.hear_welcome(connection, control).await? {
                Ok(signed_in) => Ok(Some(signed_in)),
                Err(refusal) => {
                    self.introduce_anew(connection, refusal, false, receipts).await.map(Some)
                }
            },
        }
    }

    /// Says Hello, and once more with a new token if this one is not taken.
    pub(super) async fn introduce(
        &self,
        connection: &Connection,
        token: String,
        is_new: bool,
        receipts: &[(ConversationId, u64, u64)],
    ) -> Result<(FrameSource, SendStream), ClientError> {
        let control = self.open_control(connection, token, receipts).await?;
        match self.hear_welcome(connection, control).await? {
            Ok(signed_in) => Ok(signed_in),
            Err(refusal) => self.introduce_anew(connection, refusal, is_new, receipts).await,
        }
    }

    /// After a refusal: if it was for the token, and that was not new, another one may be taken.
    async fn introduce_anew(
        &self,
        connection: &Connection,
        refusal: incoming::Refusal,
        was_new: bool,
        receipts: &[(ConversationId, u64, u64)],
    ) -> Result<(FrameSource, SendStream), ClientError> {
        if !matches!(refusal.code, Code::Reauthenticate | Code::TokenInvalid) {
            return Err(request::refused(refusal));
        }
        *self.token.lock() = None;
        if was_new {
            return Err(request::refused(refusal));
        }
        let token = self.log_in(connection).await?;
        let control = self.open_control(connection, token, receipts).await?;
        self.hear_welcome(connection, control).await?.map_err(request::refused)
    }

    /// Says Hello, on a stream of its own.
    async fn open_control(
        &self,
        connection: &Connection,
        token: String,
        receipts: &[(ConversationId, u64, u64)],
    ) -> Result<(FrameSource, SendStream), ClientError> {
        let (mut hello, recv) = connection
            .open_bi()
            .await
            .map_err(|error| ClientError::Connection(error.to_string()))?;
        self.write_hello(&mut hello, token, receipts).await?;
        Ok((FrameSource::new(recv), hello))
    }

    /// The answer to a Hello.
    async fn hear_welcome(
        &self,
        connection: &Connection,
        (mut control, hello): (FrameSource, SendStream),
    ) -> Result<Result<(FrameSource, SendStream), incoming::Refusal>, ClientError> {
        match control.next().await? {
            (_, What::Welcome(welcome)) => {
                self.welcome(connection, &welcome)?;
                Ok(Ok((control, hello)))
            }
            (_, What::Refusal(said)) => Ok(Err(incoming::refusal(said))),
            _ => Err(ClientError::Protocol("something other than a Welcome".to_owned())),
        }
    }
}

impl Shared {
    /// Conversations go on, on a connection on which nobody has answered yet.
    /// The receiver hears when all streams that were opened there by then are gone.
    fn begin_early(self: &Arc<Self>, connection: Connection) -> mpsc::Receiver<Infallible> {
        let (early, gone) = mpsc::channel(1);
        let mut state = self.state.lock();
        state.leave_connection();
        // What the server understood last; should it have changed, Welcome says so.
        state.echo = Echo::of(&connection, &state.features);
        state.connection = Some(connection);
        state.early = Some(early);
        self.open_streams(&mut state);
        drop(state);
        self.settle();
        gone
    }

    /// The server has read what came early, or nothing of it, or (`None`) does not answer.
    fn early_ended(&self, is_accepted: Option<bool>) {
        let mut state = self.state.lock();
        match is_accepted {
            Some(true) => state.counters.early_accepted += 1,
            Some(false) => state.counters.early_rejected += 1,
            None => {}
        }
        if is_accepted != Some(true) {
            // The streams are gone with all that was said on them.
            state.leave_connection();
        }
    }

    /// Opens streams for all conversations that need one: those with messages without an answer
    /// first, then those used last, as there may not be room for all of them at once.
    pub(crate) fn open_streams(self: &Arc<Self>, state: &mut State) {
        let now = Instant::now();
        let mut all: Vec<_> = state
            .conversations
            .values()
            .map(|conversation| {
                (conversation.outbox.is_empty(), Reverse(conversation.used), conversation.id)
            })
            .collect();
        all.sort_unstable();
        for (_, _, id) in all {
            self.ensure_stream(state, id, now);
        }
    }
}
