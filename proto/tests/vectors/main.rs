//! The committed vectors (`proto/vectors/`) against this crate. They are written
//! by `cargo run -p petrel-proto --example write_vectors`; a second decoder that
//! knows only the document reads the same files in `petrel-tests`.

mod json;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use json::{hex, unhex};
use petrel_proto::code::{Action, Code};
use petrel_proto::compression::{self, BodyEncoding, DICTIONARIES, DecodeError};
use petrel_proto::frame::{self, FrameError, FrameReader};
use petrel_proto::wire::{Event, Frame};
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest, Sha256};

const BODY_BYTES_MAX: usize = 64 * 1024;

fn read(file: &str) -> Result<Value> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    serde_json::from_str(&text).with_context(|| path)
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value]> {
    let list = value[key].as_array().with_context(|| format!("no list {key}"))?;
    ensure!(!list.is_empty(), "{key} is empty");
    Ok(list)
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str> {
    value[key].as_str().with_context(|| format!("no text {key} in {value}"))
}

fn number<T: TryFrom<u64>>(value: &Value, key: &str) -> Result<T> {
    let number = value[key].as_u64().with_context(|| format!("no number {key} in {value}"))?;
    T::try_from(number).ok().with_context(|| format!("{key} is out of range in {value}"))
}

fn bytes(value: &Value, key: &str) -> Result<Vec<u8>> {
    unhex(text(value, key)?)
}

/// The frames of a whole stream of bytes.
fn frames(stream: Vec<u8>, max: usize) -> Result<Vec<Frame>, FrameError> {
    let mut reader = FrameReader::new(max);
    let mut chunk = Bytes::from(stream);
    let mut frames = Vec::new();
    while let Some(payload) = reader.next(&mut chunk)? {
        let (mut frame, what) = frame::decode(payload)?;
        frame.what = Some(what);
        frames.push(frame);
    }
    reader.finish()?;
    Ok(frames)
}

#[test]
fn every_frame_is_encoded_and_decoded_as_its_vector_says() -> Result<()> {
    for vector in list(&read("frames.json")?, "frames")? {
        let name = text(vector, "name")?;
        let expected = json::from_json(&vector["frame"]).with_context(|| name.to_owned())?;
        let encoded = text(vector, "hex")?;
        ensure!(hex(&frame::encode(&expected)) == encoded, "{name}: encoded otherwise");
        let got =
            frames(unhex(encoded)?, number(vector, "max")?).with_context(|| name.to_owned())?;
        ensure!(got == [expected], "{name}: decoded as {got:?}");
        ensure!(json::to_json(&got[0]) == vector["frame"], "{name}: its JSON is another");
    }
    Ok(())
}

#[test]
fn every_event_is_encoded_and_decoded_as_its_vector_says() -> Result<()> {
    for vector in list(&read("events.json")?, "events")? {
        let expected = json::event_from_json(&vector["event"])?;
        let encoded = text(vector, "hex")?;
        ensure!(hex(&expected.encode_to_vec()) == encoded, "{vector}: encoded otherwise");
        let got = Event::decode(Bytes::from(unhex(encoded)?))?;
        ensure!(got == expected, "{vector}: decoded as {got:?}");
        ensure!(json::event_to_json(&got) == vector["event"], "{vector}: its JSON is another");
    }
    Ok(())
}

#[test]
fn what_another_encoder_may_write_is_understood() -> Result<()> {
    for vector in list(&read("frames.json")?, "tolerated")? {
        let name = text(vector, "name")?;
        let got = frames(bytes(vector, "hex")?, number(vector, "max")?);
        let got: Vec<Value> =
            got.with_context(|| name.to_owned())?.iter().map(json::to_json).collect();
        ensure!(got == list(vector, "frames")?, "{name}: decoded as {got:?}");
    }
    Ok(())
}

#[test]
fn bytes_that_are_no_frame_are_refused_with_the_right_code() -> Result<()> {
    for vector in list(&read("frames.json")?, "refused")? {
        let name = text(vector, "name")?;
        let Err(error) = frames(bytes(vector, "hex")?, number(vector, "max")?) else {
            bail!("{name}: accepted");
        };
        let (kind, code) = match error {
            FrameError::TooLarge { .. } => ("too_large", Code::TooLarge),
            FrameError::Empty => ("empty", Code::Malformed),
            FrameError::Malformed(_) => ("malformed", Code::Malformed),
            FrameError::Truncated { .. } => ("truncated", Code::Malformed),
            FrameError::Unknown => ("unknown", Code::Unexpected),
        };
        ensure!(text(vector, "error")? == kind, "{name}: {error}");
        ensure!(number::<u32>(vector, "code")? == code.number(), "{name}: {code}");
    }
    Ok(())
}

#[test]
fn every_body_decodes_to_its_plain_form() -> Result<()> {
    let bodies = read("bodies.json")?;
    let mut dictionaries_seen = Vec::new();
    for vector in list(&bodies, "bodies")? {
        let name = text(vector, "name")?;
        let (encoding, encoded) = (number(vector, "encoding")?, bytes(vector, "hex")?);
        let plain = plain_of(vector)?;
        ensure!(compression::decode(encoding, &encoded, BODY_BYTES_MAX)? == plain, "{name}");
        ensure!(encoded.len() <= plain.len(), "{name}: longer than plain");
        if let BodyEncoding::ZstdDictionary(version) = BodyEncoding::try_from(encoding)? {
            dictionaries_seen.push(version.number());
        }
    }
    for dictionary in &DICTIONARIES {
        let version = dictionary.version.number();
        ensure!(dictionaries_seen.contains(&version), "no vector of dictionary {version}");
    }
    Ok(())
}

#[test]
fn lengths_are_read_and_written_as_their_vectors_say() -> Result<()> {
    for vector in list(&read("frames.json")?, "lengths")? {
        let (value, encoded) = (number(vector, "value")?, bytes(vector, "hex")?);
        ensure!(frame::read_varint(&encoded) == Some((value, encoded.len())), "{vector}");
        let mut written = bytes::BytesMut::new();
        frame::write_varint(&mut written, value);
        ensure!((written == encoded) == vector["shortest"].as_bool().unwrap_or(true), "{vector}");
    }
    Ok(())
}

/// A body's plain form: text, hexadecimal, or one byte many times.
fn plain_of(vector: &Value) -> Result<Vec<u8>> {
    if let Some(text) = vector["plain"].as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    if let Some(text) = vector["plain_hex"].as_str() {
        return unhex(text);
    }
    let repeated = &vector["plain_repeated"];
    Ok(vec![number(repeated, "byte")?; number(repeated, "times")?])
}

#[test]
fn bodies_that_break_a_bound_are_refused() -> Result<()> {
    for vector in list(&read("bodies.json")?, "refused")? {
        let name = text(vector, "name")?;
        let (encoding, encoded) = (number(vector, "encoding")?, bytes(vector, "hex")?);
        let Err(error) = compression::decode(encoding, &encoded, BODY_BYTES_MAX) else {
            bail!("{name}: accepted");
        };
        let kind = match error {
            DecodeError::UnknownEncoding { .. } => "unknown_encoding",
            DecodeError::UnknownDictionary { .. } => "unknown_dictionary",
            DecodeError::TooLong { .. } => "too_long",
            DecodeError::WindowTooLarge { .. } => "window_too_large",
            DecodeError::NotLean { .. } => "not_lean",
            DecodeError::Truncated => "truncated",
            DecodeError::Trailing { .. } => "trailing",
            DecodeError::Corrupt { .. } => "corrupt",
        };
        ensure!(text(vector, "error")? == kind, "{name}: {error}");
        ensure!(number::<u32>(vector, "code")? == Code::BadBody.number(), "{name}");
    }
    Ok(())
}

#[test]
fn the_dictionaries_are_those_of_the_vectors() -> Result<()> {
    let bodies = read("bodies.json")?;
    let listed = list(&bodies, "dictionaries")?;
    ensure!(listed.len() == DICTIONARIES.len());
    for (vector, dictionary) in listed.iter().zip(&DICTIONARIES) {
        ensure!(number::<u32>(vector, "version")? == dictionary.version.number());
        ensure!(text(vector, "file")? == dictionary.file);
        ensure!(text(vector, "sha256")? == hex(&Sha256::digest(dictionary.bytes)));
    }
    Ok(())
}

#[test]
fn the_codes_are_those_of_the_vectors() -> Result<()> {
    let codes = read("codes.json")?;
    let listed = list(&codes, "codes")?;
    ensure!(listed.len() == Code::ALL.len());
    for (vector, code) in listed.iter().zip(Code::ALL) {
        let (action, after_ms) = match code.action() {
            _ if *code == Code::Ok => ("none", 0),
            Action::Retry { after_ms } => ("retry", after_ms),
            Action::Reconnect { after_ms } => ("reconnect", after_ms),
            Action::Reauthenticate => ("reauthenticate", 0),
            Action::GiveUp => ("give up", 0),
        };
        ensure!(number::<u32>(vector, "number")? == code.number(), "{code}");
        ensure!(text(vector, "name")?.to_lowercase() == code.label(), "{code}");
        ensure!(text(vector, "action")? == action, "{code}");
        ensure!(number::<u32>(vector, "after_ms")? == after_ms, "{code}");
    }
    Ok(())
}
