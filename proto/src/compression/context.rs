//! One thread's zstd contexts, made once and used for every body.
//!
//! A context costs 30-160 KB to make and microseconds to set up; a body costs
//! one. The dictionaries that contexts point to are shared by all threads.

use super::{DecodeError, LEVEL, WINDOW_LOG_MAX};
use std::cell::RefCell;
use zstd::zstd_safe::{
    CCtx, CDict, CParameter, DCtx, DDict, DParameter, FrameFormat, ResetDirective, SafeResult,
    compress_bound, get_error_name, is_error_kind, zstd_sys::ZSTD_ErrorCode,
};

/// What a thread keeps between bodies at most; larger buffers are given back.
const SCRATCH_BYTES_KEPT: usize = 256 << 10;

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::new(Contexts::new());
}

/// Runs `work` with this thread's contexts. **Invariant:** `work` must not come
/// back here; nothing in this module takes a caller's closure that could.
pub(super) fn with_contexts<T>(work: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with_borrow_mut(|contexts| {
        let result = work(contexts);
        for scratch in [&mut contexts.frame, &mut contexts.plain] {
            if scratch.capacity() > SCRATCH_BYTES_KEPT {
                *scratch = Vec::new();
            }
        }
        result
    })
}

pub(super) struct Contexts {
    encoder: CCtx<'static>,
    decoder: DCtx<'static>,
    frame: Vec<u8>,
    /// As long as the longest body so far, so that it is zeroed only once.
    plain: Vec<u8>,
}

impl Contexts {
    fn new() -> Self {
        let mut encoder = CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(LEVEL),
            CParameter::WindowLog(WINDOW_LOG_MAX),
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            encoder
                .set_parameter(parameter)
                .expect("every zstd that we build knows these parameters");
        }
        let mut decoder = DCtx::create();
        decoder
            .set_parameter(DParameter::Format(FrameFormat::Magicless))
            .expect("every zstd that we build knows magicless frames");
        Self { encoder, decoder, frame: Vec::new(), plain: Vec::new() }
    }

    /// The lean frame of `plain`; none if zstd could not make one.
    pub(super) fn compress(
        &mut self,
        plain: &[u8],
        dictionary: Option<&'static CDict<'static>>,
    ) -> Option<&[u8]> {
        let set = match dictionary {
            Some(prepared) => self.encoder.ref_cdict(prepared),
            None => self.encoder.disable_dictionary(),
        };
        self.frame.clear();
        self.frame.reserve(compress_bound(plain.len()));
        let made = set.and_then(|_| self.encoder.compress2(&mut self.frame, plain));
        if made.is_err() {
            // A failed frame stays open otherwise, and the next body with it.
            self.encoder.reset(ResetDirective::SessionOnly).ok()?;
            return None;
        }
        Some(&self.frame)
    }

    /// The plain body of a frame that passed the header check, into a buffer
    /// of `capacity` bytes.
    pub(super) fn decompress(
        &mut self,
        frame: &[u8],
        dictionary: Option<&'static DDict<'static>>,
        capacity: usize,
        max_len: usize,
    ) -> Result<&[u8], DecodeError> {
        let set = match dictionary {
            Some(prepared) => self.decoder.ref_ddict(prepared),
            None => self.decoder.disable_dictionary(),
        };
        self.decompress_by(capacity, max_len, |decoder, room| {
            set.and_then(|_| decoder.decompress(room, frame))
        })
    }

    /// The same with a dictionary that is not shipped.
    pub(super) fn decompress_fetched(
        &mut self,
        frame: &[u8],
        dictionary: &DDict<'static>,
        capacity: usize,
        max_len: usize,
    ) -> Result<&[u8], DecodeError> {
        let set = self.decoder.disable_dictionary();
        self.decompress_by(capacity, max_len, |decoder, room| {
            set.and_then(|_| decoder.decompress_using_ddict(room, frame, dictionary))
        })
    }

    fn decompress_by(
        &mut self,
        capacity: usize,
        max_len: usize,
        work: impl FnOnce(&mut DCtx<'static>, &mut [u8]) -> SafeResult,
    ) -> Result<&[u8], DecodeError> {
        if self.plain.len() < capacity {
            self.plain.resize(capacity, 0);
        }
        // zstd writes up to the end of what it is given, so the room that an
        // earlier body left must not widen this one's limit.
        let room = self.plain.get_mut(..capacity).ok_or(DecodeError::TooLong { max_len })?;
        match work(&mut self.decoder, room) {
            Ok(len) => self.plain.get(..len).ok_or(DecodeError::TooLong { max_len }),
            Err(code) if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => {
                Err(DecodeError::TooLong { max_len })
            }
            Err(code) => Err(DecodeError::Corrupt { reason: get_error_name(code) }),
        }
    }
}
