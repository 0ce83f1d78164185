//! Convolutions, and their gradients: products of matrices whose left side is never written.
//!
//! `x`, `[batch, *spatial, cin]`, with a kernel, `[*size, cin / groups, cout]`, becomes `y`,
//! `[batch, *positions, cout]`:
//!
//! `y[n, p, o] = bias[o] + Σ_(t, i) x[n, source(p, t), i] · kernel[t, i, o]`
//!
//! The tap `t` reads the element `source(p, t)` at the output position `p`, or a zero of the padding; `i` goes
//! over the channels of the group of `o`.
//!
//! Forward, the gradient of the input (a convolution with the flipped kernel) and that of the kernel are one
//! product each, `[positions, taps · cin]` by `[taps · cin, cout]`, of which
//! [`gather_gemm`](crate::gather_gemm) reads the left side where it is. A range of output positions of one
//! item is a piece of work. The zeros of a dilated input are not multiplied, nor, backward, those between the
//! positions of a stride.

mod channels;
mod correlation;
mod geometry;
mod padding;

use std::mem::MaybeUninit;

pub use self::channels::Channels;
use self::correlation::Correlation;
use self::geometry::{Geometry, Movement};
use crate::error::{Error, Result};
use crate::fill::try_filled;
use crate::memory::product;
use crate::vector::Vectors;
use crate::window::{self, Axis};

entry_points! {
    /// Convolutions of arrays of floats.
    pub trait Convolution: Vectors for [f32, f64] {
        /// `x`, `[batch, *spatial, cin]`, with `kernel`, `[*size, cin / groups, cout]`, and `bias`, `[cout]`,
        /// added, as `[batch, *positions, cout]`.
        ///
        /// # Errors
        /// If an array has another number of elements than the plan, or memory cannot be allocated.
        fn convolution(plan: &Plan, x: &[Self], kernel: &[Self], bias: Option<&[Self]>) -> Result<Vec<Self>> =
            forward;

        /// The gradient of `x` from that of the output, `[batch, *positions, cout]`.
        ///
        /// # Errors
        /// If an array has another number of elements than the plan, or memory cannot be allocated.
        fn convolution_input_gradient(plan: &Plan, kernel: &[Self], dy: &[Self]) -> Result<Vec<Self>> =
            input_gradient;

        /// The gradients of kernel and bias from that of the output.
        ///
        /// # Errors
        /// If an array has another number of elements than the plan, or memory cannot be allocated.
        fn convolution_kernel_gradient(
            plan: &Plan,
            x: &[Self],
            dy: &[Self],
        ) -> Result<(Vec<Self>, Vec<Self>)> = kernel_gradient;
    }
}

/// How a kernel moves over a batch, and which elements its taps read.
#[derive(Debug)]
pub struct Plan {
    forward: Geometry,
    backward: Geometry,
    channels: Channels,
    batch: usize,
    /// The numbers of elements.
    x: usize,
    kernel: usize,
    y: usize,
}

impl Plan {
    /// For `[batch, *spatial, cin]`, and a window with an axis for each spatial size. `None` without an axis
    /// or without elements, and where an item with its padding would be much larger than without: im2col
    /// serves there.
    ///
    /// # Errors
    /// If `window` and `spatial` have different lengths, an axis is refused by [`Axis::check`], `groups` does not divide
    /// the channels, or memory cannot be allocated.
    pub fn new(batch: usize, spatial: &[usize], channels: Channels, window: &[Axis]) -> Result<Option<Self>> {
        window::check(window, spatial)?;
        let Channels { cin, cout, groups } = channels;
        if groups == 0 || !cin.is_multiple_of(groups) || !cout.is_multiple_of(groups) {
            let message = "the channels of a convolution are divided into groups";
            return Err(Error::shape(message, "a divisor of `cin` and `cout`", format!("{channels:?}")));
        }
        let movements: Vec<_> = window.iter().zip(spatial).map(|(axis, &n)| Movement::new(axis, n)).collect();
        Self::from_movements(batch, channels, &movements)
    }

    fn from_movements(batch: usize, channels: Channels, movements: &[Movement]) -> Result<Option<Self>> {
        let Channels { cin, cout, .. } = channels;
        let is_empty = |movement: &Movement| movement.n == 0 || movement.positions == 0;
        if movements.is_empty() || movements.iter().any(is_empty) || [batch, cin, cout].contains(&0) {
            return Ok(None);
        }
        let sizes = |of: fn(&Movement) -> usize| movements.iter().map(of);
        let x = product(sizes(|movement| movement.n).chain([batch, cin]));
        let y = product(sizes(|movement| movement.positions).chain([batch, cout]));
        let kernel = product(sizes(|movement| movement.size).chain([channels.per_group(), cout]));
        // Kernels and their gradients are stored in whole vectors too.
        let kernel = kernel.filter(|kernel| kernel.checked_mul(64).is_some());
        let (Some(x), Some(y), Some(kernel)) = (x, y, kernel) else { return Ok(None) };
        let transposed: Vec<_> = movements.iter().map(Movement::transposed).collect();
        let Some(forward) = Geometry::new(movements, cin)? else { return Ok(None) };
        let Some(backward) = Geometry::new(&transposed, cout)? else { return Ok(None) };
        Ok(Some(Self { x, y, kernel, forward, backward, channels, batch }))
    }

