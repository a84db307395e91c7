//! What an application is shown: order, gaps, resets, receipts, streams of the server's.

use bytes::Bytes;
use petrel_client::{Client, Cursor, Event, GapReason, UserId};
use petrel_proto::version::FEATURE_RECEIPTS_ALONG;
use petrel_proto::wire::{self, Frame, frame::What};

use crate::server::{BOB, Stream, TestServer, entries, next, online, push, welcome, within};

fn gap(from: u64, to: u64, reason: wire::GapReason) -> What {
    What::Gap(wire::Gap { from, to, reason: reason.into() })
}

/// The tail of the scripted entry at `seq`: the last eight bytes of its id XOR its time.
fn tail(seq: u64) -> [u8; 8] {
    (seq ^ (1_000 + seq)).to_be_bytes()
}

#[tokio::test]
async fn an_attached_conversation_goes_on_from_its_cursor_after_a_loss() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let from = Cursor { seq: 4, tail: tail(4) };
        client.attach(&pair, Some(from)).unwrap();
        let (mut stream, attach) = link.attached().await;
        assert_eq!(attach.cursor.map(|cursor| cursor.seq), Some(4));
        stream.attach(pair.id, 4, 6).await;
        stream.push(5).await;
        stream.push(6).await;
        assert_eq!(entries(&mut events, 2).await, [5, 6]);
        link.close(99);

        let link = server.sign_in().await;
        let (mut stream, attach) = link.attached().await;
        let cursor = attach.cursor.unwrap();
        assert_eq!((cursor.seq, cursor.tail.as_ref()), (6, &tail(6)[..]));
        assert_eq!(attach.older.first().map(|older| older.seq), Some(5));
        stream.attach(pair.id, 6, 7).await;
        // Read twice; told once.
        stream.push(6).await;
        stream.push(7).await;
        assert_eq!(entries(&mut events, 1).await, [7]);
        assert_eq!(client.stats().duplicates, 1);
    })
    .await;
}

#[tokio::test]
async fn a_skipped_gap_is_filled_from_history_before_what_follows_it() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 302).await;
        stream.say(gap(1, 300, wire::GapReason::Skipped)).await;
        stream.push(301).await;
        stream.push(302).await;
        for (first, last) in [(1, 150), (151, 300)] {
            let mut request = link.stream().await;
            let What::ReadHistory(asked) = request.next().await.1 else {
                panic!("not a ReadHistory");
            };
            assert_eq!((asked.from, asked.to), (first, 300));
            for seq in first..=last {
                request.push(seq).await;
            }
            request.say(What::Done(wire::Done { head: 302, ..wire::Done::default() })).await;
            request.finish();
        }
        let got = entries(&mut events, 302).await;
        assert!(got.iter().copied().eq(1..=302), "{got:?}");
    })
    .await;
}

#[tokio::test]
async fn a_gap_too_large_to_fill_and_one_that_cannot_be_are_told() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 5_001).await;
        stream.say(gap(1, 10, wire::GapReason::Retention)).await;
        stream.say(gap(11, 5_000, wire::GapReason::Skipped)).await;
        stream.push(5_001).await;
        let conversation = pair.id;
        let expected = [(1, 10, GapReason::Retention), (11, 5_000, GapReason::Skipped)];
        for (from, to, reason) in expected {
            assert_eq!(next(&mut events).await, Event::Gap { conversation, from, to, reason });
        }
        assert_eq!(entries(&mut events, 1).await, [5_001]);
    })
    .await;
}

