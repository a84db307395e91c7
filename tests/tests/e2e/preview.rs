//! Previews come before the entries that replace them.

use anyhow::Result;
use petrel_tests::checker::Expectations;
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;

on_both_stores!(with_no_delay_every_message_is_previewed_and_then_comes_in_its_place);

async fn with_no_delay_every_message_is_previewed_and_then_comes_in_its_place(
    stage: Stage,
) -> Result<()> {
    let gateway = stage.gateway(&["message.preview_after=0ms"]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    for n in 0..20u64 {
        assert_eq!(alice.say(&pair, format!("message {n}")).await?, n + 1);
        bob.has(pair.id, usize::try_from(n)? + 1).await?;
        let (preview, entry) =
            bob.seen(|s| (s.previews.last().cloned(), s.entries[&pair.id].last().unwrap().clone()));
        let preview = preview.expect("a preview came before its entry");
        assert_eq!((preview.id, preview.sender), (entry.id, entry.sender));
    }
    assert_eq!(alice.seen(|s| s.previews.len()), 0, "nobody previews to the sending session");
    stage.judge(&gateway, &Expectations { previews_min: 20, ..Expectations::default() }).await?;
    Ok(())
}
