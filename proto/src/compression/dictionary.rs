//! The dictionaries that are shipped.
//!
//! A dictionary is never changed or retired: stored bodies need it for as long
//! as they exist. A better one gets the next number. They are made by
//! `cargo run -p petrel-proto --release --example train_dictionary` from text
//! in `proto/dictionaries/source`, which is all invented.

use super::LEVEL;
use std::sync::LazyLock;
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CDict, DDict};

/// The version of a dictionary that this build ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DictionaryVersion(u32);

/// One shipped dictionary.
#[derive(Clone, Copy, Debug)]
pub struct Dictionary {
    /// The number by which peers name it.
    pub version: DictionaryVersion,
    /// Its file in `proto/dictionaries`.
    pub file: &'static str,
    /// The dictionary in zstd's format.
    pub bytes: &'static [u8],
    /// SHA-256 of `bytes`, in hexadecimal.
    pub sha256: &'static str,
}

/// All dictionaries ever shipped, by version from 1 on without a gap.
pub static DICTIONARIES: [Dictionary; 4] = [
    Dictionary {
        version: DictionaryVersion::GENERAL,
        file: "chat-1.dict",
        bytes: include_bytes!("../../dictionaries/chat-1.dict"),
        sha256: "3451a18d6e3e0a8da28fc1305f25b234351d5f1c58a5a52233b61f5d24436c86",
    },
    Dictionary {
        version: DictionaryVersion::ENGLISH,
        file: "english-2.dict",
        bytes: include_bytes!("../../dictionaries/english-2.dict"),
        sha256: "ee6b4759c0f8c75549d6ee7e95b8ccbc6a98688ba0ab4b1ae98d63138cb09bc1",
    },
    Dictionary {
        version: DictionaryVersion::CHINESE,
        file: "chinese-3.dict",
        bytes: include_bytes!("../../dictionaries/chinese-3.dict"),
        sha256: "f1ec9de14af21edf47fc0b88f733b11762f6d3dd4d3a58db391643c1b8b38001",
    },
    Dictionary {
        version: DictionaryVersion::JSON,
        file: "json-4.dict",
        bytes: include_bytes!("../../dictionaries/json-4.dict"),
        sha256: "51f24ded2bb3a399706403d68af42c2d3b21b0a622736a77028c7f0f36c4f8d6",
    },
];

/// What zstd computes from a dictionary once; all threads point to it.
struct Prepared {
    encoder: LazyLock<EncoderDictionary<'static>>,
    decoder: LazyLock<DecoderDictionary<'static>>,
}

macro_rules! prepared {
    ($at:literal) => {
        Prepared {
            encoder: LazyLock::new(|| EncoderDictionary::new(DICTIONARIES[$at].bytes, LEVEL)),
            decoder: LazyLock::new(|| DecoderDictionary::new(DICTIONARIES[$at].bytes)),
        }
    };
}

static PREPARED: [Prepared; DICTIONARIES.len()] =
    [prepared!(0), prepared!(1), prepared!(2), prepared!(3)];

/// How much of a body is looked at to choose its dictionary.
const GLANCE_BYTES: usize = 256;

impl DictionaryVersion {
    /// Chat of mixed languages and JSON: fair for everything.
    pub const GENERAL: Self = Self(1);
    /// Chat in English.
    pub const ENGLISH: Self = Self(2);
    /// Chat in Chinese.
    pub const CHINESE: Self = Self(3);
    /// JSON objects.
    pub const JSON: Self = Self(4);

    /// Version `number`, if this build ships it.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        DICTIONARIES.iter().map(|dictionary| dictionary.version).find(|version| version.0 == number)
    }

    /// The number on the wire, from 1 on.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The dictionary itself, as a peer that lacks it fetches it.
    #[must_use]
    pub fn dictionary(self) -> &'static Dictionary {
        &DICTIONARIES[self.place()]
    }

    /// The dictionary that is likely to serve `plain` best: a glance, no trial.
    #[must_use]
    pub fn suited_to(plain: &[u8]) -> Self {
        let glance = plain.get(..GLANCE_BYTES).unwrap_or(plain);
        if matches!(glance, [b'{' | b'[', ..]) {
            return Self::JSON;
        }
        let beyond_ascii = glance.iter().filter(|byte| !byte.is_ascii()).count();
        match beyond_ascii * 100 / glance.len().max(1) {
            0..=20 => Self::ENGLISH,
            21..=75 => Self::GENERAL,
            _ => Self::CHINESE,
        }
    }

    pub(super) fn encoder(self) -> &'static CDict<'static> {
        PREPARED[self.place()].encoder.as_cdict()
    }

    pub(super) fn decoder(self) -> &'static DDict<'static> {
        PREPARED[self.place()].decoder.as_ddict()
    }

    /// In the tables above. Only this file makes versions, all of them listed.
    fn place(self) -> usize {
        DICTIONARIES
            .iter()
            .position(|dictionary| dictionary.version == self)
            .expect("every version that exists is in DICTIONARIES")
    }
}
