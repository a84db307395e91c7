//! What comes in datagrams, which may be lost.

use std::sync::Arc;

use petrel_proto::frame;
use petrel_proto::wire::frame::What;
use petrel_transport::Connection;

use crate::shared::Shared;

/// Reads datagrams until the connection ends. What makes no sense is dropped.
pub(crate) async fn read(shared: &Arc<Shared>, connection: &Connection) {
    let echo = shared.echo();
    while let Ok(bytes) = connection.read_datagram().await {
        match (frame::decode(bytes), &echo) {
            (Ok((_, What::Echo(copies))), Some(echo)) => echo.heard(copies),
            (Ok((frame, What::Typing(said))), _) => {
                shared.heard_typing(&frame, &said);
                shared.events.room().await;
            }
            _ => tracing::debug!("a datagram that says nothing"),
        }
    }
}
