//! Typing and presence, which nobody keeps.

use bytes::Bytes;
use petrel_client::{ClientError, Event, UserId};
use petrel_proto::frame::{self, bare};
use petrel_proto::wire::{self, Frame, frame::What};
use prost::Message;

use crate::server::{ALICE, BOB, TestServer, next, online, welcome_offering, within};

fn typing(conversation: &[u8], sender: &[u8], stopped: bool) -> Bytes {
    let conversation = Bytes::copy_from_slice(conversation);
    let frame = Frame {
        sender: Bytes::copy_from_slice(sender),
        ..bare(What::Typing(wire::Typing { conversation, stopped }))
    };
    frame.encode_to_vec().into()
}

#[tokio::test]
async fn who_types_is_told_once_until_it_ends_or_the_message_comes() {
    within(async {
        let server = TestServer::start();
        let (client, mut events) = petrel_client::Client::start(server.options()).await.unwrap();
        let link = server.sign_in_with(welcome_offering(&["typing"])).await;
        client.online().await.unwrap();
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        let told = |typing| Event::Typing { conversation: pair.id, user: BOB, typing };
        // What makes no sense, and of conversations that nobody knows, is dropped.
        for bad in [
            Bytes::from_static(b"\xff\xff"),
            typing(&pair.id.0, b"short", false),
            typing(&[7; 16], &BOB.0, false),
            typing(&pair.id.0, &ALICE.0, false),
            bare(What::Done(wire::Done::default())).encode_to_vec().into(),
        ] {
            link.connection.send_datagram(bad).unwrap();
        }
        link.connection.send_datagram(typing(&pair.id.0, &BOB.0, false)).unwrap();
        link.connection.send_datagram(typing(&pair.id.0, &BOB.0, false)).unwrap();
        assert_eq!(next(&mut events).await, told(true));
        link.connection.send_datagram(typing(&pair.id.0, &BOB.0, true)).unwrap();
        assert_eq!(next(&mut events).await, told(false));
        link.connection.send_datagram(typing(&pair.id.0, &BOB.0, false)).unwrap();
        assert_eq!(next(&mut events).await, told(true));
        stream.attach(pair.id, 0, 1).await;
        stream.push(1).await;
        assert!(matches!(next(&mut events).await, Event::Entry(_)));
        assert_eq!(next(&mut events).await, told(false));
    })
    .await;
}

#[tokio::test]
async fn own_typing_is_said_in_datagrams_if_the_server_carries_them_and_not_with_each_key() {
    within(async {
        let server = TestServer::start();
        let (client, _events) = petrel_client::Client::start(server.options()).await.unwrap();
        // Nobody to tell yet.
        client.typing(client.pair(BOB).id, true);
        let link = server.sign_in_with(welcome_offering(&["typing"])).await;
        client.online().await.unwrap();
        let pair = client.pair(BOB);
        for _ in 0..10 {
            client.typing(pair.id, true);
        }
        client.typing(pair.id, false);
        client.typing(pair.id, false);
        for expected in [false, true] {
            let datagram = link.connection.read_datagram().await.unwrap();
            let Ok((_, What::Typing(said))) = frame::decode(datagram) else { panic!("no Typing") };
            assert_eq!(said.conversation, pair.id.0.as_slice());
            assert_eq!(said.stopped, expected);
        }
        link.close(99);
        let link = server.sign_in_with(welcome_offering(&[])).await;
        client.online().await.unwrap();
        client.typing(pair.id, true);
        client.attach(&pair, None).unwrap();
        link.attached().await;
        assert_eq!(link.connection.stats().frame_rx.datagram, 0);
    })
    .await;
}

#[tokio::test]
async fn who_is_watched_is_said_again_after_a_loss_and_others_are_not_told() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, mut link) = online(&server, server.options()).await;
        let presence = |user: UserId, online| {
            What::Presence(wire::Presence {
                user: Bytes::copy_from_slice(&user.0),
                online,
                seen_ms: 5,
            })
        };
        client.watch_presence(&[BOB, BOB]).unwrap();
        for round in 0..2 {
            let What::WatchPresence(watch) = link.control.next().await.1 else {
                panic!("not a WatchPresence");
            };
            assert_eq!(watch.users, [Bytes::copy_from_slice(&BOB.0)]);
            link.control.say(presence(UserId([8; 16]), true)).await;
            link.control.say(presence(BOB, round == 0)).await;
            let expected = Event::Presence { user: BOB, online: round == 0, seen_ms: 5 };
            assert_eq!(next(&mut events).await, expected);
            if round == 0 {
                link.close(99);
                link = server.sign_in().await;
            }
        }
        client.watch_presence(&[]).unwrap();
        assert!(
            matches!(link.control.next().await.1, What::WatchPresence(w) if w.users.is_empty())
        );
        let many: Vec<_> = (0..501_u128).map(|n| UserId(n.to_be_bytes())).collect();
        assert!(matches!(client.watch_presence(&many), Err(ClientError::Invalid(_))));
    })
    .await;
}
