//! The patches that a window sees as it moves over the spatial dimensions: a convolution is their product
//! with the kernel, a pooling their reduction.
//!
//! Which element a place of the window sees is the same for every batch item and every channel, and splits
//! into one question per dimension. So both ways of computing it stand on [`Axis::source`] alone: the plain
//! composition selects by one index tensor per dimension, the kernel copies rows of channels.
//!
//! On the CPU, forward copies (im2col) and backward adds back (col2im): each is the other's transpose, and
//! one operation serves as both.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType};
use treex_core::autograd::is_reference;
use treex_kernels::parallel::pieces;

/// How a window moves along one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// The places of the window, at least 1.
    pub(crate) size: usize,
    /// The step from one position to the next, at least 1.
    pub(crate) stride: usize,
    /// Zeros before and after the input.
    pub(crate) zeros: (usize, usize),
    /// The step from one place of the window to the next, at least 1.
    pub(crate) window_dilation: usize,
    /// The step from one element of the input to the next, at least 1; between them are zeros.
    pub(crate) input_dilation: usize,
}

impl Axis {
    /// What the window covers.
    pub(crate) fn covered(&self) -> usize {
        (self.size - 1) * self.window_dilation + 1
    }

    /// The positions of the window over an input of size `n`.
    pub(crate) fn positions(&self, n: usize) -> usize {
        let dilated = if n == 0 { 0 } else { (n - 1) * self.input_dilation + 1 };
        let padded = dilated + self.zeros.0 + self.zeros.1;
        padded.checked_sub(self.covered()).map_or(0, |room| room / self.stride + 1)
    }

    /// What is seen at `place` of the window at `position`: an index below `n`, or a zero.
    fn source(&self, n: usize, position: usize, place: usize) -> Option<usize> {
        let at = (position * self.stride + place * self.window_dilation).checked_sub(self.zeros.0)?;
        let index = at / self.input_dilation;
        (at % self.input_dilation == 0 && index < n).then_some(index)
    }
}

/// `x`, `[batch, *spatial, channels]`, as `[batch, *positions, places, channels]`, with the places of the
/// window in row-major order.
pub(crate) fn patches(x: &Tensor, window: &[Axis]) -> Result<Tensor> {
    let has_kernel = x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64);
    if is_reference() || !has_kernel {
        return plain(x, window);
    }
    let plan = Arc::new(Plan::new(x.dims(), window));
    x.contiguous()?.apply_op1(Patches { plan, back: false })
}

fn plain(x: &Tensor, window: &[Axis]) -> Result<Tensor> {
    let (batch, spatial, channels) = split(x.dims());
    let rank = spatial.len();
    let mut dims = vec![batch];
    let mut patches = x.clone();
    for (d, (axis, &n)) in window.iter().zip(spatial).enumerate() {
        let positions = axis.positions(n);
        // Index `n` is a zero, appended.
        let see = |(position, place)| axis.source(n, position, place).unwrap_or(n) as u32;
        let index: Vec<u32> = (0..positions)
            .flat_map(|position| (0..axis.size).map(move |place| (position, place)))
            .map(see)
            .collect();
        let index = Tensor::from_vec(index, positions * axis.size, x.device())?;
        dims.extend([positions, axis.size]);
        let rest = [&spatial[d + 1..], &[channels]].concat();
        patches = patches.pad_with_zeros(1 + 2 * d, 0, 1)?.contiguous()?.index_select(&index, 1 + 2 * d)?;
        patches = patches.reshape([dims.as_slice(), &rest].concat())?;
    }
    // [batch, position, place, .., channels], to all positions before all places.
    let order: Vec<usize> = [
        vec![0],
        (0..rank).map(|d| 1 + 2 * d).collect(),
        (0..rank).map(|d| 2 + 2 * d).collect(),
        vec![1 + 2 * rank],
    ]
    .concat();
    patches.permute(order)?.reshape(patches_shape(batch, spatial, channels, window))
}

fn split(dims: &[usize]) -> (usize, &[usize], usize) {
    (dims[0], &dims[1..dims.len() - 1], dims[dims.len() - 1])
}

fn patches_shape(batch: usize, spatial: &[usize], channels: usize, window: &[Axis]) -> Shape {
    let positions = window.iter().zip(spatial).map(|(axis, &n)| axis.positions(n));
    let places = window.iter().map(|axis| axis.size).product();
    [batch].into_iter().chain(positions).chain([places, channels]).collect::<Vec<_>>().into()
}

/// Fewer elements than this are not worth waking other threads.
const PARALLEL: usize = 1 << 16;

