//! Runs the code that threads of a vm share without a lock in every possible order of their steps: the queue's thread,
//! threads that poll, and stop requests. The code is that of src/vm/handover.rs, with the flags, events and queues of
//! loom. loom runs each test once for each order, with at most `PREEMPTIONS` preemptions, and reports a deadlock if all
//! threads wait.
//!
//! The implementation of crossbeam's queues is not tested: here a queue is a list with a lock.

#[allow(dead_code, reason = "the model has no use for all of it")]
#[path = "../src/vm/handover.rs"]
mod handover;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use handover::{ChunkQueue, Event, Flag, Handover, Producer, Request};
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::sync::{Condvar, Mutex};
use loom::thread;

const PREEMPTIONS: usize = 3;

/// Runs a test in every order and prints the number of orders.
fn in_every_order(test: impl Fn() + Sync + Send + 'static) {
    let orders = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        test();
    });
    println!("{} orders", orders.load(Relaxed));
}

// ---- flags, events and queues of the model ---------------------------------------------------------------------

/// A flag, or a broken one that cannot be set.
struct Bit {
    value: AtomicBool,
    works: bool,
}

impl Bit {
    fn new(works: bool) -> Bit {
        Bit { value: AtomicBool::new(false), works }
    }
}

impl Flag for Bit {
    fn set(&self, on: bool) {
        self.value.store(on && self.works, SeqCst);
    }

    fn get(&self) -> bool {
        self.value.load(SeqCst)
    }

    fn take(&self) -> bool {
        self.value.swap(false, SeqCst)
    }
}

/// The state of the kernel: who can be woken, and the records that have not been read.
#[derive(Default)]
struct Kernel {
    readable: [bool; 2],
    records: VecDeque<u8>,
}

#[derive(Clone, Default)]
struct World(Arc<(Mutex<Kernel>, Condvar)>);

const FILLED: usize = 0;
const WAKE: usize = 1;

impl World {
    fn change<T>(&self, change: impl FnOnce(&mut Kernel) -> T) -> T {
        let result = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        result
    }

    fn wait_until(&self, is_ready: impl Fn(&Kernel) -> bool) {
        let mut kernel = self.0.0.lock().unwrap();
        while !is_ready(&kernel) {
            kernel = self.0.1.wait(kernel).unwrap();
        }
    }
}

/// An eventfd, or a broken one that loses signals.
struct Readable {
    world: World,
    index: usize,
    works: bool,
}

impl Event for Readable {
    fn signal(&self) {
        if self.works {
            self.world.change(|kernel| kernel.readable[self.index] = true);
        }
    }

    fn clear(&self) -> bool {
        self.world.change(|kernel| std::mem::take(&mut kernel.readable[self.index]))
    }
}

/// A list with a lock, with capacity for all chunks.
struct List(Mutex<VecDeque<Vec<u8>>>);

/// Chunks that go round.
const CHUNKS: usize = 2;

impl List {
    fn new(filled: usize) -> List {
        List(Mutex::new(vec![Vec::new(); filled].into()))
    }
}

impl ChunkQueue for List {
    fn push(&self, chunk: Vec<u8>) {
        let mut list = self.0.lock().unwrap();
        if list.len() < CHUNKS {
            list.push_back(chunk);
        }
    }

    fn pop(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap().pop_front()
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

// ---- the queue -------------------------------------------------------------------------------------------------

type Shared = Handover<Bit, Readable, List>;

/// The parts that are broken on purpose.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nothing,
    Filled,
    Wake,
    Ending,
    Partial,
}

fn handover(world: &World, broken: Broken) -> Shared {
    let event = |index, part| Readable { world: world.clone(), index, works: broken != part };
    Handover::new(
        [List::new(0), List::new(CHUNKS)],
        [event(FILLED, Broken::Filled), event(WAKE, Broken::Wake)],
        [Bit::new(broken != Broken::Ending), Bit::new(broken != Broken::Partial)],
    )
}

/// The thread that fills chunks of `ROOM` records.
struct Filler {
    world: World,
    shared: Arc<Shared>,
    chunk: Option<Vec<u8>>,
    lost: usize,
}

const ROOM: usize = 2;

impl Producer for Filler {
    fn wait(&mut self) -> bool {
        self.world.wait_until(|kernel| kernel.readable[WAKE] || !kernel.records.is_empty());
        true
    }

    /// As `Filler::push` of src/vm/queue.rs, with bytes for records.
    fn fill(&mut self) {
        for record in self.world.change(|kernel| std::mem::take(&mut kernel.records)) {
            if self.chunk.as_ref().is_some_and(|chunk| chunk.len() == ROOM) {
                self.shared.flush(&mut self.chunk);
            }
            if self.chunk.is_none() {
                self.chunk = self.shared.take_free();
            }
            match &mut self.chunk {
                Some(chunk) => chunk.push(record),
                None => self.lost += 1,
            }
        }
    }

