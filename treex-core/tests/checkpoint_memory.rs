//! The peak memory of saving and loading, counted by the allocator: alone in its program, so that nothing else counts.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use candle_core::{Device, Tensor};
use treex_core::{Leaf, Parameter, prelude::*};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    PEAK.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: every call is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How far the peak of `f` is above the memory before it.
fn peak<T>(f: impl FnOnce() -> T) -> (usize, T) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = f();
    (PEAK.load(Relaxed) - before, result)
}

#[test]
fn peaks_are_those_of_the_documentation() {
    const MIB: usize = 1 << 20;
    const LEAVES: usize = 16;
    const LEAF: usize = 8 * MIB;
    const WHOLE: usize = LEAVES * LEAF;
    let value = Tensor::rand(0f32, 1., LEAF / 4, &Device::Cpu).unwrap();
    let mut tree: Vec<Leaf<Parameter>> = (0..LEAVES).map(|_| Leaf::new(&value).unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tree.safetensors");

    // A chunk of 2^20 elements, and the buffers.
    let (saving, saved) = peak(|| tree.save(&file));
    saved.unwrap();
    assert!(saving < 6 * MIB, "{} MiB beside a tree of {}", saving / MIB, WHOLE / MIB);

    // The new values, and the bytes of one more leaf.
    let (loading, loaded) = peak(|| tree.load(&file));
    loaded.unwrap();
    assert!(loading < WHOLE + LEAF + MIB, "{} MiB beside a tree of {}", loading / MIB, WHOLE / MIB);

    // What does not match is found without reading values.
    tree.pop();
    let (refusing, refused) = peak(|| tree.load(&file));
    refused.unwrap_err();
    assert!(refusing < MIB, "{refusing} bytes");
}
