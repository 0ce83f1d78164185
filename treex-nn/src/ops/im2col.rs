//! `im2col` as an operation on tensors: what a window reads at each output position, as rows. A local
//! convolution is their product with its kernels.
//!
//! On the CPU, forward copies (im2col) and backward adds back (col2im): each is the other's transpose, and
//! one operation is both. The reference composition selects by one index tensor per axis.

use std::sync::Arc;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor};
use treex_core::autograd::is_reference;
use treex_core::constants::constant;
use treex_kernels::im2col::{Im2col, Plan};
pub(crate) use treex_kernels::window::Axis;

/// `x`, `[batch, *spatial, channels]`, as `[batch, *positions, taps, channels]`, with the taps of the window
/// in row-major order.
pub(crate) fn im2col(x: &Tensor, window: &[Axis]) -> Result<Tensor> {
    let has_kernel = x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64);
    if is_reference() || !has_kernel {
        return reference(x, window);
    }
    let (batch, spatial, channels) = split(x.dims());
    let plan = Plan::new(batch, spatial, channels, window).map_err(treex_core::Error::from)?;
    let operation = Transfer {
        plan: Arc::new(plan),
        input: x.shape().clone(),
        output: output_shape(batch, spatial, channels, window),
        is_transposed: false,
    };
    x.contiguous()?.apply_op1(operation)
}

fn reference(x: &Tensor, window: &[Axis]) -> Result<Tensor> {
    let (batch, spatial, channels) = split(x.dims());
    let rank = spatial.len();
    let mut dims = vec![batch];
    let mut columns = x.clone();
    for (d, (axis, &n)) in window.iter().zip(spatial).enumerate() {
        let positions = axis.positions(n);
        // Index `n` is a zero, appended.
        let source = |(position, tap)| axis.source(n, position, tap).unwrap_or(n) as u32;
        let index: Vec<u32> = (0..positions)
            .flat_map(|position| (0..axis.size).map(move |tap| (position, tap)))
            .map(source)
            .collect();
        let index = constant(&Tensor::from_vec(index, positions * axis.size, &Device::Cpu)?, x.device())?;
        dims.extend([positions, axis.size]);
        let rest = [&spatial[d + 1..], &[channels]].concat();
        columns = columns.pad_with_zeros(1 + 2 * d, 0, 1)?.contiguous()?.index_select(&index, 1 + 2 * d)?;
        columns = columns.reshape([dims.as_slice(), &rest].concat())?;
    }
    // From [batch, position, tap, .., channels] to all positions before all taps.
    let order: Vec<usize> = [
        vec![0],
        (0..rank).map(|d| 1 + 2 * d).collect(),
        (0..rank).map(|d| 2 + 2 * d).collect(),
        vec![1 + 2 * rank],
    ]
    .concat();
    columns.permute(order)?.reshape(output_shape(batch, spatial, channels, window))
}

fn split(dims: &[usize]) -> (usize, &[usize], usize) {
    (dims[0], &dims[1..dims.len() - 1], dims[dims.len() - 1])
}

fn output_shape(batch: usize, spatial: &[usize], channels: usize, window: &[Axis]) -> Shape {
    let positions = window.iter().zip(spatial).map(|(axis, &n)| axis.positions(n));
    let taps = window.iter().map(|axis| axis.size).product();
    [batch].into_iter().chain(positions).chain([taps, channels]).collect::<Vec<_>>().into()
}

/// im2col, or its transpose.
#[derive(Clone)]
struct Transfer {
    plan: Arc<Plan>,
    /// The shapes of im2col.
    input: Shape,
    output: Shape,
    is_transposed: bool,
}

impl Transfer {
    fn run<T: Im2col>(&self, x: &[T]) -> Result<Vec<T>> {
        let result = if self.is_transposed { T::col2im(&self.plan, x) } else { T::im2col(&self.plan, x) };
        Ok(result.map_err(treex_core::Error::from)?)
    }
}

