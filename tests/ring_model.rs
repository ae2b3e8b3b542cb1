//! The reader of ring buffers against a model of the kernel's producer, in every interleaving and with every value that
//! weak memory allows (loom). The reader is the code of src/bpf/ring_protocol.rs; the model of the kernel follows
//! kernel/bpf/ringbuf.c: reserve, submit or discard, and a wake-up only if the reader has reached the record.
//!
//! Each rule has a test that breaks it, which loom must report. So each ordering is needed. None is too weak, because
//! loom lets a load that is not ordered return any older value, as arm64 does. On x86-64 only the barrier would be
//! needed.

#[allow(dead_code, reason = "the vm uses the rest")]
#[path = "../src/bpf/packed.rs"]
mod packed;
#[path = "support/random.rs"]
mod random;
#[path = "../src/bpf/ring_protocol.rs"]
mod ring_protocol;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use random::Random;
use ring_protocol::{Memory, Reader, Run};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;

/// Each record has a header and data of 8 bytes.
const RECORD: u64 = 16;
/// The ring holds two records.
const SLOTS: u64 = 2;

/// The rule that the test breaks.
#[derive(Clone, Copy, Default)]
struct Broken {
    fence: bool,
    producer_acquire: bool,
    header_acquire: bool,
    publish_release: bool,
}

struct Slot {
    header: AtomicU32,
    data: UnsafeCell<u64>,
}

/// The shared memory, and what the kernel does for a reader that waits.
struct Ring {
    producer: AtomicU64,
    consumer: AtomicU64,
    slots: [Slot; SLOTS as usize],
    /// Whether a wake-up has come since the last wait. Like epoll, a wait does not look at the ring by itself.
    woken: (Mutex<bool>, Condvar),
    is_over: AtomicBool,
    broken: Broken,
}

// SAFETY: loom reports each access to the data that races with another.
unsafe impl Sync for Ring {}
// SAFETY: see above.
unsafe impl Send for Ring {}

impl Ring {
    fn new(broken: Broken) -> Ring {
        let slot = || Slot { header: AtomicU32::new(0), data: UnsafeCell::new(0) };
        Ring {
            producer: AtomicU64::new(0),
            consumer: AtomicU64::new(0),
            slots: [slot(), slot()],
            woken: (Mutex::new(false), Condvar::new()),
            is_over: AtomicBool::new(false),
            broken,
        }
    }

    fn slot(&self, position: u64) -> &Slot {
        &self.slots[(position / RECORD % SLOTS) as usize]
    }

    /// The kernel: reserves a record, writes it and commits it. Returns false if the ring is full.
    fn produce(&self, value: u64, discard: bool) -> bool {
        let position = self.producer.load(Relaxed);
        if position + RECORD - self.consumer.load(Acquire) > SLOTS * RECORD {
            return false;
        }
        let slot = self.slot(position);
        slot.header.store(8 | BUSY, Relaxed);
        self.producer.store(position + RECORD, Release);
        // SAFETY: loom checks it.
        slot.data.with_mut(|data| unsafe { *data = value });
        // xchg is a full barrier.
        fence(SeqCst);
        slot.header.swap(if discard { 8 | DISCARD } else { 8 }, SeqCst);
        fence(SeqCst);
        if self.consumer.load(Acquire) == position {
            self.wake();
        }
        true
    }

    fn wake(&self) {
        *self.woken.0.lock().unwrap() = true;
        self.woken.1.notify_one();
    }

    /// The kernel: no more records. Wakes a reader that has read everything.
    fn end(&self) {
        let mut woken = self.woken.0.lock().unwrap();
        self.is_over.store(true, SeqCst);
        fence(SeqCst);
        if self.consumer.load(SeqCst) == self.producer.load(Relaxed) {
            *woken = true;
            self.woken.1.notify_one();
        }
    }

