//! Many clients, one fetch, and anybody may leave at any moment. Deterministic: tasks are polled in a random order, only when
//! they were woken, so that a wake-up that is lost shows as a round that does not end.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use http::StatusCode;

use super::*;
use crate::cache::Resource;

const KEY: &[u8] = b"http://a.example/";
/// More than may wait of a body that is not kept, so that the slowest holds it up.
const PIECE: usize = 100 * 1024;

struct Random(Cell<u64>);

impl Random {
    /// splitmix64, less than `bound`.
    fn below(&self, bound: u64) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Flag>,
    is_client: bool,
}

#[derive(Default)]
struct Counts {
    fetches: Cell<u32>,
    running: Cell<u32>,
    most: Cell<u32>,
    whole: Cell<u32>,
    broken: Cell<u32>,
    /// Clients that went to fetch for themselves.
    alone: Cell<u32>,
    deserted: Cell<u32>,
}

struct World {
    random: Random,
    fetches: Arc<Fetches>,
    new: RefCell<Vec<Task>>,
    counts: Counts,
}

fn add(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

impl World {
    fn spawn(&self, is_client: bool, future: impl Future<Output = ()> + 'static) {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        self.new.borrow_mut().push(Task {
            future: Box::pin(future),
            woken,
            is_client,
        });
    }

    /// Lets others go first for a while.
    async fn pause(&self) {
        for _ in 0..self.random.below(4) {
            let mut first = true;
            std::future::poll_fn(|context| {
                if !std::mem::take(&mut first) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    }
}

async fn client(world: Rc<World>) {
    world.pause().await;
    let mut failures = 0;
    loop {
        let mut follow = match world.fetches.join(KEY, b"", failures) {
            Joined::Lead(lead, follow) => {
                world.spawn(false, fetch(Rc::clone(&world), lead));
                follow
            }
            Joined::Follow(follow) => follow,
        };
        match std::future::poll_fn(|context| follow.poll_outcome(context)).await {
            Outcome::Stored(..) => return add(&world.counts.whole),
            Outcome::Private => return add(&world.counts.alone),
            Outcome::Failed(_) | Outcome::TimedOut | Outcome::Again => failures += 1,
            Outcome::Coming(_) => {
                let mut next = 0;
                loop {
                    world.pause().await;
                    let piece = std::future::poll_fn(|context| follow.poll_piece(context)).await;
                    match piece {
                        Some(Ok(piece)) => {
                            assert_eq!(piece[0], next, "pieces in their order, none left out");
                            next += 1;
                        }
                        Some(Err(Broken)) => return add(&world.counts.broken),
                        None => {
                            assert!(follow.is_over());
                            assert!(next > 0, "a body is not over before it has begun");
                            return add(&world.counts.whole);
                        }
                    }
                }
            }
        }
    }
}

/// A fetch that goes well or badly in one of many ways.
async fn fetch(world: Rc<World>, lead: Lead) {
    let counts = &world.counts;
    add(&counts.fetches);
    add(&counts.running);
    counts.most.set(counts.most.get().max(counts.running.get()));
    fetch_one(&world, lead).await;
    counts.running.set(counts.running.get() - 1);
}

async fn fetch_one(world: &Rc<World>, mut lead: Lead) {
    let random = &world.random;
    // The server takes its time.
    for _ in 0..random.below(6) {
        world.pause().await;
        if is_deserted(&mut lead).await {
            return add(&world.counts.deserted);
        }
    }
    let resource = || Arc::new(Resource::new(KEY.into()));
    match random.below(10) {
        0 => return lead.decide(Outcome::Failed(None)),
        1 => return lead.decide(Outcome::Private),
        2 => return lead.decide(Outcome::Stored(resource(), StatusCode::OK)),
        3 => return,
        _ => {}
    }
    lead.coming(resource());
    let pieces = 1 + random.below(9);
    for piece in 0..pieces {
        world.pause().await;
        lead.push(Bytes::from(vec![piece as u8; PIECE]));
        match random.below(20) {
            0 => return,
            1 => lead.pass(),
            _ => {}
        }
        let gone = std::future::poll_fn(|context| {
            if lead.poll_deserted(context).is_ready() {
                return Poll::Ready(true);
            }
            // Patience ends at any time.
            match random.below(40) {
                0 => lead.let_go_of_stalled(),
                1 => lead.look(),
                _ => {}
            }
            lead.poll_room(context).map(|()| false)
        });
        if gone.await {
            return add(&world.counts.deserted);
        }
    }
    lead.complete();
}

async fn is_deserted(lead: &mut Lead) -> bool {
    std::future::poll_fn(|context| Poll::Ready(lead.poll_deserted(context).is_ready())).await
}

/// Runs until nobody is left.
fn round(seed: u64) -> Rc<World> {
    let world = Rc::new(World {
        random: Random(Cell::new(seed)),
        fetches: Arc::default(),
        new: RefCell::default(),
        counts: Counts::default(),
    });
    for _ in 0..1 + world.random.below(8) {
        world.spawn(true, client(Rc::clone(&world)));
    }
    let leaving = world.random.below(6);
    let mut tasks = Vec::new();
    loop {
        tasks.append(&mut world.new.borrow_mut());
        if tasks.is_empty() {
            return world;
        }
        let ready: Vec<_> = (0..tasks.len())
            .filter(|&at| tasks[at].woken.0.load(Ordering::Relaxed))
            .collect();
        assert!(
            !ready.is_empty(),
            "seed {seed}: {} wait for good",
            tasks.len()
        );
        let at = ready[world.random.below(ready.len() as u64) as usize];
        if tasks[at].is_client && world.random.chance(leaving) {
            // The client goes, whatever it was doing.
            drop(tasks.swap_remove(at));
            continue;
        }
        let task = &mut tasks[at];
        task.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.woken));
        if task
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            drop(tasks.swap_remove(at));
        }
    }
}

