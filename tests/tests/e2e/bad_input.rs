//! Bytes and values that a decent client never sends: each has its documented answer, which
//! says what was wrong, and what is good goes on beside it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use petrel_core::limits;
use petrel_proto::code::Code;
use petrel_proto::frame::{bare, encode, write_varint};
use petrel_proto::wire::{self, Frame, frame::What};
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions, RawStream};
use prost::Message as _;

use crate::witness::Witness;

on_both_stores!(
    what_is_no_frame_ends_its_stream_alone,
    frames_and_bodies_are_taken_up_to_their_limits_exactly,
    fields_are_taken_within_their_ranges_exactly,
    bodies_that_do_not_decode_within_bounds_are_refused,
    frames_out_of_place_are_refused,
);

fn prefixed(len: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    write_varint(&mut bytes, len);
    bytes.extend_from_slice(payload);
    bytes.to_vec()
}

/// Bytes, whether the writer ends there, the code, and a part of the text.
fn broken(limit: usize) -> Vec<(Vec<u8>, bool, Code, &'static str)> {
    let over = prefixed(limit as u64 + 1, &[]);
    vec![
        (over, false, Code::TooLarge, "limit"),
        (prefixed((1 << 62) - 1, &[]), false, Code::TooLarge, "limit"),
        (prefixed(0, &[]), false, Code::Malformed, "empty"),
        (prefixed(10, &[1, 2, 3]), true, Code::Malformed, "7 bytes missing"),
        (vec![0xc0, 0], true, Code::Malformed, "missing"),
        (prefixed(4, &[0xff; 4]), false, Code::Malformed, "not a frame"),
        // number = 1 and nothing else; a field of a later version.
        (prefixed(2, &[0x08, 0x01]), false, Code::Unexpected, "unknown"),
        (prefixed(4, &[0xf2, 0x3f, 0x01, 0x00]), false, Code::Unexpected, "unknown"),
    ]
}

