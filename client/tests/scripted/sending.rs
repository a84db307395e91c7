//! The outbox on the wire: numbers, refusals, and sending again.

use std::time::Duration;

use petrel_client::{Code, Event, MessageId, OutboxPlace, SendError, SendOutcomeError};
use petrel_proto::wire::{self, frame::What};

use crate::server::{BOB, Stream, TestServer, next, online, token, within};

#[tokio::test]
async fn several_sends_share_the_first_write_and_each_has_its_ack_and_its_entry() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let ids: Vec<_> =
            ["one", "two", "three"].map(|text| client.send(&pair, 1, text).unwrap()).into();
        assert!(ids.is_sorted());
        let (mut stream, attach) = link.attached().await;
        assert_eq!((attach.peer.as_ref(), attach.cursor), (&BOB.0[..], None));
        for number in 1..=3 {
            let (frame, send) = stream.next_send().await;
            assert_eq!((frame.number, send.again), (number, false));
        }
        stream.attach(pair.id, 0, 0).await;
        for number in 1..=3 {
            stream.ack(number, number).await;
        }
        for (place, id) in (1..).zip(&ids) {
            let Event::Acked(acked) = next(&mut events).await else {
                panic!("not an Ack");
            };
            assert_eq!((acked.id, acked.seq), (*id, place));
            let Event::Entry(entry) = next(&mut events).await else {
                panic!("not an entry");
            };
            assert_eq!((entry.id, entry.seq, entry.sender), (*id, place, client.user()));
            assert!(entry.body.is_ok());
        }
        client.flush().await.unwrap();
        assert_eq!(client.stats().outbox_bytes, 0);
    })
    .await;
}

#[tokio::test]
async fn what_has_no_answer_goes_again_byte_for_byte_after_a_loss() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let text = "the same words, the same words, the same words";
        let first = client.send(&pair, 1, text).unwrap();
        let second = client.send(&pair, 2, text).unwrap();
        let (mut stream, _) = link.attached().await;
        let sent = [stream.next_send().await.0, stream.next_send().await.0];
        link.close(99);

        let link = server.sign_in().await;
        let third = client.send(&pair, 1, "new").unwrap();
        let (mut stream, _) = link.attached().await;
        for (before, number) in sent.iter().zip(1..) {
            let (frame, send) = stream.next_send().await;
            assert!(send.again);
            assert_eq!(frame.number, number);
            assert_eq!(
                (&frame.id, frame.entry_kind, frame.encoding, &frame.body),
                (&before.id, before.entry_kind, before.encoding, &before.body)
            );
        }
        let (frame, send) = stream.next_send().await;
        assert_eq!((frame.number, send.again), (3, false));
        stream.attach(pair.id, 0, 2).await;
        // The first two were stored already; the second comes as a Push.
        stream.ack(1, 1).await;
        let mut pushed = sent[1].clone();
        pushed.number = 0;
        pushed.seq = 2;
        pushed.sender = bytes::Bytes::copy_from_slice(&client.user().0);
        pushed.what = Some(What::Push(wire::Push::default()));
        stream.write(pushed).await;
        stream.ack(2, 2).await;
        stream.ack(3, 3).await;
        let mut acked = Vec::new();
        let mut entries = Vec::new();
        while entries.len() < 3 {
            match next(&mut events).await {
                Event::Acked(ack) => acked.push((ack.id, ack.seq)),
                Event::Entry(entry) => entries.push(entry.seq),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acked, [(first, 1), (second, 2), (third, 3)]);
        assert_eq!(entries, [1, 2, 3]);
        assert_eq!(client.stats().resends, 2);
    })
    .await;
}