impl CustomOp1 for Transfer {
    fn name(&self) -> &'static str {
        if self.is_transposed { "col2im" } else { "im2col" }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        // An empty view may start beyond its memory.
        let start = if layout.shape().elem_count() == 0 { 0 } else { layout.start_offset() };
        let range = start..start + layout.shape().elem_count();
        let storage = match storage {
            CpuStorage::F32(x) => CpuStorage::F32(self.run(&x[range])?),
            CpuStorage::F64(x) => CpuStorage::F64(self.run(&x[range])?),
            _ => return Err(candle_core::Error::UnsupportedDTypeForOp(storage.dtype(), self.name())),
        };
        Ok((storage, if self.is_transposed { self.input.clone() } else { self.output.clone() }))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let transposed = Self { is_transposed: !self.is_transposed, ..self.clone() };
        Ok(Some(grad.contiguous()?.apply_op1(transposed)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;

    /// The columns, and the gradient of the sum of their products with fixed numbers.
    fn columns_and_gradient(x: &Tensor, window: &[Axis]) -> (Tensor, Tensor) {
        let x = Var::from_tensor(x).unwrap();
        let columns = im2col(&x, window).unwrap();
        let weights = Key::from(1).normal(columns.shape(), DType::F32).unwrap().to_dtype(x.dtype()).unwrap();
        let grads = (&columns * weights).unwrap().sum_all().unwrap().backward().unwrap();
        (columns.detach(), grads.get(&x).unwrap().clone())
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.dims(), b.dims());
        if a.elem_count() == 0 {
            return 0.;
        }
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        difference.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
    }

    /// Small windows of every kind over one to three dimensions, drawn with a fixed key.
    fn generated() -> Vec<(Vec<usize>, Vec<Axis>)> {
        let draw = |case: u32, slot: u32, choices: &[usize]| {
            let bits = Key::from(7).fold_in(case).fold_in(slot).words()[0] as usize;
            choices[bits % choices.len()]
        };
        (0..200)
            .map(|case| {
                let rank = 1 + case as usize % 3;
                let axes = (0..rank as u32).map(|d| Axis {
                    size: draw(case, 10 * d, &[1, 2, 3, 4]),
                    stride: draw(case, 10 * d + 1, &[1, 1, 2, 3, 5]),
                    padding: (draw(case, 10 * d + 2, &[0, 0, 1, 2]), draw(case, 10 * d + 3, &[0, 0, 1, 2])),
                    window_dilation: draw(case, 10 * d + 4, &[1, 1, 2, 3]),
                    input_dilation: draw(case, 10 * d + 5, &[1, 1, 2, 3]),
                });
                let spatial = (0..rank as u32).map(|d| draw(case, 10 * d + 6, &[1, 2, 3, 5, 6]));
                let batch = draw(case, 100, &[1, 2, 3]);
                let channels = draw(case, 101, &[1, 2, 5]);
                ([batch].into_iter().chain(spatial).chain([channels]).collect(), axes.collect())
            })
            .collect()
    }

    #[test]
    fn kernel_equals_reference_composition() {
        for (dims, window) in generated() {
            for dtype in [DType::F32, DType::F64] {
                let x = Key::from(0).normal(dims.clone(), DType::F32).unwrap().to_dtype(dtype).unwrap();
                let (y, dx) = columns_and_gradient(&x, &window);
                let (expected_y, expected_dx) = with_reference(|| columns_and_gradient(&x, &window));
                assert_eq!(largest_difference(&y, &expected_y), 0., "{dims:?} {window:?}");
                // The sums of the gradient may be added in another order.
                let tolerance = if dtype == DType::F32 { 1e-5 } else { 1e-13 };
                assert!(largest_difference(&dx, &expected_dx) <= tolerance, "{dims:?} {window:?}");
            }
        }
    }

    /// Forward is linear, so its gradient is its transpose: `<im2col(x), w> = <x, gradient(w)>`.
    #[test]
    fn gradient_is_the_transpose() {
        for (dims, window) in generated() {
            let x = Key::from(0).normal(dims.clone(), DType::F32).unwrap().to_dtype(DType::F64).unwrap();
            let (y, dx) = columns_and_gradient(&x, &window);
            let weights = Key::from(1).normal(y.shape(), DType::F32).unwrap().to_dtype(DType::F64).unwrap();
            let dot =
                |a: &Tensor, b: &Tensor| (a * b).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            assert!((dot(&y, &weights) - dot(&x, &dx)).abs() < 1e-10, "{dims:?} {window:?}");
        }
    }

    /// On all cores and on one, strided input, a batch of none, and a window larger than its input.
    #[test]
    fn awkward_inputs() {
        let axis = Axis { size: 3, stride: 1, padding: (1, 1), window_dilation: 1, input_dilation: 1 };
        let inputs = [
            Tensor::arange(0f32, 40. * 16. * 16. * 8., &Device::Cpu)
                .unwrap()
                .reshape((40, 16, 16, 8))
                .unwrap(),
            Tensor::arange(0f32, 480., &Device::Cpu)
                .unwrap()
                .reshape((6, 5, 4, 4))
                .unwrap()
                .permute([3, 1, 2, 0])
                .unwrap(),
            Tensor::arange(0f32, 480., &Device::Cpu)
                .unwrap()
                .reshape((6, 5, 4, 4))
                .unwrap()
                .narrow(0, 2, 3)
                .unwrap(),
            Tensor::zeros((0, 5, 4, 2), DType::F32, &Device::Cpu).unwrap(),
        ];
        for x in inputs {
            let (y, dx) = columns_and_gradient(&x, &[axis, axis]);
            let (expected_y, expected_dx) = with_reference(|| columns_and_gradient(&x, &[axis, axis]));
            assert_eq!(largest_difference(&y, &expected_y), 0.);
            assert!(largest_difference(&dx, &expected_dx) <= 1e-5);
        }
        let none = Axis { padding: (0, 0), ..axis };
        let x = Tensor::zeros((2, 2, 3, 1), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(im2col(&x, &[none, none]).unwrap().dims(), [2, 0, 1, 9, 1]);
        assert_eq!(with_reference(|| im2col(&x, &[none, none])).unwrap().dims(), [2, 0, 1, 9, 1]);
    }
}
