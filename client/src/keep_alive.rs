//! Keeping the path open: a datagram that says nothing, once the server was silent for nearly the interval, so
//! that it is never silent for longer. QUIC acknowledges it, which shows both sides that the other is there. QUIC's
//! own keep-alive will not do: its interval is fixed with the connection.

use std::sync::Arc;

use petrel_proto::probe;
use petrel_transport::Connection;

use crate::shared::Shared;

/// Looks in one interval: the more, the later a silence is known to be one.
const LOOKS: u32 = 10;
/// The same in the background, where a look wakes the processor.
const BACKGROUND_LOOKS: u32 = 2;

/// Keeps a connection's path open. Does not end.
pub(crate) async fn run(shared: &Arc<Shared>, connection: &Connection) -> std::convert::Infallible {
    let mut attention = shared.attention.subscribe();
    let (mut heard, mut silent_looks) = (connection.stats().received, 0);
    loop {
        let looks = if shared.attention.is_background() { BACKGROUND_LOOKS } else { LOOKS };
        let pause = shared.keep_alive().map(|every| every / looks);
        let look = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = look => {}
            // The new interval begins; the server hears of the change now. An error would mean that
            // the client is gone.
            _ = attention.changed() => {
                silent_looks = 0;
                continue;
            }
        }
        let before = std::mem::replace(&mut heard, connection.stats().received);
        silent_looks = if heard == before { silent_looks + 1 } else { 0 };
        if silent_looks + 1 >= looks {
            silent_looks = 0;
            // Such as an answer is: it wants none. What cannot be sent is not needed any more.
            connection.send_datagram(probe::datagram(true)).ok();
        }
    }
}