    fn correlation(&self) -> Correlation<'_> {
        Correlation { geometry: &self.forward, channels: self.channels, batch: self.batch }
    }
}

fn check_len(message: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::shape(message, format!("{expected} elements"), found))
}

fn check_x(plan: &Plan, len: usize) -> Result<()> {
    check_len("the input of a convolution has another size than planned", len, plan.x)
}

fn check_kernel(plan: &Plan, len: usize) -> Result<()> {
    check_len("the kernel of a convolution has another size than planned", len, plan.kernel)
}

fn check_dy(plan: &Plan, len: usize) -> Result<()> {
    check_len("the gradient of a convolution has another size than its output", len, plan.y)
}

fn forward<T: Vectors>(plan: &Plan, x: &[T], kernel: &[T], bias: Option<&[T]>) -> Result<Vec<T>> {
    check_x(plan, x.len())?;
    check_kernel(plan, kernel.len())?;
    if let Some(bias) = bias {
        check_len(
            "the bias of a convolution has another size than its output",
            bias.len(),
            plan.channels.cout,
        )?;
    }
    // SAFETY: `y` is `[batch, positions, cout]`, all of which is written.
    unsafe {
        try_filled(plan.y, |y: &mut [MaybeUninit<T>]| {
            plan.correlation().write(y.as_mut_ptr().cast(), x, kernel, false, bias)
        })
    }
}

fn input_gradient<T: Vectors>(plan: &Plan, kernel: &[T], dy: &[T]) -> Result<Vec<T>> {
    check_kernel(plan, kernel.len())?;
    check_dy(plan, dy.len())?;
    let correlation =
        Correlation { geometry: &plan.backward, channels: plan.channels.transposed(), batch: plan.batch };
    // SAFETY: the output positions of the transpose are the elements of the input, all of which are written.
    unsafe {
        try_filled(plan.x, |dx: &mut [MaybeUninit<T>]| {
            correlation.write(dx.as_mut_ptr().cast(), dy, kernel, true, None)
        })
    }
}

