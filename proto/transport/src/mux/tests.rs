#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::state::State;
use super::wire::{self, Parameters};
use super::{Settings, Side, start};
use crate::connection::Connection;
use crate::error::{ConnectionError, ReadError, WriteError};
use crate::stream::{RecvStream, SendStream};

fn settings() -> Settings {
    Settings {
        receive_window: 64 * 1024,
        stream_receive_window: 48 * 1024,
        streams_max: 4,
        send_buffer: 32 * 1024,
        datagram_max: 1_200,
        datagrams_in: 4 * 1024,
        datagrams_out: 4 * 1024,
        idle_timeout: Duration::from_secs(120),
        keep_alive: None,
        answer_within: None,
    }
}

#[allow(clippy::disallowed_methods, reason = "a test's own tasks")]
fn connect(io: DuplexStream, side: Side, settings: Settings) -> Connection {
    let (mux, driver) = start(io, side, settings, ([127, 0, 0, 1], 1).into(), false);
    tokio::spawn(driver.run());
    mux.into()
}

fn pair() -> (Connection, Connection) {
    // So little is under way at once that everything has to be written in parts.
    let (a, b) = tokio::io::duplex(1_000);
    (connect(a, Side::Client, settings()), connect(b, Side::Server, settings()))
}

async fn read_all(recv: &mut RecvStream) -> Vec<u8> {
    let (mut all, mut began) = (Vec::new(), None);
    while let Some(chunk) = recv.read_chunk(10_000).await.unwrap() {
        let began = *began.get_or_insert(chunk.offset);
        assert_eq!(chunk.offset, began + all.len() as u64);
        all.extend_from_slice(&chunk.bytes);
    }
    all
}

fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

