//! Work on all cores, of the pool that the rest of the program uses too.
//!
//! The thread that asks takes part: while others wake up it works already, and it does not have to be woken itself.
//! The others stay awake for a moment after their work, since the next is mostly near: to wake one takes as long as
//! a product of matrices of 128 by 128. The scheduler is compiled once, not anew for each kernel and element type: it
//! sees an index and a function without a type.

use std::cell::Cell;
use std::hint::spin_loop;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a thread stays awake without work.
const AWAKE: Duration = Duration::from_micros(200);

/// Parts of the work that each thread gets, if there is so much; the last ones make up for what came before.
const PARTS: usize = 8;

/// How often the thread that asked looks whether the others are done, before it sleeps.
const LOOKS: usize = 2000;

/// Runs `f` for each index below `count`; on all cores if `parallel`, otherwise in order.
pub fn for_each(count: usize, parallel: bool, f: &(dyn Fn(usize) + Sync)) {
    share(count, parallel, &|turns| turns.for_each(f));
}

/// What `f` makes of each index below `count`, in order; on all cores if `parallel`.
pub fn map<R: Send>(count: usize, parallel: bool, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let mut results: Vec<_> = (0..count).map(|_| None).collect();
    pieces(&mut results, 1, parallel, |index, result| result[0] = Some(f(index)));
    results.into_iter().flatten().collect()
}

/// Runs `f` once on each thread that takes part, with the indices below `count` that become its own: so that it makes
/// only once what it needs for each. On all cores if `parallel`, otherwise with all of them in order.
pub fn share(count: usize, parallel: bool, f: &(dyn Fn(Turns<'_>) + Sync)) {
    let threads = if parallel { rayon::current_num_threads() } else { 1 };
    let helpers = threads.min(count).saturating_sub(1);
    let (next, size) = (AtomicUsize::new(0), (count / (threads * PARTS)).max(1));
    let turns = || Turns { next: &next, size, count, now: 0..0 };
    if helpers == 0 {
        return f(turns());
    }
    let is_guest = rayon::current_thread_index().is_none();
    let busy = AtomicUsize::new(helpers);
    rayon::in_place_scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| {
                if next.load(Ordering::Relaxed) < count {
                    f(turns());
                }
                busy.fetch_sub(1, Ordering::Release);
            });
        }
        f(turns());
        // A thread of the pool finds other work instead.
        let mut looks = if is_guest { LOOKS } else { 0 };
        while looks > 0 && busy.load(Ordering::Acquire) > 0 {
            looks -= 1;
            spin_loop();
        }
    });
    if is_guest {
        keep_awake(helpers);
    }
}

/// The indices that one thread gets: some that are neighbours, and when they are used up, the next that nobody has.
#[derive(Debug)]
pub struct Turns<'a> {
    next: &'a AtomicUsize,
    size: usize,
    count: usize,
    now: Range<usize>,
}

impl Iterator for Turns<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.now.is_empty() {
            let first = self.next.fetch_add(self.size, Ordering::Relaxed).min(self.count);
            self.now = first..self.count.min(first + self.size);
        }
        self.now.next()
    }
}

/// Threads of the pool that look for work.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// Has one thread more look for work, unless `most` do.
fn keep_awake(most: usize) {
    let more = |looking| (looking < most).then_some(looking + 1);
    if LOOKING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
        rayon::spawn(|| {
            if !IS_LOOKING.replace(true) {
                look_for_work();
                IS_LOOKING.set(false);
            }
            LOOKING.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn look_for_work() {
    let mut since = Instant::now();
    while since.elapsed() < AWAKE {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            since = Instant::now();
        } else {
            thread::yield_now(); // others may need the core
        }
    }
}

/// Runs `f` on each piece of so many elements of a buffer, the last one may be shorter; on all cores if
/// `parallel`.
pub fn pieces<A: Send>(buffer: &mut [A], len: usize, parallel: bool, f: impl Fn(usize, &mut [A]) + Sync) {
    let parts = Parts::of(buffer, len);
    // SAFETY: each index comes once, while the buffer is borrowed.
    for_each(parts.count(), parallel, &|index| f(index, unsafe { parts.get(index) }));
}

/// Runs `f` on the pieces of two buffers, pair by pair; as [`pieces`].
pub fn pieces2<A: Send, B: Send>(
    (a, len_a): (&mut [A], usize),
    (b, len_b): (&mut [B], usize),
    parallel: bool,
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    let (a, b) = (Parts::of(a, len_a), Parts::of(b, len_b));
    for_each(a.count().min(b.count()), parallel, &|index| {
        // SAFETY: each index comes once, while the buffers are borrowed.
        let (a, b) = unsafe { (a.get(index), b.get(index)) };
        f(index, a, b);
    });
}

/// Memory of which each thread writes its own part.
#[derive(Debug)]
pub struct Shared<T>(*mut T);

// SAFETY: a pointer by itself does nothing; whoever writes through it says why nobody else does.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// What begins at `start`.
    pub fn new(start: *mut T) -> Self {
        Self(start)
    }

    /// So many elements after the beginning.
    #[must_use]
    pub fn at(&self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

/// A buffer of which each index has a part of its own.
pub(super) struct Parts<T> {
    start: Shared<T>,
    len: usize,
    /// Elements of a part; the last one may have fewer.
    size: usize,
}

impl<T> Parts<T> {
    /// Parts of `size` elements, at least 1.
    pub(super) fn of(buffer: &mut [T], size: usize) -> Self {
        Self { start: Shared::new(buffer.as_mut_ptr()), len: buffer.len(), size: size.max(1) }
    }

    pub(super) fn count(&self) -> usize {
        self.len.div_ceil(self.size)
    }

    /// # Safety
    /// The buffer is still borrowed, `index` is below [`count`](Self::count), and nobody else has the part.
    #[expect(clippy::mut_from_ref, reason = "each part is handed out once")]
    pub(super) unsafe fn get(&self, index: usize) -> &mut [T] {
        let first = index * self.size;
        let len = self.size.min(self.len - first);
        // SAFETY: the part is inside of the buffer, and exclusive as the caller promises.
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
            (0..count).map(|i| i * i).collect::<Vec<_>>()
        );
    }

    fn check_all() {
        for count in [0, 1, 2, 3, 7, 64, 1000] {
            check(count, false);
            check(count, true);
        }
    }

    #[test]
    fn each_index_comes_once() {
        check_all();
    }

    #[test]
    fn within_work_and_in_a_pool_of_any_size() {
        for_each(4, true, &|_| check_all());
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(check_all);
        }
    }

    #[test]
    fn a_thread_gets_neighbours() {
        let turns = Mutex::new(Vec::new());
        share(1000, true, &|own| turns.lock().expect("no panic").push(own.collect::<Vec<_>>()));
        let turns = turns.into_inner().expect("no panic");
        assert!(turns.len() <= rayon::current_num_threads());
        let gaps = |own: &Vec<usize>| own.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(turns.iter().map(gaps).sum::<usize>() <= 2 * PARTS * rayon::current_num_threads());
        let mut all = turns.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1000));
    }

    #[test]
    fn a_panic_comes_through_and_leaves_the_threads() {
        for panicking in [0, 99] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                for_each(100, true, &|index| assert_ne!(index, panicking));
            }));
            assert!(result.is_err());
        }
        check(100, true);
    }

    #[test]
    fn every_piece_once() {
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
