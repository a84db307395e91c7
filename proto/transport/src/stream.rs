//! The two halves of a stream.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quinn::{StoppedError, VarInt};

use crate::error::{ClosedStream, ReadError, WriteError};
use crate::mux::{RecvHalf, SendHalf};

/// The sending half. Dropped, it finishes its direction, unless that was reset.
#[derive(Debug)]
pub struct SendStream(Sending);

#[derive(Debug)]
enum Sending {
    Quic(quinn::SendStream),
    Tcp(SendHalf),
}

/// The receiving half. Dropped before its end, it stops the direction with 0.
#[derive(Debug)]
pub struct RecvStream(Receiving);

#[derive(Debug)]
enum Receiving {
    Quic(quinn::RecvStream),
    Tcp(RecvHalf),
}

/// What of some chunks a stream has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes.
    pub bytes: usize,
    /// Chunks that were taken whole; the one after them may have been taken in part.
    pub chunks: usize,
}

/// A run of a stream's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the stream it begins.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

impl From<quinn::SendStream> for SendStream {
    fn from(stream: quinn::SendStream) -> Self {
        Self(Sending::Quic(stream))
    }
}

impl From<quinn::RecvStream> for RecvStream {
    fn from(stream: quinn::RecvStream) -> Self {
        Self(Receiving::Quic(stream))
    }
}

impl From<SendHalf> for SendStream {
    fn from(half: SendHalf) -> Self {
        Self(Sending::Tcp(half))
    }
}

impl From<RecvHalf> for RecvStream {
    fn from(half: RecvHalf) -> Self {
        Self(Receiving::Tcp(half))
    }
}

impl SendStream {
    /// The stream's number on its connection: the same at both sides, for both halves.
    pub fn id(&self) -> u64 {
        match &self.0 {
            Sending::Quic(quic) => VarInt::from(quic.id()).into_inner(),
            Sending::Tcp(half) => half.id(),
        }
    }

    /// Writes as much as fits now, and waits while nothing does. What was written is taken off the
    /// front of `chunks`. Dropped before it is ready, it has written nothing.
    ///
    /// # Errors
    /// Why nothing more can be written.
    pub async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Written, WriteError> {
        match &mut self.0 {
            Sending::Quic(quic) => {
                let written = quic.write_chunks(chunks).await?;
                Ok(Written { bytes: written.bytes, chunks: written.chunks })
            }
            Sending::Tcp(half) => poll_fn(|cx| half.poll_write(chunks, cx)).await,
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Why not all can be written.
    pub async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        self.write_all_chunks(&mut [chunk]).await
    }

    /// Writes all of them.
    ///
    /// # Errors
    /// Why not all can be written.
    pub async fn write_all_chunks(&mut self, mut chunks: &mut [Bytes]) -> Result<(), WriteError> {
        while !chunks.is_empty() {
            let written = self.write_chunks(chunks).await?;
            chunks = &mut chunks[written.chunks..];
        }
        Ok(())
    }

    /// Whether it was opened in a first flight that the server did not take. Its number is that of
    /// another stream by now, perhaps: it must not be finished.
    pub fn is_rejected(&self) -> bool {
        match &self.0 {
            Sending::Quic(quic) => {
                let polled = pin!(quic.stopped()).poll(&mut Context::from_waker(Waker::noop()));
                matches!(polled, Poll::Ready(Err(StoppedError::ZeroRttRejected)))
            }
            Sending::Tcp(_) => false,
        }
    }

    /// Says that nothing follows what was written.
    ///
    /// # Errors
    /// If the direction had ended already.
    pub fn finish(&mut self) -> Result<(), ClosedStream> {
        match &mut self.0 {
            Sending::Quic(quic) => Ok(quic.finish()?),
            Sending::Tcp(half) => half.finish(),
        }
    }

    /// Gives the direction up: what has not arrived need not.
    ///
    /// # Errors
    /// If the direction had ended already.
    pub fn reset(&mut self, code: u32) -> Result<(), ClosedStream> {
        match &mut self.0 {
            Sending::Quic(quic) => Ok(quic.reset(VarInt::from_u32(code))?),
            Sending::Tcp(half) => half.reset(code),
        }
    }

    /// Data of streams with a higher priority goes first; all begin with 0.
    ///
    /// # Errors
    /// If the direction has ended.
    pub fn set_priority(&self, priority: i32) -> Result<(), ClosedStream> {
        match &self.0 {
            Sending::Quic(quic) => Ok(quic.set_priority(priority)?),
            Sending::Tcp(half) => half.set_priority(priority),
        }
    }

    /// Waits until the peer stops the direction (then gives its number), or it is finished and all of
    /// it has arrived (on TCP: has left, so that nothing that follows overtakes it). For one task at
    /// a time.
    ///
    /// # Errors
    /// If the connection ends before.
    pub fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<u64>, WriteError>> + Send + Sync + use<> {
        let (quic, tcp) = match &self.0 {
            Sending::Quic(quic) => (Some(quic.stopped()), None),
            Sending::Tcp(half) => (None, Some(half.stopped())),
        };
        async move {
            match (quic, tcp) {
                (Some(stopped), _) => Ok(stopped.await?.map(VarInt::into_inner)),
                (None, Some(stopped)) => stopped.await,
                (None, None) => Ok(None),
            }
        }
    }
}

impl RecvStream {
    /// The stream's number on its connection: the same at both sides, for both halves.
    pub fn id(&self) -> u64 {
        match &self.0 {
            Receiving::Quic(quic) => VarInt::from(quic.id()).into_inner(),
            Receiving::Tcp(half) => half.id(),
        }
    }

    /// The next bytes, at most `max`; `None` at the end. Dropped before it is ready, it has taken
    /// nothing.
    ///
    /// # Errors
    /// Why nothing more can be read.
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Chunk>, ReadError> {
        match &mut self.0 {
            Receiving::Quic(quic) => {
                let chunk = quic.read_chunk(max, true).await?;
                Ok(chunk.map(|chunk| Chunk { offset: chunk.offset, bytes: chunk.bytes }))
            }
            Receiving::Tcp(half) => poll_fn(|cx| half.poll_read(max, cx)).await,
        }
    }

    /// The next bytes in the order in which they arrive, wherever in the stream they are; each once, at
    /// most `max`; `None` once all have come. After this the stream can be read in no other way.
    /// Dropped before it is ready, it has taken nothing.
    ///
    /// # Errors
    /// Why nothing more can be read.
    pub async fn read_arrived(&mut self, max: usize) -> Result<Option<Chunk>, ReadError> {
        match &mut self.0 {
            Receiving::Quic(quic) => {
                let chunk = quic.read_chunk(max, false).await?;
                Ok(chunk.map(|chunk| Chunk { offset: chunk.offset, bytes: chunk.bytes }))
            }
            Receiving::Tcp(half) => poll_fn(|cx| half.poll_read(max, cx)).await,
        }
    }

    /// Asks the peer to send nothing more; what came and was not read is forgotten.
    ///
    /// # Errors
    /// If the direction had ended already.
    pub fn stop(&mut self, code: u32) -> Result<(), ClosedStream> {
        match &mut self.0 {
            Receiving::Quic(quic) => Ok(quic.stop(VarInt::from_u32(code))?),
            Receiving::Tcp(half) => half.stop(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_no_more_room_than_quics_own() {
        assert_eq!(size_of::<SendStream>(), size_of::<quinn::SendStream>());
        assert_eq!(size_of::<Option<SendStream>>(), size_of::<quinn::SendStream>());
        assert_eq!(size_of::<RecvStream>(), size_of::<quinn::RecvStream>());
    }
}
