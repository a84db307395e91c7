//! Datagrams: who types, and copies of what streams carry. Each may be lost, and is dropped freely.

use petrel_proto::frame;
use petrel_proto::wire::frame::What;
use petrel_transport::Connection;

use crate::connection::Context;
use crate::metrics;
use crate::typing::Typist;

/// Bytes of datagrams of one connection that wait to be read. Few, as each keeps the packets that came
/// with it in memory; they are read at once, before sign-in too.
pub(crate) const RECEIVE_BYTES: usize = 4 * 1024;
/// Bytes of datagrams of one connection that wait to be sent; the oldest are dropped.
pub(crate) const SEND_BYTES: usize = 8 * 1024;
/// Datagrams that are read between two chances for other tasks.
const READ_AT_ONCE: u32 = 32;

/// Reads and forgets datagrams, until the connection ends: nobody has signed in.
pub(crate) async fn forget(connection: &Connection) {
    let mut read = 0u32;
    while connection.read_datagram().await.is_ok() {
        give_way(&mut read).await;
    }
}

/// Reads the datagrams of a signed-in client until its connection ends.
pub(crate) async fn read(context: &Context) {
    let (mut typist, mut read) = (Typist::default(), 0u32);
    while let Ok(datagram) = context.connection.read_datagram().await {
        if let Some(session) = context.session.get() {
            let bytes = datagram.len();
            match frame::decode(datagram) {
                Ok((_, What::Echo(echo))) => {
                    if let Some(inboxes) = session.echo_inboxes() {
                        for copy in echo.copies {
                            // A stream that has ended needs none.
                            inboxes.deliver(copy);
                        }
                    }
                }
                Ok((_, What::Typing(said))) if session.wants_typing() => {
                    context.gateway.hear_typing(&mut typist, session, &said, bytes);
                }
                Ok(_) => {}
                Err(_) => metrics::typing(metrics::Typing::Malformed),
            }
        }
        give_way(&mut read).await;
    }
}

/// Who sends datagrams without a pause does not keep this thread for himself.
async fn give_way(read: &mut u32) {
    *read = read.wrapping_add(1);
    if read.is_multiple_of(READ_AT_ONCE) {
        tokio::task::yield_now().await;
    }
}
