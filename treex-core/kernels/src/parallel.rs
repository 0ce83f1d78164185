//! Parallel loops on rayon's thread pool.
//!
//! The calling thread participates; workers spin briefly before sleeping. A call thus starts at once, and the next one,
//! which usually follows soon, finds workers awake: waking one takes as long as a 128 by 128 matrix product. The
//! scheduler is compiled once, not for each kernel and element type, since it calls a `dyn Fn` with an index.

use std::cell::Cell;
use std::hint::spin_loop;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::memory::collected;

/// What the threads of a loop take their indices from; loom's, where it tries every interleaving of them.
#[cfg(not(all(test, loom)))]
type Counter = AtomicUsize;
#[cfg(all(test, loom))]
type Counter = loom::sync::atomic::AtomicUsize;

/// How long an idle worker spins before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(200);

/// Chunks of work per thread; several, for load balancing.
const CHUNKS_PER_THREAD: usize = 8;

/// How often the calling thread checks whether the workers are done before it sleeps.
const COMPLETION_SPINS: usize = 2000;

/// Calls `f` for each index below `count`: on all cores if `parallel`, otherwise in order.
pub fn for_each(count: usize, parallel: bool, f: &(dyn Fn(usize) + Sync)) {
    share(count, parallel, &|range| range.for_each(f));
}

/// The results of `f` for the indices below `count`, in order; computed on all cores if `parallel`.
///
/// # Errors
/// If there is no memory for them.
pub fn map<R: Send>(count: usize, parallel: bool, f: impl Fn(usize) -> R + Sync) -> Result<Vec<R>> {
    let mut results = collected(count, (0..count).map(|_| None))?;
    pieces(&mut results, 1, parallel, |index, result| result[0] = Some(f(index)));
    Ok(results.into_iter().flatten().collect())
}

/// Calls `f` once on each participating thread, with that thread's share of the indices below `count`, so that scratch
/// memory is allocated once per thread. On all cores if `parallel`, otherwise once with all indices in order.
pub fn share(count: usize, parallel: bool, f: &(dyn Fn(WorkRange<'_>) + Sync)) {
    let threads = if parallel { rayon::current_num_threads() } else { 1 };
    let helpers = threads.min(count).saturating_sub(1);
    let (next, size) = (Counter::new(0), (count / (threads * CHUNKS_PER_THREAD)).max(1));
    let range = || WorkRange { next: &next, size, count, current: 0..0 };
    if helpers == 0 {
        return f(range());
    }
    let is_outside_pool = rayon::current_thread_index().is_none();
    let busy = AtomicUsize::new(helpers);
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| {
                if next.load(Ordering::Relaxed) < count {
                    f(range());
                }
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        f(range());
        // A thread of the pool runs other work instead.
        let mut spins = if is_outside_pool { COMPLETION_SPINS } else { 0 };
        while spins > 0 && busy.load(Ordering::Acquire) > 0 {
            spins -= 1;
            spin_loop();
        }
    });
    if is_outside_pool {
        keep_spinning(helpers);
    }
}

/// [`share`] of work that may fail, for lack of scratch memory: the first error, after which work may be undone.
pub(crate) fn try_share(
    count: usize,
    parallel: bool,
    f: &(dyn Fn(WorkRange<'_>) -> Result<()> + Sync),
) -> Result<()> {
    let first = OnceLock::new();
    share(count, parallel, &|range| {
        if let Err(error) = f(range) {
            first.get_or_init(|| error);
        }
    });
    first.into_inner().map_or(Ok(()), Err)
}

/// The indices of one thread: chunks of consecutive indices, each taken from a shared counter when the last is used up.
#[derive(Debug)]
pub struct WorkRange<'a> {
    next: &'a Counter,
    size: usize,
    count: usize,
    current: Range<usize>,
}

impl Iterator for WorkRange<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.current.is_empty() {
            let first = self.next.fetch_add(self.size, Ordering::Relaxed).min(self.count);
            self.current = first..self.count.min(first.saturating_add(self.size));
        }
        self.current.next()
    }
}

/// The number of workers that spin.
static SPINNING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_SPINNING: Cell<bool> = const { Cell::new(false) };
}