    /// The reader's wait: until the next wake-up.
    fn wait(&self) {
        let mut woken = self.woken.0.lock().unwrap();
        while !*woken {
            woken = self.woken.1.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Memory for Ring {
    fn producer(&self) -> u64 {
        let order = if self.broken.producer_acquire { Relaxed } else { Acquire };
        self.producer.load(order)
    }

    fn header(&self, position: u64) -> u32 {
        let order = if self.broken.header_acquire { Relaxed } else { Acquire };
        self.slot(position).header.load(order)
    }

    fn publish(&self, position: u64) {
        let order = if self.broken.publish_release { Relaxed } else { Release };
        self.consumer.store(position, order);
    }

    fn fence(&self) {
        if !self.broken.fence {
            fence(SeqCst);
        }
    }
}

/// Records 1 to `count`, of which number `discarded` is discarded; all that the kernel accepted must arrive, in order.
fn run(broken: Broken, count: u64, discarded: u64) {
    run_with(broken, count, discarded, Way::Single);
}

/// The ways in which the reader takes records.
#[derive(Clone, Copy)]
enum Way {
    Single,
    /// In batches of at most this many.
    Batches(usize),
}

fn run_with(broken: Broken, count: u64, discarded: u64, way: Way) {
    // More records have more interleavings.
    let preemptions = if count > SLOTS { 2 } else { 3 };
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let ring = Arc::new(Ring::new(broken));
        let kernel = thread::spawn({
            let ring = Arc::clone(&ring);
            move || {
                let accepted: Vec<u64> =
                    (1..=count).filter(|value| ring.produce(*value, *value == discarded)).collect();
                ring.end();
                accepted
            }
        });
        // After one record the reader expects the next to be like it.
        let mut reader = Reader::with_streak(0, SLOTS * RECORD, 0);
        let mut seen = Vec::new();
        let take = |position: u64| {
            // SAFETY: loom checks it.
            seen.push(ring.slot(position - 8).data.with(|data| unsafe { *data }));
        };
        read_all(&ring, &mut reader, way, take);
        let mut accepted = kernel.join().unwrap();
        accepted.retain(|value| *value != discarded);
        assert_eq!(seen, accepted);
    });
}

/// Reads until the kernel has ended and all its records are read. A wake-up that does not come is a deadlock, which loom
/// reports. The end wakes the reader too, but not while a record is left: that is up to the record's own wake-up.
fn read_all(ring: &Ring, reader: &mut Reader, way: Way, mut take: impl FnMut(u64)) {
    loop {
        let read = match way {
            Way::Single => reader.consume(ring, |position, len| {
                assert_eq!(len, 8);
                take(position);
                true
            }),
            Way::Batches(most) => read_batches(ring, reader, most, &mut take),
        };
        let more = read.expect("the memory is not damaged");
        assert!(!more, "stopped although `take` wanted more");
        if ring.is_over.load(Acquire) && reader.position() == ring.producer() {
            break;
        }
        ring.wait();
    }
}

/// Reads the data of a batch only when the batch is complete, as a callback does.
fn read_batches(
    ring: &Ring,
    reader: &mut Reader,
    most: usize,
    take: &mut impl FnMut(u64),
) -> Result<bool, ring_protocol::Damaged> {
    let put = |batch: &mut Vec<u64>, index, run: Run| {
        assert_eq!((index, run.len, run.step), (batch.len(), 8, RECORD));
        batch.extend((0..run.count as u64).map(|i| run.position + i * run.step));
        run.count
    };
    reader.consume_batches(ring, &mut Vec::new(), most, put, |batch, count, bytes, _| {
        assert!((1..=most).contains(&count) && count == batch.len() && bytes == 8 * count);
        batch.drain(..).for_each(&mut *take);
        true
    })
}

fn is_reported(broken: Broken, count: u64) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(broken, count, 0))).is_err()
}

#[test]
fn every_record_arrives_once_and_every_wake_up_comes() {
    run(Broken::default(), 2, 0);
    run(Broken::default(), 3, 0);
}

