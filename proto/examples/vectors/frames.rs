//! Frames of every kind, frames as another encoder may write them, and bytes
//! that are no frame.

use anyhow::{Result, ensure};
use bytes::Bytes;
use petrel_proto::code::Code;
use petrel_proto::frame::{bare, encode};
use petrel_proto::wire::{self, Frame, frame::What};
use serde_json::{Value, json};

use super::requests;
use crate::json::{self as form, hex};

/// The limit once signed in, and before.
const MAX: usize = 67_584;
const MAX_BEFORE: usize = 16_384;

const ALICE: [u8; 16] = [0xa1; 16];
const BOB: [u8; 16] = [0xb0; 16];
const CONVERSATION: [u8; 16] = [0xc0; 16];
const TAIL: [u8; 8] = [0x80, 1, 2, 3, 4, 5, 6, 7];
const TIME_MS: u64 = 1_795_000_000_123;

fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn message_id() -> Bytes {
    bytes(b"\x01\x9a\xb0\xe1\xc2\xd3\x7a\xbc\x81\x23\x45\x67\x89\xab\xcd\xef")
}

/// `frames.json`.
pub(crate) fn all() -> Result<Value> {
    let streams = conversation_frames().into_iter().chain(big_numbers());
    let requests = requests::all()?.into_iter().map(|(name, frame)| (name, MAX_BEFORE, frame));
    let all = streams.chain(control_frames()).chain(request_frames()).chain(requests);
    let mut vectors = Vec::new();
    for (name, max, frame) in all {
        let (encoded, written) = (hex(&encode(&frame)), form::to_json(&frame));
        ensure!(form::from_json(&written)? == frame, "{name}: its JSON says something else");
        vectors.push(json!({ "name": name, "max": max, "frame": written, "hex": encoded }));
    }
    Ok(json!({
        "frames": vectors,
        "tolerated": tolerated(),
        "refused": refused(),
        "lengths": lengths(),
    }))
}

