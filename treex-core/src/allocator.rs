//! The allocator of the process: whether freed memory is kept for the next step.
//!
//! glibc returns a freed buffer of more than 128 KiB to the system, which clears it page by page when the next one is
//! written. A training step frees and allocates the same buffers again and again, and can spend up to nine tenths of
//! its time on this. [`keep_memory`] makes glibc keep them.

/// How much memory glibc requests from the system at once, beyond what it needs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TOP_PAD: i32 = 64 << 20;

/// Makes glibc's allocator keep freed memory for the rest of the process. A program that trains on the CPU calls it
/// first in `main`; a library should not, since it changes the whole process, which then holds the most memory that it
/// ever used.
///
/// It has no effect with another `#[global_allocator]`, and on systems without glibc.
///
/// ```
/// treex_core::keep_memory();
/// ```
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "a call of the C library")
)]
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` may be called at any time, by any thread: it takes the allocator's lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
    }
}
