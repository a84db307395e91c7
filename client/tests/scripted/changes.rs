//! Replies, mentions and changes on the wire, and what an application makes of them.

use bytes::Bytes;
use petrel_client::{
    Code, Draft, EVERYBODY, Event, OutboxPlace, Redraw, SendError, SendOutcomeError, Timeline,
    UserId, kind,
};
use petrel_proto::wire::{self, Frame, frame::What};

use crate::server::{BOB, Stream, TestServer, next, online, push, within};

/// What of a Send is the message: all of it stays the same between tries.
fn content(frame: &Frame, send: &wire::Send) -> (Bytes, u32, u32, Bytes, u64, Vec<Bytes>, u32) {
    let Frame { id, entry_kind, encoding, body, target, mentions, .. } = frame.clone();
    (id, entry_kind, encoding, body, target, mentions, send.revision)
}

fn change(seq: u64, kind: u16, target: u64, body: &'static str) -> Frame {
    Frame { entry_kind: kind.into(), target, body: Bytes::from(body), ..push(seq) }
}

#[tokio::test]
async fn an_edit_without_an_answer_goes_again_byte_for_byte_after_a_loss_and_after_a_restart() {
    within(async {
        let server = TestServer::start();
        let dir = tempfile::tempdir().unwrap();
        let mut options = server.options();
        options.outbox = OutboxPlace::File(dir.path().join("outbox.sqlite"));
        let (client, _events, link) = online(&server, options.clone()).await;
        let pair = client.pair(BOB);
        let text = "what was meant, what was meant, what was meant";
        client.send_draft(&pair, Draft::edit(3, 2, text)).unwrap();
        let reply = Draft::text("yes").reply_to(4).mention(BOB).mention_everybody();
        client.send_draft(&pair, reply).unwrap();
        let (mut stream, _) = link.attached().await;
        let mut sent = Vec::new();
        for _ in 0..2 {
            let (frame, send) = stream.next_send().await;
            assert!(!send.again);
            sent.push(content(&frame, &send));
        }
        assert_eq!((sent[0].1, sent[0].4, sent[0].6), (kind::EDIT.into(), 3, 2));
        assert_eq!((sent[1].4, sent[1].6), (4, 0));
        assert_eq!(sent[1].5, [BOB, EVERYBODY].map(|user| Bytes::copy_from_slice(&user.0)));
        link.close(99);

        let link = server.sign_in().await;
        let (mut stream, _) = link.attached().await;
        for before in &sent {
            let (frame, send) = stream.next_send().await;
            assert!(send.again);
            assert_eq!(content(&frame, &send), *before);
        }
        client.close().await;

        let (client, mut events, link) = online(&server, options).await;
        let (mut stream, _) = link.attached().await;
        for before in &sent {
            let (frame, send) = stream.next_send().await;
            assert!(send.again);
            assert_eq!(content(&frame, &send), *before);
        }
        stream.attach(pair.id, 4, 4).await;
        stream.ack(1, 5).await;
        stream.ack(2, 6).await;
        client.flush().await.unwrap();
        assert!(matches!(
            next(&mut events).await,
            Event::Gap { from: 1, to: 4, .. } | Event::Acked(_)
        ));
    })
    .await;
}

