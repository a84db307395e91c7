//! Reads a sample of messages, and divides it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use petrel_core::limits::BODY_DECODED_BYTES_MAX;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Bytes of a sample that is read; more would change nothing.
const SAMPLE_BYTES_MAX: u64 = 256 << 20;
/// A line may be a message and its JSON, with everything escaped.
const LINE_BYTES_MAX: u64 = 8 * BODY_DECODED_BYTES_MAX as u64;

/// The parts of a sample.
pub(super) struct Split {
    /// Seven in ten: what the dictionary is made from.
    pub(super) training: Vec<Vec<u8>>,
    /// One in ten: what chooses between several.
    pub(super) choosing: Vec<Vec<u8>>,
    /// Two in ten: what is reported.
    pub(super) held_out: Vec<Vec<u8>>,
}

/// Reads the messages of a file, one a line; empty lines are left out.
pub(super) fn read(path: &Path, json_field: Option<&str>) -> Result<Vec<Vec<u8>>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    ensure!(
        len <= SAMPLE_BYTES_MAX,
        "{len} bytes; at most {SAMPLE_BYTES_MAX}: take a part, for instance with shuf -n 1000000"
    );
    let mut lines = BufReader::new(file);
    let mut messages = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        let read = lines.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        ensure!(
            read as u64 <= LINE_BYTES_MAX,
            "line {number} is longer than {LINE_BYTES_MAX} bytes"
        );
        while matches!(line.last(), Some(b'\n' | b'\r')) {
            line.pop();
        }
        if line.is_empty() {
            continue;
        }
        let message = match json_field {
            Some(field) => from_json(&line, field).with_context(|| format!("line {number}"))?,
            None => line,
        };
        ensure!(
            message.len() <= BODY_DECODED_BYTES_MAX,
            "line {number}: a message of {} bytes; at most {BODY_DECODED_BYTES_MAX}",
            message.len()
        );
        messages.push(message);
    }
    ensure!(!messages.is_empty(), "there are no messages in it");
    Ok(messages)
}

fn from_json(line: &[u8], field: &str) -> Result<Vec<u8>> {
    let message = match serde_json::from_slice(line).context("it is no JSON")? {
        Value::String(text) => text,
        Value::Object(mut fields) => match fields.remove(field) {
            Some(Value::String(text)) => text,
            Some(_) => bail!("its field {field} is no string"),
            None => bail!("it has no field {field}"),
        },
        _ => bail!("it is neither a string nor an object"),
    };
    Ok(message.into_bytes())
}

/// Divides a sample by the messages' hashes: the same message always falls into the same part,
/// in whatever order and however often it comes. So nothing is held out that was trained on.
/// Repetitions are left out of what is trained on.
pub(super) fn split(messages: Vec<Vec<u8>>) -> Split {
    let mut parts = Split { training: Vec::new(), choosing: Vec::new(), held_out: Vec::new() };
    let mut hashed: Vec<([u8; 32], Vec<u8>)> =
        messages.into_iter().map(|message| (Sha256::digest(&message).into(), message)).collect();
    hashed.sort_unstable();
    let mut last = None;
    for (hash, message) in hashed {
        match hash[31] % 10 {
            0..=6 if last != Some(hash) => parts.training.push(message),
            0..=6 => {}
            7 => parts.choosing.push(message),
            _ => parts.held_out.push(message),
        }
        last = Some(hash);
    }
    parts
}

/// Keeps so many bytes of messages; which ones, their hashes have decided.
pub(super) fn limit(messages: &mut Vec<Vec<u8>>, bytes_max: usize) {
    let mut bytes = 0;
    let within = messages.iter().take_while(|message| {
        bytes += message.len();
        bytes <= bytes_max
    });
    let count = within.count();
    messages.truncate(count);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn lines_and_json_lines_are_read() {
        let lines = file("one\r\n\n{\"a\": 1}\nlast");
        let read_as = |field| read(lines.path(), field);
        assert_eq!(read_as(None).unwrap(), [&b"one"[..], b"{\"a\": 1}", b"last"]);
        let json = file("{\"text\": \"a\\nb\", \"from\": \"x\"}\n\"plain\"\n");
        assert_eq!(read(json.path(), Some("text")).unwrap(), [&b"a\nb"[..], b"plain"]);
        for (text, told) in [
            ("", "no messages"),
            ("\n\n", "no messages"),
            ("{\"text\": 1}", "line 1"),
            ("\"a\"\n{\"other\": \"b\"}", "line 2"),
            ("\"a\"\nb", "line 2"),
        ] {
            let error = format!("{:#}", read(file(text).path(), Some("text")).unwrap_err());
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_held_out_was_never_trained_on_whatever_the_order() {
        let messages: Vec<Vec<u8>> =
            (0..3_000).map(|n| format!("message {}", n % 1_000).into_bytes()).collect();
        let parts = split(messages.clone());
        let again = split(messages.into_iter().rev().collect());
        assert_eq!((&parts.training, &parts.held_out), (&again.training, &again.held_out));
        assert!(parts.held_out.iter().all(|message| !parts.training.contains(message)));
        assert!((600..800).contains(&parts.training.len()), "{}", parts.training.len());
        assert!((400..800).contains(&parts.held_out.len()), "{}", parts.held_out.len());
    }
}
