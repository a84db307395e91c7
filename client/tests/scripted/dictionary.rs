//! Bodies whose dictionary the client does not ship.

use petrel_client::{Event, Events, PageRequest};
use petrel_proto::compression::{self, DictionaryVersion};
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, Frame, frame::What};

use crate::server::{BOB, Link, TestServer, next, online, push, within};

const TEXT: &str = r#"{"type":"text","text":"shall we meet at the station at seven?"}"#;
/// Code NOT_FOUND.
const NOT_FOUND: u32 = 14;

/// An entry that is said to be made with dictionary `version`; in truth it is the one for JSON.
fn compressed(seq: u64, version: u32) -> Frame {
    let encoded = compression::encode(TEXT.as_bytes(), Some(DictionaryVersion::JSON));
    Frame { encoding: 16 + version, body: encoded.bytes, ..push(seq) }
}

/// Hands a dictionary out in parts; says which one was asked for.
async fn hand_out(link: &Link, bytes: &[u8]) -> u32 {
    let mut request = link.stream().await;
    let What::FetchDictionary(asked) = request.next().await.1 else {
        panic!("not a FetchDictionary");
    };
    for part in bytes.chunks(16 * 1024) {
        let mut frame = bare(What::Dictionary(wire::Dictionary {}));
        frame.body = part.to_vec().into();
        request.write(frame).await;
    }
    // The client does not read on when it is too long.
    let done = petrel_proto::frame::encode(&bare(What::Done(wire::Done::default())));
    drop(request.send.write_all(&done).await);
    drop(request.send.finish());
    asked.version
}

async fn texts(events: &mut Events, n: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < n {
        match next(events).await {
            Event::Entry(entry) => {
                let text = entry
                    .body
                    .map_or_else(|e| format!("{e}"), |b| String::from_utf8(b.to_vec()).unwrap());
                texts.push(text);
            }
            other => panic!("not an entry: {other:?}"),
        }
    }
    texts
}

#[tokio::test]
async fn a_dictionary_that_is_lacking_is_fetched_once_and_what_needs_it_is_decoded() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 3).await;
        stream.push(1).await;
        stream.write(compressed(2, 9)).await;
        stream.write(compressed(3, 9)).await;
        let json = DictionaryVersion::JSON.dictionary().bytes;
        assert_eq!(hand_out(&link, json).await, 9);
        assert_eq!(texts(&mut events, 3).await, ["1", TEXT, TEXT]);

        // It is remembered, for pages too: the next stream is the page's, and there is no other.
        let request =
            PageRequest { conversation: pair.id, from: 2, to: 2, limit: 0, newest: false };
        let answering = async {
            let mut request = link.stream().await;
            assert!(matches!(request.next().await.1, What::ReadHistory(_)));
            request.write(compressed(2, 9)).await;
            request.say(What::Done(wire::Done { head: 3, ..wire::Done::default() })).await;
            request.finish();
        };
        let (page, ()) = tokio::join!(client.history(request), answering);
        assert_eq!(page.unwrap().entries[0].body.as_deref(), Ok(TEXT.as_bytes()));
    })
    .await;
}

#[tokio::test]
async fn a_body_whose_dictionary_cannot_be_had_is_told_as_it_came_and_holds_up_nothing() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let pair = client.pair(BOB);
        client.attach(&pair, None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(pair.id, 0, 5).await;
        // Refused; then what is none; then one that is too long.
        stream.write(compressed(1, 9)).await;
        let mut request = link.stream().await;
        assert!(matches!(request.next().await.1, What::FetchDictionary(_)));
        request.refuse(0, NOT_FOUND, 0).await;
        request.finish();
        stream.write(compressed(2, 10)).await;
        let json = DictionaryVersion::JSON.dictionary().bytes;
        let mut broken = json.to_vec();
        broken[8..64].fill(0xff);
        assert_eq!(hand_out(&link, &broken).await, 10);
        stream.write(compressed(3, 11)).await;
        assert_eq!(hand_out(&link, &vec![0; 130 * 1024]).await, 11);
        // None of them is asked for again.
        stream.write(compressed(4, 9)).await;
        stream.push(5).await;
        let told = texts(&mut events, 5).await;
        let lacking =
            |version| format!("a body of encoding {} that cannot be decoded", 16 + version);
        assert_eq!(told, [lacking(9), lacking(10), lacking(11), lacking(9), "5".to_owned()]);
    })
    .await;
}
