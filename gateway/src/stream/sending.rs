//! A Send's way from its frame into the writers' channel.

use std::sync::Arc;
use std::time::Instant;

use petrel_core::conversation::{Join, View, check_send, judge_change};
use petrel_core::entry::{EntryKind, Family};
use petrel_core::error::Rejection;
use petrel_core::id::{About, ClientMessageId, ContentDigest, RightsVersion, Seq, UserId};
use petrel_core::limits;
use petrel_core::store::{Append, Receipt};
use petrel_proto::wire::{self, Frame};
use petrel_storage::writer::Pending;

use super::Reader;
use crate::conversation_table::Cell;
use crate::fanout::{Origin, Tag};
use crate::gateway::Gateway;
use crate::send_order::Turn;
use crate::{attach, body, clock, metrics, translate};

impl Reader {
    /// Takes a Send; whatever is wrong with it is answered on its stream.
    pub(super) async fn send(&self, frame: Frame, send: wire::Send) {
        let number = frame.number;
        if self.session.is_early() {
            metrics::early(metrics::Early::Executed);
        }
        match self.order.turn(number) {
            Turn::Next => {}
            Turn::Before => return,
            Turn::After { expected } => {
                return self.refuse(number, &Rejection::Predecessor { expected });
            }
        }
        let began = Instant::now();
        if let Err(rejection) = self.take(frame, &send, began).await {
            // A final refusal uses the number up; after a retryable one it is still expected.
            if !translate::code(&rejection).is_retryable()
                && let Ok(admission) = self.order.admit(number)
            {
                admission.use_up();
            }
            self.refuse(number, &rejection);
        }
    }

    async fn take(&self, frame: Frame, send: &wire::Send, began: Instant) -> Result<(), Rejection> {
        if clock::unix_ms() >= self.session.token_expires_ms() {
            return Err(Rejection::Reauthenticate);
        }
        self.session
            .take_send(self.gateway.rates.sends)
            .map_err(|retry_after_ms| Rejection::RateLimited { retry_after_ms })?;
        self.gateway.pace.chatted();
        let number = frame.number;
        let append = self.read_send(frame, send)?;
        if send.seen > 0 {
            let read = translate::seq("seen", send.seen)?;
            let receipt = Receipt { delivered: read, read };
            self.session.raise(&self.gateway, &self.cell, receipt);
        }
        self.submit(append, number, send.again, began).await
    }

    /// Reads what is to be stored, and checks what needs nothing but the frame itself.
    fn read_send(&self, frame: Frame, send: &wire::Send) -> Result<Append, Rejection> {
        let id = translate::id("id", &frame.id, ClientMessageId::from_slice)?;
        let kind = EntryKind::from_number(frame.entry_kind)
            .filter(|kind| kind.is_sendable())
            .ok_or_else(|| Rejection::Invalid {
                field: "entry_kind",
                problem: format!(
                    "{}; 1 to 7 are messages, 32 to 35 what changes them",
                    frame.entry_kind
                ),
            })?;
        if frame.mentions.len() > limits::MENTIONS_MAX {
            let problem =
                format!("{} users; at most {}", frame.mentions.len(), limits::MENTIONS_MAX);
            return Err(Rejection::Invalid { field: "mentions", problem });
        }
        let mut mentions = Vec::with_capacity(frame.mentions.len());
        for user in &frame.mentions {
            mentions.push(translate::id("mentions", user, UserId::from_slice)?);
        }
        let target = Some(translate::seq("target", frame.target)?).filter(|t| *t > Seq(0));
        let about = About { target, mentions: &mentions };
        let digest = ContentDigest::about(kind, frame.encoding, &frame.body, about);
        let checked = body::check(frame.encoding, frame.body, &self.gateway.dictionaries)?;
        let append = Append {
            conversation: self.cell.id(),
            admitted_by: None,
            sender: self.session.user(),
            id,
            kind,
            encoding: checked.encoding,
            body: checked.body,
            digest,
            target,
            revision: (kind == EntryKind::Edit).then_some(send.revision),
            mentions,
        };
        check_send(&append)?;
        Ok(append)
    }

