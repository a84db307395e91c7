//! What the server says on the control stream.

use std::sync::Arc;
use std::time::Duration;

use petrel_proto::code::Code;
use petrel_proto::wire::{self, frame::What};
use tokio::sync::mpsc;

use crate::event::{Event, OfflineReason};
use crate::frames::{FrameSource, StreamEnd};
use crate::id::ConversationId;
use crate::incoming;
use crate::presence;
use crate::session::{Ended, Next, control_ended};
use crate::shared::Shared;

/// Other gateways that a GoAway names, at the most, and bytes of each.
const ALTERNATIVES_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 255;

/// Reads the control stream until it ends.
pub(crate) async fn read(
    shared: &Arc<Shared>,
    control: &mut FrameSource,
    answers: mpsc::Sender<Result<u64, incoming::Refusal>>,
) -> Ended {
    loop {
        let what = match control.next().await {
            Ok((_, what)) => what,
            Err(end) => return control_ended(end),
        };
        let answer = match what {
            What::RefreshDue(_) => {
                shared.refresh.notify_one();
                None
            }
            What::Token(token) => Some(Ok(token.expires_ms)),
            What::Refusal(said) => Some(Err(incoming::refusal(said))),
            What::Hint(hint) => {
                take_hint(shared, &hint);
                shared.events.room().await;
                None
            }
            What::Presence(said) => {
                presence::take(shared, &said);
                shared.events.room().await;
                None
            }
            What::GoAway(said) => {
                let named = said.alternatives.iter().take(ALTERNATIVES_MAX);
                *shared.alternatives.lock() =
                    named.filter(|name| name.len() <= NAME_BYTES_MAX).cloned().collect();
                tokio::time::sleep(between(&said)).await;
                return Ended { why: OfflineReason::Closed(Code::GoingAway), next: Next::HandOver };
            }
            _ => return control_ended(StreamEnd::Broken("an unexpected frame".to_owned())),
        };
        if let Some(answer) = answer
            && answers.try_send(answer).is_err()
        {
            tracing::debug!("an answer on the control stream that nobody asked for");
        }
    }
}

/// A random time in the range that a GoAway names.
fn between(said: &wire::GoAway) -> Duration {
    let min = f64::from(said.reconnect_after_ms_min);
    let max = f64::from(said.reconnect_after_ms_max).max(min);
    let ms = min + (max - min) * rand::random::<f64>();
    Duration::from_secs_f64(ms / 1_000.0)
}

fn take_hint(shared: &Arc<Shared>, hint: &wire::Hint) {
    let (Ok(id), Ok(peer)) =
        (ConversationId::from_slice(&hint.conversation), incoming::optional_user(&hint.peer))
    else {
        tracing::warn!("a Hint with ids of another size");
        return;
    };
    shared.events.push_all([Event::Hint { conversation: id, head: hint.head, peer }]);
    shared.with(id, |conversation, _, _| {
        if conversation.live {
            conversation.show();
        }
    });
    shared.settle();
}