#[tokio::test]
async fn a_hole_in_what_is_pushed_is_filled() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 3).await;
        stream.push(1).await;
        stream.push(3).await;
        let mut request = link.stream().await;
        let What::ReadHistory(asked) = request.next().await.1 else {
            panic!("not a ReadHistory");
        };
        assert_eq!((asked.from, asked.to), (2, 2));
        request.push(2).await;
        request.say(What::Done(wire::Done { head: 3, ..wire::Done::default() })).await;
        request.finish();
        assert_eq!(entries(&mut events, 3).await, [1, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn a_reset_falls_back_and_the_new_history_follows() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 3).await;
        for seq in 1..=3 {
            stream.push(seq).await;
        }
        assert_eq!(entries(&mut events, 3).await, [1, 2, 3]);
        link.close(99);

        let link = server.sign_in().await;
        let (mut stream, _) = link.attached().await;
        stream.say(What::Reset(wire::Reset { to: 1 })).await;
        stream.attach(pair.id, 1, 2).await;
        let other = Frame { id: Bytes::from_static(&[0x77; 16]), ..push(2) };
        stream.write(other).await;
        let conversation = pair.id;
        assert_eq!(next(&mut events).await, Event::Reset { conversation, to: 1 });
        assert_eq!(entries(&mut events, 1).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_the_servers_is_taken_if_it_starts_where_the_client_stands() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let mut theirs = Stream::open(&link.connection).await;
        theirs.first_entry(pair.id, &mut events).await;
        // What is sent now goes on that stream, numbered from 1.
        client.send(&pair, 1, "an answer").unwrap();
        let (frame, _) = theirs.next_send().await;
        assert_eq!(frame.number, 1);
        theirs.ack(1, 2).await;
        client.flush().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_the_server_pushed_on_goes_on_after_a_loss_and_after_an_orderly_end() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let mut stream = Stream::open(&link.connection).await;
        stream.first_entry(pair.id, &mut events).await;
        link.close(99);

        let link = server.sign_in().await;
        let (mut stream, attach) = link.attached().await;
        assert_eq!(attach.cursor.map(|cursor| cursor.seq), Some(1));
        stream.attach(pair.id, 1, 2).await;
        stream.push(2).await;
        stream.finish();
        assert_eq!(entries(&mut events, 1).await, [2]);
        while stream.try_next().await.is_some() {}
        link.close(99);

        let (_, attach) = server.sign_in().await.attached().await;
        assert_eq!(attach.cursor.map(|cursor| cursor.seq), Some(2));
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_the_servers_that_starts_too_late_makes_the_client_attach_anew() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let mut theirs = Stream::open(&link.connection).await;
        theirs.first_entry(pair.id, &mut events).await;
        theirs.finish();
        assert!(theirs.try_next().await.is_none_or(|(_, what)| matches!(what, What::Receipts(_))));

        let mut late = Stream::open(&link.connection).await;
        late.attach(pair.id, 5, 6).await;
        late.push(6).await;
        let (mut ours, attach) = link.attached().await;
        assert_eq!(attach.cursor.map(|cursor| cursor.seq), Some(1));
        late.say(What::Superseded(wire::Superseded {})).await;
        late.finish();
        ours.attach(pair.id, 1, 6).await;
        for seq in 2..=6 {
            ours.push(seq).await;
        }
        assert_eq!(entries(&mut events, 5).await, [2, 3, 4, 5, 6]);
    })
    .await;
}

#[tokio::test]
async fn delivered_and_read_receipts_are_sent_together_and_again_after_a_loss() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 2).await;
        stream.push(1).await;
        stream.push(2).await;
        assert_eq!(entries(&mut events, 2).await, [1, 2]);
        client.read_up_to(pair.id, 2);
        let What::Receipts(said) = stream.next().await.1 else {
            panic!("not Receipts");
        };
        assert_eq!((said.members[0].delivered, said.members[0].read), (2, 2));
        link.close(99);
        let (link, _) = tokio::join!(server.sign_in(), events.next());
        let said = link.hello.receipts.first().unwrap();
        assert_eq!((said.delivered, said.read), (2, 2));
    })
    .await;
}