async fn refused_for(
    stream: &mut RawStream,
    (bytes, ends, code, text): (Vec<u8>, bool, Code, &'static str),
) -> Result<()> {
    stream.write_bytes(&bytes).await?;
    if ends {
        stream.send.finish()?;
    }
    let refused = stream.refusal().await.with_context(|| format!("{bytes:x?}"))?;
    assert_eq!(refused.code, code, "{bytes:x?}: {refused:?}");
    assert!(refused.text.contains(text), "{bytes:x?}: {refused:?}");
    Ok(())
}

/// The server's side ends after the refusal, and it wants no more.
async fn has_ended(stream: &mut RawStream, code: Code) -> Result<()> {
    while let Some((_, what)) = stream.next().await? {
        assert!(!matches!(what, What::Refusal(_)), "a second refusal");
    }
    let stopped = tokio::time::timeout(Duration::from_secs(10), stream.send.stopped()).await??;
    assert!(stopped.is_none_or(|c| c.into_inner() == u64::from(code.number())), "{stopped:?}");
    Ok(())
}

async fn what_is_no_frame_ends_its_stream_alone(stage: Stage) -> Result<()> {
    let mut witness = Witness::new(&stage, &[]).await?;
    let fresh = Raw::dial(&witness.gateway, &RawOptions::default()).await?;
    for case in broken(limits::UNAUTHENTICATED_FRAME_BYTES_MAX) {
        for raw in [&fresh, &witness.raw] {
            let mut stream = raw.open().await?;
            refused_for(&mut stream, case.clone()).await?;
            has_ended(&mut stream, case.2).await?;
        }
        witness.is_well().await?;
    }
    // The connection that had not signed in can still do so.
    fresh.log_in(&witness.alice).await?;

    for (n, case) in broken(limits::FRAME_BYTES_MAX).into_iter().enumerate() {
        let peer = witness.gateway.dialer()?.register(&format!("peer{n}"), "test").await?;
        let mut stream = witness.other_stream(&peer).await?;
        refused_for(&mut stream, case.clone()).await?;
        has_ended(&mut stream, case.2).await.with_context(|| format!("{case:x?}"))?;
        witness.is_well().await?;
    }
    // The control stream is the session: with it the connection ends.
    for case in broken(limits::UNAUTHENTICATED_FRAME_BYTES_MAX) {
        let (raw, mut control) = Raw::sign_in(&witness.gateway, &witness.bob).await?;
        refused_for(&mut control, case).await?;
        assert_eq!(raw.closed_with().await?, Code::ProtocolViolation);
    }
    witness.is_well().await
}

/// A frame of exactly `size` bytes without its length.
fn padded(size: usize, make: impl Fn(usize) -> Frame) -> Frame {
    let empty = make(0).encoded_len();
    let frame = (0..8)
        .map(|over| make(size.saturating_sub(empty + over)))
        .find(|frame| frame.encoded_len() == size);
    frame.expect("some padding gives every size")
}

async fn frames_and_bodies_are_taken_up_to_their_limits_exactly(stage: Stage) -> Result<()> {
    let mut witness = Witness::new(&stage, &[]).await?;
    let limit = limits::UNAUTHENTICATED_FRAME_BYTES_MAX;
    let name = |len: usize| {
        bare(What::Register(wire::Register {
            user_name: "a".repeat(len),
            device_label: String::new(),
            password: String::new(),
        }))
    };
    let fresh = Raw::dial(&witness.gateway, &RawOptions::default()).await?;
    for raw in [&fresh, &witness.raw] {
        for (size, code) in
            [(limit - 1, Code::Invalid), (limit, Code::Invalid), (limit + 1, Code::TooLarge)]
        {
            let mut stream = raw.open().await?;
            stream.write(padded(size, name)).await?;
            assert_eq!(stream.refusal().await?.code, code, "{size}");
        }
    }
    let body = limits::BODY_BYTES_MAX;
    let mut number = 1;
    let mut stream = witness.other_stream(&witness.bob).await?;
    for (len, code) in [(body - 1, None), (body, None), (body + 1, Some(Code::Invalid))] {
        let frame = raw::send(number, raw::message_id(raw::now_ms()), &vec![b'x'; len]);
        stream.write(frame).await?;
        number += 1;
        match (stream.answer().await?, code) {
            (Ok(_), None) => {}
            (Err(refused), Some(code)) => assert_eq!(refused.code, code, "{refused:?}"),
            (answer, _) => bail!("{len}: {answer:?}"),
        }
    }
    let limit = limits::FRAME_BYTES_MAX;
    for (size, code) in
        [(limit - 1, Code::Invalid), (limit, Code::Invalid), (limit + 1, Code::TooLarge)]
    {
        let of = |len: usize| raw::send(number, [7; 16], &vec![b'x'; len]);
        // A good id, so that the body is what is wrong.
        let mut frame = padded(size, of);
        frame.id = Bytes::copy_from_slice(&raw::message_id(raw::now_ms()));
        assert_eq!(frame.encoded_len(), size);
        let written = stream.write_bytes(&encode(&frame)).await;
        // What is too large is seen at its beginning, and the rest is not wanted.
        if code != Code::TooLarge {
            written?;
        }
        assert_eq!(stream.refusal().await?.code, code, "{size}");
        number += 1;
    }
    // The stream of the witness was replaced by the one above.
    let (fresh, _control) = Raw::sign_in(&witness.gateway, &witness.alice).await?;
    witness.stream = fresh.attach(raw::attach(witness.alice.user, witness.bob.user)).await?.0;
    witness.raw = fresh;
    witness.is_well().await
}

async fn fields_are_taken_within_their_ranges_exactly(stage: Stage) -> Result<()> {
    let mut witness = Witness::new(&stage, &[]).await?;
    let cursor = |seq| wire::Cursor { seq, tail: Bytes::from_static(&[1; 8]) };
    let conversation = raw::attach(witness.alice.user, witness.bob.user).conversation;
    let register = |name: String, label: String| {
        What::Register(wire::Register {
            user_name: name,
            device_label: label,
            password: String::new(),
        })
    };
    let find = |n: usize| {
        let names = (0..n).map(|n| format!("nobody{n}")).collect();
        What::FindUsers(wire::FindUsers { names, users: Vec::new() })
    };
    let history = |limit| {
        let conversation = conversation.clone();
        What::ReadHistory(wire::ReadHistory { conversation, limit, ..wire::ReadHistory::default() })
    };
    let list = |limit| {
        What::ListConversations(wire::ListConversations { limit, page: Bytes::new(), since_ms: 0 })
    };
    let (page, lines, label) = (
        u32::try_from(limits::PAGE_ENTRIES_MAX)?,
        u32::try_from(limits::LIST_PAGE_MAX)?,
        limits::DEVICE_LABEL_BYTES_MAX,
    );
    let long = |n: usize| "n".repeat(n);
    let (short, tall) = (limits::USER_NAME_CHARS_MIN, limits::USER_NAME_CHARS_MAX);
    let requests: Vec<(What, Option<(Code, &str)>)> = vec![
        (register(long(short - 1), String::new()), Some((Code::Invalid, "user_name"))),
        (register(long(short), String::new()), None),
        (register(long(tall), String::new()), None),
        (register(long(tall + 1), String::new()), Some((Code::Invalid, "user_name"))),
        (register("Upper".to_owned(), String::new()), Some((Code::Invalid, "user_name"))),
        (register("nul\0".to_owned(), String::new()), Some((Code::Invalid, "user_name"))),
        (register("alice".to_owned(), String::new()), Some((Code::NameTaken, "taken"))),
        (register("label1".to_owned(), long(label)), None),
        (register("label2".to_owned(), long(label + 1)), Some((Code::Invalid, "device_label"))),
        (find(limits::LOOKUP_MAX), None),
        (find(limits::LOOKUP_MAX + 1), Some((Code::Invalid, "names"))),
        (history(page), None),
        (history(page + 1), Some((Code::Invalid, "limit"))),
        (list(lines), None),
        (list(lines + 1), Some((Code::Invalid, "limit"))),
        (
            What::FindUsers(wire::FindUsers {
                names: Vec::new(),
                users: vec![Bytes::from_static(&[1; 15])],
            }),
            Some((Code::Invalid, "users")),
        ),
        (
            What::ReadHistory(wire::ReadHistory {
                conversation: Bytes::from_static(&[1; 17]),
                ..wire::ReadHistory::default()
            }),
            Some((Code::Invalid, "conversation")),
        ),
        (
            What::ReadHistory(wire::ReadHistory {
                conversation: conversation.clone(),
                from: u64::MAX,
                ..wire::ReadHistory::default()
            }),
            Some((Code::Invalid, "from")),
        ),
        (
            What::ListConversations(wire::ListConversations {
                page: Bytes::from_static(b"nonsense"),
                limit: 1,
                since_ms: 0,
            }),
            Some((Code::Invalid, "page")),
        ),
        (raw::block(Bytes::from_static(&[3; 16]), true), Some((Code::NotFound, ""))),
        (
            raw::block(Bytes::copy_from_slice(&witness.alice.user.0), true),
            Some((Code::Invalid, "user")),
        ),
        (
            What::FetchDictionary(wire::FetchDictionary { version: 9_999 }),
            Some((Code::Invalid, "version")),
        ),
        (
            What::Login(wire::Login {
                device: Bytes::copy_from_slice(&witness.alice.device.0),
                device_secret: Bytes::from_static(&[0; 32]),
            }),
            Some((Code::WrongSecret, "")),
        ),
        (
            What::Login(wire::Login {
                device: Bytes::from_static(&[5; 16]),
                device_secret: Bytes::from_static(&[0; 32]),
            }),
            Some((Code::WrongSecret, "")),
        ),
    ];
    for (request, expected) in requests {
        let told = format!("{request:?}");
        let answers = witness.raw.ask(request).await?;
        let said = answers.iter().find_map(|(_, what)| match what {
            What::Refusal(said) => Some((said.code, said.text.clone())),
            _ => None,
        });
        match (&said, expected) {
            (None, None) => {}
            (Some((code, text)), Some((expected, part))) => {
                assert_eq!(*code, expected.number(), "{told}: {text}");
                assert!(text.contains(part), "{told}: {text}");
            }
            _ => bail!("{told}: {said:?}, not {expected:?}"),
        }
    }
    witness.is_well().await?;

    let good = raw::attach(witness.bob.user, witness.alice.user);
    let (bob, _control) = Raw::sign_in(&witness.gateway, &witness.bob).await?;
    let older = |n: usize| (0..n).map(|n| cursor(100 - n as u64)).collect::<Vec<_>>();
    let most = limits::OLDER_CURSORS_MAX;
    let attaches: Vec<(wire::Attach, Option<&str>)> = vec![
        (wire::Attach { older: older(most - 1), cursor: Some(cursor(200)), ..good.clone() }, None),
        (wire::Attach { older: older(most), cursor: Some(cursor(200)), ..good.clone() }, None),
        (
            wire::Attach { older: older(most + 1), cursor: Some(cursor(200)), ..good.clone() },
            Some("older"),
        ),
        (wire::Attach { cursor: Some(cursor(u64::MAX)), ..good.clone() }, Some("cursor")),
        (
            wire::Attach {
                cursor: Some(wire::Cursor { seq: 1, tail: Bytes::from_static(&[1; 7]) }),
                ..good.clone()
            },
            Some("tail"),
        ),
        (wire::Attach { conversation: Bytes::new(), ..good.clone() }, Some("conversation")),
        (wire::Attach { peer: Bytes::from_static(&[1; 3]), ..good.clone() }, Some("peer")),
        (wire::Attach { peer: Bytes::from_static(&[1; 16]), ..good.clone() }, Some("peer")),
    ];
    for (attach, expected) in attaches {
        let mut stream = bob.open().await?;
        stream.write(bare(What::Attach(attach))).await?;
        match (stream.next().await?.context("no answer")?.1, expected) {
            (What::Reset(reset), None) => assert_eq!(reset.to, 0),
            (What::Refusal(said), Some(part)) => {
                assert_eq!(said.code, Code::Invalid.number(), "{said:?}");
                assert!(said.text.contains(part), "{said:?}");
            }
            (other, expected) => bail!("{other:?}, not {expected:?}"),
        }
    }
    let fresh = Raw::dial(&witness.gateway, &RawOptions::default()).await?;
    let token = fresh.log_in(&witness.bob).await?;
    for (count, fits) in
        [(limits::HELLO_RECEIPTS_MAX + 1, false), (limits::HELLO_RECEIPTS_MAX, true)]
    {
        let mut hello = raw::hello(&token);
        let conversation = conversation.clone();
        hello.receipts = vec![wire::OwnReceipt { conversation, delivered: 1, read: 1 }; count];
        let mut control = fresh.open().await?;
        control.write(bare(What::Hello(hello))).await?;
        match control.next().await?.context("no answer")?.1 {
            What::Welcome(_) => assert!(fits),
            What::Refusal(said) => {
                assert!(!fits && said.text.contains("receipts"), "{count}: {said:?}");
            }
            other => bail!("{count}: {other:?}"),
        }
    }
    witness.is_well().await
}

/// A zstd frame as the protocol has it: without its magic number.
fn zstd_bomb() -> Bytes {
    // Window descriptor of 1 MiB, then blocks of one repeated byte, 128 KiB each.
    let mut frame = vec![0b0000_0000, 0x50];
    for n in 0..2_000u32 {
        let last = u32::from(n == 1_999);
        let block = last | (1 << 1) | ((128 * 1024) << 3);
        frame.extend_from_slice(&block.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    Bytes::from(frame)
}

async fn bodies_that_do_not_decode_within_bounds_are_refused(stage: Stage) -> Result<()> {
    let mut witness = Witness::new(&stage, &[]).await?;
    for (encoding, body) in [
        (1, zstd_bomb()),
        (1, Bytes::from_static(b"this is no zstd frame")),
        (1, Bytes::new()),
        (2, Bytes::from_static(b"x")),
        (16 + 999, Bytes::from_static(b"x")),
        (u32::MAX, Bytes::from_static(b"x")),
    ] {
        witness.number += 1;
        let mut frame = raw::send(witness.number, raw::message_id(raw::now_ms()), &body);
        frame.encoding = encoding;
        witness.stream.write(frame).await?;
        let refused = witness.stream.refusal().await?;
        assert_eq!((refused.code, refused.number), (Code::BadBody, witness.number), "{refused:?}");
        assert!(refused.text.starts_with("body"), "{refused:?}");
        witness.is_well().await?;
    }
    witness.number += 1;
    let mut frame = raw::send(witness.number, raw::message_id(raw::now_ms()), b"x");
    frame.entry_kind = 77;
    witness.stream.write(frame).await?;
    let refused = witness.stream.refusal().await?;
    assert_eq!(refused.code, Code::Invalid);
    assert!(refused.text.contains("entry_kind"), "{refused:?}");
    witness.is_well().await
}

async fn frames_out_of_place_are_refused(stage: Stage) -> Result<()> {
    let mut witness = Witness::new(&stage, &[]).await?;
    // None of these begins a stream.
    for what in [
        What::Ack(wire::Ack {}),
        What::Push(wire::Push::default()),
        What::Welcome(wire::Welcome::default()),
        What::Done(wire::Done::default()),
        What::Send(wire::Send::default()),
    ] {
        let mut stream = witness.raw.open().await?;
        stream.write(bare(what)).await?;
        let refused = stream.refusal().await?;
        assert_eq!(refused.code, Code::Unexpected, "{refused:?}");
        has_ended(&mut stream, Code::Unexpected).await?;
    }
    witness.is_well().await?;
    // A second Hello, and a request on a conversation's stream.
    let token = witness.raw.log_in(&witness.alice).await?;
    let mut stream = witness.raw.open().await?;
    stream.write(bare(What::Hello(raw::hello(&token)))).await?;
    let refused = stream.refusal().await?;
    assert!(refused.text.contains("signed in already"), "{refused:?}");
    let carol = witness.gateway.dialer()?.register("carol", "test").await?;
    let mut stream = witness.other_stream(&carol).await?;
    stream.write(bare(What::FindUsers(wire::FindUsers::default()))).await?;
    let refused = stream.refusal().await?;
    assert_eq!(refused.code, Code::Unexpected, "{refused:?}");
    assert!(refused.text.contains("FindUsers"), "{refused:?}");
    witness.is_well().await?;
    // Receipts of others, and of none.
    for members in [0, 2] {
        let members = vec![wire::MemberReceipt::default(); members];
        witness
            .stream
            .write(bare(What::Receipts(wire::Receipts { members, ..Default::default() })))
            .await?;
        let refused = witness.stream.refusal().await?;
        assert_eq!(refused.code, Code::Invalid, "{refused:?}");
    }
    let along = vec![wire::OwnReceipt::default(); limits::RECEIPTS_ALONG_MAX + 1];
    let too_many = wire::Receipts { along, ..Default::default() };
    witness.stream.write(bare(What::Receipts(too_many))).await?;
    let refused = witness.stream.refusal().await?;
    assert_eq!(refused.code, Code::Invalid, "{refused:?}");
    witness.is_well().await?;
    // What has no place on the control stream ends the session.
    let (raw, mut control) = Raw::sign_in(&witness.gateway, &witness.bob).await?;
    control.write(bare(What::Send(wire::Send::default()))).await?;
    assert_eq!(control.refusal().await?.code, Code::Unexpected);
    assert_eq!(raw.closed_with().await?, Code::ProtocolViolation);
    witness.is_well().await
}
