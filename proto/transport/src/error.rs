//! Why something on a connection ended.

use thiserror::Error;

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectionError {
    /// The peer closed it, with a number of the application's.
    #[error("closed by the peer: {code} {reason}")]
    ApplicationClosed {
        /// The number.
        code: u64,
        /// What the peer said to it.
        reason: String,
    },
    /// This side closed it.
    #[error("closed")]
    LocallyClosed,
    /// Nothing came for too long.
    #[error("timed out")]
    TimedOut,
    /// The peer knows nothing of the connection: it has been started again.
    #[error("reset by the peer")]
    Reset,
    /// The transport itself ended it, at either side.
    #[error("{0}")]
    Transport(String),
}

/// Why nothing can be written to a stream.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The peer reads no more of it.
    #[error("stopped by the peer: {0}")]
    Stopped(u64),
    /// The connection is over.
    #[error("connection lost: {0}")]
    ConnectionLost(#[from] ConnectionError),
    /// This side has finished or reset it.
    #[error("the stream is closed")]
    ClosedStream,
    /// It was opened in a first flight that the server did not take; it is to be opened again.
    #[error("the early data was not accepted")]
    EarlyDataRejected,
}

/// Why nothing can be read from a stream.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The peer gave it up.
    #[error("reset by the peer: {0}")]
    Reset(u64),
    /// The connection is over.
    #[error("connection lost: {0}")]
    ConnectionLost(#[from] ConnectionError),
    /// This side has stopped it or read it to its end.
    #[error("the stream is closed")]
    ClosedStream,
    /// It was opened in a first flight that the server did not take; it is to be opened again.
    #[error("the early data was not accepted")]
    EarlyDataRejected,
}

/// The stream's direction had ended already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the stream is closed")]
pub struct ClosedStream;

/// A datagram was not sent: the peer takes none, or none of this size, or the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the datagram cannot be sent")]
pub struct SendDatagramError;

impl From<quinn::ConnectionError> for ConnectionError {
    fn from(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => Self::ApplicationClosed {
                code: close.error_code.into_inner(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            quinn::ConnectionError::LocallyClosed => Self::LocallyClosed,
            quinn::ConnectionError::TimedOut => Self::TimedOut,
            quinn::ConnectionError::Reset => Self::Reset,
            other => Self::Transport(other.to_string()),
        }
    }
}

impl From<quinn::WriteError> for WriteError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => Self::Stopped(code.into_inner()),
            quinn::WriteError::ConnectionLost(error) => Self::ConnectionLost(error.into()),
            quinn::WriteError::ClosedStream => Self::ClosedStream,
            quinn::WriteError::ZeroRttRejected => Self::EarlyDataRejected,
        }
    }
}

impl From<quinn::ReadError> for ReadError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(code) => Self::Reset(code.into_inner()),
            quinn::ReadError::ConnectionLost(error) => Self::ConnectionLost(error.into()),
            // The second would mean that one stream was read in two ways, which nothing here does.
            quinn::ReadError::ClosedStream | quinn::ReadError::IllegalOrderedRead => {
                Self::ClosedStream
            }
            quinn::ReadError::ZeroRttRejected => Self::EarlyDataRejected,
        }
    }
}

impl From<quinn::StoppedError> for WriteError {
    fn from(error: quinn::StoppedError) -> Self {
        match error {
            quinn::StoppedError::ConnectionLost(error) => Self::ConnectionLost(error.into()),
            quinn::StoppedError::ZeroRttRejected => Self::EarlyDataRejected,
        }
    }
}

impl From<quinn::ClosedStream> for ClosedStream {
    fn from(_: quinn::ClosedStream) -> Self {
        Self
    }
}