#[tokio::test]
async fn receipts_go_along_with_a_message_of_another_conversation() {
    within(async {
        let server = TestServer::start();
        let What::Welcome(welcome) = welcome() else { unreachable!() };
        let features = vec![FEATURE_RECEIPTS_ALONG.to_owned()];
        let welcome = What::Welcome(wire::Welcome { features, ..welcome });
        let (client, mut events) = Client::start(server.options()).await.unwrap();
        let link = server.sign_in_with(welcome).await;
        assert!(matches!(events.next().await, Some(Event::Online { .. })));
        let (bob, carol) = (client.pair(BOB), client.pair(UserId([0xc0; 16])));
        client.attach(&bob, None).unwrap();
        let (mut with_bob, _) = link.attached().await;
        with_bob.attach(bob.id, 0, 2).await;
        client.attach(&carol, None).unwrap();
        let (mut with_carol, _) = link.attached().await;
        with_carol.attach(carol.id, 0, 0).await;
        // From here on the client counts as one that sends.
        client.send(&carol, 1, "first").unwrap();
        with_carol.next_send().await;
        with_bob.push(1).await;
        with_bob.push(2).await;
        // Who asks for the second has dealt with the first.
        assert_eq!(entries(&mut events, 2).await, [1, 2]);
        client.send(&carol, 1, "second").unwrap();
        with_carol.next_send().await;
        let What::Receipts(said) = with_carol.next().await.1 else { panic!("not Receipts") };
        assert_eq!(said.members, []);
        assert_eq!((said.along[0].delivered, &said.along[0].conversation[..]), (1, &bob.id.0[..]));
        link.close(99);
        let (link, _) = tokio::join!(server.sign_in(), events.next());
        assert_eq!(link.hello.receipts[0].delivered, 2, "with what was dealt with since");
    })
    .await;
}

#[tokio::test]
async fn on_a_pairs_stream_what_names_nobody_is_the_peers() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        // Who the peer is stands in the server's Attach, before anything that leaves him out.
        stream
            .say(What::Attach(wire::Attach {
                conversation: Bytes::copy_from_slice(&pair.id.0),
                peer: Bytes::copy_from_slice(&BOB.0),
                head: 1,
                count: 1,
                ..wire::Attach::default()
            }))
            .await;
        stream.write(Frame { sender: Bytes::new(), ..push(1) }).await;
        let Event::Entry(entry) = next(&mut events).await else { panic!("not an entry") };
        assert_eq!((entry.seq, entry.sender), (1, BOB));
        let receipt = wire::MemberReceipt { delivered: 1, read: 1, ..Default::default() };
        stream
            .say(What::Receipts(wire::Receipts { members: vec![receipt], ..Default::default() }))
            .await;
        let Event::Receipts { members, .. } = next(&mut events).await else {
            panic!("not Receipts")
        };
        assert_eq!(members.iter().map(|r| (r.user, r.delivered)).collect::<Vec<_>>(), [(BOB, 1)]);
    })
    .await;
}

#[tokio::test]
async fn events_that_are_not_taken_stop_the_reading() {
    within(async {
        let server = TestServer::start();
        let mut options = server.options();
        options.events_max = 10;
        let (client, mut events, link) = online(&server, options).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 2_000).await;
        let writing = tokio::spawn(async move {
            for seq in 1..=2_000 {
                let mut frame = push(seq);
                frame.body = Bytes::from(vec![b'x'; 4_096]);
                stream.write(frame).await;
            }
            stream
        });
        // Eight megabytes do not fit into the windows: the writer waits.
        while client.stats().udp_rx_bytes < 200_000 {
            tokio::task::yield_now().await;
        }
        assert!(!writing.is_finished());
        let got = entries(&mut events, 2_000).await;
        assert!(got.iter().copied().eq(1..=2_000));
        drop(writing.await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn hints_and_previews_are_told() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, mut link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        link.control
            .say(What::Hint(wire::Hint {
                conversation: Bytes::copy_from_slice(&pair.id.0),
                head: 9,
                peer: Bytes::copy_from_slice(&BOB.0),
            }))
            .await;
        assert!(matches!(next(&mut events).await, Event::Hint { head: 9, peer: Some(BOB), .. }));
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 0).await;
        let preview =
            |seq| Frame { seq: 0, what: Some(What::Preview(wire::Preview {})), ..push(seq) };
        stream.write(preview(1)).await;
        stream.push(1).await;
        // Too late: the entry is there.
        stream.write(preview(1)).await;
        stream.push(2).await;
        assert!(matches!(next(&mut events).await, Event::Preview(_)));
        assert_eq!(entries(&mut events, 2).await, [1, 2]);
    })
    .await;
}
