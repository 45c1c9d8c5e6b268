//! Decisions as data, and plans on rows in memory.

use std::collections::BTreeSet;

use bytes::Bytes;
use coffre_kv::memory::Memory;
use coffre_kv::{Commit, Kv};
use proptest::prelude::*;

use super::*;
use crate::UploadId;
use crate::digest::Sha256;

const A: Owner = [1; 16];
const B: Owner = [2; 16];
const C: Owner = [3; 16];

fn blob(n: u8) -> BlobId {
    BlobId::Content(Sha256([n; 32]))
}

fn in_file(name: &str) -> NewBlob {
    let place = Place::File { name: name.into(), offset: 0, len: 9 };
    NewBlob { place, size_bytes: 9, inline: None, stretch: None }
}

fn inline(bytes: &'static [u8]) -> NewBlob {
    let size_bytes = bytes.len() as u64;
    NewBlob { place: Place::Inline, size_bytes, inline: Some(Bytes::from_static(bytes)), stretch: None }
}

fn row(owners: &[Owner], state: State) -> BlobRow {
    let place = in_file("x").place;
    BlobRow { place, size_bytes: 9, owners: owners.to_vec(), has_more: false, state, unknown: Vec::new() }
}

fn asked(adds: &[Owner], removes: &[Owner], new: Option<NewBlob>) -> Asked {
    Asked { adds: adds.iter().copied().collect(), removes: removes.iter().copied().collect(), new }
}

fn seen(row: Option<BlobRow>, more: &[Owner]) -> Seen {
    Seen { row, more: more.iter().copied().collect() }
}

#[test]
fn a_condemned_blob_lives_again_and_a_damaged_one_takes_the_new_bytes() {
    let condemned = seen(Some(row(&[], State::Condemned { since_ms: 5 })), &[]);
    let effect = decide(&condemned, &asked(&[A], &[], Some(in_file("y"))), 8).unwrap();
    assert_eq!(effect, Effect { row: Some(row(&[A], State::Live)), ..Effect::default() });
    assert_eq!(decide(&condemned, &asked(&[A], &[], None), 8).unwrap().row, Some(row(&[A], State::Live)));

    let damaged = seen(Some(row(&[B], State::Quarantined)), &[]);
    assert_eq!(decide(&damaged, &asked(&[A], &[], None), 8), Err(Refused::Damaged));
    let healed = decide(&damaged, &asked(&[A], &[], Some(in_file("y"))), 8).unwrap();
    assert_eq!((healed.dead.as_deref(), healed.used_new), (Some("x"), true));
    let healed = healed.row.unwrap();
    assert_eq!((healed.owners, healed.state, healed.place), (vec![B, A], State::Live, in_file("y").place));
    // Who only leaves does not mind.
    assert!(decide(&damaged, &asked(&[], &[B], None), 8).unwrap().is_candidate);
}

#[test]
fn a_blob_without_a_row_needs_bytes() {
    assert_eq!(decide(&seen(None, &[]), &asked(&[A], &[], None), 8), Err(Refused::NoRow));
    assert_eq!(decide(&seen(None, &[]), &asked(&[], &[A], None), 8), Ok(Effect::default()));
    let effect = decide(&seen(None, &[]), &asked(&[A, B, C], &[], Some(inline(b"bytes"))), 2).unwrap();
    assert_eq!(effect.puts_more, vec![C]);
    assert!(effect.used_new && effect.row.unwrap().has_more);
    assert_eq!(effect.inline.as_deref(), Some(&b"bytes"[..]));
}

#[test]
fn adds_and_removes_of_one_commit_combine() {
    let there = |owners: &[Owner]| seen(Some(row(owners, State::Live)), &[]);
    // An overwrite with the same bytes: one goes, one comes, no candidate.
    let effect = decide(&there(&[A]), &asked(&[B], &[A], None), 8).unwrap();
    assert_eq!((effect.row, effect.is_candidate), (Some(row(&[B], State::Live)), false));
    // The same owner removed and added stays, and nothing is written.
    assert_eq!(decide(&there(&[A]), &asked(&[A], &[A], None), 8), Ok(Effect::default()));
    assert!(decide(&there(&[A]), &asked(&[], &[A], None), 8).unwrap().is_candidate);
    assert!(!decide(&there(&[A, B]), &asked(&[], &[A], None), 8).unwrap().is_candidate);
    // Beyond the row: the row is written once, then left alone.
    let effect = decide(&there(&[A]), &asked(&[B], &[], None), 1).unwrap();
    assert_eq!(effect.puts_more, vec![B]);
    let full = BlobRow { has_more: true, ..row(&[A], State::Live) };
    assert_eq!(decide(&seen(Some(full.clone()), &[]), &asked(&[C], &[], None), 1).unwrap().row, None);
    // The last one beyond the row tells the sweep, when the row is empty.
    let effect = decide(&seen(Some(full.clone()), &[B]), &asked(&[], &[B], None), 1).unwrap();
    assert_eq!((effect.deletes_more, effect.is_candidate), (vec![B], false));
    let empty = BlobRow { owners: vec![], ..full };
    assert!(decide(&seen(Some(empty), &[B]), &asked(&[], &[B], None), 1).unwrap().is_candidate);
}