/// Where everything comes from and goes to. All dimensions but the last spatial one, the rows, are flattened
/// into tables; along the last one, places that see neighbouring elements are joined into runs.
#[derive(Debug)]
struct Plan {
    input: Shape,
    output: Shape,
    /// Elements of a batch item, and of its patches.
    item: usize,
    item_patches: usize,
    /// For each position of a row and each place of a row in the window: the first element of the input row
    /// that is seen, unless it is all zeros.
    rows: Vec<Option<usize>>,
    /// Places of a row in the window.
    row_places: usize,
    /// Elements of one row of the window, that is of all its places along the last dimension.
    row: usize,
    /// For each position along the last dimension.
    runs: Vec<Vec<Run>>,
}

/// `len` neighbouring elements: from `source` in the input row, to `target` in the row of the window.
#[derive(Debug)]
struct Run {
    source: usize,
    target: usize,
    len: usize,
}

impl Plan {
    fn new(dims: &[usize], window: &[Axis]) -> Self {
        let (batch, spatial, channels) = split(dims);
        let output = patches_shape(batch, spatial, channels, window);
        let last = window.len() - 1;
        let (mut rows, mut row_places) = (vec![Some(0)], 1);
        for d in 0..last {
            let (axis, n) = (window[d], spatial[d]);
            let step: usize = spatial[d + 1..].iter().product::<usize>() * channels;
            let mut inner = Vec::with_capacity(rows.len() * axis.positions(n) * axis.size);
            for outer in rows.chunks(row_places) {
                for position in 0..axis.positions(n) {
                    for start in outer {
                        for place in 0..axis.size {
                            inner.push(
                                start
                                    .zip(axis.source(n, position, place))
                                    .map(|(start, index)| start + index * step),
                            );
                        }
                    }
                }
            }
            (rows, row_places) = (inner, row_places * axis.size);
        }
        let runs = (0..window[last].positions(spatial[last]))
            .map(|position| runs_at(window[last], spatial[last], position, channels));
        Self {
            item: dims[1..].iter().product(),
            item_patches: output.dims()[1..].iter().product(),
            row: window[last].size * channels,
            runs: runs.collect(),
            input: dims.into(),
            output,
            rows,
            row_places,
        }
    }

    /// Shows `each` all runs of a batch item: first element in the input, first in the patches, length.
    fn each_run(&self, mut each: impl FnMut(usize, usize, usize)) {
        let mut target = 0;
        for rows in self.rows.chunks(self.row_places) {
            for runs in &self.runs {
                for start in rows {
                    if let Some(start) = start {
                        runs.iter().for_each(|run| each(start + run.source, target + run.target, run.len));
                    }
                    target += self.row;
                }
            }
        }
    }

    /// From the input to its patches.
    fn gather<T: WithDType>(&self, input: &[T]) -> Vec<T> {
        self.items(input, self.item, self.item_patches, |input, patches| {
            self.each_run(|source, target, len| {
                patches[target..target + len].copy_from_slice(&input[source..source + len])
            });
        })
    }

    /// From patches to the input that they come from, adding up.
    fn scatter<T: WithDType>(&self, patches: &[T]) -> Vec<T> {
        self.items(patches, self.item_patches, self.item, |patches, input| {
            self.each_run(|source, target, len| {
                for (sum, value) in input[source..source + len].iter_mut().zip(&patches[target..target + len])
                {
                    *sum += *value;
                }
            });
        })
    }

    /// `f` from each batch item of `size` elements to zeros of `new_size`, on all cores where it pays.
    fn items<T: WithDType>(
        &self,
        from: &[T],
        size: usize,
        new_size: usize,
        f: impl Fn(&[T], &mut [T]) + Sync,
    ) -> Vec<T> {
        let mut to = vec![T::zero(); self.input.dims()[0] * new_size];
        if from.is_empty() || to.is_empty() {
            return to;
        }
        let parallel = from.len().max(to.len()) >= PARALLEL;
        pieces(&mut to, new_size, parallel, |item, to| f(&from[item * size..][..size], to));
        to
    }
}

/// What is seen from one position along the last dimension.
fn runs_at(axis: Axis, n: usize, position: usize, channels: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for place in 0..axis.size {
        let Some(index) = axis.source(n, position, place) else { continue };
        let (source, target) = (index * channels, place * channels);
        match runs.last_mut() {
            Some(run) if run.source + run.len == source && run.target + run.len == target => {
                run.len += channels
            }
            _ => runs.push(Run { source, target, len: channels }),
        }
    }
    runs
}