fn kernel_gradient<T: Vectors>(plan: &Plan, x: &[T], dy: &[T]) -> Result<(Vec<T>, Vec<T>)> {
    check_x(plan, x.len())?;
    check_dy(plan, dy.len())?;
    plan.correlation().kernel_gradient(x, dy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::testing::{Draw, sources};

    /// Output and gradients against a loop over the formula, in whole numbers: every order of a sum gives the
    /// same. Whether there is a plan.
    fn check<T: Convolution + Into<f64>>(
        draw: &mut Draw,
        batch: usize,
        (window, spatial): (&[Axis], &[usize]),
        channels: Channels,
    ) -> Result<bool> {
        let Some(plan) = Plan::new(batch, spatial, channels, window)? else { return Ok(false) };
        let Channels { cin, cout, groups } = channels;
        let sources = sources(window, spatial);
        let (item, per_group) = (spatial.iter().product::<usize>(), cin / groups);
        let taps = window.iter().map(|axis| axis.size).product::<usize>();
        let [x, kernel, bias, dy] =
            [batch * item * cin, taps * per_group * cout, cout, batch * sources.len() * cout]
                .map(|len| draw.numbers(len));
        let mut y: Vec<f64> = (0..dy.len()).map(|at| bias[at % cout]).collect();
        let (mut dx, mut dkernel, mut dbias) = (vec![0.; x.len()], vec![0.; kernel.len()], vec![0.; cout]);
        for (row, (y, dy)) in y.chunks_mut(cout).zip(dy.chunks(cout)).enumerate() {
            let (n, position) = (row / sources.len(), row % sources.len());
            for (tap, source) in sources[position].iter().enumerate() {
                let Some(source) = source else { continue };
                for (o, (y, dy)) in y.iter_mut().zip(dy).enumerate() {
                    for i in 0..per_group {
                        let at = (n * item + source) * cin + o / (cout / groups) * per_group + i;
                        let weight = (tap * per_group + i) * cout + o;
                        *y += x[at] * kernel[weight];
                        dx[at] += dy * kernel[weight];
                        dkernel[weight] += dy * x[at];
                    }
                }
            }
            dbias.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
        }
        let typed = |values: &[f64]| values.iter().map(|&value| T::of(value)).collect::<Vec<T>>();
        let [x, kernel, bias, dy] = [x, kernel, bias, dy].map(|values| typed(&values));
        let (found_dkernel, found_dbias) = T::convolution_kernel_gradient(&plan, &x, &dy)?;
        for (found, expected) in [
            (T::convolution(&plan, &x, &kernel, Some(&bias))?, y),
            (T::convolution_input_gradient(&plan, &kernel, &dy)?, dx),
            (found_dkernel, dkernel),
            (found_dbias, dbias),
        ] {
            let found: Vec<f64> = found.into_iter().map(Into::into).collect();
            assert!(found == expected, "{batch} {window:?} {spatial:?} {channels:?}");
        }
        Ok(true)
    }

    #[test]
    fn windows_and_channels_of_every_kind() -> Result<()> {
        let mut draw = Draw(4);
        let mut planned = 0;
        for _ in 0..200 {
            let (window, spatial) = draw.window();
            let [cin, cout, groups] = draw.of(&[
                [1, 1, 1],
                [3, 2, 1],
                [1, 9, 1],
                [3, 70, 1],
                [6, 4, 2],
                [19, 19, 19],
                [16, 16, 16],
                [4, 8, 4],
            ]);
            let (channels, batch) = (Channels { cin, cout, groups }, draw.of(&[1, 2, 3]));
            let is_planned = check::<f32>(&mut draw, batch, (&window, &spatial), channels)?;
            assert_eq!(is_planned, check::<f64>(&mut draw, batch, (&window, &spatial), channels)?);
            planned += usize::from(is_planned);
        }
        assert!(planned > 100, "{planned} of 200 windows have a plan");
        Ok(())
    }

    /// Several pieces for each core, several chunks of channels and blocks of the kernel.
    #[test]
    fn on_all_cores() -> Result<()> {
        let axis = Axis { size: 3, stride: 1, padding: (1, 1), window_dilation: 1, input_dilation: 1 };
        let strided = Axis { stride: 2, padding: (0, 1), ..axis };
        for (batch, axis, [cin, cout, groups]) in [
            (3, axis, [33, 150, 1]),
            (5, axis, [96, 96, 96]),
            (3, strided, [40, 80, 2]),
            (2, Axis { input_dilation: 2, ..axis }, [20, 64, 1]),
        ] {
            let channels = Channels { cin, cout, groups };
            assert!(check::<f32>(&mut Draw(5), batch, (&[axis, axis], &[21, 20]), channels)?);
            assert!(check::<f64>(&mut Draw(5), batch, (&[axis, axis], &[21, 20]), channels)?);
        }
        Ok(())
    }

    /// Numbers whose sums round, so that another order would give other bits.
    #[test]
    fn the_same_bits_on_any_number_of_threads() -> Result<()> {
        let axis = Axis { size: 3, stride: 1, padding: (1, 1), window_dilation: 1, input_dilation: 1 };
        let channels = Channels { cin: 33, cout: 50, groups: 1 };
        let plan = Plan::new(3, &[21, 20], channels, &[axis, axis])?.expect("a plan");
        let numbers = |len: usize, step: f32| (0..len).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>();
        let (x, dy) = (numbers(3 * 420 * 33, 0.37), numbers(3 * 420 * 50, 0.73));
        let kernel = numbers(9 * 33 * 50, 0.11);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| {
                let (dkernel, dbias) = f32::convolution_kernel_gradient(&plan, &x, &dy)?;
                let dx = f32::convolution_input_gradient(&plan, &kernel, &dy)?;
                Ok([f32::convolution(&plan, &x, &kernel, None)?, dx, dkernel, dbias])
            })
        };
        let bits = |arrays: [Vec<f32>; 4]| {
            arrays.map(|array| array.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        let one: Result<_> = on(1);
        let one = bits(one?);
        for threads in [2, 3, 7] {
            assert!(bits(on(threads)?) == one, "{threads} threads");
        }
        Ok(())
    }

    #[test]
    fn other_sizes_are_refused() -> Result<()> {
        let axis = Axis { size: 2, stride: 1, padding: (0, 0), window_dilation: 1, input_dilation: 1 };
        let channels = Channels { cin: 4, cout: 2, groups: 2 };
        let plan = Plan::new(1, &[3], channels, &[axis])?.expect("a plan");
        let (x, kernel, y) = ([1f32; 12], [1f32; 8], [1f32; 4]);
        assert_eq!(f32::convolution(&plan, &x, &kernel, None)?, [4.; 4]);
        assert!(f32::convolution(&plan, &x[1..], &kernel, None).is_err());
        assert!(f32::convolution(&plan, &x, &kernel[1..], None).is_err());
        assert!(f32::convolution(&plan, &x, &kernel, Some(&[1.])).is_err());
        assert!(f32::convolution_input_gradient(&plan, &kernel, &y[1..]).is_err());
        assert!(f32::convolution_kernel_gradient(&plan, &x, &y[1..]).is_err());

        assert!(Plan::new(1, &[3, 3], channels, &[axis]).is_err());
        assert!(Plan::new(1, &[3], channels, &[Axis { stride: 0, ..axis }]).is_err());
        assert!(Plan::new(1, &[3], Channels { groups: 3, ..channels }, &[axis]).is_err());
        assert!(
            Plan::new(0, &[3], channels, &[axis])?.is_none() && Plan::new(1, &[], channels, &[])?.is_none()
        );
        // Sizes whose products overflow, and padding that is most of the memory.
        let padded = Axis { padding: (1 << 20, 1 << 20), stride: 1 << 20, ..axis };
        assert!(Plan::new(1, &[3], channels, &[padded])?.is_none());
        assert!(Plan::new(usize::MAX, &[3], channels, &[axis])?.is_none());
        Ok(())
    }
}