#[test]
fn whoever_leaves_everybody_else_gets_the_body_or_word_of_its_fate() {
    let (mut whole, mut broken, mut alone, mut deserted, mut most) = (0, 0, 0, 0, 0);
    for seed in 0..10_000 {
        let world = round(seed);
        let left = (world.fetches.listed(), world.fetches.count());
        assert_eq!(left, (0, 0), "seed {seed}: fetches listed, under way");
        let counts = &world.counts;
        assert_eq!(counts.running.get(), 0);
        whole += counts.whole.get();
        broken += counts.broken.get();
        alone += counts.alone.get();
        deserted += counts.deserted.get();
        most = most.max(counts.most.get());
    }
    // Each fate was met.
    let fates = (whole, broken, alone, deserted);
    assert!(
        whole > 10_000 && broken > 500 && alone > 500 && deserted > 200,
        "{fates:?}"
    );
    assert!(most > 1, "after failures there are several at once");
}

#[test]
fn without_failures_there_is_one_fetch() {
    let fetches: Arc<Fetches> = Arc::default();
    let Joined::Lead(lead, first) = fetches.join(KEY, b"", 0) else {
        panic!("nobody else is there");
    };
    let Joined::Follow(_) = fetches.join(KEY, b"", 0) else {
        panic!("the fetch is under way");
    };
    assert!(matches!(fetches.join(KEY, b"other", 0), Joined::Lead(..)));
    assert!(fetches.in_background(KEY, b"").is_none());
    drop(first);
    lead.complete();
    assert!(matches!(fetches.join(KEY, b"", 0), Joined::Lead(..)));
}

#[test]
fn all_fetches_count_also_those_that_nobody_joins() {
    let fetches: Arc<Fetches> = Arc::default();
    let joined = fetches.join(KEY, b"", 0);
    let alone = fetches.alone();
    assert_eq!((fetches.count(), fetches.listed()), (2, 1));
    assert!(matches!(fetches.join(KEY, b"", 0), Joined::Follow(_)));
    assert_eq!(fetches.count(), 2);
    drop(alone);
    drop(joined);
    assert_eq!((fetches.count(), fetches.listed()), (0, 0));
}