type Sample = (&'static str, usize, Frame);

fn entry(what: What) -> Frame {
    Frame {
        number: 0,
        id: message_id(),
        seq: 42,
        sender: bytes(&ALICE),
        time_ms: TIME_MS,
        count: 40,
        entry_kind: 1,
        encoding: 0,
        body: bytes("hello, 世界 👋".as_bytes()),
        what: Some(what),
        ..Frame::default()
    }
}

fn receipt(user: &[u8], delivered: u64, read: u64) -> wire::MemberReceipt {
    wire::MemberReceipt { user: bytes(user), delivered, read }
}

fn conversation_frames() -> Vec<Sample> {
    let sent = Frame {
        number: 1,
        seq: 0,
        sender: Bytes::new(),
        time_ms: 0,
        count: 0,
        ..entry(What::Send(wire::Send { again: false, seen: 41, ..wire::Send::default() }))
    };
    let resent = Frame {
        number: 300,
        entry_kind: 2,
        encoding: 17,
        body: bytes(&[0, 0x58, 1, 0, 0]),
        what: Some(What::Send(wire::Send { again: true, seen: 0, ..wire::Send::default() })),
        ..sent.clone()
    };
    let ack =
        Frame { number: 1, seq: 42, time_ms: TIME_MS, count: 40, ..bare(What::Ack(wire::Ack {})) };
    let preview = Frame { seq: 0, time_ms: 0, count: 0, ..entry(What::Preview(wire::Preview {})) };
    let refusal = wire::Refusal {
        code: Code::FromTheFuture.number(),
        text: "the message's id is ahead of the server's time".to_owned(),
        retry_after_ms: 0,
        server_time_ms: TIME_MS,
    };
    let limited = wire::Refusal {
        code: Code::RateLimited.number(),
        text: String::new(),
        retry_after_ms: 250,
        server_time_ms: 0,
    };
    let gap = |from, to, reason: wire::GapReason| {
        bare(What::Gap(wire::Gap { from, to, reason: reason.into() }))
    };
    let mut long = entry(What::Push(wire::Push::default()));
    long.body = bytes(&[b'x'; 300]);
    vec![
        ("Send, the first time", MAX, sent),
        ("Send, again, compressed with dictionary 1", MAX, resent),
        ("Ack", MAX, ack),
        ("Push", MAX, entry(What::Push(wire::Push::default()))),
        (
            "Push in a pair, to the one who did not send it",
            MAX,
            Frame { sender: Bytes::new(), ..entry(What::Push(wire::Push::default())) },
        ),
        ("Push of 300 bytes: a length of two bytes", MAX, long),
        ("Preview", MAX, preview),
        (
            "Receipts, the client's own, or those of a pair's other one",
            MAX,
            bare(What::Receipts(wire::Receipts {
                members: vec![receipt(&[], 42, 41)],
                ..wire::Receipts::default()
            })),
        ),
        (
            "Receipts, of two others",
            MAX,
            bare(What::Receipts(wire::Receipts {
                members: vec![receipt(&ALICE, 42, 42), receipt(&BOB, 7, 0)],
                ..wire::Receipts::default()
            })),
        ),
        (
            "Receipts, the client's own of another conversation",
            MAX,
            bare(What::Receipts(wire::Receipts {
                along: vec![wire::OwnReceipt {
                    conversation: bytes(&CONVERSATION),
                    delivered: 42,
                    read: 40,
                }],
                ..wire::Receipts::default()
            })),
        ),
        ("Refusal of Send 7, for good", MAX, Frame { number: 7, ..bare(What::Refusal(refusal)) }),
        (
            "Refusal of Send 8, for a while",
            MAX,
            Frame { number: 8, ..bare(What::Refusal(limited)) },
        ),
        ("Attach from a client that has nothing", MAX_BEFORE, bare(What::Attach(attach_new()))),
        ("Attach from a client that was away", MAX_BEFORE, bare(What::Attach(attach_again()))),
        ("Attach from the server", MAX, bare(What::Attach(attach_answer()))),
        ("Reset to the beginning", MAX, bare(What::Reset(wire::Reset { to: 0 }))),
        ("Reset", MAX, bare(What::Reset(wire::Reset { to: 36 }))),
        ("Gap, skipped", MAX, gap(43, 1_842, wire::GapReason::Skipped)),
        ("Gap, not a member", MAX, gap(1, 4, wire::GapReason::NotAMember)),
        ("Gap, retention", MAX, gap(1, 1_000_000, wire::GapReason::Retention)),
        ("Superseded", MAX, bare(What::Superseded(wire::Superseded {}))),
    ]
}

fn attach_new() -> wire::Attach {
    wire::Attach { conversation: bytes(&CONVERSATION), peer: bytes(&BOB), ..Default::default() }
}

fn attach_again() -> wire::Attach {
    let cursor = |seq| wire::Cursor { seq, tail: bytes(&TAIL) };
    wire::Attach {
        conversation: bytes(&CONVERSATION),
        cursor: Some(cursor(42)),
        older: vec![cursor(41), cursor(40), cursor(38), cursor(34)],
        own: Some(receipt(&[], 42, 40)),
        ..Default::default()
    }
}

fn attach_answer() -> wire::Attach {
    wire::Attach {
        conversation: bytes(&CONVERSATION),
        peer: bytes(&BOB),
        cursor: Some(wire::Cursor { seq: 42, tail: Bytes::new() }),
        head: 50,
        count: 48,
        receipts: vec![receipt(&ALICE, 42, 40), receipt(&BOB, 50, 50)],
        ..Default::default()
    }
}

fn big_numbers() -> Vec<Sample> {
    let frame = Frame {
        number: u64::MAX,
        seq: (1 << 62) - 1,
        time_ms: 1 << 48,
        entry_kind: u32::MAX,
        encoding: u32::MAX,
        ..bare(What::Push(wire::Push::default()))
    };
    vec![("numbers as large as they come", MAX, frame)]
}

fn control_frames() -> Vec<Sample> {
    let hello = wire::Hello {
        token: "eyJ0eXAiOiJKV1QifQ.e30.c2ln".to_owned(),
        features: vec!["preview".to_owned(), "receipts".to_owned()],
        dictionaries: vec![1, 2, 3, 4],
        receipts: vec![
            wire::OwnReceipt { conversation: bytes(&CONVERSATION), delivered: 42, read: 40 },
            wire::OwnReceipt { conversation: bytes(&BOB), delivered: 1, read: 0 },
        ],
        agent: "petrel-client/0.1.0".to_owned(),
        background: true,
    };
    let welcome = wire::Welcome {
        server_time_ms: TIME_MS,
        session: message_id(),
        user: bytes(&ALICE),
        features: vec!["receipts".to_owned()],
        dictionaries: vec![1, 2, 3, 4, 300],
        body_bytes_max: 65_536,
        streams_max: 64,
        token_expires_ms: TIME_MS + 900_000,
        idle_timeout_ms: 120_000,
        ..wire::Welcome::default()
    };
    let hint = wire::Hint { conversation: bytes(&CONVERSATION), head: 43, peer: bytes(&BOB) };
    let go_away = wire::GoAway {
        reconnect_after_ms_min: 100,
        reconnect_after_ms_max: 2_000,
        alternatives: vec!["gw-2.example.org:4433".to_owned()],
    };
    let token = "eyJ0eXAiOiJKV1QifQ.e30.bmV3".to_owned();
    vec![
        ("Hello", MAX_BEFORE, bare(What::Hello(hello))),
        ("Welcome", MAX, bare(What::Welcome(welcome))),
        ("RefreshDue", MAX, bare(What::RefreshDue(wire::RefreshDue {}))),
        ("Refresh", MAX_BEFORE, bare(What::Refresh(wire::Refresh { token }))),
        ("Hint", MAX, bare(What::Hint(hint))),
        ("GoAway", MAX, bare(What::GoAway(go_away))),
    ]
}

fn request_frames() -> Vec<Sample> {
    let named = |name: &str| wire::UserFound {
        user: bytes(&BOB),
        name: name.to_owned(),
        ..wire::UserFound::default()
    };
    let summary = What::Summary(wire::Summary {
        conversation: bytes(&CONVERSATION),
        peer: Some(named("bob")),
        unread: 3,
        own: Some(receipt(&ALICE, 42, 39)),
        peer_receipt: Some(receipt(&BOB, 42, 42)),
        last_activity_ms: TIME_MS,
        ..wire::Summary::default()
    });
    let empty = wire::Summary { conversation: bytes(&CONVERSATION), ..Default::default() };
    let list = wire::ListConversations { page: bytes(&[7; 24]), limit: 50, since_ms: 0 };
    let part = Frame {
        body: bytes(&[0x37, 0xa4, 0x30, 0xec]),
        ..bare(What::Dictionary(wire::Dictionary {}))
    };
    let requests = [
        (
            "Register",
            What::Register(wire::Register {
                user_name: "alice".to_owned(),
                device_label: "laptop".to_owned(),
                ..wire::Register::default()
            }),
        ),
        (
            "Registered",
            What::Registered(wire::Registered {
                user: bytes(&ALICE),
                device: bytes(&[0xd1; 16]),
                device_secret: bytes(&[0x5e; 32]),
            }),
        ),
        (
            "Login",
            What::Login(wire::Login {
                device: bytes(&[0xd1; 16]),
                device_secret: bytes(&[0x5e; 32]),
            }),
        ),
        (
            "Token",
            What::Token(wire::Token {
                token: "eyJ0eXAiOiJKV1QifQ.e30.c2ln".to_owned(),
                expires_ms: TIME_MS,
            }),
        ),
        (
            "FindUsers",
            What::FindUsers(wire::FindUsers {
                names: vec!["bob".to_owned(), String::new(), "carol".to_owned()],
                users: vec![bytes(&ALICE)],
            }),
        ),
        ("UserFound", What::UserFound(named("bob"))),
        ("ListConversations, the first page", What::ListConversations(Default::default())),
        ("ListConversations, a later page", What::ListConversations(list)),
        ("Summary of a conversation without entries", What::Summary(empty)),
        (
            "ReadHistory",
            What::ReadHistory(wire::ReadHistory {
                conversation: bytes(&CONVERSATION),
                from: 1,
                to: 200,
                limit: 200,
                newest: true,
            }),
        ),
        ("FetchDictionary", What::FetchDictionary(wire::FetchDictionary { version: 4 })),
        ("Done", What::Done(wire::Done::default())),
        ("Done of a page", What::Done(wire::Done { next_page: bytes(&[7; 24]), head: 42 })),
    ];
    let mut samples: Vec<Sample> =
        requests.into_iter().map(|(name, what)| (name, MAX, bare(what))).collect();
    samples.push(("Summary with its last entry", MAX, entry(summary)));
    samples.push(("Dictionary, a part", MAX, part));
    samples
}

/// What this encoder never writes and every decoder understands.
fn tolerated() -> Vec<Value> {
    let reset = json!({ "reset": { "to": 36 } });
    let cases = [
        ("a length of two bytes for 5", "40058a01020824", vec![reset.clone()]),
        ("a length of four bytes for 5", "800000058a01020824", vec![reset.clone()]),
        (
            "two frames, one after the other",
            "058a01020824039a0100",
            vec![reset.clone(), json!({ "superseded": {} })],
        ),
        (
            "the header last, an unknown field of each wire type first",
            concat!(
                "1e",
                "c03e01",
                "c93e0102030405060708",
                "d23e0161",
                "dd3e01020304",
                "8a01020824",
                "0805",
            ),
            vec![json!({ "number": 5, "reset": { "to": 36 } })],
        ),
        ("a field with its default value", "0708008a01020824", vec![reset]),
        (
            "dictionaries one by one instead of packed",
            "0782020418011802",
            vec![json!({ "hello": { "dictionaries": [1, 2] } })],
        ),
        ("the last of two kinds counts", "088a010208249a0100", vec![json!({ "superseded": {} })]),
        (
            "a feature that nobody knows",
            "0d82020a1208686f6c6f6772616d",
            vec![json!({ "hello": { "features": ["hologram"] } })],
        ),
    ];
    let vectors = cases.into_iter().map(
        |(name, bytes, frames)| json!({ "name": name, "max": MAX, "hex": bytes, "frames": frames }),
    );
    vectors.collect()
}

fn refused() -> Vec<Value> {
    let cases = [
        ("an empty frame", MAX, "00", "empty", Code::Malformed),
        ("an empty frame, its length in two bytes", MAX, "4000", "empty", Code::Malformed),
        ("one byte over the limit", MAX, "80010801", "too_large", Code::TooLarge),
        (
            "one byte over the limit before sign-in",
            MAX_BEFORE,
            "80004001",
            "too_large",
            Code::TooLarge,
        ),
        ("a length of 2^62 - 1", MAX, "ffffffffffffffff", "too_large", Code::TooLarge),
        ("cut within the length", MAX, "8000", "truncated", Code::Malformed),
        ("cut within the payload", MAX, "058a010208", "truncated", Code::Malformed),
        ("a header without a kind", MAX, "020801", "unknown", Code::Unexpected),
        ("a kind of a newer version", MAX, "04c23e0161", "unknown", Code::Unexpected),
        ("field number 0", MAX, "020001", "malformed", Code::Malformed),
        ("wire type 6", MAX, "020e01", "malformed", Code::Malformed),
        ("the seq as bytes", MAX, "021a00", "malformed", Code::Malformed),
        ("a field that is longer than the frame", MAX, "048a010524", "malformed", Code::Malformed),
        (
            "a number of eleven bytes",
            MAX,
            "0c08ffffffffffffffffffff01",
            "malformed",
            Code::Malformed,
        ),
        ("a number that is cut", MAX, "0208ff", "malformed", Code::Malformed),
        ("text that is not UTF-8", MAX, "068202030a01ff", "malformed", Code::Malformed),
    ];
    let vectors = cases.into_iter().map(|(name, max, bytes, error, code)| {
        json!({
            "name": name,
            "max": max,
            "hex": bytes,
            "error": error,
            "code": code.number(),
        })
    });
    vectors.collect()
}

fn lengths() -> Vec<Value> {
    let cases = [
        (0_u64, "00", true),
        (37, "25", true),
        (37, "4025", false),
        (63, "3f", true),
        (64, "4040", true),
        (15_293, "7bbd", true),
        (16_383, "7fff", true),
        (16_384, "80004000", true),
        (67_584, "80010800", true),
        (494_878_333, "9d7f3e7d", true),
        ((1 << 30) - 1, "bfffffff", true),
        (1 << 30, "c000000040000000", true),
        (151_288_809_941_952_652, "c2197c5eff14e88c", true),
        ((1 << 62) - 1, "ffffffffffffffff", true),
    ];
    cases
        .into_iter()
        .map(|(value, hex, shortest)| json!({ "value": value, "hex": hex, "shortest": shortest }))
        .collect()
}