/// From an input to its patches, or back.
struct Patches {
    plan: Arc<Plan>,
    back: bool,
}

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        if self.back { "patches-back" } else { "patches" }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let range = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
        let plan = &*self.plan;
        let storage = match (storage, self.back) {
            (CpuStorage::F32(values), false) => CpuStorage::F32(plan.gather(&values[range])),
            (CpuStorage::F64(values), false) => CpuStorage::F64(plan.gather(&values[range])),
            (CpuStorage::F32(values), true) => CpuStorage::F32(plan.scatter(&values[range])),
            (CpuStorage::F64(values), true) => CpuStorage::F64(plan.scatter(&values[range])),
            _ => return Err(candle_core::Error::UnsupportedDTypeForOp(dtype_of(storage), self.name())),
        };
        Ok((storage, if self.back { plan.input.clone() } else { plan.output.clone() }))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let transposed = Self { plan: Arc::clone(&self.plan), back: !self.back };
        Ok(Some(grad.contiguous()?.apply_op1(transposed)?))
    }
}

fn dtype_of(storage: &CpuStorage) -> DType {
    use candle_core::backend::BackendStorage as _;
    storage.dtype()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use treex_core::Key;
    use treex_core::autograd::with_reference;

    use super::*;

    /// Patches, and the gradient of the sum of their products with fixed numbers.
    fn patches_and_gradient(x: &Tensor, window: &[Axis]) -> (Tensor, Tensor) {
        let x = Var::from_tensor(x).unwrap();
        let patches = patches(&x, window).unwrap();
        let weights = Key::from(1).normal(patches.shape(), DType::F32).unwrap().to_dtype(x.dtype()).unwrap();
        let grads = (&patches * weights).unwrap().sum_all().unwrap().backward().unwrap();
        (patches.detach(), grads.get(&x).unwrap().clone())
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
                    zeros: (draw(case, 10 * d + 2, &[0, 0, 1, 2]), draw(case, 10 * d + 3, &[0, 0, 1, 2])),
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
    fn kernel_equals_plain_composition() {
        for (dims, window) in generated() {
            for dtype in [DType::F32, DType::F64] {
                let x = Key::from(0).normal(dims.clone(), DType::F32).unwrap().to_dtype(dtype).unwrap();
                let (y, dx) = patches_and_gradient(&x, &window);
                let (plain_y, plain_dx) = with_reference(|| patches_and_gradient(&x, &window));
                assert_eq!(largest_difference(&y, &plain_y), 0., "{dims:?} {window:?}");
                // The sums of the gradient may be added in another order.
                let tolerance = if dtype == DType::F32 { 1e-5 } else { 1e-13 };
                assert!(largest_difference(&dx, &plain_dx) <= tolerance, "{dims:?} {window:?}");
            }
        }
    }

    /// Forward is linear, so its gradient is its transpose: `<patches(x), w> = <x, gradient(w)>`.
    #[test]
    fn gradient_is_the_transpose() {
        for (dims, window) in generated() {
            let x = Key::from(0).normal(dims.clone(), DType::F32).unwrap().to_dtype(DType::F64).unwrap();
            let (y, dx) = patches_and_gradient(&x, &window);
            let weights = Key::from(1).normal(y.shape(), DType::F32).unwrap().to_dtype(DType::F64).unwrap();
            let dot =
                |a: &Tensor, b: &Tensor| (a * b).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            assert!((dot(&y, &weights) - dot(&x, &dx)).abs() < 1e-10, "{dims:?} {window:?}");
        }
    }

    /// On all cores and on one, strided input, a batch of none, and a window larger than its input.
    #[test]
    fn awkward_inputs() {
        let axis = Axis { size: 3, stride: 1, zeros: (1, 1), window_dilation: 1, input_dilation: 1 };
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
            let (y, dx) = patches_and_gradient(&x, &[axis, axis]);
            let (plain_y, plain_dx) = with_reference(|| patches_and_gradient(&x, &[axis, axis]));
            assert_eq!(largest_difference(&y, &plain_y), 0.);
            assert!(largest_difference(&dx, &plain_dx) <= 1e-5);
        }
        let none = Axis { zeros: (0, 0), ..axis };
        let x = Tensor::zeros((2, 2, 3, 1), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(patches(&x, &[none, none]).unwrap().dims(), [2, 0, 1, 9, 1]);
        assert_eq!(with_reference(|| patches(&x, &[none, none])).unwrap().dims(), [2, 0, 1, 9, 1]);
    }
}