#[tokio::test]
async fn an_edit_of_what_has_changed_is_refused_with_conflict_and_what_follows_goes_on() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let editing = client.send_draft_and_wait(&pair, Draft::edit(1, 0, "mine"));
        let serving = async {
            let (mut stream, _) = link.attached().await;
            stream.next_send().await;
            stream.attach(pair.id, 0, 0).await;
            stream.refuse(1, 26, 0).await;
            stream
        };
        let (refused, mut stream) = tokio::join!(editing, serving);
        let Err(SendOutcomeError::Refused(refused)) = refused else { panic!("{refused:?}") };
        assert_eq!(refused.code, Code::Conflict);
        client.send_draft(&pair, Draft::recall(1)).unwrap();
        let (frame, _) = stream.next_send().await;
        assert_eq!((frame.number, frame.entry_kind, frame.target), (2, 33, 1));
        assert!(frame.body.is_empty());
        stream.ack(2, 1).await;
        client.flush().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn reactions_travel_as_they_are_and_bad_drafts_not_at_all() {
    within(async {
        let server = TestServer::start();
        let (client, _events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let emoji = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        client.send_draft(&pair, Draft::react(1, emoji)).unwrap();
        let (mut stream, _) = link.attached().await;
        let (frame, _) = stream.next_send().await;
        assert_eq!((frame.encoding, frame.body.as_ref()), (0, emoji.as_bytes()));
        for bad in [Draft::react(1, "a b"), Draft::text("x").reply_to(0), Draft::recall(u64::MAX)] {
            assert!(matches!(client.send_draft(&pair, bad), Err(SendError::Invalid(_))));
        }
        assert_eq!(client.stats().outbox_len, 1);
    })
    .await;
}

async fn shown(events: &mut petrel_client::Events, timeline: &mut Timeline, n: usize) {
    let mut taken = 0;
    while taken < n {
        let event = next(events).await;
        taken += usize::from(matches!(event, Event::Entry(_)));
        timeline.take(&event);
    }
}

#[tokio::test]
async fn what_history_has_in_it_already_is_not_applied_again_by_the_stream() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let mut timeline = Timeline::new(client.user(), pair.id, 100);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 6).await;
        // Read while the stream has not brought the reactions yet: they are in it.
        let reading = client.history(petrel_client::PageRequest {
            conversation: pair.id,
            from: 1,
            to: 1,
            limit: 0,
            newest: false,
        });
        let serving = async {
            let mut request = link.stream().await;
            request.next().await;
            let reactions =
                vec![wire::ReactionCount { emoji: "+".to_owned(), count: 2, own: false }];
            let what = Some(What::Push(wire::Push { changed: 3, reactions, ..Default::default() }));
            request.write(Frame { what, ..push(1) }).await;
            request.say(What::Done(wire::Done { head: 6, ..Default::default() })).await;
            request.finish();
        };
        let (page, ()) = tokio::join!(reading, serving);
        assert!(timeline.page(&page.unwrap()));

        stream.push(1).await;
        stream.write(change(2, kind::REACT, 1, "+")).await;
        let eve = Bytes::from_static(&[0xe0; 16]);
        stream.write(Frame { sender: eve.clone(), ..change(3, kind::REACT, 1, "+") }).await;
        let mallory = Bytes::from_static(&[0xe1; 16]);
        stream.write(Frame { sender: mallory, ..change(4, kind::REACT, 1, "+") }).await;
        // A kind of a newer version keeps its place and is not shown as a message.
        stream.write(Frame { entry_kind: 999, ..push(5) }).await;
        stream.write(change(6, kind::EDIT, 1, "edited")).await;
        shown(&mut events, &mut timeline, 6).await;
        let entry = timeline.get(1).unwrap();
        assert_eq!((entry.text(), entry.state.revision), (Some("edited"), 1));
        assert_eq!(entry.state.reactions[0].count, 3);
        assert_eq!(timeline.iter().filter(|entry| entry.is_message()).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn changes_before_their_message_is_known_and_too_many_of_everything_do_no_harm() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        let mut timeline = Timeline::new(client.user(), pair.id, 100);
        let mut stream = Stream::open(&link.connection).await;
        stream.attach(pair.id, 2, 4).await;
        stream.write(change(3, kind::EDIT, 1, "after all")).await;
        stream.write(Frame { target: 1, mentions: mentions(50), ..push(4) }).await;
        shown(&mut events, &mut timeline, 2).await;
        let known = timeline.get(4).unwrap();
        assert!(known.mentions(UserId([3; 16])) && !known.mentions(BOB));
        assert_eq!(timeline.quoted(known), Some(petrel_client::Quoted::NotLoaded));
        assert!(timeline.get(1).is_none());

        // More mentions than there may be end the stream, and nothing else.
        stream.write(Frame { mentions: mentions(51), ..push(5) }).await;
        let (mut ours, attach) = {
            client.attach(&pair, None).unwrap();
            link.attached().await
        };
        assert_eq!(attach.cursor.map(|cursor| cursor.seq), Some(4));
        ours.attach(pair.id, 4, 5).await;
        ours.push(5).await;
        shown(&mut events, &mut timeline, 1).await;
        assert_eq!(timeline.entry(timeline.get(5).unwrap().clone()), Redraw::Nothing);
    })
    .await;
}

fn mentions(n: usize) -> Vec<Bytes> {
    vec![Bytes::from_static(&[3; 16]); n]
}