#[tokio::test]
async fn after_a_refusal_for_now_the_client_goes_on_from_that_number() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        for text in ["one", "two", "three"] {
            client.send(&pair, 1, text).unwrap();
        }
        let (mut stream, _) = link.attached().await;
        for _ in 0..3 {
            stream.next_send().await;
        }
        stream.attach(pair.id, 0, 0).await;
        stream.ack(1, 1).await;
        stream.refuse(2, 40, 30).await;
        stream.refuse(3, 42, 0).await;
        for number in [2, 3] {
            let (frame, send) = stream.next_send().await;
            assert_eq!((frame.number, send.again), (number, true));
            stream.ack(number, number).await;
        }
        client.flush().await.unwrap();
        for _ in 0..6 {
            let event = next(&mut events).await;
            assert!(matches!(event, Event::Acked(_) | Event::Entry(_)), "{event:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_final_refusal_is_told_and_the_next_message_goes_on() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let serving = async {
            let (mut stream, _) = link.attached().await;
            stream.next_send().await;
            stream.refuse(1, 17, 0).await;
            let (frame, _) = stream.next_send().await;
            assert_eq!(frame.number, 2);
            stream.ack(2, 1).await;
            stream
        };
        let sending = async {
            let refused = client.send_and_wait(&pair, 1, "tomorrow").await;
            let Err(SendOutcomeError::Refused(refused)) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(refused.code, Code::FromTheFuture);
            client.send_and_wait(&pair, 1, "today").await.unwrap()
        };
        let (_stream, acked) = tokio::join!(serving, sending);
        assert_eq!(acked.seq, 1);
        assert!(matches!(next(&mut events).await, Event::Refused(_)));
    })
    .await;
}

#[tokio::test]
async fn a_conversation_that_is_refused_refuses_what_waits_for_it() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let id = client.send(&pair, 1, "hello?").unwrap();
        let (mut stream, _) = link.attached().await;
        stream.refuse(0, 14, 0).await;
        stream.finish();
        let Event::Refused(refused) = next(&mut events).await else {
            panic!("not Refused");
        };
        assert_eq!((refused.id, refused.code), (id, Code::NotFound));
        assert!(matches!(
            next(&mut events).await,
            Event::AttachRefused { code: Code::NotFound, .. }
        ));
        assert_eq!(stream.next_send().await.0.number, 1);
        assert_eq!(stream.try_next().await, None);
    })
    .await;
}

#[tokio::test]
async fn who_is_out_of_a_group_hears_it_once_and_stays_away() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let group = petrel_client::ConversationId([9; 16]).into();
        client.attach(&group, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(group.id, 0, 0).await;
        assert!(matches!(events.next().await, Some(Event::Attached { .. })));
        let id = client.send(&group, 1, "am I still in?").unwrap();
        assert_eq!(stream.next_send().await.0.number, 1);
        stream.refuse(0, 14, 0).await;
        stream.finish();
        let Event::Refused(refused) = next(&mut events).await else {
            panic!("not Refused");
        };
        assert_eq!((refused.id, refused.code), (id, Code::NotFound));
        assert!(matches!(
            next(&mut events).await,
            Event::AttachRefused { code: Code::NotFound, .. }
        ));
        assert_eq!(client.stats().outbox_len, 0);
        // The next stream is one that the application asks for.
        client.attach(&client.pair(BOB), None).unwrap();
        let (_stream, attach) = link.attached().await;
        assert_ne!(attach.conversation.as_ref(), [9; 16]);
    })
    .await;
}

