//! Early data (0-RTT): what comes with a client's first flight, before its handshake is done. Until
//! then it may be a replay: somebody may have recorded it and sent it again. So only what changes nothing
//! when it is said twice is done (Hello, Attach, Send), nobody else is told of the session, and
//! nothing but the answers leaves; all else waits for the connection's [`Gate`].

use parking_lot::Mutex;
use petrel_core::id::ConversationId;
use petrel_core::store::Receipt;
use tokio::sync::SetOnce;

/// Conversations whose receipts are held for one session, at the most; those of others are
/// told again by the client with its next Hello.
const HELD_MAX: usize = 64;

/// Whether a connection's handshake is done. Opened once, by the connection's own future of its
/// handshake; which stream something came on, and when that began, says nothing.
#[derive(Debug, Default)]
pub(crate) struct Gate(SetOnce<()>);

impl Gate {
    /// The handshake is done.
    pub(crate) fn open(&self) {
        // Whoever opens it again says the same.
        self.0.set(()).ok();
    }

    /// Whether it is done.
    pub(crate) fn is_open(&self) -> bool {
        self.0.get().is_some()
    }

    /// Waits until it is done.
    pub(crate) async fn opened(&self) {
        self.0.wait().await;
    }
}

/// Receipts that a session told before its handshake was done.
#[derive(Debug)]
pub(crate) struct HeldReceipts(Mutex<Option<Vec<(ConversationId, Receipt)>>>);

impl HeldReceipts {
    /// Of a new session; `holds`: its handshake is not done.
    pub(crate) fn new(holds: bool) -> Self {
        Self(Mutex::new(holds.then(Vec::new)))
    }

    /// Whether the handshake is not done.
    pub(crate) fn holds(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Keeps a receipt; `false` if there is nothing to wait for.
    pub(crate) fn put(&self, conversation: ConversationId, receipt: Receipt) -> bool {
        let mut locked = self.0.lock();
        let Some(held) = locked.as_mut() else { return false };
        if let Some((_, known)) = held.iter_mut().find(|(other, _)| *other == conversation) {
            known.delivered = known.delivered.max(receipt.delivered);
            known.read = known.read.max(receipt.read);
        } else if held.len() < HELD_MAX {
            held.push((conversation, receipt));
        }
        true
    }

    /// Gives out what was kept; nothing is kept any more.
    pub(crate) fn release(&self) -> Vec<(ConversationId, Receipt)> {
        self.0.lock().take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use futures_util::FutureExt as _;
    use petrel_core::id::Seq;

    fn receipt(delivered: u64, read: u64) -> Receipt {
        Receipt { delivered: Seq(delivered), read: Seq(read) }
    }

    fn conversation(n: usize) -> ConversationId {
        ConversationId::from_slice(&(n as u128).to_be_bytes()).unwrap()
    }

    #[test]
    fn receipts_are_held_until_the_handshake_is_done_and_never_go_back() {
        let held = HeldReceipts::new(true);
        assert!(held.put(conversation(1), receipt(5, 3)));
        assert!(held.put(conversation(1), receipt(4, 4)));
        assert_eq!(held.release(), [(conversation(1), receipt(5, 4))]);
        assert!(!held.holds() && !held.put(conversation(1), receipt(9, 9)));
        assert_eq!(held.release(), []);
    }

    #[test]
    fn no_more_than_so_many_are_held() {
        let held = HeldReceipts::new(true);
        for n in 0..2 * HELD_MAX {
            assert!(held.put(conversation(n), receipt(1, 1)));
        }
        assert_eq!(held.release().len(), HELD_MAX);
    }

    #[test]
    fn a_gate_lets_through_once_it_is_open_and_stays_so() {
        let gate = Gate::default();
        assert!(!gate.is_open() && gate.opened().now_or_never().is_none());
        gate.open();
        gate.open();
        assert!(gate.is_open() && gate.opened().now_or_never().is_some());
    }
}
