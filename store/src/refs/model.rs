//! Every interleaving of puts, deletes, readers, the sweep, a client that goes away and a crash, on one blob.
//!
//! A breadth-first walk over an abstract store: rows and files as sets, each actor one small step at a time (read,
//! decide, commit, unlink). What is decided is not modelled: it is [`decide`] and [`decide_sweep`] themselves. A
//! commit's `At` is a flag that every other commit on the row clears. Grace is 0, so that every order in which it
//! could end is walked. Each canary takes one safeguard away and has to be caught.

use std::collections::{BTreeSet, HashSet, VecDeque};

use super::{Asked, BlobRow, Effect, NewBlob, Owner, Seen, SweepStep, decide, decide_sweep};
use crate::blob::Place;

/// One owner in the row, so that the second stands beyond it.
const IN_ROW_MAX: usize = 1;

type File = (u8, u8);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    row: Option<BlobRow>,
    more: BTreeSet<Owner>,
    candidate: bool,
    due: bool,
    dead: BTreeSet<File>,
    files: BTreeSet<File>,
    /// Versions that are there: committed, not deleted.
    heads: BTreeSet<Owner>,
    doubtful: BTreeSet<File>,
    claimed: bool,
    epoch: u8,
    crashes_left: u8,
    actors: Vec<Actor>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Actor {
    Put { owner: Owner, number: u8, at: Put },
    Delete { owner: Owner, at: Delete },
    Sweep(Sweep),
    Reader(Reader),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Put {
    Waiting,
    Published(File),
    Planned {
        file: File,
        effect: Effect,
        fresh: bool,
    },
    /// Its client has gone; the commit is still in the queue.
    Abandoned {
        file: File,
        effect: Effect,
        fresh: bool,
    },
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "two of them in a world")]
enum Delete {
    Waiting,
    Planned { effect: Effect, fresh: bool },
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sweep {
    Idle,
    /// Has read a candidate or due row; `fresh` while nobody wrote it again.
    Listed {
        list: List,
        fresh: bool,
    },
    /// Has read the blob's row and decided.
    Decided {
        list: List,
        fresh: bool,
        row_fresh: bool,
        step: Option<SweepStep>,
    },
    Claimed {
        list: List,
        row_fresh: bool,
        dead: Option<File>,
    },
    Unlinking(File),
    Burying(File),
    /// Found a file that no row names.
    Orphan {
        file: File,
        row_fresh: bool,
        is_old: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum List {
    Candidate,
    Due,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Reader {
    Waiting,
    Pinned,
    Found(File),
    Done,
}

/// A safeguard taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    None,
    /// The second commit does not check the row.
    SecondCommitBlind,
    /// Commits of the sweep do not look for owners beyond the row.
    NoPrefixCheck,
    /// A put does not check the row it decided on.
    PutBlind,
    /// The sweep does not ask for pins.
    NoPins,
    /// A deletion leaves no candidate.
    NoCandidate,
    /// A file whose commit is still in the queue is removed when its client goes.
    RemoveInDoubt,
}

fn name((epoch, number): File) -> String {
    format!("{}.{epoch}-{number}", "ab".repeat(32))
}

fn file(name: &str) -> File {
    let (epoch, number) = name.split_once('.').unwrap().1.split_once('-').unwrap();
    (epoch.parse().unwrap(), number.parse().unwrap())
}

impl World {
    fn named(&self) -> Option<File> {
        self.row.as_ref().and_then(|row| row.place.file()).map(file)
    }

    fn plan(&self, owner: Owner, new: Option<File>) -> Option<Effect> {
        let asked = match new {
            Some(new) => Asked {
                adds: [owner].into(),
                new: Some(NewBlob {
                    place: Place::File { name: name(new), offset: 0, len: 9 },
                    size_bytes: 9,
                    inline: None,
                    stretch: None,
                }),
                ..Asked::default()
            },
            None => Asked { removes: [owner].into(), ..Asked::default() },
        };
        let more = self.more.intersection(&[owner].into()).copied().collect();
        decide(&Seen { row: self.row.clone(), more }, &asked, IN_ROW_MAX).ok()
    }

    /// Somebody wrote (or deleted) the row: what others read is out of date.
    fn row_written(&mut self) {
        for actor in &mut self.actors {
            match actor {
                Actor::Put { at: Put::Planned { fresh, .. } | Put::Abandoned { fresh, .. }, .. }
                | Actor::Delete { at: Delete::Planned { fresh, .. }, .. }
                | Actor::Sweep(
                    Sweep::Decided { row_fresh: fresh, .. }
                    | Sweep::Claimed { row_fresh: fresh, .. }
                    | Sweep::Orphan { row_fresh: fresh, .. },
                ) => *fresh = false,
                _ => {}
            }
        }
    }

    fn apply(&mut self, effect: &Effect, canary: Canary) {
        if let Some(row) = &effect.row {
            self.row = Some(row.clone());
            self.row_written();
        }
        self.more.extend(effect.puts_more.iter().copied());
        effect.deletes_more.iter().for_each(|owner| {
            self.more.remove(owner);
        });
        self.dead.extend(effect.dead.iter().map(|name| file(name)));
        if effect.is_candidate && canary != Canary::NoCandidate {
            self.candidate = true;
            for actor in &mut self.actors {
                if let Actor::Sweep(
                    Sweep::Listed { list: List::Candidate, fresh }
                    | Sweep::Decided { list: List::Candidate, fresh, .. },
                ) = actor
                {
                    *fresh = false;
                }
            }
        }
    }

    /// What must hold between any two steps.
    fn check(&self) -> Result<(), String> {
        for owner in &self.heads {
            let Some(row) = &self.row else {
                return Err(format!("{owner:?} refers to a blob without a row"));
            };
            if !row.owners.contains(owner) && !self.more.contains(owner) {
                return Err(format!("{owner:?} is not among the owners"));
            }
            if !self.named().is_some_and(|file| self.files.contains(&file)) {
                return Err(format!("the bytes of {owner:?} are gone"));
            }
        }
        Ok(())
    }

    /// What must hold when nobody can do anything any more.
    fn check_end(&self) -> Result<(), String> {
        let named: BTreeSet<File> = self.named().into_iter().collect();
        if self.files != named {
            return Err(format!("files {:?} are left beside {named:?}", self.files));
        }
        if self.heads.is_empty() && self.row.is_some() {
            return Err("a blob without owners is left".into());
        }
        if !self.dead.is_empty() || self.candidate || self.due {
            return Err("the sweep left rows of its lists".into());
        }
        Ok(())
    }

    fn with(&self, index: usize, actor: Actor) -> Self {
        let mut world = self.clone();
        world.actors[index] = actor;
        world
    }

    fn crash(&self) -> Option<Self> {
        let mut world = self.clone();
        world.crashes_left = self.crashes_left.checked_sub(1)?;
        world.epoch += 1;
        world.doubtful.clear();
        world.claimed = false;
        for actor in &mut world.actors {
            match actor {
                Actor::Put { at: Put::Waiting, .. } | Actor::Delete { at: Delete::Waiting, .. } => {}
                Actor::Put { at, .. } => *at = Put::Done,
                // What was not committed is asked for again, as a client would.
                Actor::Delete { at, .. } if *at != Delete::Done => *at = Delete::Waiting,
                Actor::Delete { .. } => {}
                Actor::Sweep(at) => *at = Sweep::Idle,
                Actor::Reader(at) => *at = Reader::Done,
            }
        }
        Some(world)
    }
}

/// Every world one step away.
fn steps(world: &World, canary: Canary) -> Result<Vec<World>, String> {
    let mut next: Vec<World> = world.crash().into_iter().collect();
    for (index, actor) in world.actors.iter().enumerate() {
        match actor {
            Actor::Put { owner, number, at } => put(world, index, (*owner, *number, at), canary, &mut next),
            Actor::Delete { owner, at } => delete(world, index, *owner, at, canary, &mut next),
            Actor::Sweep(at) => sweep(world, index, at, canary, &mut next),
            Actor::Reader(at) => read(world, index, at, &mut next)?,
        }
    }
    Ok(next)
}

fn put(
    world: &World,
    index: usize,
    (owner, number, at): (Owner, u8, &Put),
    canary: Canary,
    next: &mut Vec<World>,
) {
    let becomes = |at| Actor::Put { owner, number, at };
    match at {
        Put::Waiting => {
            let file = (world.epoch, number);
            let mut world = world.with(index, becomes(Put::Published(file)));
            world.files.insert(file);
            next.push(world);
        }
        Put::Published(file) => {
            let effect = world.plan(owner, Some(*file)).expect("a put with bytes is never refused here");
            next.push(world.with(index, becomes(Put::Planned { file: *file, effect, fresh: true })));
        }
        Put::Planned { file, effect, fresh } => {
            let (file, fresh) = (*file, *fresh);
            let mut gone = world.with(index, becomes(Put::Abandoned { file, effect: effect.clone(), fresh }));
            if canary == Canary::RemoveInDoubt {
                gone.files.remove(&file);
            }
            next.push(gone);
            if !fresh && canary != Canary::PutBlind {
                next.push(world.with(index, becomes(Put::Published(file))));
                return;
            }
            let mut world = world.with(index, becomes(Put::Done));
            world.apply(effect, canary);
            world.heads.insert(owner);
            if !effect.used_new {
                world.files.remove(&file);
            }
            next.push(world);
        }
        Put::Abandoned { file, effect, fresh } => {
            let mut world = world.with(index, becomes(Put::Done));
            if *fresh {
                world.apply(effect, canary);
                world.heads.insert(owner);
            }
            world.doubtful.insert(*file);
            next.push(world);
        }
        Put::Done => {}
    }
}

fn delete(world: &World, index: usize, owner: Owner, at: &Delete, canary: Canary, next: &mut Vec<World>) {
    let becomes = |at| Actor::Delete { owner, at };
    match at {
        Delete::Waiting if world.heads.contains(&owner) => {
            let effect = world.plan(owner, None).expect("a removal is never refused");
            next.push(world.with(index, becomes(Delete::Planned { effect, fresh: true })));
        }
        Delete::Waiting | Delete::Done => {}
        Delete::Planned { fresh: false, .. } => next.push(world.with(index, becomes(Delete::Waiting))),
        Delete::Planned { effect, fresh: true } => {
            let mut world = world.with(index, becomes(Delete::Done));
            world.apply(effect, canary);
            world.heads.remove(&owner);
            next.push(world);
        }
    }
}

fn sweep(world: &World, index: usize, at: &Sweep, canary: Canary, next: &mut Vec<World>) {
    let becomes = |at| world.with(index, Actor::Sweep(at));
    match at {
        Sweep::Idle => {
            if world.candidate {
                next.push(becomes(Sweep::Listed { list: List::Candidate, fresh: true }));
            }
            if world.due {
                next.push(becomes(Sweep::Listed { list: List::Due, fresh: true }));
            }
            next.extend(world.dead.iter().map(|file| becomes(Sweep::Unlinking(*file))));
            for file in world.doubtful.iter().filter(|file| world.named() != Some(**file)) {
                let mut world = becomes(Sweep::Orphan { file: *file, row_fresh: true, is_old: false });
                world.doubtful.remove(file);
                next.push(world);
            }
            for file in
                world.files.iter().filter(|file| file.0 < world.epoch && world.named() != Some(**file))
            {
                next.push(becomes(Sweep::Orphan { file: *file, row_fresh: true, is_old: true }));
            }
        }
        Sweep::Listed { list, fresh } => {
            let step = world.row.as_ref().map(|row| decide_sweep(row, 0, 0));
            next.push(becomes(Sweep::Decided { list: *list, fresh: *fresh, row_fresh: true, step }));
        }
        Sweep::Decided { list, fresh, row_fresh, step } => {
            sweep_decided(world, index, (*list, *fresh, *row_fresh, step.as_ref()), canary, next);
        }
        Sweep::Claimed { list, row_fresh, dead } => {
            let mut world = becomes(Sweep::Idle);
            world.claimed = false;
            let row_holds = *row_fresh || canary == Canary::SecondCommitBlind;
            if row_holds && (world.more.is_empty() || canary == Canary::NoPrefixCheck) {
                world.row = None;
                world.row_written();
                world.take_off(*list);
                if let Some(file) = dead {
                    world.dead.insert(*file);
                    world.claimed = true;
                    world.actors[index] = Actor::Sweep(Sweep::Unlinking(*file));
                }
            }
            next.push(world);
        }
        Sweep::Unlinking(file) => {
            let mut world = becomes(Sweep::Burying(*file));
            world.files.remove(file);
            next.push(world);
        }
        Sweep::Burying(file) => {
            let mut world = becomes(Sweep::Idle);
            world.dead.remove(file);
            world.claimed = false;
            next.push(world);
        }
        Sweep::Orphan { file, row_fresh, is_old } => {
            let mut world = becomes(Sweep::Idle);
            if *is_old {
                world.files.remove(file);
            } else if *row_fresh {
                world.dead.insert(*file);
            } else {
                world.doubtful.insert(*file);
            }
            next.push(world);
        }
    }
}

fn sweep_decided(
    world: &World,
    index: usize,
    (list, fresh, row_fresh, step): (List, bool, bool, Option<&SweepStep>),
    canary: Canary,
    next: &mut Vec<World>,
) {
    let mut idle = world.with(index, Actor::Sweep(Sweep::Idle));
    let has_more = !world.more.is_empty() && canary != Canary::NoPrefixCheck;
    match step {
        Some(SweepStep::Remove { dead }) if !has_more => {
            let is_read = world
                .actors
                .iter()
                .any(|actor| matches!(actor, Actor::Reader(Reader::Pinned | Reader::Found(_))));
            if is_read && canary != Canary::NoPins {
                next.push(idle);
                return;
            }
            let dead = dead.as_deref().map(file);
            let mut world = world.with(index, Actor::Sweep(Sweep::Claimed { list, row_fresh, dead }));
            world.claimed = true;
            next.push(world);
        }
        Some(SweepStep::Condemn(row)) if !has_more && list == List::Candidate => {
            if row_fresh {
                idle.row = Some(row.clone());
                idle.row_written();
                idle.candidate = false;
                idle.due = true;
            }
            next.push(idle);
        }
        Some(_) | None => {
            if fresh {
                idle.take_off(list);
            }
            next.push(idle);
        }
    }
}

impl World {
    fn take_off(&mut self, list: List) {
        match list {
            List::Candidate => self.candidate = false,
            List::Due => self.due = false,
        }
    }
}

fn read(world: &World, index: usize, at: &Reader, next: &mut Vec<World>) -> Result<(), String> {
    let becomes = |at| world.with(index, Actor::Reader(at));
    match at {
        Reader::Waiting if !world.heads.is_empty() && !world.claimed => next.push(becomes(Reader::Pinned)),
        Reader::Pinned => next.push(becomes(world.named().map_or(Reader::Done, Reader::Found))),
        Reader::Found(file) if !world.files.contains(file) => {
            return Err("a reader's pinned bytes are gone".into());
        }
        Reader::Found(_) => next.push(becomes(Reader::Done)),
        Reader::Waiting | Reader::Done => {}
    }
    Ok(())
}

/// Walks everything reachable; how many worlds there are, or the first that breaks a promise.
fn walk(actors: Vec<Actor>, crashes: u8, canary: Canary) -> Result<usize, String> {
    let start = World {
        row: None,
        more: BTreeSet::new(),
        candidate: false,
        due: false,
        dead: BTreeSet::new(),
        files: BTreeSet::new(),
        heads: BTreeSet::new(),
        doubtful: BTreeSet::new(),
        claimed: false,
        epoch: 0,
        crashes_left: crashes,
        actors,
    };
    let mut seen = HashSet::from([start.clone()]);
    let mut queue = VecDeque::from([start]);
    while let Some(mut world) = queue.pop_front() {
        world.check().map_err(|why| format!("{why}\n{world:#?}"))?;
        let next = steps(&world, canary).map_err(|why| format!("{why}\n{world:#?}"))?;
        // A crash that did not come leaves nothing to do; a world is at its end when only that is left.
        world.crashes_left = 0;
        if steps(&world, canary).is_ok_and(|next| next.is_empty()) {
            let mut end = world.clone();
            end.doubtful.clear();
            end.check_end().map_err(|why| format!("{why}\n{end:#?}"))?;
        }
        for world in next {
            if seen.insert(world.clone()) {
                queue.push_back(world);
            }
        }
    }
    Ok(seen.len())
}

fn puts(n: u8) -> Vec<Actor> {
    (1..=n).map(|i| Actor::Put { owner: [i; 16], number: i, at: Put::Waiting }).collect()
}

fn delete_of(n: u8) -> Actor {
    Actor::Delete { owner: [n; 16], at: Delete::Waiting }
}

fn sweeper() -> Actor {
    Actor::Sweep(Sweep::Idle)
}

/// put ‖ put ‖ delete ‖ delete ‖ sweep ‖ reader ‖ crash.
fn everybody() -> Vec<Actor> {
    [puts(2), vec![delete_of(1), delete_of(2), sweeper(), Actor::Reader(Reader::Waiting)]].concat()
}

#[test]
fn two_puts_two_deletes_a_reader_the_sweep_and_a_crash() {
    let worlds = walk(everybody(), 1, Canary::None).unwrap();
    println!("{worlds} worlds");
    assert!(worlds > 10_000, "the walk is too small to say anything: {worlds}");
}

#[test]
fn three_puts_three_deletes_and_the_sweep() {
    let actors = [puts(3), vec![delete_of(1), delete_of(2), delete_of(3), sweeper()]].concat();
    let worlds = walk(actors, 0, Canary::None).unwrap();
    println!("{worlds} worlds");
    assert!(worlds > 10_000, "the walk is too small to say anything: {worlds}");
}

#[test]
fn each_safeguard_taken_away_is_caught() {
    for canary in [
        Canary::SecondCommitBlind,
        Canary::NoPrefixCheck,
        Canary::PutBlind,
        Canary::NoPins,
        Canary::NoCandidate,
        Canary::RemoveInDoubt,
    ] {
        let caught = walk(everybody(), 1, canary).expect_err(&format!("{canary:?} was not caught"));
        println!("{canary:?}: {}", caught.lines().next().unwrap_or_default());
    }
}