#[tokio::test]
async fn an_expired_token_is_renewed_and_the_send_goes_again() {
    within(async {
        let server = TestServer::start();
        let (client, _events, mut link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.send(&pair, 1, "late").unwrap();
        let (mut stream, _) = link.attached().await;
        stream.next_send().await;
        stream.attach(pair.id, 0, 0).await;
        stream.refuse(1, 60, 0).await;
        let mut login = link.stream().await;
        assert!(matches!(login.next().await.1, What::Login(_)));
        login.say(token("token-2")).await;
        login.finish();
        assert!(matches!(link.control.next().await.1, What::Refresh(_)));
        link.control.say(token("")).await;
        let (frame, send) = stream.next_send().await;
        assert_eq!((frame.number, send.again), (1, true));
        stream.ack(1, 1).await;
        client.flush().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_superseded_stream_is_read_to_its_end_and_sends_go_on_the_newer_one() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let first = client.send(&pair, 1, "first").unwrap();
        let second = client.send(&pair, 1, "second").unwrap();
        let (mut older, _) = link.attached().await;
        let sent = older.next_send().await.0;
        older.next_send().await;
        older.attach(pair.id, 0, 0).await;
        older.say(What::Superseded(wire::Superseded {})).await;
        let (mut newer, _) = link.attached().await;
        let (frame, send) = newer.next_send().await;
        assert_eq!((&frame.id, send.again), (&sent.id, true));
        // What was under way on the older one still counts, though its numbers don't.
        older
            .write(wire::Frame {
                number: 1,
                id: sent.id,
                seq: 1,
                what: Some(What::Ack(wire::Ack {})),
                ..wire::Frame::default()
            })
            .await;
        older.finish();
        newer.attach(pair.id, 1, 1).await;
        newer.ack(2, 2).await;
        client.flush().await.unwrap();
        let mut acked = Vec::new();
        while acked.len() < 2 {
            if let Event::Acked(ack) = next(&mut events).await {
                acked.push((ack.id, ack.seq));
            }
        }
        acked.sort_by_key(|ack| ack.1);
        assert_eq!(acked, [(first, 1), (second, 2)]);
        assert_eq!(older.try_next().await, None);
    })
    .await;
}

#[tokio::test]
async fn a_full_outbox_and_a_large_body_are_refused_at_once() {
    within(async {
        let server = TestServer::start();
        let mut options = server.options();
        options.outbox_messages_max = 2;
        let (client, _events) = petrel_client::Client::start(options).await.unwrap();
        let pair = client.pair(BOB);
        assert!(client.send(&pair, 1, vec![0; 65_536]).is_ok());
        assert_eq!(
            client.send(&pair, 1, vec![0; 65_537]),
            Err(SendError::TooLarge { len: 65_537, max: 65_536 })
        );
        assert!(client.send(&pair, 1, "").is_ok());
        assert_eq!(client.send(&pair, 1, "x"), Err(SendError::OutboxFull));
    })
    .await;
}

#[tokio::test]
async fn a_file_outbox_sends_again_after_a_restart_and_forgets_what_is_acknowledged() {
    within(async {
        let server = TestServer::start();
        let dir = tempfile::tempdir().unwrap();
        let mut options = server.options();
        options.outbox = OutboxPlace::File(dir.path().join("outbox.sqlite"));

        let (client, mut events, link) = online(&server, options.clone()).await;
        let pair = client.pair(BOB);
        let first = client.send(&pair, 1, "first").unwrap();
        let second = client.send(&pair, 1, "second, which is somewhat longer").unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 0).await;
        stream.next_send().await;
        let (lost, _) = stream.next_send().await;
        stream.ack(1, 1).await;
        for _ in 0..2 {
            next(&mut events).await;
        }
        tokio::join!(client.close(), async { while events.next().await.is_some() {} });

        let (client, mut events, link) = online(&server, options.clone()).await;
        let (mut stream, attach) = link.attached().await;
        assert_eq!(attach.peer.as_ref(), &BOB.0[..]);
        // What was dealt with is behind the cursor.
        let cursor = attach.cursor.unwrap();
        // The scripted server acknowledges seq 1 with time 1,001.
        let tail = (u64::from_be_bytes(first.tail()) ^ 1_001).to_be_bytes();
        assert_eq!((cursor.seq, cursor.tail.as_ref()), (1, &tail[..]));
        let (frame, send) = stream.next_send().await;
        assert!(send.again);
        assert_eq!(MessageId::from_slice(&frame.id), Ok(second));
        assert_eq!((frame.encoding, frame.body), (lost.encoding, lost.body));
        stream.attach(pair.id, 1, 1).await;
        stream.ack(1, 2).await;
        client.flush().await.unwrap();
        for _ in 0..2 {
            next(&mut events).await;
        }
        tokio::join!(client.close(), async { while events.next().await.is_some() {} });

        let (client, _events, _link) = online(&server, options).await;
        assert_eq!(client.stats().outbox_len, 0);
        assert_eq!(client.cursor(pair.id).map(|cursor| cursor.seq), Some(2));
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_reset_is_opened_again_after_a_while() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.send(&pair, 1, "x").unwrap();
        let mut stream: Stream = link.stream().await;
        stream.next().await;
        stream.send.reset(44u32.into()).unwrap();
        let (mut stream, _) = link.attached().await;
        assert!(stream.next_send().await.1.again);
        stream.ack(1, 1).await;
        tokio::time::timeout(Duration::from_secs(5), client.flush()).await.unwrap().unwrap();
    })
    .await;
}
