//! Functions of one number on a device: the mathematics is that of the CPU, traced and printed.

use candle_core::Tensor;
use treex_kernels::dialect::{EACH, ELEMENT};
use treex_kernels::elementwise::{DIALECT, Elementwise};

use super::groups;
use super::kernel::{Function, Kernel, Launch, Value};
use crate::autograd::OwnedStorage;
use crate::error::{Error, Result};

static ELEMENTWISE: Kernel = Kernel { name: "elementwise", texts: &[ELEMENT, EACH, DIALECT] };

/// `function(x)`, of a tensor with elements.
///
/// # Errors
/// If the launch fails.
pub fn map(function: Elementwise, x: &Tensor) -> Result<OwnedStorage> {
    launch(function, x, None)
}

/// `function'(x) * dy`.
///
/// # Errors
/// If `dy` has another size or type than `x`, or the launch fails.
pub fn map_backward(function: Elementwise, x: &Tensor, dy: &Tensor) -> Result<OwnedStorage> {
    launch(function, x, Some(dy))
}

fn launch(function: Elementwise, x: &Tensor, dy: Option<&Tensor>) -> Result<OwnedStorage> {
    let (len, is_backward) = (x.elem_count(), dy.is_some());
    let dy = dy.unwrap_or(x);
    if dy.elem_count() != len {
        return Err(Error::shape(format!("the gradient of `{}` has another size", function.name()))
            .expected(format!("{:?}", x.dims()))
            .found(format!("{:?}", dy.dims())));
    }
    let launch = Launch {
        kernel: &ELEMENTWISE,
        element: x.dtype(),
        defines: &[("IS_BACKWARD", is_backward.into())],
        groups: groups(len),
        reads: &[(x, x.dtype()), (dy, x.dtype())],
        writes: [(x.shape(), x.dtype())],
        values: &[Value::Index(len)],
    };
    let traced = || vec![if is_backward { function.traced_gradient() } else { function.traced() }];
    let function = Function { name: function.name(), option: function.option().to_bits(), traced: &traced };
    // SAFETY: the tensors have `len` elements each.
    #[expect(unsafe_code, reason = "a launch")]
    let [written] = unsafe { launch.run_with(function) }?;
    Ok(written)
}
