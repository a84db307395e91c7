//! Message texts: a seeded pool of mixed English, Chinese and emoji chat, or
//! the lines of a file. Messages draw from the pool, so that making text costs
//! nothing while the clock runs.

use std::hash::Hasher;
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use petrel_proto::compression;
use petrel_proto::sample_text::{Corpus, SampleText, Style};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustc_hash::FxHasher;

/// How many texts are made when no file gives them.
const POOL: usize = 8_192;
/// Bytes of a character, at the most.
const CHARACTER_BYTES: usize = 4;
/// Lines read from a file, at the most.
const LINES_MAX: usize = 1_000_000;
/// Bytes of one body, at the most (the protocol's bound).
pub const BODY_BYTES_MAX: usize = 65_536;

/// One text.
#[derive(Clone, Debug)]
pub struct Body {
    /// The text in UTF-8.
    pub text: Bytes,
    /// [`hash`] of the text.
    pub hash: u64,
}

/// The texts of a run.
#[derive(Debug)]
pub struct Bodies(Vec<Body>);

/// A hash by which a text is recognised again when it comes back.
pub fn hash(text: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(text);
    hasher.finish()
}

impl Bodies {
    /// Texts of `min` to `max` bytes, lengths drawn uniformly (to a character).
    pub fn generated(seed: u64, min: usize, max: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x7465_7874);
        // Text that no dictionary was trained on.
        let mut source = SampleText::new(seed, Corpus::HeldOut);
        let texts = (0..POOL).map(|_| {
            let bytes = random.random_range(min..=max);
            // A character more or less, as none may be cut.
            let low = bytes.saturating_sub(CHARACTER_BYTES).max(min);
            source.message(Style::Mixed, low, bytes)
        });
        Self(texts.map(body).collect())
    }

    /// The non-empty lines of a file.
    ///
    /// # Errors
    /// When the file cannot be read, has no line, or one that is too long.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--bodies {}", path.display()))?;
        let lines: Vec<Body> = text
            .lines()
            .filter(|line| !line.is_empty())
            .take(LINES_MAX)
            .map(|line| body(line.to_owned()))
            .collect();
        if lines.is_empty() {
            bail!("--bodies {}: no line in it", path.display());
        }
        if let Some(long) = lines.iter().find(|l| l.text.len() > BODY_BYTES_MAX) {
            bail!(
                "--bodies {}: a line of {} bytes; at most {BODY_BYTES_MAX}",
                path.display(),
                long.text.len()
            );
        }
        Ok(Self(lines))
    }

    /// How many texts there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// One text.
    pub fn get(&self, index: usize) -> &Body {
        &self.0[index]
    }

    /// Mean length in bytes, as a user wrote it.
    pub fn mean_bytes(&self) -> f64 {
        self.mean(|body| body.text.len())
    }

    /// Mean length in bytes as it travels, with the shipped dictionaries.
    pub fn mean_encoded_bytes(&self) -> f64 {
        self.mean(|body| encoded(&body.text).len())
    }

    /// The same texts as they travel: for servers that take bodies as they come.
    pub fn encoded(&self) -> Self {
        Self(self.0.iter().map(|body| of_bytes(encoded(&body.text))).collect())
    }

    fn mean(&self, size: impl Fn(&Body) -> usize) -> f64 {
        self.0.iter().map(|body| size(body) as f64).sum::<f64>() / self.0.len() as f64
    }
}

fn body(text: String) -> Body {
    of_bytes(Bytes::from(text))
}

fn of_bytes(text: Bytes) -> Body {
    Body { hash: hash(&text), text }
}

/// As the client sends it to a server that knows every shipped dictionary.
fn encoded(text: &[u8]) -> Bytes {
    let known: Vec<u32> = compression::DICTIONARIES.iter().map(|d| d.version.number()).collect();
    compression::encode_for(text, &known).bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[test]
    fn texts_have_the_lengths_asked_for_and_are_the_same_for_a_seed() {
        let bodies = Bodies::generated(5, 20, 300);
        let lengths: Vec<usize> = (0..bodies.count()).map(|i| bodies.get(i).text.len()).collect();
        assert!(lengths.iter().all(|length| (17..=300).contains(length)));
        assert!((bodies.mean_bytes() - 160.0).abs() < 10.0, "{}", bodies.mean_bytes());
        let mean = bodies.mean_encoded_bytes();
        assert!(mean < bodies.mean_bytes(), "{mean}");
        let again = Bodies::generated(5, 20, 300);
        assert!((0..bodies.count()).all(|i| bodies.get(i).text == again.get(i).text));
        assert_ne!(bodies.get(0).text, Bodies::generated(6, 20, 300).get(0).text);
    }

    #[test]
    fn a_file_gives_its_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\n\n二\n").unwrap();
        let bodies = Bodies::from_file(file.path()).unwrap();
        assert_eq!(bodies.count(), 2);
        assert_eq!(bodies.get(1).text, "二");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(Bodies::from_file(file.path()).is_err());
    }
}