#[test]
fn each_failure_lets_twice_as_many_try() {
    let fetches: Arc<Fetches> = Arc::default();
    let mut leads = Vec::new();
    let mut follows = Vec::new();
    for _ in 0..10 {
        match fetches.join(KEY, b"", 2) {
            Joined::Lead(lead, follow) => {
                leads.push(lead);
                follows.push(follow);
            }
            Joined::Follow(follow) => follows.push(follow),
        }
    }
    assert_eq!(leads.len(), 4);
}

#[test]
fn what_is_detached_is_joined_by_nobody_but_goes_on() {
    let fetches: Arc<Fetches> = Arc::default();
    let Joined::Lead(_lead, follow) = fetches.join(KEY, b"variant", 0) else {
        panic!("nobody else is there");
    };
    fetches.detach(|key| key == b"http://b.example/");
    assert!(matches!(
        fetches.join(KEY, b"variant", 0),
        Joined::Follow(_)
    ));
    fetches.detach(|key| key == KEY);
    assert!(matches!(fetches.join(KEY, b"variant", 0), Joined::Lead(..)));
    let context = Context::from_waker(Waker::noop());
    assert!(follow.poll_outcome(&context).is_pending());
}

/// A fetch that is not kept, with the window full, and clients that share it.
fn passing(clients: usize) -> (Lead, Vec<Follow>) {
    let fetches: Arc<Fetches> = Arc::default();
    let Joined::Lead(mut lead, first) = fetches.join(KEY, b"", 0) else {
        panic!("nobody else is there");
    };
    let mut follows = vec![first];
    while follows.len() < clients {
        match fetches.join(KEY, b"", 0) {
            Joined::Follow(follow) => follows.push(follow),
            Joined::Lead(..) => panic!("the fetch is under way"),
        }
    }
    lead.coming(Arc::new(Resource::new(KEY.into())));
    lead.pass();
    for piece in 0..3 {
        lead.push(Bytes::from(vec![piece; PIECE]));
    }
    lead.look();
    (lead, follows)
}

fn has_room(lead: &Lead) -> bool {
    lead.poll_room(&Context::from_waker(Waker::noop()))
        .is_ready()
}

/// Takes that many pieces, all of which are there.
fn take(follow: &mut Follow, pieces: usize) {
    let context = Context::from_waker(Waker::noop());
    for _ in 0..pieces {
        let piece = follow.poll_piece(&context);
        assert!(matches!(piece, Poll::Ready(Some(Ok(_)))), "{piece:?}");
    }
}

fn is_broken(follow: &mut Follow) -> bool {
    let piece = follow.poll_piece(&Context::from_waker(Waker::noop()));
    matches!(piece, Poll::Ready(Some(Err(Broken))))
}

#[test]
fn who_takes_nothing_while_another_has_all_is_let_go() {
    let (mut lead, mut follows) = passing(4);
    let [fast, slow, stalled, elsewhere] = &mut follows[..] else {
        panic!("four");
    };
    take(elsewhere, 1);
    lead.look();
    take(fast, 3);
    take(slow, 1);
    assert!(!has_room(&lead), "for the sake of one");
    lead.let_go_of_stalled();
    assert!(has_room(&lead));
    assert!(is_broken(stalled) && is_broken(elsewhere));
    take(slow, 2);
    lead.push(Bytes::from_static(b"end"));
    take(fast, 1);
    take(slow, 1);
    // Who is let go does not keep the fetch going.
    let context = Context::from_waker(Waker::noop());
    assert!(lead.poll_deserted(&context).is_pending());
    let stalled = follows.split_off(2);
    drop(follows);
    assert!(lead.poll_deserted(&context).is_ready());
    lead.complete();
    assert!(stalled.iter().all(|follow| !follow.is_over()));
}

#[test]
fn nobody_is_let_go_whom_nobody_waits_for() {
    let (lead, mut follows) = passing(2);
    // Both are slow.
    take(&mut follows[0], 2);
    lead.let_go_of_stalled();
    take(&mut follows[1], 1);
    assert!(has_room(&lead));
    // There is room yet.
    lead.look();
    take(&mut follows[0], 1);
    lead.let_go_of_stalled();
    take(&mut follows[1], 2);
}
