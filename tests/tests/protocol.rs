//! The protocol as others see it: a decoder made from the document alone, and
//! the vectors of ids against `petrel-core`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use petrel_core::entry::{Cursor, EntryKind};
use petrel_core::id::{ClientMessageId, ContentDigest, ConversationId, UserId};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn ids() -> Result<Value> {
    let path = Path::new(ROOT).join("proto/vectors/ids.json");
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

fn bytes(vector: &Value, key: &str) -> Result<Vec<u8>> {
    let text = vector[key].as_str().with_context(|| format!("no {key} in {vector}"))?;
    let digits = |at: usize| text.get(at..at + 2).context("half a byte");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(digits(at)?, 16)?)).collect()
}

fn number<T: TryFrom<u64>>(vector: &Value, key: &str) -> Result<T> {
    let number = vector[key].as_u64().and_then(|n| T::try_from(n).ok());
    number.with_context(|| format!("no {key} in {vector}"))
}

fn list<'a>(ids: &'a Value, key: &str) -> Result<&'a [Value]> {
    let list = ids[key].as_array().context("no list")?;
    ensure!(!list.is_empty(), "{key} is empty");
    Ok(list)
}

#[test]
fn a_decoder_made_from_the_document_alone_reads_every_vector() -> Result<()> {
    let script = Path::new(ROOT).join("tests/protocol/decode_vectors.py");
    let run = Command::new("python3")
        .arg(&script)
        .arg(ROOT)
        .output()
        .context("python3 cannot be run; install it: apt-get install python3")?;
    if !run.status.success() {
        bail!(
            "{} ({}):\n{}{}",
            script.display(),
            run.status,
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
    }
    Ok(())
}

#[test]
fn a_pairs_conversation_is_that_of_the_vectors() -> Result<()> {
    for vector in list(&ids()?, "pairs")? {
        let user = |key| UserId::from_slice(&bytes(vector, key)?).context("16 bytes");
        let id = ConversationId::of_pair(user("a")?, user("b")?);
        ensure!(bytes(vector, "conversation")? == id.as_bytes(), "{vector}: {id}");
    }
    Ok(())
}

#[test]
fn a_message_ids_time_is_that_of_the_vectors() -> Result<()> {
    for vector in list(&ids()?, "message_ids")? {
        let id = ClientMessageId::from_slice(&bytes(vector, "id")?).context("16 bytes")?;
        ensure!(vector["time_ms"].as_u64() == id.time_ms(), "{vector}: {:?}", id.time_ms());
    }
    Ok(())
}

#[test]
fn a_cursors_tail_is_that_of_the_vectors() -> Result<()> {
    for vector in list(&ids()?, "cursors")? {
        let id = ClientMessageId::from_slice(&bytes(vector, "id")?).context("16 bytes")?;
        let tail = Cursor::tail_of(id, number(vector, "time_ms")?);
        ensure!(bytes(vector, "tail")? == tail, "{vector}: {tail:?}");
    }
    Ok(())
}

#[test]
fn a_contents_digest_is_that_of_the_vectors() -> Result<()> {
    for vector in list(&ids()?, "digests")? {
        let kind = EntryKind::from_number(number(vector, "entry_kind")?).context("a known kind")?;
        let digest = ContentDigest::of(kind, number(vector, "encoding")?, &bytes(vector, "body")?);
        ensure!(bytes(vector, "digest")? == digest.0, "{vector}: {digest:?}");
    }
    Ok(())
}