#[test]
fn discarded_records_are_skipped() {
    run(Broken::default(), 2, 1);
    run(Broken::default(), 3, 2);
}

#[test]
fn batches_have_every_record_once_and_every_wake_up_comes() {
    for most in [1, 2] {
        run_with(Broken::default(), 2, 0, Way::Batches(most));
        run_with(Broken::default(), 3, 0, Way::Batches(most));
        run_with(Broken::default(), 2, 1, Way::Batches(most));
        run_with(Broken::default(), 3, 2, Way::Batches(most));
    }
}

#[test]
fn errors_in_the_protocol_are_found_with_batches_too() {
    let is_reported = |broken, count| {
        catch_unwind(AssertUnwindSafe(|| run_with(broken, count, 0, Way::Batches(2)))).is_err()
    };
    assert!(is_reported(Broken { fence: true, ..Broken::default() }, 2));
    assert!(is_reported(Broken { producer_acquire: true, ..Broken::default() }, 1));
    assert!(is_reported(Broken { header_acquire: true, ..Broken::default() }, 1));
    assert!(is_reported(Broken { publish_release: true, ..Broken::default() }, 3));
}

/// Runs `check` with a ring of two records: the values 1 and 2, of which number `discarded` is discarded.
fn with_two_records(discarded: u64, check: impl Fn(&Ring) + Send + Sync + 'static) {
    loom::model(move || {
        let ring = Ring::new(Broken::default());
        assert!(ring.produce(1, discarded == 1) && ring.produce(2, discarded == 2));
        check(&ring);
    });
}

/// Returns what a reader that starts at the published position gets.
fn read_again(ring: &Ring) -> Vec<u64> {
    let mut reader = Reader::new(ring.consumer.load(Acquire), SLOTS * RECORD);
    let mut positions = Vec::new();
    let read = read_batches(ring, &mut reader, 2, &mut |position| positions.push(position - 8));
    assert_eq!(read, Ok(false));
    positions
}

#[test]
fn a_batch_is_read_again_if_its_reader_is_killed_in_the_callback() {
    with_two_records(0, |ring| {
        let mut reader = Reader::new(0, SLOTS * RECORD);
        // The next reader starts where a reader that is killed here has left the ring.
        let read = reader.consume_batches(ring, &mut (), 2, ignore, |(), _, _, _| {
            assert_eq!(read_again(ring), [0, RECORD]);
            true
        });
        assert_eq!((read, read_again(ring)), (Ok(false), vec![]));
    });
}

fn ignore(_: &mut (), _: usize, run: Run) -> usize {
    run.count
}

#[test]
fn a_record_that_a_batch_has_no_capacity_for_is_read_again() {
    for discarded in [0, 1] {
        with_two_records(discarded, move |ring| {
            let all: &[u64] = if discarded == 1 { &[RECORD] } else { &[0, RECORD] };
            for capacity in 0..=all.len() {
                ring.consumer.store(0, Release);
                let (mut reader, mut taken) = (Reader::new(0, SLOTS * RECORD), 0);
                let put = |_: &mut (), index, run: Run| run.count.min(capacity - index);
                let read = reader.consume_batches(ring, &mut (), 2, put, |(), count, bytes, _| {
                    assert_eq!(bytes, 8 * count);
                    taken = count;
                    true
                });
                assert_eq!((read, taken), (Ok(capacity < all.len()), capacity));
                assert_eq!(ring.consumer.load(Acquire), reader.position());
                assert_eq!(read_again(ring), all[capacity..]);
            }
        });
    }
}

#[test]
fn a_batch_whose_callback_panics_or_ends_is_released() {
    with_two_records(0, |ring| {
        let mut reader = Reader::new(0, SLOTS * RECORD);
        let end = |_: &mut (), _, _, _: &mut usize| false;
        let ended = reader.consume_batches(ring, &mut (), 1, ignore, end);
        assert_eq!((ended, reader.position(), read_again(ring)), (Ok(true), RECORD, vec![RECORD]));
        ring.consumer.store(RECORD, Release);
        let panicking =
            || reader.consume_batches(ring, &mut (), 1, ignore, |(), _, _, _| panic!("the callback"));
        assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
        assert_eq!(ring.consumer.load(Acquire), 2 * RECORD);
        assert_eq!((reader.position(), read_again(ring)), (2 * RECORD, vec![]));
    });
}