    async fn submit(
        &self,
        mut append: Append,
        number: u64,
        again: bool,
        began: Instant,
    ) -> Result<(), Rejection> {
        let (sender, id, digest) = (append.sender, append.id, append.digest);
        let (gateway, cell) = (&self.gateway, &self.cell);
        // Refuse before waiting for room what is refused anyway. What is rare is boxed: every
        // message pays for the room that this future takes.
        let admitted = match append.target {
            None => cell.admit(&append, &gateway.send_rules),
            Some(_) => Box::pin(gateway.judge(cell, &append)).await,
        };
        let refusal = match admitted {
            Ok(_) => None,
            Err(refusal) => Box::pin(self.judge_again(&append, again, refusal)).await?,
        };
        let (session, conversation) = (self.session.share(), cell.share());
        let permit = gateway.budget.permit(session, conversation, append.body.len()).await?;
        metrics::get().decode_to_permit.record(began.elapsed());
        let Ok(admission) = self.order.admit(number) else {
            return Ok(());
        };
        let origin = Origin {
            session: Arc::clone(&self.session),
            generation: self.generation,
            number,
            order: Arc::clone(&self.order),
            began,
        };
        let mut locked = cell.lock();
        let Some(state) = locked.as_mut() else { return Err(Rejection::NotFound) };
        if state.join(sender, id, digest, &origin)? == Join::Joined {
            admission.use_up();
            metrics::get().joined.increment(1);
            return Ok(());
        }
        let tag = Tag { cell: Arc::clone(cell) };
        // What was read of a connection that is over is not answered any more.
        if self.session.queue().ended().is_some() {
            return Err(Rejection::GoingAway);
        }
        let judged = match state.refused_before(sender, id, digest).cloned().or(refusal) {
            Some(refusal) => Err(refusal),
            None => state.admit(&append, &gateway.send_rules, clock::unix_ms()),
        };
        let pending = match judged {
            Ok(rights) => {
                append.admitted_by = Some(rights);
                Pending::new(append, tag, permit)
            }
            Err(refusal) if again => Pending::look_up(append, refusal, tag, permit),
            Err(refusal) => return Err(refusal),
        };
        state.begin(sender, id, digest, origin);
        if let Err(refused) = gateway.writers().submit(pending) {
            state.end(sender, id);
            return Err(refused.outcome.err().unwrap_or(Rejection::GoingAway));
        }
        admission.use_up();
        Ok(())
    }

    /// Before a message is refused for good, the rights are read anew. Gives back the refusal
    /// that stays for one that is sent `again`: whether it is stored already, the store knows.
    async fn judge_again(
        &self,
        append: &Append,
        again: bool,
        refusal: Rejection,
    ) -> Result<Option<Rejection>, Rejection> {
        let is_doubted = again || (rests_on_others(&refusal) && self.cell.may_doubt());
        if !is_doubted {
            return Err(refusal);
        }
        if !self.gateway.reload(&self.cell).await {
            return Err(Rejection::Unavailable);
        }
        match self.gateway.judge(&self.cell, append).await {
            Ok(_) => Ok(None),
            Err(refusal) if again && !refusal.is_retryable() => Ok(Some(refusal)),
            Err(refusal) => Err(refusal),
        }
    }
}

/// Whether somebody else may have done away with the reason meanwhile.
fn rests_on_others(refusal: &Rejection) -> bool {
    matches!(
        refusal,
        Rejection::NotFound
            | Rejection::Blocked
            | Rejection::NotAccepted { .. }
            | Rejection::Muted { .. }
            | Rejection::Forbidden { .. }
    )
}

impl Gateway {
    /// Judges what somebody sends, and of a change also its target, as the store has it.
    ///
    /// # Errors
    /// Why it is refused; `Unavailable`.
    pub(crate) async fn judge(
        &self,
        cell: &Cell,
        append: &Append,
    ) -> Result<RightsVersion, Rejection> {
        let rules = &self.send_rules;
        let admitted = cell.admit(append, rules)?;
        let Some(target) = append.target else { return Ok(admitted) };
        let (view, role) = cell
            .with(|c| (c.view(append.sender, target), c.role_of(append.sender)))
            .ok_or(Rejection::NotFound)?;
        let is_shown = matches!(view, Ok(View::Shown(_)));
        if append.kind.family() != Family::Change {
            return if is_shown { Ok(admitted) } else { Err(no_such_target()) };
        }
        if !is_shown {
            return Err(no_such_target());
        }
        let target = attach::read_one(self, cell.id(), target).await?;
        judge_change(append, target.as_ref(), role, rules, clock::unix_ms())?;
        Ok(admitted)
    }
}

fn no_such_target() -> Rejection {
    Rejection::Invalid { field: "target", problem: "no such message".to_owned() }
}