#[test]
fn a_parts_file_is_one_file() {
    let parts =
        |name: &str| NewBlob { place: Place::File { name: name.into(), offset: 0, len: 0 }, ..in_file("x") };
    let there = seen(Some(BlobRow { place: parts("x").place, ..row(&[A], State::Live) }), &[]);
    assert!(decide(&there, &asked(&[A], &[], Some(parts("x"))), 8).unwrap().used_new);
    assert_eq!(decide(&there, &asked(&[A], &[], Some(parts("y"))), 8), Err(Refused::OtherPlace));
}

#[test]
fn the_sweep_waits_out_the_grace() {
    assert_eq!(decide_sweep(&row(&[A], State::Live), 9, 5), SweepStep::Keep);
    assert_eq!(
        decide_sweep(&row(&[], State::Live), 9, 5),
        SweepStep::Condemn(row(&[], State::Condemned { since_ms: 9 }))
    );
    let condemned = row(&[], State::Condemned { since_ms: 9 });
    assert_eq!(decide_sweep(&condemned, 13, 5), SweepStep::Wait);
    assert_eq!(decide_sweep(&condemned, 3, 5), SweepStep::Wait, "a clock that went back");
    assert_eq!(decide_sweep(&condemned, 14, 5), SweepStep::Remove { dead: Some("x".into()) });
    assert_eq!(
        decide_sweep(&row(&[], State::Quarantined), 0, 5),
        SweepStep::Remove { dead: Some("x".into()) }
    );
}

#[test]
fn keys_and_rows_read_back_and_damage_is_seen() {
    let (content, parts) = (blob(7), BlobId::Parts(UploadId([9; 16])));
    for blob in [content, parts] {
        assert_eq!(parse_blob_key(&keys::blob(&blob)), Some(BlobKey::Row(blob)));
        assert_eq!(parse_blob_key(&inline_key(&blob)), Some(BlobKey::Inline(blob)));
        assert_eq!(parse_blob_key(&owner_key(&blob, &A)), Some(BlobKey::Owner(blob, A)));
        assert_eq!(parse_blob_key(&stretch_key(&blob, 77)), Some(BlobKey::Stretch(blob, 77)));
        assert_eq!(parse_candidate_key(&candidate_key(&blob)), Some(blob));
        assert_eq!(parse_due_key(&due_key(5, &blob)), Some((5, blob)));
    }
    assert_eq!(parse_dead_key(&dead_key("name")), Some("name"));
    let full = BlobRow {
        unknown: vec![(99, Bytes::from_static(b"of a newer format"))],
        has_more: true,
        ..row(&[A, B], State::Condemned { since_ms: 3 })
    };
    let encoded = full.encode();
    assert_eq!(BlobRow::decode(&encoded).unwrap(), full);
    for at in 0..encoded.len() {
        let mut bad = encoded.to_vec();
        bad[at] ^= 4;
        assert!(matches!(BlobRow::decode(&bad.into()), Err(Error::Corrupt { .. })));
        assert!(BlobRow::decode(&encoded.slice(..at)).is_err());
    }
    let stretch = Stretch { offset: 5, len: 6, sha256: Sha256([1; 32]) };
    assert_eq!(Stretch::decode(5, &stretch.encode()).unwrap(), stretch);
}

async fn commit(kv: &dyn Kv, changes: &Changes) -> RefPlan {
    let plan = changes.plan(kv).await.unwrap();
    let commit = Commit { checks: plan.checks.clone(), writes: plan.writes.clone(), ..Commit::default() };
    kv.commit(commit).await.unwrap();
    plan
}

/// Everyone who refers to a blob.
async fn owners(kv: &dyn Kv, blob: &BlobId) -> BTreeSet<Owner> {
    let mut found: BTreeSet<Owner> = BTreeSet::new();
    if let Some((row, _)) = find_row(kv, blob).await.unwrap() {
        found.extend(row.owners);
    }
    for (key, _) in kv.rows(Scan::forward(Range::prefix(owners_prefix(blob))), usize::MAX).await.unwrap() {
        let Some(BlobKey::Owner(_, owner)) = parse_blob_key(&key) else { panic!("{key:?}") };
        assert!(found.insert(owner), "an owner stands twice");
    }
    found
}