/// Lets one more worker spin, up to `most`.
fn keep_spinning(most: usize) {
    let more = |spinning| (spinning < most).then_some(spinning + 1);
    if SPINNING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
        rayon::spawn(|| {
            if !IS_SPINNING.replace(true) {
                spin_for_work();
                IS_SPINNING.set(false);
            }
            SPINNING.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Runs work of the pool until there has been none for [`SPIN_TIME`].
fn spin_for_work() {
    let mut since = Instant::now();
    while since.elapsed() < SPIN_TIME {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            since = Instant::now();
        } else {
            thread::yield_now(); // other threads may need the core
        }
    }
}

/// Calls `f` with each piece of `len` elements of a buffer, the last one possibly shorter; on all cores if `parallel`.
pub fn pieces<A: Send>(buffer: &mut [A], len: usize, parallel: bool, f: impl Fn(usize, &mut [A]) + Sync) {
    let pieces = DisjointPieces::of(buffer, len);
    // SAFETY: each index occurs once, while the buffer is borrowed.
    for_each(pieces.count(), parallel, &|index| f(index, unsafe { pieces.get(index) }));
}

/// [`pieces`] of two buffers, pair by pair.
pub fn pieces2<A: Send, B: Send>(
    (a, len_a): (&mut [A], usize),
    (b, len_b): (&mut [B], usize),
    parallel: bool,
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let (a, b) = (DisjointPieces::of(a, len_a), DisjointPieces::of(b, len_b));
    for_each(a.count().min(b.count()), parallel, &|index| {
        // SAFETY: each index occurs once, while the buffers are borrowed.
        let (a, b) = unsafe { (a.get(index), b.get(index)) };
        f(index, a, b);
    });
}

/// A pointer to memory of which each thread writes a disjoint part.
#[derive(Debug)]
pub struct Shared<T>(*mut T);

// SAFETY: sharing the pointer is safe; a write through it is `unsafe` and must ensure exclusive access.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Memory from `start` on.
    pub fn new(start: *mut T) -> Self {
        Self(start)
    }

    /// The address `offset` elements after the start.
    #[must_use]
    pub fn at(&self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

/// A buffer in disjoint pieces, one for each index.
pub(super) struct DisjointPieces<T> {
    start: Shared<T>,
    len: usize,
    /// Elements of a piece; the last one may have fewer.
    size: usize,
}

impl<T> DisjointPieces<T> {
    /// Pieces of `size` elements, at least 1.
    pub(super) fn of(buffer: &mut [T], size: usize) -> Self {
        Self { start: Shared::new(buffer.as_mut_ptr()), len: buffer.len(), size: size.max(1) }
    }

    pub(super) fn count(&self) -> usize {
        self.len.div_ceil(self.size)
    }

    /// # Safety
    /// The buffer is still borrowed, `index` is below [`count`](Self::count), and no other reference to the piece exists.
    #[expect(clippy::mut_from_ref, reason = "each piece is borrowed once")]
    pub(super) unsafe fn get(&self, index: usize) -> &mut [T] {
        let first = index * self.size;
        let len = self.size.min(self.len - first);
        // SAFETY: the piece is inside the buffer, and the caller ensures exclusive access.
        unsafe { std::slice::from_raw_parts_mut(self.start.at(first), len) }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;

    use super::*;

    fn check(count: usize, parallel: bool) {
        let seen: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        for_each(count, parallel, &|index| {
            seen[index].fetch_add(1, Ordering::Relaxed);
        });
        assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed) == 1), "{count} {parallel}");
        assert_eq!(
            map(count, parallel, |index| index * index),
            Ok((0..count).map(|i| i * i).collect::<Vec<_>>())
        );
    }

    fn check_all() {
        for count in [0, 1, 2, 3, 7, 64, 1000] {
            check(count, false);
            check(count, true);
        }
    }

    #[test]
    fn each_index_occurs_once() {
        check_all();
    }

    #[test]
    fn nested_and_in_a_pool_of_any_size() {
        for_each(4, true, &|_| check_all());
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(check_all);
        }
    }

    #[test]
    fn a_thread_gets_consecutive_indices() {
        let ranges = Mutex::new(Vec::new());
        share(1000, true, &|range| ranges.lock().expect("no panic").push(range.collect::<Vec<_>>()));
        let ranges = ranges.into_inner().expect("no panic");
        assert!(ranges.len() <= rayon::current_num_threads());
        let gaps = |range: &Vec<usize>| range.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(
            ranges.iter().map(gaps).sum::<usize>() <= 2 * CHUNKS_PER_THREAD * rayon::current_num_threads()
        );
        let mut all = ranges.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    }

    #[test]
    fn a_panic_propagates_and_the_pool_survives() {
        for panicking in [0, 99] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                for_each(100, true, &|index| assert_ne!(index, panicking));
            }));
            assert!(result.is_err());
        }
        check(100, true);
    }

    #[test]
    fn each_piece_occurs_once() {
        for parallel in [false, true] {
            let (mut a, mut b) = ([0; 10], [0; 4]);
            pieces2((&mut a, 3), (&mut b, 1), parallel, |index, a, b| {
                a.fill(index);
                b.fill(a.len());
            });
            assert_eq!((a, b), ([0, 0, 0, 1, 1, 1, 2, 2, 2, 3], [3, 3, 3, 1]));
            pieces(&mut a, 4, parallel, |index, piece| piece.fill(index));
            assert_eq!(a, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
        }
    }
}

/// `RUSTFLAGS='--cfg loom'`, in `scripts/check-unsafe.sh`. Starting and ending the threads is rayon's.
#[cfg(all(test, loom))]
mod interleavings {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;

    use super::*;

    /// Loom reports two threads at one element, and a write that the last line does not see.
    #[test]
    fn each_index_occurs_once_in_every_interleaving() {
        for (count, size) in [(3, 1), (5, 2), (1, 1)] {
            loom::model(move || {
                let next = Arc::new(Counter::new(0));
                let elements: Arc<Vec<_>> = Arc::new((0..count).map(|_| UnsafeCell::new(0)).collect());
                let work = || {
                    let (next, elements) = (Arc::clone(&next), Arc::clone(&elements));
                    move || {
                        let range = WorkRange { next: &next, size, count, current: 0..0 };
                        // SAFETY: loom checks what it relies on: no other thread is at this element.
                        range.for_each(|index| elements[index].with_mut(|element| unsafe { *element += 1 }));
                    }
                };
                let helpers = [loom::thread::spawn(work()), loom::thread::spawn(work())];
                work()();
                helpers.into_iter().for_each(|helper| helper.join().expect("no panic"));
                // SAFETY: the other threads have ended.
                assert!(elements.iter().all(|element| element.with(|element| unsafe { *element } == 1)));
            });
        }
    }
}
