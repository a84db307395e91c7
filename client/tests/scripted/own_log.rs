//! The user's own log: changes of contacts, account, devices and settings, and groups' events.

use bytes::Bytes;
use petrel_client::{
    ConversationId, Cursor, DeviceId, Event, Friendship, GroupEvent, OwnChange, Role, kind,
};
use petrel_proto::wire::{self, Frame, event};
use prost::Message;

use crate::server::{ALICE, BOB, TestServer, next, online, push, within};

fn id(user: petrel_client::UserId) -> Bytes {
    Bytes::copy_from_slice(&user.0)
}

/// An entry of the service's.
fn logged(seq: u64, kind: u16, what: event::What) -> Frame {
    let body = wire::Event { what: Some(what) }.encode_to_vec().into();
    Frame { entry_kind: kind.into(), body, sender: id(ALICE), ..push(seq) }
}

fn bob() -> wire::UserFound {
    wire::UserFound { user: id(BOB), name: "bob".to_owned(), ..wire::UserFound::default() }
}

async fn own(events: &mut petrel_client::Events) -> OwnChange {
    match next(events).await {
        Event::Own(own) => own.change,
        other => panic!("not of the own log: {other:?}"),
    }
}

#[tokio::test]
async fn what_changes_is_told_as_it_happens_and_what_changed_meanwhile_when_the_client_is_back() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let log = ConversationId::of_user(ALICE);
        assert_eq!(client.own_log(), log);
        client.follow_own_log(Some(Cursor { seq: 7, tail: [1; 8] })).unwrap();
        let (mut stream, attach) = link.attached().await;
        assert_eq!(attach.conversation, log.0.as_slice());
        assert_eq!(attach.cursor.map(|cursor| cursor.seq), Some(7));
        stream.attach(log, 7, 8).await;
        let contact = wire::Contact {
            user: Some(bob()),
            friendship: 2,
            text: "it is me".to_owned(),
            ..wire::Contact::default()
        };
        let changed = wire::ContactChanged { contact: Some(contact) };
        stream.write(logged(8, kind::CONTACT, event::What::ContactChanged(changed))).await;
        let OwnChange::Contact(contact) = own(&mut events).await else { panic!("no contact") };
        assert_eq!((contact.user.user, contact.friendship), (BOB, Friendship::Invited));
        assert_eq!(contact.text, "it is me");
        assert!(!contact.is_gone());
        link.close(99);

        let link = server.sign_in().await;
        let (mut stream, attach) = link.attached().await;
        assert_eq!(attach.cursor.map(|cursor| cursor.seq), Some(8));
        stream.attach(log, 8, 13).await;
        let set = wire::SettingChanged { key: "theme".to_owned(), ..Default::default() };
        let removed = wire::SettingChanged { removed: true, ..set.clone() };
        let added = wire::DeviceAdded { device: id(BOB), label: "phone".to_owned() };
        let hidden = wire::EntriesHidden { conversation: id(BOB), seqs: vec![3, 4] };
        for (seq, kind, what) in [
            (9, kind::ACCOUNT, event::What::SettingChanged(set)),
            (10, kind::ACCOUNT, event::What::SettingChanged(removed)),
            (11, kind::DEVICE, event::What::DeviceAdded(added)),
            (12, kind::DEVICE, event::What::DevicesRevoked(wire::DevicesRevoked::default())),
            (13, kind::CONVERSATION, event::What::EntriesHidden(hidden)),
        ] {
            stream.write(logged(seq, kind, what)).await;
        }
        assert!(matches!(own(&mut events).await, OwnChange::SettingSet(s) if s.key == "theme"));
        assert_eq!(own(&mut events).await, OwnChange::SettingRemoved("theme".to_owned()));
        let device = DeviceId(BOB.0);
        let label = "phone".to_owned();
        assert_eq!(own(&mut events).await, OwnChange::DeviceAdded { device, label });
        assert_eq!(own(&mut events).await, OwnChange::DevicesRevoked(None));
        let conversation = ConversationId(BOB.0);
        let seqs = vec![3, 4];
        assert_eq!(own(&mut events).await, OwnChange::EntriesHidden { conversation, seqs });
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_as_unknown_and_what_is_missing_as_missed() {
    within(Box::pin(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let log = client.own_log();
        client.follow_own_log(None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(log, 0, 2_005).await;
        let skipped = wire::GapReason::Skipped.into();
        stream.say(wire::frame::What::Gap(wire::Gap { from: 1, to: 2_000, reason: skipped })).await;
        assert_eq!(next(&mut events).await, Event::OwnMissed);
        let long = wire::SettingChanged { key: "k".repeat(2_000), ..Default::default() };
        let nobody = wire::ContactChanged::default();
        let short = wire::DeviceAdded { device: Bytes::from_static(b"x"), ..Default::default() };
        let unknown = [
            logged(2_001, kind::ACCOUNT, event::What::SettingChanged(long)),
            logged(2_002, kind::CONTACT, event::What::ContactChanged(nobody)),
            logged(2_003, kind::DEVICE, event::What::DeviceAdded(short)),
            Frame { body: Bytes::from_static(&[0xff; 9]), ..logged_nothing(2_004, 65) },
            logged_nothing(2_005, 77),
        ];
        for frame in unknown {
            let kind = u16::try_from(frame.entry_kind).unwrap();
            stream.write(frame).await;
            assert_eq!(own(&mut events).await, OwnChange::Unknown { kind });
        }
        // A history that was replaced.
        stream.say(wire::frame::What::Reset(wire::Reset { to: 5 })).await;
        assert_eq!(next(&mut events).await, Event::OwnMissed);
    }))
    .await;
}

fn logged_nothing(seq: u64, kind: u32) -> Frame {
    Frame { entry_kind: kind, body: Bytes::new(), ..push(seq) }
}

#[tokio::test]
async fn a_groups_events_are_entries_with_typed_contents() {
    within(async {
        let server = TestServer::start();
        let (client, mut events, link) = online(&server, server.options()).await;
        let group = ConversationId([0x99; 16]);
        client.attach(&group.into(), None).unwrap();
        let (mut stream, _) = link.attached().await;
        stream.attach(group, 0, 4).await;
        let profile = wire::GroupProfile { name: "walkers".to_owned(), ..Default::default() };
        let made = wire::GroupMade { profile: Some(profile), users: vec![id(BOB)] };
        stream.write(logged(1, kind::GROUP, event::What::GroupMade(made))).await;
        let role = wire::RoleChanged { user: id(BOB), role: 3 };
        stream.write(logged(2, kind::GROUP, event::What::RoleChanged(role))).await;
        let left = wire::MembersLeft { users: vec![id(BOB), Bytes::from_static(b"short")] };
        stream.write(logged(3, kind::GROUP, event::What::MembersLeft(left))).await;
        stream.push(4).await;
        let mut told = Vec::new();
        for _ in 0..4 {
            let Event::Entry(entry) = next(&mut events).await else { panic!("not an entry") };
            told.push(entry.group_event());
        }
        assert!(matches!(&told[0], Some(GroupEvent::Made { profile, users })
            if profile.name == "walkers" && *users == [BOB]));
        assert_eq!(told[1], Some(GroupEvent::RoleChanged(BOB, Role::Owner)));
        assert_eq!(told[2..], [None, None]);
    })
    .await;
}