#[test]
fn a_batch_skips_discarded_records_and_ends_before_a_busy_one() {
    with_two_records(1, |ring| assert_eq!(read_again(ring), [RECORD]));
    with_two_records(2, |ring| {
        assert_eq!(read_again(ring), [0]);
        assert_eq!(ring.consumer.load(Acquire), 2 * RECORD);
    });
    with_two_records(0, |ring| {
        ring.slot(RECORD).header.store(8 | BUSY, Release);
        assert_eq!(read_again(ring), [0]);
        assert_eq!(ring.consumer.load(Acquire), RECORD);
        ring.slot(RECORD).header.store(8, Release);
        assert_eq!(read_again(ring), [RECORD]);
    });
}

#[test]
fn a_record_that_cannot_be_read_ends_a_batch_and_is_then_an_error() {
    with_two_records(0, |ring| {
        ring.slot(RECORD).header.store(800, Release);
        let mut reader = Reader::new(0, SLOTS * RECORD);
        let mut positions = Vec::new();
        let read = read_batches(ring, &mut reader, 2, &mut |position| positions.push(position));
        assert_eq!((read, positions), (Err(ring_protocol::Damaged), vec![8]));
        assert_eq!(ring.consumer.load(Acquire), RECORD);
    });
}

#[test]
fn a_reader_without_the_barrier_loses_a_wake_up() {
    assert!(is_reported(Broken { fence: true, ..Broken::default() }, 2));
}

#[test]
fn a_producer_position_read_without_acquire_leads_to_an_old_header() {
    assert!(is_reported(Broken { producer_acquire: true, ..Broken::default() }, 1));
}

#[test]
fn a_header_read_without_acquire_reads_torn_data() {
    assert!(is_reported(Broken { header_acquire: true, ..Broken::default() }, 1));
}

#[test]
fn a_position_published_without_release_lets_the_kernel_overwrite_a_record() {
    assert!(is_reported(Broken { publish_release: true, ..Broken::default() }, 3));
}

// ---- records of any length, without threads ----

/// A ring of 4 KiB, mapped twice, in which each record has its number in every byte.
struct Bytes {
    data: RefCell<Vec<u8>>,
    producer: Cell<u64>,
    consumer: Cell<u64>,
}

const SIZE: u64 = 4096;

impl Bytes {
    fn new(start: u64) -> Bytes {
        let data = RefCell::new(vec![0xee; 2 * SIZE as usize]);
        Bytes { data, producer: Cell::new(start), consumer: Cell::new(start) }
    }

    fn write(&self, position: u64, bytes: &[u8]) {
        let mut data = self.data.borrow_mut();
        for (at, byte) in (position..).zip(bytes) {
            let at = (at % SIZE) as usize;
            (data[at], data[at + SIZE as usize]) = (*byte, *byte);
        }
    }

    /// Reserves a record with the first word `header`, whose low bits are its length. Returns false if the ring is full.
    fn produce(&self, number: u8, header: u32) -> bool {
        let len = (header & !(BUSY | DISCARD)) as usize;
        let (position, size) = (self.producer.get(), 8 + (len as u64).next_multiple_of(8));
        if position + size - self.consumer.get() > SIZE {
            return false;
        }
        self.write(position, &header.to_ne_bytes());
        self.write(position + 8, &vec![number; len]);
        self.producer.set(position + size);
        true
    }

    fn record(&self, run: Run, index: usize) -> Vec<u8> {
        let start = ((run.position + run.step * index as u64) % SIZE) as usize;
        self.data.borrow()[start..start + run.len].to_vec()
    }
}