#[tokio::test]
async fn a_plan_made_on_an_old_row_conflicts() {
    let kv = Memory::new();
    let stale = plan_add(&kv, blob(1), A, Some(in_file("x"))).await.unwrap();
    let mut changes = Changes::new();
    changes.add(blob(1), B, Some(in_file("y")));
    assert!(commit(&kv, &changes).await.used(&blob(1)));
    let lost = Commit { checks: stale.checks, writes: stale.writes, ..Commit::default() };
    assert!(matches!(kv.commit(lost).await, Err(coffre_kv::Error::Conflict { .. })));
    let again = plan_add(&kv, blob(1), A, Some(in_file("x"))).await.unwrap();
    assert!(!again.used(&blob(1)), "the winner's file stays");
    let gone = plan_remove(&kv, blob(1), B).await.unwrap();
    assert!(gone.writes.iter().any(|w| *w.key() == candidate_key(&blob(1))));
    assert!(matches!(plan_add(&kv, blob(2), A, None).await, Err(Error::Busy)));
}

#[tokio::test]
async fn a_parts_file_becomes_content() {
    let kv = Memory::new();
    let upload = UploadId([5; 16]);
    let (parts, content) = (BlobId::Parts(upload), blob(6));
    let name = format!("{upload}.1-1");
    let stretch = Stretch { offset: 0, len: 9, sha256: Sha256([0; 32]) };
    let place = Place::File { name: name.clone(), offset: 0, len: 0 };
    let mut changes = Changes::new();
    changes.add(parts, A, Some(NewBlob { place, size_bytes: 0, inline: None, stretch: Some(stretch) }));
    commit(&kv, &changes).await;

    let moving = |owner| {
        let mut changes = Changes::new();
        changes.add(content, owner, None);
        changes.remove(parts, owner);
        changes.adopt(parts, content, 9);
        changes
    };
    assert!(may_adopt(&kv, &parts, &content, &[A].into()).await.unwrap());
    assert!(!may_adopt(&kv, &parts, &content, &[B].into()).await.unwrap());
    assert!(matches!(moving(B).plan(&kv).await, Err(Error::Busy)), "somebody else is there");
    commit(&kv, &moving(A)).await;
    assert!(find_row(&kv, &parts).await.unwrap().is_none());
    let (row, _) = find_row(&kv, &content).await.unwrap().unwrap();
    assert_eq!(row.place, Place::File { name: name.clone(), offset: 0, len: 9 });
    let mark = kv.get(&mark_key(&name)).await.unwrap().unwrap();
    assert_eq!(mark.value, keys::blob(&content));
    assert_eq!(kv.rows(Scan::forward(Range::all()), 99).await.unwrap().len(), 2, "row and mark");

    // The same bytes once more: the content has a row, the second parts file goes.
    let second = BlobId::Parts(UploadId([7; 16]));
    let mut changes = Changes::new();
    changes.add(
        second,
        B,
        Some(NewBlob { place: Place::File { name: "z".into(), offset: 0, len: 0 }, ..in_file("") }),
    );
    commit(&kv, &changes).await;
    let mut changes = Changes::new();
    changes.add(content, B, None);
    changes.remove(second, B);
    changes.adopt(second, content, 9);
    let plan = commit(&kv, &changes).await;
    assert!(plan.writes.iter().any(|w| *w.key() == candidate_key(&second)));
    assert_eq!(owners(&kv, &content).await, [A, B].into());
}

proptest! {
    /// Whatever is added and removed, in however large commits: rows say what a set says, and nobody left is told.
    #[test]
    fn rows_are_the_set_of_owners(commits in prop::collection::vec(
        prop::collection::vec((any::<bool>(), 0u8..14), 1..6), 1..40,
    )) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let kv = Memory::new();
            let mut model: BTreeSet<Owner> = BTreeSet::new();
            for ops in commits {
                let mut changes = Changes::new();
                let (mut adds, mut removes) = (BTreeSet::new(), BTreeSet::new());
                for (is_add, n) in ops {
                    if is_add {
                        adds.insert([n; 16]);
                        changes.add(blob(1), [n; 16], Some(in_file("x")));
                    } else {
                        removes.insert([n; 16]);
                        changes.remove(blob(1), [n; 16]);
                    }
                }
                let had_owners = !model.is_empty();
                model.retain(|owner| !removes.contains(owner));
                model.extend(adds);
                let plan = commit(&kv, &changes).await;
                assert_eq!(owners(&kv, &blob(1)).await, model);
                if had_owners && model.is_empty() {
                    assert!(plan.writes.iter().any(|w| *w.key() == candidate_key(&blob(1))));
                }
            }
        });
    }
}
