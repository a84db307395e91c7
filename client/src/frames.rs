//! Frames over streams.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use petrel_proto::code::Code;
use petrel_proto::echo::Spliced;
use petrel_proto::frame::{self, FrameReader};
use petrel_proto::wire::{Frame, frame::What};
use petrel_transport::{ReadError, RecvStream};
use prost::Message;

use crate::echo::Echo;
use crate::error::ClientError;

/// Bytes of one frame, at the most (the protocol's limit).
pub(crate) const FRAME_BYTES_MAX: usize = 67_584;
/// Bytes that one read takes, at the most.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Why a stream gives no more frames.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// The server finished it.
    Finished,
    /// The server reset it.
    Reset(Code),
    /// The connection is gone.
    Lost(String),
    /// What came is not the protocol.
    Broken(String),
}

impl From<StreamEnd> for ClientError {
    fn from(end: StreamEnd) -> Self {
        match end {
            // As a server leaves a stream whose task is gone: it may well answer if asked again.
            StreamEnd::Finished => Self::Connection("the stream ended too early".to_owned()),
            StreamEnd::Reset(code) => {
                Self::Refused { code, text: String::new(), retry_after_ms: 0 }
            }
            StreamEnd::Lost(why) => Self::Connection(why),
            StreamEnd::Broken(why) => Self::Protocol(why),
        }
    }
}

/// The receiving side of a stream, as frames.
#[derive(Debug)]
pub(crate) struct FrameSource {
    stream: RecvStream,
    reader: FrameReader,
    chunk: Bytes,
    spliced: Spliced,
    echo: Option<Arc<Echo>>,
}

impl FrameSource {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self::with_echo(stream, None)
    }

    /// The same, from copies in datagrams too where they are faster.
    pub(crate) fn with_echo(stream: RecvStream, echo: Option<Arc<Echo>>) -> Self {
        let mut spliced = Spliced::default();
        if let Some(echo) = &echo {
            echo.splice(stream.id(), &mut spliced);
        }
        let reader = FrameReader::new(FRAME_BYTES_MAX);
        Self { stream, reader, chunk: Bytes::new(), spliced, echo }
    }

    /// The next frame, if what was read already has one.
    pub(crate) fn buffered(&mut self) -> Result<Option<(Frame, What)>, StreamEnd> {
        let broken = |error: frame::FrameError| StreamEnd::Broken(error.to_string());
        match self.reader.next(&mut self.chunk).map_err(broken)? {
            Some(payload) => frame::decode(payload).map(Some).map_err(broken),
            None => Ok(None),
        }
    }

    /// Reads once from the stream.
    pub(crate) async fn fill(&mut self) -> Result<(), StreamEnd> {
        match poll_fn(|cx| self.poll_bytes(cx)).await {
            Ok(Some(bytes)) => {
                self.chunk = bytes;
                Ok(())
            }
            Ok(None) => match self.reader.finish() {
                Ok(()) => Err(StreamEnd::Finished),
                Err(error) => Err(StreamEnd::Broken(error.to_string())),
            },
            Err(ReadError::Reset(code)) => {
                Err(StreamEnd::Reset(Code::from_number(code).unwrap_or(Code::Internal)))
            }
            Err(error) => Err(StreamEnd::Lost(error.to_string())),
        }
    }

    /// The next bytes that were not read before; `None` at the stream's end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        if let Some(echo) = &self.echo
            && let Poll::Ready(bytes) = self.spliced.poll_copy(cx, |copied| echo.told(copied))
        {
            return Poll::Ready(Ok(Some(bytes)));
        }
        loop {
            let reading = pin!(self.stream.read_chunk(CHUNK_BYTES_MAX));
            let Some(chunk) = ready!(reading.poll(cx))? else { return Poll::Ready(Ok(None)) };
            let new = self.spliced.from_stream(chunk.offset, chunk.bytes);
            if !new.is_empty() {
                return Poll::Ready(Ok(Some(new)));
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Result<(Frame, What), StreamEnd> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Tells the server that nothing more is read here.
    pub(crate) fn stop(&mut self, code: Code) {
        // A stream that has ended already needs no stopping.
        self.stream.stop(code.number()).ok();
    }
}

/// Appends a frame with its length.
pub(crate) fn encode_into(out: &mut BytesMut, frame: &Frame) {
    let len = frame.encoded_len();
    out.reserve(len + 8);
    frame::write_varint(out, len as u64);
    frame.encode_raw(out);
}
