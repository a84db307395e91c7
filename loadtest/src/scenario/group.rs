//! Groups whose members are all online: what a message to a thousand people takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use petrel_client::{Identity, UserId};
use petrel_proto::wire::{self, change_group, frame::What};
use quinn::Connection;

use super::one_to_one::{tenth, texts};
use super::{find_max, measure, people};
use crate::dial::{self, Connector, Control, Target};
use crate::environment;
use crate::group::judge::Judge;
use crate::group::load::GroupLoad;
use crate::group::seat::{Room, Seat};
use crate::group::text::Texts;
use crate::ledger::{Clock, Id};
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{GroupFigures, Report};
use crate::traffic::{Meter, rounded, until};

/// Sign-ins under way at once.
const SIGN_INS: usize = 32;
/// Groups that are made at once.
const MAKING: usize = 8;
/// Users that one request puts into a group (the protocol's limit).
const ADDED_AT_ONCE: usize = 100;
/// How long all members may take to attach, and the first messages to reach everybody.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(60);
/// Groups whose history is judged, at the most.
const HISTORIES_MAX: usize = 200;
/// How often one page of history is asked for while the server says "later".
const PAGE_TRIES: usize = 50;

/// Runs it.
///
/// # Errors
/// When there can be no report: no server, no sign-in, no group, no first message.
pub async fn run(options: &Options, progress: &Progress) -> anyhow::Result<Report> {
    let bodies = texts(options)?;
    let (server, identities) = people::gather(options, options.users(), progress).await?;
    let meter = Meter::new(&server, options.storage.as_deref());
    let mut report = Report::new(options.scenario.name());
    report.environment = environment::stamp(options, server.admin);
    report.connections = identities.len();
    report.body_bytes_per_message = Some(tenth(bodies.mean_bytes()));
    report.compressed_body_bytes_per_message = Some(tenth(bodies.mean_encoded_bytes()));
    let layout = GroupLayout { users: identities.len(), ..GroupLayout::of(options) };
    let room = Arc::new(Room {
        judge: Judge::new(Texts::new(&bodies), layout.members),
        clock: Clock::start(),
        attached: AtomicUsize::new(0),
        closing: AtomicBool::new(false),
        fault: options.fault,
    });
    let connector = Connector::new(&server.front(), identities.len(), true)?;
    let (signed_in, groups) = gather(&connector, &identities, layout, progress).await?;
    let connections: Vec<Connection> = signed_in.iter().map(|(c, _)| c.clone()).collect();
    let seats = sit_down(&room, &connections, &groups, layout, progress).await?;
    let mut load =
        GroupLoad::new(Arc::clone(&room), seats, connections, layout.members, options.seed);
    progress.stage("first messages");
    load.prime(ATTACH_TIMEOUT).await?;
    if options.find_max {
        find_max(&mut load, &meter, options, progress, &mut report).await?;
    } else {
        measure(&mut load, &meter, options, options.rate(), progress, &mut report).await?;
    }
    report.link = server.link_counts();
    let figures = figures(&report, layout);
    report.group = Some(figures);
    room.judge.close(load.seats.iter().map(|seat| seat.watch.lock()));
    progress.stage("closing");
    room.closing.store(true, Ordering::Relaxed);
    for connection in load.connections.iter() {
        connection.close(0u32.into(), b"");
    }
    drop((load, signed_in));
    report.histories_judged =
        judge_histories(&server.target, &identities, &groups, layout, &room, progress).await?;
    report.verdict = room.judge.verdict();
    report.errors = room.judge.errors();
    report.findings = room.judge.findings();
    connector.wait_idle().await;
    tokio::task::spawn_blocking(move || server.stop()).await??;
    report.judge();
    Ok(report)
}

/// Who is in which group.
#[derive(Clone, Copy, Debug)]
struct GroupLayout {
    users: usize,
    groups: usize,
    members: usize,
}

impl GroupLayout {
    fn of(options: &Options) -> Self {
        Self { users: options.users(), groups: options.groups, members: options.members }
    }

    /// The users of a group, its owner first.
    fn members(self, group: usize) -> impl Iterator<Item = usize> {
        (0..self.members).map(move |seat| (group * self.members + seat) % self.users)
    }
}

type SignedIn = Vec<(Connection, Control)>;

/// Signs everyone in and makes the groups.
async fn gather(
    connector: &Connector,
    identities: &[Identity],
    layout: GroupLayout,
    progress: &Progress,
) -> anyhow::Result<(SignedIn, Vec<Id>)> {
    let tokens = people::tokens(connector, identities, progress).await?;
    progress.steps("signing in", tokens.len());
    let signed_in =
        people::concurrently(SIGN_INS, tokens.into_iter().enumerate(), |(number, token)| {
            let (connector, progress) = (connector.clone(), progress.clone());
            async move {
                let connection = connector.connect(number).await?;
                let control = dial::hello(&connection, token)
                    .await
                    .with_context(|| format!("signing in as user {number}"))?;
                progress.step();
                Ok((connection, control))
            }
        })
        .await?;
    progress.steps("making groups", layout.groups);
    let groups = people::concurrently(MAKING, 0..layout.groups, |group| {
        let members: Vec<UserId> =
            layout.members(group).map(|user| identities[user].user).collect();
        let owner = layout.members(group).next().unwrap_or_default();
        let (connection, progress) = (signed_in[owner].0.clone(), progress.clone());
        async move {
            let made = make_group(&connection, group, &members).await?;
            progress.step();
            Ok(made)
        }
    })
    .await?;
    Ok((signed_in, groups))
}

