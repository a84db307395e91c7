//! The way to the server: another address, another connection, streams that run out.

use petrel_client::{Client, Event, UserId};

use crate::server::{BOB, TestServer, entries, next, online, welcome_with, within};

#[tokio::test]
async fn the_chat_goes_on_over_the_same_connection_from_another_address() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.first_entry(pair.id, &mut events).await;
        let before = link.connection.remote_address();

        client.network_changed();
        client.send(&pair, 1, "from elsewhere").unwrap();
        let (sent, _) = stream.next_send().await;
        assert_eq!(sent.body.as_ref(), b"from elsewhere");
        assert_ne!(link.connection.remote_address(), before);
        stream.ack(sent.number, 2).await;
        assert!(matches!(next(&mut events).await, Event::Acked(_)));
        stream.push(3).await;
        assert_eq!(entries(&mut events, 2).await, [2, 3]);
        assert_eq!(client.stats().reconnects, 0);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_tls_session() {
    within(async {
        let server = TestServer::start();
        let (client, _events, mut link) = online(&server, server.options()).await;
        assert_eq!(server.full_handshakes(), 1);
        for _ in 0..3 {
            link.close(99);
            link = server.sign_in().await;
            client.online().await.unwrap();
            assert_eq!(server.full_handshakes(), 1);
        }
        client.close().await;

        let mut without = server.options();
        without.dialer = server.dialer_with(|options| options.session_tickets = 0);
        let (_client, _events, link) = online(&server, without).await;
        assert_eq!(server.full_handshakes(), 2);
        link.close(99);
        drop(server.sign_in().await);
        assert_eq!(server.full_handshakes(), 3);
    })
    .await;
}

#[tokio::test]
async fn without_room_for_another_stream_the_one_used_least_recently_is_finished() {
    within(async {
        let server = TestServer::start();
        let (client, mut events) = Client::start(server.options()).await.unwrap();
        let link = server.sign_in_with(welcome_with(2)).await;
        client.online().await.unwrap();
        let pairs = [1, 2, 3].map(|n| client.pair(UserId([n; 16])));
        let mut streams = Vec::new();
        for pair in &pairs[..2] {
            client.attach(pair, None).unwrap();
            let (mut stream, _) = link.attached().await;
            stream.attach(pair.id, 0, 0).await;
            streams.push(stream);
            while !matches!(events.next().await, Some(Event::Attached { .. })) {}
        }
        // The first one is used once more, which makes the second the one to go.
        client.send(&pairs[0], 1, "hello").unwrap();
        let (sent, _) = streams[0].next_send().await;
        streams[0].ack(sent.number, 1).await;
        assert!(matches!(next(&mut events).await, Event::Acked(_)));

        client.attach(&pairs[2], None).unwrap();
        let (mut third, attach) = link.attached().await;
        assert_eq!(attach.conversation.as_ref(), pairs[2].id.0);
        third.attach(pairs[2].id, 0, 0).await;
        assert!(streams[1].try_next().await.is_none(), "the second is finished");
        // The first lives on, and so does what the server has to say about the second.
        client.send(&pairs[0], 1, "still here").unwrap();
        assert_eq!(streams[0].next_send().await.0.body.as_ref(), b"still here");
    })
    .await;
}
