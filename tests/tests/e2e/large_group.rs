//! A group with more handles than are served directly: each member sees each entry once, in
//! order, whoever sends, whoever reads slowly, and whoever leaves meanwhile.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use petrel_proto::code::Code;
use petrel_proto::wire::{change_group::What as Change, frame::What};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, RawOptions, RawStream};

use crate::somebody::{Somebody, ends_after, from_nothing, named, users};

on_both_stores!(
    everybody_in_a_group_of_forty_sees_each_entry_once_in_order,
    two_hundred_members_get_what_several_say_and_acks_wait_for_none_of_them,
    who_is_put_out_of_a_large_group_sees_the_last_entry_that_is_his,
);

const MEMBERS: usize = 40;
const MESSAGES_EACH: u64 = 150;
/// The first entry says that the group was made.
const LAST: u64 = 1 + 2 * MESSAGES_EACH;

async fn people(gateway: &Gateway, count: usize) -> Result<Vec<Somebody>> {
    let come =
        (0..count).map(|n| async move { Somebody::new(gateway, &format!("person{n}")).await });
    stream::iter(come).buffered(16).try_collect().await
}

/// A member who reads nothing for now; his windows are small.
async fn slow(gateway: &Gateway) -> Result<Somebody> {
    let identity = gateway.dialer()?.register("slow", "test").await?;
    let tiny = RawOptions { stream_window: 4_096, window: 16_384, ..RawOptions::default() };
    Somebody::signed_in_with(gateway, identity, &tiny).await
}

/// Reads entries from `next` on until `last`: each once, in order, as a Push or as the own Ack.
async fn reads_on(stream: &mut RawStream, mut next: u64, last: u64) -> Result<()> {
    while next <= last {
        match stream.next().await?.context("the stream has ended")? {
            (frame, What::Push(_) | What::Ack(_)) => {
                assert_eq!(frame.seq, next, "each once, in order");
                next += 1;
            }
            (_, What::Attach(_) | What::Receipts(_) | What::Preview(_)) => {}
            (_, other) => bail!("instead of {next}: {other:?}"),
        }
    }
    Ok(())
}

/// Reads until every entry was there. A sender whose own queue was full meanwhile gets his Acks
/// before the rest; Acks and pushes rise in any case.
async fn has_all(stream: &mut RawStream, first: u64, last: u64) -> Result<()> {
    let (mut acked, mut pushed, mut seen) = (0, 0, BTreeSet::new());
    while seen.len() as u64 <= last - first {
        match stream.next().await?.context("the stream has ended")? {
            (frame, What::Ack(_)) => {
                assert!(frame.seq > acked, "{} after {acked}", frame.seq);
                acked = frame.seq;
                seen.insert(frame.seq);
            }
            (frame, What::Push(_)) => {
                assert!(frame.seq > pushed, "{} after {pushed}", frame.seq);
                pushed = frame.seq;
                seen.insert(frame.seq);
            }
            (_, What::Receipts(_) | What::Preview(_)) => {}
            (_, other) => bail!("instead of an entry: {other:?}"),
        }
    }
    assert_eq!((seen.first(), seen.last()), (Some(&first), Some(&last)));
    Ok(())
}

async fn everybody_in_a_group_of_forty_sees_each_entry_once_in_order(stage: Stage) -> Result<()> {
    let gateway = stage.gateway(&["gateway.send_queue=64KiB"]).await?;
    let members = people(&gateway, MEMBERS).await?;
    let all: Vec<_> = members.iter().collect();
    let group = all[0].create(named("many"), &all[1..]).await?;

    // One who reads nothing until the others have everything.
    let slow = slow(&gateway).await?;
    all[0].change(&group, Change::Add(users(&[&slow]))).await?.unwrap();
    let (mut of_slow, _) = slow.raw.attach(from_nothing(&group)).await?;

    let mut first = all[0].open(&group).await?;
    let mut second = all[1].open(&group).await?;
    // The first entries, up to the one by which the slow one came in.
    reads_on(&mut first, 1, 2).await?;
    reads_on(&mut second, 1, 2).await?;
    let text = "x".repeat(300);
    for number in 1..=MESSAGES_EACH {
        for stream in [&mut first, &mut second] {
            let id = raw::message_id(raw::now_ms());
            stream.write(raw::send(number, id, text.as_bytes())).await?;
        }
    }
    for stream in [&mut first, &mut second] {
        has_all(stream, 3, LAST + 1).await?;
    }
    for member in &all[2..] {
        // The stream that the server has opened with the group's first entry.
        let mut stream = member.raw.accept().await?;
        reads_on(&mut stream, 1, LAST + 1).await?;
    }
    let Some((frame, What::Gap(gap))) = of_slow.next().await? else { bail!("no gap") };
    assert_eq!((frame.seq, gap.from, gap.to), (0, 1, 1), "what was before him");
    reads_on(&mut of_slow, 2, LAST + 1).await?;
    assert_eq!(gateway.metric("petrel_gateway_fanout_waiting_entries", "").await?, 0.0);
    Ok(())
}