async fn opened(from: &Connection, to: &Connection) -> [(SendStream, RecvStream); 2] {
    let (mut send, recv) = from.open_bi().await.unwrap();
    send.write_chunk(Bytes::from_static(b"!")).await.unwrap();
    let mut accepted = to.accept_bi().await.unwrap();
    assert_eq!(accepted.1.read_chunk(10).await.unwrap().unwrap().bytes, &b"!"[..]);
    [(send, recv), accepted]
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a test's own tasks")]
async fn what_is_written_arrives_whole_on_many_streams_both_ways_at_once() {
    let (client, server) = pair();
    let data = pattern(500_000);
    let mut tasks = Vec::new();
    for (from, to) in [(&client, &server), (&server, &client)] {
        for _ in 0..3 {
            let (from, to, data) = (from.clone(), to.clone(), data.clone());
            tasks.push(tokio::spawn(async move {
                let (mut send, mut recv) = from.open_bi().await.unwrap();
                let there = async {
                    send.write_chunk(data.clone()).await.unwrap();
                    send.finish().unwrap();
                    assert_eq!(send.stopped().await, Ok(None));
                };
                let back = async { assert!(read_all(&mut recv).await == data) };
                let peer = async {
                    let (mut send, mut recv) = to.accept_bi().await.unwrap();
                    let all = read_all(&mut recv).await;
                    send.write_all_chunks(&mut [
                        all[..7].to_vec().into(),
                        all[7..].to_vec().into(),
                    ])
                    .await
                    .unwrap();
                };
                tokio::join!(there, back, peer);
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_stops_itself_alone() {
    let (client, server) = pair();
    let [(mut stuck, _a), (_b, _unread)] = opened(&client, &server).await;
    let mut chunks = [pattern(500_000)];
    let mut taken = 0;
    // What one stream takes while it is not read: its window and its part of the buffer.
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(200), stuck.write_chunks(&mut chunks)).await
    {
        taken += written.unwrap().bytes;
    }
    assert!(taken < 48 * 1024 + 32 * 1024, "{taken}");
    let [(mut send, _c), (_d, mut recv)] = opened(&client, &server).await;
    send.write_chunk(pattern(12_000)).await.unwrap();
    send.finish().unwrap();
    assert!(read_all(&mut recv).await == pattern(12_000));
}

#[tokio::test]
async fn resets_and_stops_carry_their_numbers() {
    let (client, server) = pair();
    let [(mut ours, mut back), (mut theirs, mut recv)] = opened(&client, &server).await;
    ours.reset(42).unwrap();
    assert_eq!(recv.read_chunk(10).await, Err(ReadError::Reset(42)));
    back.stop(43).unwrap();
    assert_eq!(theirs.stopped().await, Ok(Some(43)));
    let refused = theirs.write_chunk(Bytes::from_static(b"more")).await;
    assert_eq!(refused, Err(WriteError::Stopped(43)));
    assert!(back.stop(44).is_err());
}

#[tokio::test]
async fn a_half_that_is_dropped_ends_its_direction() {
    let (client, server) = pair();
    let [(send, recv), (mut theirs, mut there)] = opened(&client, &server).await;
    drop((send, recv));
    assert_eq!(there.read_chunk(10).await, Ok(None));
    assert_eq!(there.read_chunk(10).await, Ok(None));
    assert_eq!(theirs.stopped().await, Ok(Some(0)));
    assert!(theirs.finish().is_ok());
}

#[tokio::test]
async fn a_close_overtakes_nothing_that_was_finished() {
    let (client, server) = pair();
    let [(mut send, _recv), (_send, mut recv)] = opened(&client, &server).await;
    send.write_chunk(pattern(20_000)).await.unwrap();
    send.finish().unwrap();
    assert_eq!(send.stopped().await, Ok(None));
    client.close(80, b"going away");
    let why = ConnectionError::ApplicationClosed { code: 80, reason: "going away".to_owned() };
    assert_eq!(server.closed().await, why);
    assert!(read_all(&mut recv).await == pattern(20_000));
    assert_eq!(client.close_reason(), Some(ConnectionError::LocallyClosed));
    assert_eq!(server.accept_bi().await.unwrap_err(), why);
    assert_eq!(server.open_bi().await.unwrap_err(), why);
}

#[tokio::test]
async fn the_last_handle_closes_it() {
    let (client, server) = pair();
    let [(send, recv), _theirs] = opened(&client, &server).await;
    drop(client);
    drop(send);
    assert_eq!(server.close_reason(), None);
    drop(recv);
    let why = ConnectionError::ApplicationClosed { code: 0, reason: String::new() };
    assert_eq!(server.closed().await, why);
}

#[tokio::test]
async fn streams_are_allowed_again_as_others_end_and_when_more_are_allowed() {
    let (client, server) = pair();
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(opened(&client, &server).await);
    }
    let mut fifth = Box::pin(client.open_bi());
    let waiting = tokio::time::timeout(Duration::from_millis(50), &mut fifth);
    assert!(waiting.await.is_err());
    let [(send, recv), (theirs, there)] = open.pop().unwrap();
    drop((send, recv, theirs, there));
    let _fifth = fifth.await.unwrap();
    server.set_streams_max(6);
    let _sixth = client.open_bi().await.unwrap();
    let _seventh = client.open_bi().await.unwrap();
    let eighth = tokio::time::timeout(Duration::from_millis(50), client.open_bi());
    assert!(eighth.await.is_err());
}

#[tokio::test]
async fn datagrams_arrive_and_the_oldest_of_too_many_do_not() {
    let (client, server) = pair();
    // Both have heard what the other allows.
    let _open = opened(&client, &server).await;
    client.send_datagram(Bytes::from_static(b"typing")).unwrap();
    assert_eq!(server.read_datagram().await.unwrap(), &b"typing"[..]);
    for n in 0..100u8 {
        client.send_datagram(Bytes::from(vec![n; 1_000])).unwrap();
    }
    let max = client.max_datagram_size().unwrap();
    assert!(client.send_datagram(Bytes::from(vec![0; max + 1])).is_err());
    let first = server.read_datagram().await.unwrap();
    assert!(first[0] > 90, "{}", first[0]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_and_one_that_answers_is_not() {
    let (a, mut b) = tokio::io::duplex(100_000);
    let silent = connect(a, Side::Client, settings());
    let began = Instant::now();
    assert_eq!(silent.closed().await, ConnectionError::TimedOut);
    assert!(began.elapsed() >= Duration::from_secs(120));
    // What it said is read by somebody who says nothing.
    let mut said = Vec::new();
    b.read_to_end(&mut said).await.unwrap();

    let (a, b) = tokio::io::duplex(100_000);
    let kept = Settings { keep_alive: Some(Duration::from_secs(20)), ..settings() };
    let (client, server) = (connect(a, Side::Client, kept), connect(b, Side::Server, settings()));
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    assert_eq!((client.close_reason(), server.close_reason()), (None, None));
    assert!((40..60).contains(&client.stats().received), "{}", client.stats().received);
}

/// Speaks by hand to a server; gives back with which code that closed.
async fn refused(frames: &[&dyn Fn(&mut BytesMut)]) -> u64 {
    let (a, mut b) = tokio::io::duplex(1_000_000);
    let server = connect(a, Side::Server, settings());
    let mut out = BytesMut::new();
    for put in frames {
        let mut inner = BytesMut::new();
        put(&mut inner);
        wire::put_record(&mut out, &inner);
    }
    b.write_all(&out).await.unwrap();
    let ConnectionError::Transport(_) = server.closed().await else {
        unreachable!("not closed for what the peer did")
    };
    b.shutdown().await.unwrap();
    let mut said = Vec::new();
    b.read_to_end(&mut said).await.unwrap();
    let mut rest = &said[..];
    let mut code = None;
    while let Some((mut frames, length)) = wire::record(rest).unwrap() {
        while !frames.is_empty() {
            if let wire::Frame::Close { by_application, code: said, .. } =
                wire::frame(&mut frames).unwrap()
            {
                assert!(!by_application);
                code = Some(said);
            }
        }
        rest = &rest[length..];
    }
    code.unwrap()
}

#[tokio::test]
async fn what_a_peer_may_not_do_ends_the_connection() {
    let hello: &dyn Fn(&mut BytesMut) = &|out| wire::put_parameters(out, &Parameters::default());
    let data = |id: u64, offset: u64, bytes: usize, fin: bool| {
        move |out: &mut BytesMut| {
            wire::put_stream_header(out, id, offset, bytes, fin);
            out.put_bytes(0, bytes);
        }
    };
    assert_eq!(refused(&[&data(0, 0, 1, false)]).await, wire::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(refused(&[hello, hello]).await, wire::TRANSPORT_PARAMETER_ERROR);
    assert_eq!(refused(&[hello, &data(16, 0, 1, false)]).await, wire::STREAM_LIMIT_ERROR);
    assert_eq!(refused(&[hello, &data(2, 0, 1, false)]).await, wire::STREAM_LIMIT_ERROR);
    assert_eq!(refused(&[hello, &data(1, 0, 1, false)]).await, wire::STREAM_STATE_ERROR);
    assert_eq!(refused(&[hello, &data(0, 1, 1, false)]).await, wire::PROTOCOL_VIOLATION);
    let late = [hello, &data(0, 0, 1, true), &data(0, 1, 1, false)];
    assert_eq!(refused(&late).await, wire::STREAM_STATE_ERROR);
    let parts: Vec<_> = (0..7).map(|n| data(0, n * 8_000, 8_000, false)).collect();
    let mut stream: Vec<&dyn Fn(&mut BytesMut)> = vec![hello];
    stream.extend(parts.iter().map(|part| part as &dyn Fn(&mut BytesMut)));
    assert_eq!(refused(&stream).await, wire::FLOW_CONTROL_ERROR);
    let parts: Vec<_> = (0..9).map(|n| data(n / 3 * 4, n % 3 * 8_000, 8_000, false)).collect();
    let mut all: Vec<&dyn Fn(&mut BytesMut)> = vec![hello];
    all.extend(parts.iter().map(|part| part as &dyn Fn(&mut BytesMut)));
    assert_eq!(refused(&all).await, wire::FLOW_CONTROL_ERROR);
    let reset = |final_size| move |out: &mut BytesMut| wire::put_reset(out, 0, 9, final_size);
    assert_eq!(refused(&[hello, &reset(1 << 40)]).await, wire::FLOW_CONTROL_ERROR);
    let short = [hello, &data(0, 0, 9, false), &reset(8)];
    assert_eq!(refused(&short).await, wire::FINAL_SIZE_ERROR);
}

#[tokio::test]
async fn who_opens_and_gives_up_streams_without_reading_is_given_no_more() {
    let (a, mut b) = tokio::io::duplex(256);
    let server = connect(a, Side::Server, settings());
    let mut out = BytesMut::new();
    let mut frames = BytesMut::new();
    wire::put_parameters(&mut frames, &Parameters::default());
    wire::put_record(&mut out, &frames);
    b.write_all(&out).await.unwrap();
    let mut number = 0;
    while server.close_reason().is_none() && number < 10_000 {
        let mut frames = BytesMut::new();
        wire::put_reset(&mut frames, number << 2, 0, 0);
        wire::put_stop(&mut frames, number << 2, 0);
        let mut out = BytesMut::new();
        wire::put_record(&mut out, &frames);
        if b.write_all(&out).await.is_err() {
            break;
        }
        number += 1;
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(1), server.accept_bi()).await
        {
            drop(stream);
        }
    }
    // Answers filled the way back; more streams were not allowed any more, and so were refused.
    assert!(number < 1_000, "{number}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(parts in prop::collection::vec(any::<Vec<u8>>(), 1..20)) {
        let mut state = State::new(Side::Server, settings());
        let mut first = BytesMut::new();
        wire::put_parameters(&mut first, &Parameters { max_streams: 9, ..Parameters::default() });
        let mut out = BytesMut::new();
        wire::put_record(&mut out, &first);
        state.hear(&out, Instant::now());
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let mut record = BytesMut::new();
            wire::put_record(&mut record, part);
            let used = state.hear(&record, Instant::now());
            prop_assert!(used == record.len() || state.closed.is_some());
            let mut said = BytesMut::new();
            while state.say(&mut said, Instant::now()) {}
        }
    }
}