/// Makes a group through the protocol, of the owner of this connection and the others.
async fn make_group(
    connection: &Connection,
    number: usize,
    members: &[UserId],
) -> anyhow::Result<Id> {
    let users: Vec<Bytes> =
        members.iter().skip(1).map(|user| Bytes::copy_from_slice(user.as_bytes())).collect();
    let mut parts = users.chunks(ADDED_AT_ONCE).map(<[Bytes]>::to_vec);
    let profile = wire::GroupProfile {
        name: format!("load {number}"),
        joins: 1,
        ..wire::GroupProfile::default()
    };
    let create =
        wire::CreateGroup { profile: Some(profile), users: parts.next().unwrap_or_default() };
    let mut made = asked(connection, What::CreateGroup(create)).await.context("making a group")?;
    let id: Id = made.conversation.as_ref().try_into().context("a group's id")?;
    for users in parts {
        let add = change_group::What::Add(wire::UserIds { users });
        let change =
            wire::ChangeGroup { conversation: Bytes::copy_from_slice(&id), what: Some(add) };
        made = asked(connection, What::ChangeGroup(change)).await.context("putting users in")?;
    }
    ensure!(
        made.members == members.len() as u64,
        "the group has {} members of {}; {} were refused",
        made.members,
        members.len(),
        made.refused.len()
    );
    Ok(id)
}

/// A request that is answered with the group, waiting where the server limits their pace.
async fn asked(connection: &Connection, what: What) -> anyhow::Result<wire::Group> {
    for _ in 0..PAGE_TRIES {
        match dial::request(connection, what.clone()).await {
            Ok(answers) => {
                let Some((_, What::Group(group))) = answers.into_iter().next() else {
                    bail!("answered without the group");
                };
                return Ok(group);
            }
            Err(error) if is_too_fast(&error) => tokio::time::sleep(dial::AGAIN_AFTER).await,
            Err(error) => return Err(error),
        }
    }
    bail!("refused {PAGE_TRIES} times for asking too often")
}

fn is_too_fast(error: &anyhow::Error) -> bool {
    let limited = petrel_proto::code::Code::RateLimited.label();
    error.downcast_ref::<dial::Refused>().is_some_and(|refused| refused.label == limited)
}

/// Attaches every member's stream.
async fn sit_down(
    room: &Arc<Room>,
    connections: &[Connection],
    groups: &[Id],
    layout: GroupLayout,
    progress: &Progress,
) -> anyhow::Result<Vec<Seat>> {
    let all = groups.len() * layout.members;
    progress.steps("attaching groups", all);
    let places = groups.iter().enumerate().flat_map(|(group, id)| {
        layout
            .members(group)
            .enumerate()
            .map(move |(seat, user)| (group * layout.members + seat, *id, user))
    });
    let seats = people::concurrently(SIGN_INS, places, |(number, id, user)| {
        let (room, connection) = (Arc::clone(room), connections[user].clone());
        let progress = progress.clone();
        async move {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let seat = Seat::take(&room, number, &connection, id).await?;
            progress.step();
            Ok(seat)
        }
    })
    .await?;
    let attached = || room.attached.load(Ordering::Acquire);
    if !until(ATTACH_TIMEOUT, || attached() >= all).await {
        bail!("{} of {all} members attached; errors: {:?}", attached(), room.judge.errors());
    }
    Ok(seats)
}

fn figures(report: &Report, layout: GroupLayout) -> GroupFigures {
    let each = (layout.members - 1) as f64;
    GroupFigures {
        groups: layout.groups,
        members: layout.members,
        cpu_s_per_100k_deliveries: report.server.cpu_s_per_100k.map(|s| rounded(s / each, 1e4)),
        wire_bytes_per_delivery: report.wire_bytes_per_message.map(|b| rounded(b / each, 10.0)),
    }
}

/// Reads histories over connections of their own and has them judged. Returns how many.
async fn judge_histories(
    target: &Target,
    identities: &[Identity],
    groups: &[Id],
    layout: GroupLayout,
    room: &Arc<Room>,
    progress: &Progress,
) -> anyhow::Result<u64> {
    let step = groups.len().div_ceil(HISTORIES_MAX).max(1);
    progress.steps("judging histories", groups.len().div_ceil(step));
    let connector = Connector::new(target, 1, false)?;
    let mut judged = 0;
    for (number, group) in groups.iter().enumerate().step_by(step) {
        let number_on_wire = u32::try_from(number).unwrap_or(u32::MAX);
        let Some(from) = room.judge.lowest_seq(number_on_wire) else { continue };
        // Not the owner: the last who came in.
        let reader = layout.members(number).last().unwrap_or_default();
        let connection = connector.connect(0).await?;
        let token = dial::login(&connection, &identities[reader]).await?;
        let control = dial::hello(&connection, token).await?;
        let mut tries = 0;
        let stored = dial::history(&connection, group, from, |refused| {
            tries += 1;
            let limited = petrel_proto::code::Code::RateLimited.label();
            tries < PAGE_TRIES && refused.label == limited
        })
        .await?;
        room.judge.judge_history(number_on_wire, &stored);
        drop(control);
        connection.close(0u32.into(), b"");
        judged += 1;
        progress.step();
    }
    connector.wait_idle().await;
    Ok(judged)
}
