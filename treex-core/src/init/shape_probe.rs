//! The shapes that layers report during shape inference.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{DType, Device, Shape, Tensor};

use crate::error::Result;
use crate::size;

/// The shapes recorded so far, by the cell of the leaf.
struct ShapeProbe {
    device: Device,
    shapes: HashMap<usize, Shape>,
}

thread_local! {
    /// Set while shape inference calls a model on this thread.
    static PROBE: RefCell<Option<ShapeProbe>> = const { RefCell::new(None) };
}

/// Restores the probe of an outer inference, also after a panic.
struct Outer(Option<ShapeProbe>);

impl Drop for Outer {
    fn drop(&mut self) {
        PROBE.set(self.0.take());
    }
}

/// Runs `f` with a new probe; returns its result and the recorded shapes by cell.
pub(super) fn with_probe<R>(device: &Device, f: impl FnOnce() -> R) -> (R, HashMap<usize, Shape>) {
    let probe = ShapeProbe { device: device.clone(), shapes: HashMap::new() };
    let outer = Outer(PROBE.replace(Some(probe)));
    let result = f();
    let shapes = PROBE.take().map(|probe| probe.shapes).unwrap_or_default();
    drop(outer);
    (result, shapes)
}

/// If a probe is set, records the shape of the leaf's cell and returns zeros of it.
pub(crate) fn record(cell: usize, shape: Shape, dtype: DType) -> Result<Option<Tensor>> {
    PROBE.with_borrow_mut(|probe| {
        let Some(probe) = probe else { return Ok(None) };
        let shape = probe.shapes.entry(cell).or_insert(shape);
        size::zeros(&*shape, dtype, &probe.device).map(Some)
    })
}