    fn chunk(&mut self) -> &mut Option<Vec<u8>> {
        &mut self.chunk
    }
}

/// A thread that polls.
struct Consumer {
    shared: Arc<Shared>,
    chunk: VecDeque<u8>,
    came: Vec<u8>,
}

impl Consumer {
    /// As `Queue::drain` of src/vm/queue.rs.
    fn drain(&mut self, budget: usize) {
        self.shared.begin();
        for _ in 0..budget {
            if self.chunk.is_empty() {
                match self.shared.exchange(Vec::new()) {
                    Ok(chunk) => self.chunk = chunk.into(),
                    Err(_) => break,
                }
            }
            self.came.extend(self.chunk.pop_front());
        }
        self.shared.end(self.chunk.is_empty() && self.shared.is_empty());
    }
}

/// A thread that fills chunks, and a thread that polls.
fn start(world: &World, broken: Broken) -> (thread::JoinHandle<Filler>, Consumer) {
    let shared = Arc::new(handover(world, broken));
    let mut filler = Filler { world: world.clone(), shared: Arc::clone(&shared), chunk: None, lost: 0 };
    let run = move || {
        let shared = Arc::clone(&filler.shared);
        shared.run(&mut filler);
        filler
    };
    (thread::spawn(run), Consumer { shared, chunk: VecDeque::new(), came: Vec::new() })
}

/// The kernel sends `records` one by one, and a thread polls, `budget` at a time, until all have been delivered.
fn all_records_come(records: u8, budget: usize, broken: Broken) {
    let world = World::default();
    let (filler, mut consumer) = start(&world, broken);
    for record in 0..records {
        world.change(|kernel| kernel.records.push_back(record));
    }
    while consumer.came.len() < records.into() {
        world.wait_until(|kernel| kernel.readable[FILLED]);
        consumer.drain(budget);
    }
    consumer.shared.stop();
    let filler = filler.join().unwrap();
    assert_eq!((consumer.came, filler.lost), ((0..records).collect(), 0));
}

#[test]
fn what_is_in_the_queue_wakes_those_who_wait() {
    // Three records fit into two chunks of two records.
    in_every_order(|| all_records_come(3, 8, Broken::Nothing));
}

#[test]
fn a_poll_that_leaves_something_is_followed_by_another() {
    in_every_order(|| all_records_come(3, 1, Broken::Nothing));
}

#[test]
fn what_is_queued_at_the_end_comes_in_order_or_is_counted() {
    in_every_order(|| {
        let world = World::default();
        let (filler, mut consumer) = start(&world, Broken::Nothing);
        // These are more records than the chunks hold.
        world.change(|kernel| kernel.records.extend(0..3));
        world.change(|kernel| kernel.records.extend(3..6));
        consumer.drain(1);
        consumer.shared.stop();
        let filler = filler.join().unwrap();
        while !(consumer.chunk.is_empty() && consumer.shared.is_empty()) {
            world.wait_until(|kernel| kernel.readable[FILLED]);
            consumer.drain(8);
        }
        let waiting = world.change(|kernel| kernel.records.len());
        assert_eq!(consumer.came.len() + filler.lost + waiting, 6);
        assert!(consumer.came.is_sorted_by(|a, b| a < b), "{:?}", consumer.came);
    });
}

/// The checker finds an error: with a broken part, a thread waits forever.
macro_rules! is_missed {
    ($($name:ident: $part:ident)*) => { $(
        #[test]
        #[should_panic(expected = "deadlock")]
        fn $name() {
            in_every_order(|| all_records_come(3, 1, Broken::$part));
        }
    )* };
}

is_missed! {
    the_event_of_full_chunks_is_missed: Filled
    the_event_that_wakes_the_thread_is_missed: Wake
    the_flag_of_a_chunk_kept_back_is_missed: Partial
    the_flag_of_the_end_is_missed: Ending
}

// ---- requests to stop ------------------------------------------------------------------------------------------

/// Waits and takes the request like `Vm::wait` of src/vm/poll.rs.
fn wait_for_request(world: &World, request: &Request<Bit, Readable>) {
    loop {
        world.wait_until(|kernel| kernel.readable[WAKE]);
        if request.take() || request.take_signalled() {
            return;
        }
    }
}

fn request(world: &World) -> Arc<Request<Bit, Readable>> {
    let event = Readable { world: world.clone(), index: WAKE, works: true };
    Arc::new(Request::new(Bit::new(true), event))
}

#[test]
fn a_request_is_reported_once_whoever_looks_first() {
    in_every_order(|| {
        let world = World::default();
        let request = request(&world);
        let asker = Arc::clone(&request);
        let asker = thread::spawn(move || asker.ask());
        // A batch in progress ends when the flag is seen, before a thread waits.
        if !(request.is_asked() && request.take()) {
            wait_for_request(&world, &request);
        }
        asker.join().unwrap();
        assert!(!request.take() && !request.take_signalled());
    });
}

#[test]
fn a_request_is_reported_by_a_thread_that_never_waits() {
    in_every_order(|| {
        let request = request(&World::default());
        let asker = Arc::clone(&request);
        let asker = thread::spawn(move || asker.ask());
        // Batches follow each other without a wait.
        let during = [request.take(), request.take()];
        asker.join().unwrap();
        assert!(during[0] || during[1] || request.take());
        assert!(!request.take() && !request.take_signalled());
    });
}

#[test]
fn two_requests_are_reported_once_or_twice() {
    in_every_order(|| {
        let world = World::default();
        let request = request(&world);
        let askers = [(), ()].map(|()| {
            let request = Arc::clone(&request);
            thread::spawn(move || request.ask())
        });
        wait_for_request(&world, &request);
        askers.into_iter().for_each(|asker| asker.join().unwrap());
        // A second request may remain. If its flag is set and its event is not, it was reported with the first one.
        let is_readable = world.change(|kernel| kernel.readable[WAKE]);
        assert_eq!(request.take(), is_readable);
        assert!(!request.is_asked());
        assert!(!request.take() && !request.take_signalled());
    });
}