impl Memory for Bytes {
    fn producer(&self) -> u64 {
        self.producer.get()
    }

    fn header(&self, position: u64) -> u32 {
        let start = (position % SIZE) as usize;
        u32::from_ne_bytes(self.data.borrow()[start..start + 4].try_into().unwrap())
    }

    fn publish(&self, position: u64) {
        assert!(position >= self.consumer.get() && position <= self.producer.get());
        // The kernel may overwrite what was released.
        let freed = (position - self.consumer.get()) as usize;
        self.write(self.consumer.get(), &vec![0xee; freed]);
        self.consumer.set(position);
    }

    fn fence(&self) {}
}

/// Reads the pending records in one of the ways, and appends them to `seen`.
fn read_some(ring: &Bytes, reader: &mut Reader, random: &mut Random, seen: &mut Vec<Vec<u8>>) {
    let most = 1 + random.below(40) as usize;
    match random.below(3) {
        0 => {
            let mut left = most;
            let take = |position, len| {
                seen.push(ring.record(Run { position, len, step: 0, count: 1 }, 0));
                left -= 1;
                left > 0
            };
            reader.consume(ring, take).unwrap();
        }
        1 => {
            let ends = random.below(2) == 0;
            let put = |batch: &mut Vec<Run>, index, run: Run| {
                assert_eq!(index, batch.iter().map(|run| run.count).sum::<usize>());
                assert!(run.count >= 1 && index + run.count <= most);
                batch.push(run);
                run.count
            };
            let take = |batch: &mut Vec<Run>, count, bytes, _: &mut usize| {
                assert_eq!(bytes, batch.iter().map(|run| run.count * run.len).sum::<usize>());
                let before = seen.len();
                batch.drain(..).for_each(|run| seen.extend((0..run.count).map(|i| ring.record(run, i))));
                assert_eq!(seen.len() - before, count);
                !ends
            };
            reader.consume_batches(ring, &mut Vec::new(), most, put, take).unwrap();
        }
        _ => read_packed(ring, reader, most, random.below(1500) as usize, seen),
    }
}

/// Reads into a buffer of `space` bytes, and checks its layout.
fn read_packed(ring: &Bytes, reader: &mut Reader, most: usize, space: usize, seen: &mut Vec<Vec<u8>>) {
    let mut buffer = vec![0xaa; space];
    let (mut used, mut stride, mut wanted) = (0, 0, Vec::new());
    let put = |wanted: &mut Vec<Vec<u8>>, index, run: Run| {
        let records: Vec<Vec<u8>> = (0..run.count).map(|i| ring.record(run, i)).collect();
        let size = packed::HEADER + packed::padded(run.len);
        let taken = packed::pack(&mut buffer[used..], run.len, run.count, |i| &records[i]);
        assert!(taken == run.count || space - used - taken * size < size, "it would fit");
        if taken > 0 {
            stride = packed::stride_with(stride, index, size);
        }
        used += taken * size;
        wanted.extend(records.into_iter().take(taken));
        taken
    };
    reader.consume_batches(ring, &mut wanted, most, put, |_, _, _, _| false).unwrap();
    let mut sizes = Vec::new();
    let mut at = 0;
    for record in wanted {
        let words: Vec<i32> =
            buffer[at..at + 16].chunks(4).map(|word| i32::from_ne_bytes(word.try_into().unwrap())).collect();
        let size = 16 + record.len().next_multiple_of(8);
        assert_eq!(words, [size as i32, record.len() as i32, 0, -1]);
        assert_eq!(buffer[at + 16..at + 16 + record.len()], record);
        assert!(buffer[at + 16 + record.len()..at + size].iter().all(|padding| *padding == 0));
        (at, sizes) = (at + size, [sizes, vec![size]].concat());
        seen.push(record);
    }
    assert_eq!(at, used);
    assert!(buffer[at..].iter().all(|unused| *unused == 0xaa));
    let is_even = sizes.windows(2).all(|pair| pair[0] == pair[1]);
    assert_eq!(stride, if is_even { sizes.first().copied().unwrap_or(0) } else { 0 });
}

