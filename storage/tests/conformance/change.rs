//! Decisions carried out: groups, contacts, accounts, and what is read of them.

use petrel_core::change::{
    Audience, Change, ChangeEntry, ChangeOutcome, Contact, Friendship, GroupProfile, Guard,
    JoinLink, JoinPolicy, MemberSettings, Privacy, Revoked, Role, RowChange,
};
use petrel_core::entry::EntryKind;
use petrel_core::id::{ClientMessageId, ConversationId, DeviceId, RightsVersion, Seq, UserId};
use petrel_core::store::{ConversationKind, NewDevice};

use crate::support::{World, bytes, first, message, receipt, worlds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_contacts_and_accounts_are_the_same_on_both_stores() {
    for mut world in worlds().await {
        a_group_from_its_making_to_its_members_leaving(&mut world).await;
        what_decides_over_a_pair(&mut world).await;
        requests_and_links(&world).await;
        accounts_and_devices(&world).await;
        settings_and_the_list(&mut world).await;
    }
}

pub(crate) fn entry(
    conversation: ConversationId,
    sender: UserId,
    id: u64,
    kind: EntryKind,
) -> ChangeEntry {
    let body = b"event".to_vec().into();
    ChangeEntry { conversation, id: ClientMessageId(bytes(4, id)), sender, kind, body }
}

pub(crate) fn guard(conversation: ConversationId, version: u64, bumps: bool) -> Guard {
    Guard { conversation, version: RightsVersion(version), bumps }
}

pub(crate) fn profile(name: &str) -> GroupProfile {
    GroupProfile {
        name: name.to_owned(),
        avatar: "a-picture".to_owned(),
        joins: JoinPolicy::Request,
        members_invite: true,
        whole_history: false,
        muted: false,
        created_ms: 1_700_000_000_000,
    }
}

pub(crate) fn join(conversation: ConversationId, user: UserId, role: Role, all: bool) -> RowChange {
    RowChange::Join { conversation, user, role, whole_history: all }
}

/// A change of one group, guarded by its version.
fn of_group(group: ConversationId, by: UserId, version: u64, row: RowChange) -> Change {
    Change {
        guards: vec![guard(group, version, true)],
        rows: vec![row],
        entries: vec![entry(group, by, version, EntryKind::Group)],
    }
}

/// d done, u duplicate, s stale; with the places.
pub(crate) async fn told(world: &World, change: &Change) -> String {
    match world.store.apply(change).await.unwrap() {
        ChangeOutcome::Done(places) => {
            let seqs: Vec<_> = places
                .iter()
                .map(|p| format!("{}.{}v{}", p.seq, p.count, p.rights_version.0))
                .collect();
            format!("d {}", seqs.join(" ")).trim().to_owned()
        }
        ChangeOutcome::Duplicate(place) => format!("u {}", place.seq),
        ChangeOutcome::Stale => "s".to_owned(),
    }
}

/// Role, interval and mute of each interval of a group's members, in the order of the users given.
async fn intervals(world: &World, group: ConversationId, users: &[UserId]) -> String {
    let record = world.store.conversation(group).await.unwrap().unwrap();
    let of = |user: &UserId| {
        let mut own: Vec<_> = record.members.iter().filter(|m| m.user == *user).collect();
        own.sort_by_key(|m| m.from);
        own.iter()
            .map(|m| {
                let until = m.until.map_or_else(String::new, |seq| seq.to_string());
                format!("{}:{}-{until}/{}", m.role.number(), m.from, m.muted_until_ms)
            })
            .collect::<Vec<_>>()
            .join("+")
    };
    users.iter().map(of).collect::<Vec<_>>().join(" ")
}

async fn a_group_from_its_making_to_its_members_leaving(world: &mut World) {
    let (a, b, c) = (world.user().await, world.user().await, world.user().await);
    let users = [a, b, c];
    let group = ConversationId(bytes(5, 1));
    let make = Change {
        guards: Vec::new(),
        rows: vec![
            RowChange::Group(group, profile("one")),
            join(group, a, Role::Owner, true),
            join(group, b, Role::Member, false),
        ],
        entries: vec![entry(group, a, 900, EntryKind::Group)],
    };
    assert_eq!(told(world, &make).await, "d 1.0v1");
    assert_eq!(told(world, &make).await, "u 1");
    let record = world.store.conversation(group).await.unwrap().unwrap();
    assert_eq!(record.kind, ConversationKind::Group(profile("one")));
    assert_eq!((record.head, record.count), (Seq(1), 0));
    assert_eq!(intervals(world, group, &users).await, "3:1-/0 1:1-/0 ");

    assert_eq!(world.answers(&[message(group, a, 1, 1, "hello")]).await, "n2");
    let steps = [
        (1, join(group, c, Role::Member, false), "3:1-/0 1:1-/0 1:3-/0"),
        (2, RowChange::Mute(group, c, 77), "3:1-/0 1:1-/0 1:3-/77"),
        (3, RowChange::Leave { conversation: group, user: c }, "3:1-/0 1:1-/0 1:3-5/77"),
        (4, RowChange::Role(group, b, Role::Admin), "3:1-/0 2:1-/0 1:3-5/77"),
        (5, RowChange::Leave { conversation: group, user: b }, "3:1-/0 2:1-7/0 1:3-5/77"),
        (6, join(group, c, Role::Member, false), "3:1-/0 2:1-7/0 1:3-5/77+1:8-/77"),
        (7, join(group, b, Role::Member, true), "3:1-/0 1:1-/0 1:3-5/77+1:8-/77"),
        (8, join(group, b, Role::Owner, false), "3:1-/0 1:1-/0 1:3-5/77+1:8-/77"),
    ];
    for (version, row, expected) in steps {
        let change = of_group(group, a, version, row);
        let seq = version + 2;
        assert_eq!(told(world, &change).await, format!("d {seq}.1v{}", version + 1));
        assert_eq!(told(world, &change).await, format!("u {seq}"));
        assert_eq!(intervals(world, group, &users).await, expected, "{}: {version}", world.name);
    }
    // Who was too late, and who names a log that is not there.
    let late = of_group(group, b, 8, RowChange::Profile(group, profile("late")));
    assert_eq!(told(world, &late).await, "s");
    let mut nowhere = of_group(group, b, 9, RowChange::Profile(group, profile("two")));
    nowhere.entries.push(entry(ConversationId(bytes(5, 99)), b, 9, EntryKind::Group));
    assert_eq!(told(world, &nowhere).await, "s");
    let two = of_group(group, b, 9, RowChange::Profile(group, profile("two")));
    assert_eq!(told(world, &two).await, "d 11.1v10");
    let record = world.store.conversation(group).await.unwrap().unwrap();
    assert_eq!(record.kind, ConversationKind::Group(profile("two")));

    let lines = world.store.members(group, None, 2).await.unwrap();
    assert_eq!(lines.iter().map(|l| l.user.id).collect::<Vec<_>>(), [a, b]);
    let lines = world.store.members(group, Some(b), 2).await.unwrap();
    assert_eq!((lines.len(), lines[0].user.id, lines[0].muted_until_ms), (1, c, 77));
    assert_eq!(world.store.groups_of(&[b]).await.unwrap(), [(b, 1)]);
    world
        .store
        .raise_receipts(&[(group, b, receipt(9, 2)), (group, a, receipt(9, 9))])
        .await
        .unwrap();
    assert_eq!(world.store.read_by(group, Seq(3), 9).await.unwrap(), [a]);

    let line = world.store.list(c, first(5)).await.unwrap().remove(0);
    let summary = line.group.unwrap();
    assert_eq!((line.id, summary.profile, summary.members), (group, profile("two"), 3));
    assert_eq!(
        (summary.role, line.unread),
        (Role::Member, 0),
        "what was before him does not count"
    );
}

async fn what_decides_over_a_pair(world: &mut World) {
    let (a, b, pair) = world.pair().await;
    let (own, other) = (ConversationId::of_user(a), ConversationId::of_user(b));
    let record = world.store.relation(a, b).await.unwrap().unwrap();
    assert_eq!((record.own_version, record.other_version), (RightsVersion(1), RightsVersion(1)));
    assert_eq!((record.own_contacts, record.other_contacts), (0, 0));
    assert!(world.store.relation(a, UserId([0xaa; 16])).await.unwrap().is_none());

    let flags = async |world: &World| {
        let record = world.store.conversation(pair).await.unwrap().unwrap();
        let of = |user| *record.members.iter().find(|m| m.user == user).unwrap();
        let tell = |m: petrel_core::store::Member| {
            format!("{}{}{}", u8::from(m.accepts), u8::from(m.is_contact), u8::from(m.has_written))
        };
        format!("v{} {} {}", record.rights_version.0, tell(of(a)), tell(of(b)))
    };
    assert_eq!(flags(world).await, "v1 100 100");
    let contacts_only =
        Privacy { messages: Audience::Contacts, presence: Audience::Nobody, ..Privacy::default() };
    let private = Change {
        guards: vec![guard(own, 1, true)],
        rows: vec![RowChange::Privacy(a, contacts_only)],
        entries: vec![entry(own, a, 1, EntryKind::Account)],
    };
    assert_eq!(told(world, &private).await, "d 1.0v2");
    assert_eq!(flags(world).await, "v2 000 100");
    assert_eq!(world.store.account(a).await.unwrap().unwrap().privacy, contacts_only);
    assert_eq!(world.store.visible_presence(b, &[a, b]).await.unwrap(), [b]);
    assert_eq!(world.store.visible_presence(a, &[a]).await.unwrap(), [a]);

    let side = |friendship, follows| Contact {
        friendship,
        follows,
        remark: "рем☂".to_owned(),
        text: "hi".to_owned(),
        changed_ms: 5,
    };
    let contact = |owner, other, contact| RowChange::Contact { owner, other, contact };
    let friends = |version, one: Option<Contact>, two: Option<Contact>| Change {
        guards: vec![guard(own, version, true), guard(other, version - 1, true)],
        rows: vec![contact(a, b, one), contact(b, a, two), RowChange::BumpPair(a, b)],
        entries: vec![
            entry(own, a, version, EntryKind::Contact),
            entry(other, a, version, EntryKind::Contact),
        ],
    };
    let asked =
        friends(2, Some(side(Friendship::Asked, false)), Some(side(Friendship::Invited, false)));
    assert_eq!(told(world, &asked).await, "d 2.0v3 1.0v2");
    assert_eq!(flags(world).await, "v3 000 100");
    let yes =
        friends(3, Some(side(Friendship::Friends, false)), Some(side(Friendship::Friends, false)));
    assert_eq!(told(world, &yes).await, "d 3.0v4 2.0v3");
    assert_eq!(flags(world).await, "v4 110 110");
    assert_eq!(world.answers(&[message(pair, b, 4, 1, "x")]).await, "n1");
    assert_eq!(flags(world).await, "v4 110 111");
    let lines = world.store.contacts(a, None, 9).await.unwrap();
    assert_eq!(lines[0].contact, side(Friendship::Friends, false));
    assert_eq!(
        (lines.len(), lines[0].user.id, lines[0].is_followed, lines[0].blocks),
        (1, b, false, false)
    );

    let follow = friends(4, Some(side(Friendship::None, true)), Some(side(Friendship::None, true)));
    assert_eq!(told(world, &follow).await, "d 4.0v5 3.0v4");
    assert_eq!(flags(world).await, "v5 110 111");
    assert!(world.store.contacts(b, None, 9).await.unwrap()[0].is_followed);
    let none = friends(5, None, None);
    assert_eq!(told(world, &none).await, "d 5.0v6 4.0v5");
    assert_eq!(flags(world).await, "v6 000 101");

    let block = Change {
        guards: vec![guard(own, 6, true), guard(pair, 6, true)],
        rows: vec![RowChange::Block(pair, a, true), RowChange::BumpPair(a, b)],
        entries: vec![entry(own, a, 6, EntryKind::Contact)],
    };
    assert_eq!(told(world, &block).await, "d 6.0v7");
    assert!(flags(world).await.starts_with("v7 "), "once, however often it was asked for");
    let lines = world.store.contacts(a, None, 9).await.unwrap();
    assert_eq!((lines.len(), lines[0].user.id, lines[0].blocks), (1, b, true));
    assert!(world.store.contacts(a, Some(b), 9).await.unwrap().is_empty());
    let (record, back) = (
        world.store.relation(a, b).await.unwrap().unwrap(),
        world.store.relations(b, &[a, a]).await.unwrap(),
    );
    assert_eq!(
        (record.blocks, record.is_blocked, record.own_version),
        (true, false, RightsVersion(7))
    );
    assert_eq!((back.len(), back[0].0, back[0].1.is_blocked), (1, a, true));
    assert_eq!(back[0].1.privacy, contacts_only);
}

async fn requests_and_links(world: &World) {
    let (a, b) = (world.user().await, world.user().await);
    let group = ConversationId(bytes(5, 2));
    let link = JoinLink {
        hash: [9; 32],
        conversation: group,
        by: a,
        expires_ms: 100,
        uses_max: 2,
        uses: 0,
    };
    let make = Change {
        guards: Vec::new(),
        rows: vec![
            RowChange::Group(group, profile("two")),
            join(group, a, Role::Owner, true),
            RowChange::AskToJoin(group, b, "пусти'; --".to_owned(), 7),
            RowChange::LinkMade(link.clone()),
            RowChange::LinkUsed([9; 32]),
        ],
        entries: vec![entry(group, a, 901, EntryKind::Group)],
    };
    assert_eq!(told(world, &make).await, "d 1.0v1");
    assert_eq!(world.store.asks_to_join(group, b).await.unwrap(), (true, 1));
    assert_eq!(world.store.asks_to_join(group, a).await.unwrap(), (false, 1));
    let requests = world.store.join_requests(group, None, 9).await.unwrap();
    assert_eq!((requests[0].user.id, requests[0].asked_ms), (b, 7));
    assert_eq!(requests[0].text, "пусти'; --");
    let used = JoinLink { uses: 1, ..link };
    assert_eq!(world.store.link([9; 32]).await.unwrap(), Some(used.clone()));
    assert_eq!(world.store.links(group, 99, 9).await.unwrap(), [used]);
    assert!(world.store.links(group, 100, 9).await.unwrap().is_empty());
    let answered = of_group(group, a, 1, RowChange::JoinAnswered(group, b));
    assert_eq!(told(world, &answered).await, "d 2.0v2");
    assert_eq!(world.store.asks_to_join(group, b).await.unwrap(), (false, 0));
    let revoked = of_group(group, a, 2, RowChange::LinkRevoked([9; 32]));
    assert_eq!(told(world, &revoked).await, "d 3.0v3");
    assert_eq!(world.store.link([9; 32]).await.unwrap(), None);
}

async fn accounts_and_devices(world: &World) {
    let mut account = world.account(&format!("{}-outsider", world.name));
    account.password = Some("$argon2id$x".to_owned());
    account.outside = Some(("https://issuer".to_owned(), "sub'ject".to_owned()));
    assert!(world.store.register(&account).await.unwrap());
    assert!(world.store.register(&account).await.unwrap(), "again, the same");
    let mut second = world.account(&format!("{}-second", world.name));
    second.outside.clone_from(&account.outside);
    assert!(!world.store.register(&second).await.unwrap(), "that identity has an account");
    let (user, name) = (account.user.id, account.user.name.clone());
    let found = world.store.outside("https://issuer", "sub'ject").await.unwrap();
    assert_eq!(found, Some(account.user.clone()));
    assert_eq!(world.store.outside("https://issuer", "other").await.unwrap(), None);
    let page = world.store.users_after(&name[..name.len() - 1], 1).await.unwrap();
    assert_eq!(page, std::slice::from_ref(&account.user), "in the order of names");
    let next = world.store.users_after(&name, 2).await.unwrap();
    assert!(next.is_sorted_by(|a, b| a.name < b.name) && next.iter().all(|u| u.name > name));
    assert!(world.store.users_after("zzzzzz", 9).await.unwrap().is_empty());
    assert_eq!(world.store.password(&name).await.unwrap().unwrap().password, "$argon2id$x");
    assert_eq!(world.store.password("nobody").await.unwrap(), None);

    let own = ConversationId::of_user(user);
    assert_eq!(world.store.account(user).await.unwrap().unwrap().version, RightsVersion(1));
    assert_eq!(world.store.account(UserId([0xaa; 16])).await.unwrap(), None);
    assert!(!world.store.ensure_log(UserId([0xaa; 16])).await.unwrap());
    let value: &[u8] = b"\0\xff";
    let change = Change {
        guards: vec![guard(own, 1, true)],
        rows: vec![
            RowChange::Person { user, nickname: "Ник".to_owned(), avatar: "p".to_owned() },
            RowChange::Setting(user, "b".to_owned(), Some(value.into())),
            RowChange::Setting(user, "a".to_owned(), Some(value.into())),
            RowChange::Setting(user, "a".to_owned(), None),
            RowChange::Password(user, "$new".to_owned()),
        ],
        entries: vec![entry(own, user, 1, EntryKind::Account)],
    };
    assert_eq!(told(world, &change).await, "d 1.0v2");
    let record = world.store.account(user).await.unwrap().unwrap();
    assert_eq!((&record.user.nickname[..], &record.user.avatar[..]), ("Ник", "p"));
    assert_eq!(record.settings, [("b".to_owned(), value.into())]);
    assert!(record.has_password && record.version == RightsVersion(2));
    assert_eq!(world.store.password(&name).await.unwrap().unwrap().password, "$new");
    assert_eq!(world.store.users(&[user]).await.unwrap(), [record.user]);

    let device = |n: u64| NewDevice {
        user,
        device: DeviceId(bytes(7, n)),
        label: format!("d{n}"),
        secret_hash: [8; 32],
        created_ms: 1_800_000_000_000 + n,
    };
    for (n, added) in [(1, true), (2, true), (3, false), (2, true)] {
        assert_eq!(world.store.add_device(&device(n), 3).await.unwrap(), added, "{n}");
    }
    let (d1, d2) = (device(1).device, device(2).device);
    world.store.devices_seen(&[(d1, 50), (d2, 70), (d1, 60), (d2, 10)]).await.unwrap();
    assert_eq!(world.store.last_seen(&[user]).await.unwrap(), [(user, 70)]);
    let revoke = |version, devices, at_ms| Change {
        guards: vec![guard(own, version, true)],
        rows: vec![RowChange::Revoke { user, devices, at_ms }],
        entries: vec![entry(own, user, version, EntryKind::Device)],
    };
    assert_eq!(told(world, &revoke(2, Revoked::One(d1), 1_000)).await, "d 2.0v3");
    assert!(world.store.device(d1).await.unwrap().unwrap().revoked);
    assert_eq!(told(world, &revoke(3, Revoked::AllBut(Some(d2)), 2_000)).await, "d 3.0v4");
    let left = world.store.devices(user).await.unwrap();
    assert_eq!((left.len(), left[0].device, left[0].seen_ms), (1, d2, 70));
    let gone = [(d1, 1_000), (account.device, 2_000)];
    assert_eq!(world.store.revoked_since(1_000, 9).await.unwrap(), gone);
    assert_eq!(world.store.revoked_since(1_001, 9).await.unwrap(), gone[1..]);
    assert!(world.store.add_device(&device(3), 2).await.unwrap(), "revoked ones do not count");
}

async fn settings_and_the_list(world: &mut World) {
    let (a, b, pair) = world.pair().await;
    world.append(&[message(pair, b, 1, 1, "x"), message(pair, b, 1, 2, "y")]).await.unwrap();
    assert!(world.store.ensure_log(a).await.unwrap());
    let own = ConversationId::of_user(a);
    let settings = MemberSettings { silenced_until_ms: 9, pinned_ms: 8, archived: true };
    let change = Change {
        guards: vec![guard(own, 1, false)],
        rows: vec![
            RowChange::MemberSettings(a, pair, settings),
            RowChange::Hide(a, pair, vec![Seq(2), Seq(2), Seq(7)]),
        ],
        entries: vec![entry(own, a, 1, EntryKind::Conversation)],
    };
    assert_eq!(told(world, &change).await, "d 1.0v1", "no bump was asked for");
    assert_eq!(world.store.member_settings(a, pair).await.unwrap(), settings);
    assert_eq!(world.store.member_settings(b, pair).await.unwrap(), MemberSettings::default());
    let lines = world.store.list(a, first(9)).await.unwrap();
    assert_eq!((lines.len(), lines[0].id), (1, pair), "his own log is not listed");
    assert_eq!((lines[0].settings, lines[0].unread), (settings, 2));
    let last = lines[0].last.as_ref().unwrap();
    assert!(last.hidden && last.body.is_empty());
    let lines = world.store.list(b, first(9)).await.unwrap();
    assert_eq!(&lines[0].last.as_ref().unwrap().body[..], b"y");
    assert!(!lines[0].last.as_ref().unwrap().hidden);
    let late = petrel_core::store::ListPage { since_ms: u64::MAX, ..first(9) };
    assert!(world.store.list(b, late).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_changes_by_one_version_one_is_stale_and_joins_stand_beside_sends() {
    for mut world in worlds().await {
        let (a, b) = (world.user().await, world.user().await);
        let group = ConversationId(bytes(5, 3));
        let make = Change {
            guards: Vec::new(),
            rows: vec![RowChange::Group(group, profile("g")), join(group, a, Role::Owner, true)],
            entries: vec![entry(group, a, 900, EntryKind::Group)],
        };
        // Made from both sides at once, it is one group.
        let (one, two) = tokio::join!(world.store.apply(&make), world.store.apply(&make));
        let both = [one.unwrap(), two.unwrap()];
        let made = both.iter().filter(|o| matches!(o, ChangeOutcome::Done(_))).count();
        let found = both.iter().filter(|o| matches!(o, ChangeOutcome::Duplicate(_))).count();
        assert_eq!((made, found), (1, 1), "{}: {both:?}", world.name);
        for round in 1..=20_u64 {
            let change = |id: u64, row| Change {
                guards: vec![guard(group, round, true)],
                rows: vec![row],
                entries: vec![entry(group, a, id, EntryKind::Group)],
            };
            let row = match round % 2 {
                1 => join(group, b, Role::Member, false),
                _ => RowChange::Leave { conversation: group, user: b },
            };
            let rival = RowChange::Role(group, b, Role::Admin);
            let (one, two) = (change(1_000 + round, row), change(2_000 + round, rival));
            let store = world.store.clone();
            let sends = [message(group, a, round, round, "x")];
            let (first, second, sent) =
                tokio::join!(store.apply(&one), store.apply(&two), world.append(&sends));
            let outcomes = [first.unwrap(), second.unwrap()];
            let stale = outcomes.iter().filter(|o| **o == ChangeOutcome::Stale).count();
            assert_eq!(stale, 1, "{} round {round}: {outcomes:?}", world.name);
            sent.unwrap();
        }
        // Whoever won: the log is dense, and each entry has the version of its place in it.
        let entries = world.all(group).await;
        let record = world.store.conversation(group).await.unwrap().unwrap();
        assert_eq!(record.rights_version, RightsVersion(21));
        assert_eq!(record.head.0, entries.len() as u64);
        let mut version = 1;
        for (seq, entry) in (1..).zip(&entries) {
            let is_change = entry.kind == EntryKind::Group.number() && seq > 1;
            version += u64::from(is_change);
            assert_eq!((entry.placed.seq, entry.placed.rights_version.0), (Seq(seq), version));
        }
        let own: Vec<_> = record.members.iter().filter(|m| m.user == b).collect();
        assert!(own.iter().filter(|m| m.until.is_none()).count() <= 1);
        for member in own {
            let first = &entries[usize::try_from(member.from.0).unwrap() - 1];
            assert_eq!(first.kind, EntryKind::Group.number(), "who joins sees from his entry on");
        }
    }
}
