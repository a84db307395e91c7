//! Long answers, written so that what is said meanwhile finds room and goes first.

use std::time::Duration;

use bytes::Bytes;
use petrel_proto::echo;
use petrel_transport::{Connection, SendStream, WriteError, priority};

/// Bytes of an answer from which on it is one.
pub(super) const BYTES_MIN: usize = 4 * 1024;
/// Bytes of one answer that were written and have not come, at the most: half of what QUIC keeps for a
/// peer ([`crate::endpoint::SEND_WINDOW`]). All of it full, a message would wait a round trip for room.
const UNDER_WAY_MAX: u64 = crate::endpoint::SEND_WINDOW / 2;
/// How often it is looked whether there is room again.
const LOOK: Duration = Duration::from_millis(2);
/// Without any progress for so many looks the answer is written on: QUIC's own window bounds it.
const LOOKS_MAX: u32 = 500;

/// Writes all frames.
///
/// # Errors
/// Why not all can be written.
pub(super) async fn write(
    connection: &Connection,
    send: &mut SendStream,
    frames: Vec<Bytes>,
) -> Result<(), WriteError> {
    // An error means that the stream is over already, which writing tells too.
    send.set_priority(priority::PAGE).ok();
    let mut written = 0;
    let mut begun = arrived(connection);
    for frame in frames {
        let mut looks = 0;
        while looks < LOOKS_MAX
            && let (Some(from), Some(now)) = (begun, arrived(connection))
        {
            // On a new path the count begins anew.
            if now < from {
                (begun, written) = (Some(now), 0);
            } else if now - from + UNDER_WAY_MAX >= written {
                break;
            }
            looks += 1;
            tokio::time::sleep(LOOK).await;
        }
        written += frame.len() as u64;
        send.write_chunk(frame).await?;
    }
    Ok(())
}

/// Bytes that have come on this path, of whatever stream; `None` where nobody counts them.
fn arrived(connection: &Connection) -> Option<u64> {
    let flights = echo::flights(connection.quic()?.congestion_state())?;
    let bytes = flights.lock().acked_bytes();
    Some(bytes)
}