#[test]
fn records_of_any_length_arrive_once_and_in_order_in_every_way() {
    for seed in 1..=400 {
        let mut random = Random(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let start = random.below(SIZE) / 8 * 8;
        let ring = Bytes::new(start);
        let mut reader = Reader::with_streak(start, SIZE, random.below(10) as u32);
        let (mut seen, mut wanted, mut len) = (Vec::new(), Vec::new(), 24);
        // The length changes nearly never, always, or anything in between.
        let change = 1 + random.below(100);
        for number in 0..=255 {
            if random.below(change) == 0 {
                let most = if random.below(8) == 0 { 1000 } else { 80 };
                len = random.below(most) as u32;
            }
            let discard = if random.below(10) == 0 { DISCARD } else { 0 };
            while !ring.produce(number, len | discard) {
                read_some(&ring, &mut reader, &mut random, &mut seen);
            }
            if discard == 0 {
                wanted.push(vec![number; len as usize]);
            }
            if random.below(20) == 0 {
                read_some(&ring, &mut reader, &mut random, &mut seen);
            }
        }
        // In every way of reading, a record that is not submitted ends the read, and is delivered next once it is
        // submitted.
        let busy = ring.producer.get();
        while !ring.produce(7, len | BUSY) {
            read_some(&ring, &mut reader, &mut random, &mut seen);
        }
        (0..600).for_each(|_| read_some(&ring, &mut reader, &mut random, &mut seen));
        assert_eq!((seen.len(), reader.position()), (wanted.len(), busy), "seed {seed}");
        ring.write(busy, &len.to_ne_bytes());
        wanted.push(vec![7; len as usize]);
        (0..20).for_each(|_| read_some(&ring, &mut reader, &mut random, &mut seen));
        assert!(seen == wanted, "seed {seed}");
    }
}

#[test]
fn a_map_entry_is_stored_with_its_key_and_zeroed_padding() {
    for (len, key_len) in (0..80).flat_map(|len| [0, 1, 4, 8, 13].map(|key_len| (len, key_len))) {
        let (data, key) = (vec![0x11; len], vec![0x22; key_len]);
        let (key_at, size) = (16 + packed::padded(len), 16 + packed::padded(len) + packed::padded(key_len));
        let mut to = vec![0xaa; size];
        packed::pack_one(&mut to, 3, &key, &data);
        let mut wanted = vec![0; size];
        for (at, word) in [size, len, key_len, 3].into_iter().enumerate() {
            wanted[4 * at..][..4].copy_from_slice(&(word as u32).to_ne_bytes());
        }
        wanted[16..16 + len].fill(0x11);
        wanted[key_at..key_at + key_len].fill(0x22);
        assert_eq!(to, wanted, "{len} bytes, key of {key_len}");
    }
}

#[test]
fn a_damaged_length_or_position_is_an_error_after_what_precedes_it() {
    for streak in [0, 8] {
        for (len, position) in [(8000, None), (u32::MAX >> 2, None), (24, Some(SIZE + 64))] {
            let ring = Bytes::new(0);
            let mut reader = Reader::with_streak(0, SIZE, streak);
            (0..10).for_each(|number| assert!(ring.produce(number, 24)));
            ring.write(9 * 32, &len.to_ne_bytes());
            let mut seen = Vec::new();
            let put = |_: &mut (), _, run: Run| run.count;
            let take = |_: &mut (), count, _, _: &mut usize| {
                seen.push(count);
                true
            };
            if let Some(position) = position {
                ring.producer.set(position);
            }
            let read = reader.consume_batches(&ring, &mut (), 256, put, take);
            assert_eq!(read, Err(ring_protocol::Damaged));
            assert_eq!(seen, if position.is_some() { vec![] } else { vec![9] });
        }
    }
}
