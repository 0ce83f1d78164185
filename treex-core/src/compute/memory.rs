//! Memory that stays: what one step gives back is there for the next.
//!
//! glibc hands a freed buffer of more than 128 KiB back to the system, which clears it page by page when the next
//! one is written. A training step frees and takes the same buffers again and again, and would spend up to
//! nine tenths of its time on this. [`keep_memory`] tells glibc to keep them.

use std::sync::Once;

/// How much memory glibc asks the system for at once, beyond what it needs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TOP_PAD: i32 = 64 << 20;

static ASKED: Once = Once::new();

/// Whether freed memory stays with this process. Call it before the first
/// [`value_and_grad`](crate::value_and_grad), which calls `keep_memory(true)` unless this was called before or
/// the feature `keep-memory` is off; the first call decides.
///
/// It concerns glibc's allocator; a program with another `#[global_allocator]`, and systems without glibc, are as
/// they were. The process then holds the most memory that it ever used.
///
/// ```
/// treex_core::compute::keep_memory(false); // leave the allocator as it is
/// ```
pub fn keep_memory(keep: bool) {
    ASKED.call_once(|| {
        if keep {
            tell_allocator();
        }
    });
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn tell_allocator() {
    // SAFETY: `mallopt` may be called at any time, by any thread: it takes the allocator's lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn tell_allocator() {}