async fn two_hundred_members_get_what_several_say_and_acks_wait_for_none_of_them(
    stage: Stage,
) -> Result<()> {
    const SENDERS: usize = 4;
    const EACH: u64 = 50;
    let gateway = stage.gateway(&["gateway.send_queue=64KiB"]).await?;
    let members = people(&gateway, 200).await?;
    let all: Vec<_> = members.iter().collect();
    let slow = slow(&gateway).await?;
    let group = all[0].create(named("crowd"), &all[1..100]).await?;
    let rest = [&all[100..], &[&slow]].concat();
    for part in rest.chunks(100) {
        all[0].change(&group, Change::Add(users(part))).await?.unwrap();
    }
    // The entries that say how the group came about.
    let made = 1 + rest.chunks(100).count() as u64;
    let last = made + SENDERS as u64 * EACH;

    let mut senders = Vec::new();
    for sender in &all[..SENDERS] {
        let mut stream = sender.open(&group).await?;
        reads_on(&mut stream, 1, made).await?;
        senders.push(stream);
    }
    let text = "y".repeat(200);
    for number in 1..=EACH {
        for stream in &mut senders {
            let id = raw::message_id(raw::now_ms());
            stream.write(raw::send(number, id, text.as_bytes())).await?;
        }
    }
    // Nobody else has read anything yet.
    for stream in &mut senders {
        has_all(stream, made + 1, last).await?;
    }
    for (n, member) in all.iter().enumerate().skip(SENDERS) {
        // The stream that the server has opened with the first entry that is the member's.
        let mut stream = member.raw.accept().await?;
        let first = if n < 100 { 1 } else { 2 };
        reads_on(&mut stream, first, last).await.with_context(|| format!("member {n}"))?;
    }
    let mut of_slow = slow.raw.accept().await?;
    reads_on(&mut of_slow, made, last).await?;
    let delivered = gateway.metric("petrel_gateway_deliveries_total", "").await?;
    assert!(delivered >= (200 * (last - made)) as f64, "{delivered}");
    Ok(())
}

async fn who_is_put_out_of_a_large_group_sees_the_last_entry_that_is_his(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&[]).await?;
    let members = people(&gateway, MEMBERS).await?;
    let all: Vec<_> = members.iter().collect();
    let group = all[0].create(named("many"), &all[1..]).await?;
    let mut first = all[0].open(&group).await?;
    reads_on(&mut first, 1, 1).await?;
    for number in 1..=20 {
        let id = raw::message_id(raw::now_ms());
        first.write(raw::send(number, id, b"before")).await?;
    }
    reads_on(&mut first, 2, 21).await?;
    all[0].change(&group, Change::Remove(users(&[all[1]]))).await?.unwrap();
    first.write(raw::send(21, raw::message_id(raw::now_ms()), b"after")).await?;
    reads_on(&mut first, 22, 23).await?;
    let mut out = all[1].raw.accept().await?;
    let Some((_, What::Attach(_))) = out.next().await? else { bail!("no Attach") };
    ends_after(&mut out, &(1..=22).collect::<Vec<_>>(), Code::NotFound).await?;
    let mut in_it = all[2].raw.accept().await?;
    reads_on(&mut in_it, 1, 23).await?;
    // What ended streams were told takes no room any more.
    let empty = || async {
        let left = gateway.metric("petrel_gateway_send_queue_bytes", "").await?;
        Ok((left == 0.0).then_some(()))
    };
    eventually(PATIENCE, "empty queues", empty).await
}
