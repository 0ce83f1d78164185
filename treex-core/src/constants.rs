//! Constants on a device: indexes, masks and counts that depend on shapes alone.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::transfers::transfer;

/// How many bytes a thread keeps on all devices. Constants are small; beyond that, shapes change from step to step.
const MOST: usize = 64 << 20;

/// The element type, shape and bytes of a constant.
type Key = (DType, Vec<usize>, Vec<u8>);

#[derive(Default)]
struct Kept {
    /// Of each constant, the copies on the devices.
    tensors: HashMap<Key, Vec<Tensor>>,
    bytes: usize,
}

thread_local! {
    /// By thread, since nothing orders the work of two threads on a device of Candle's `Device::new_cuda`.
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// `x`, which is on the CPU, on `device`: uploaded at the first call of this thread with the same numbers, and kept there.
/// On the CPU it is `x` itself. The result is shared: it must not be written.
///
/// # Errors
/// If the upload fails, or [`no_transfers`](crate::no_transfers) refuses it.
#[track_caller]
pub fn constant(x: &Tensor, device: &Device) -> Result<Tensor> {
    if device.is_cpu() {
        return Ok(x.clone());
    }
    let mut bytes = Vec::new();
    x.detach().flatten_all()?.write_bytes(&mut bytes)?;
    let size = bytes.len();
    let key = (x.dtype(), x.dims().to_vec(), bytes);
    let on_device = |kept: &Vec<Tensor>| kept.iter().find(|x| x.device().same_device(device)).cloned();
    if let Some(found) = KEPT.with_borrow(|kept| kept.tensors.get(&key).and_then(on_device)) {
        return Ok(found);
    }
    let instead = "run a step of these shapes before, which uploads its constants";
    let uploaded = transfer(&x.detach(), device, instead)?.detach();
    KEPT.with_borrow_mut(|kept| {
        if size > MOST {
            return;
        }
        if kept.bytes + size > MOST {
            *kept = Kept::default();
        }
        kept.bytes += size;
        kept.tensors.entry(key).or_default().push(uploaded.clone());
    });
    Ok(uploaded)
}

/// `0, 1, .., len - 1` in `I64`: [`constant`].
///
/// # Errors
/// As `constant`.
#[track_caller]
pub fn arange(len: usize, device: &Device) -> Result<Tensor> {
    constant(&Tensor::arange(0, len as i64, &Device::Cpu)?, device)
}
