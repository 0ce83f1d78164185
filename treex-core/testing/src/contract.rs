//! The contract of an operation, checked at sizes, views and options that are drawn:
//!
//! - values and gradients are those of its reference composition in `f64`, in every element type;
//! - the gradient is the slope of the loss, by central differences, and the second derivative that of the gradient;
//! - no bit depends on the run, on which gradients are asked for, or on whether treex or Candle differentiates.
//!
//! On another device than the CPU, where there is no kernel of its own, the case runs as its composition, and the numbers
//! that are expected are still those of the CPU. No case there is without elements.
//!
//! A test is one call of [`check`], with a function that draws a [`Case`]. Its program calls `enable_nested_gradients`
//! first in `main`. [`check_sum`] checks what it cannot: that long sums of half types are accumulated wide.

use std::fmt;

use candle_core::{DType, Device, Tensor};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use treex_core::autograd::with_reference;
use treex_core::{Key, Leaf, Parameter, Result, hvp, value_and_grad};

use crate::device::{NO_ELEMENTS, device, skip};
use crate::differences::note;
use crate::gradients::{Outcome, outcome, value_and_gradients, weighted_sum, weights};

/// The element types of floats.
pub const ALL: &[DType] = &[DType::F64, DType::F32, DType::F16, DType::BF16];
/// The element types computed without widening.
pub const WIDE: &[DType] = &[DType::F64, DType::F32];

/// The choices of a case. A failing case is shrunk towards the first of each list.
#[derive(Debug)]
pub struct Draw<'c>(std::slice::Iter<'c, u16>);

impl Draw<'_> {
    /// One of some choices.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        let choice = usize::from(self.0.next().copied().unwrap_or(0));
        choices[(choice * choices.len()) >> u16::BITS]
    }

    /// A size: one that fills vectors, one that does not, or 0.
    pub fn size(&mut self) -> usize {
        self.of(with_elements(&[2, 1, 3, 5, 7, 8, 16, 17, 33, 64, 65, 0]))
    }

    /// Up to two batch dimensions.
    pub fn batch(&mut self) -> Vec<usize> {
        (0..self.of(&[1, 0, 2])).map(|_| self.of(with_elements(&[2, 1, 3, 5, 9, 0]))).collect()
    }

    /// Batch dimensions, or a number of rows that is enough for all cores; on another device, for some warps.
    pub fn rows(&mut self) -> Vec<usize> {
        let many = if device().is_cpu() { 2100 } else { 70 };
        if self.of(&[false, false, false, true]) { vec![many] } else { self.batch() }
    }

    /// `true` or `false`.
    pub fn yes(&mut self) -> bool {
        self.of(&[false, true])
    }

    /// A key of random numbers.
    pub fn key(&mut self) -> Key {
        let seeds: Vec<u64> = (0..64).collect();
        Key::from(self.of(&seeds))
    }
}

/// Sizes, without the 0 at their end where tests run on another device, since Candle's kernels refuse it.
fn with_elements(sizes: &[usize]) -> &[usize] {
    if device().is_cpu() { sizes } else { &sizes[..sizes.len() - 1] }
}

type Function = dyn Fn(&[Tensor]) -> Result<Tensor>;

/// One use of an operation: the shapes of its inputs and the function of them.
pub struct Case {
    inputs: Vec<Vec<usize>>,
    f: Box<Function>,
    has_kernel: bool,
    is_broadcast: bool,
    is_distinct: bool,
    saves_output: bool,
    options: String,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("inputs", &self.inputs)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Case {
    /// `f` of inputs with these shapes.
    pub fn new(inputs: Vec<Vec<usize>>, f: impl Fn(&[Tensor]) -> Result<Tensor> + 'static) -> Self {
        Self {
            inputs,
            f: Box::new(f),
            has_kernel: true,
            is_broadcast: false,
            is_distinct: false,
            saves_output: false,
            options: String::new(),
        }
    }

    /// What was drawn besides the shapes, for the message of a failure.
    #[must_use]
    pub fn options(self, options: impl fmt::Debug) -> Self {
        Self { options: format!("{options:?}"), ..self }
    }

    /// Inputs keep away from 0 and from each other, since the gradient jumps there.
    #[must_use]
    pub fn distinct(self) -> Self {
        Self { is_distinct: true, ..self }
    }

    /// Backward starts from the output, which is rounded.
    #[must_use]
    pub fn saves_output(self) -> Self {
        Self { saves_output: true, ..self }
    }

    /// Whether a kernel covers the case. Default: it does; an empty case needs none.
    #[must_use]
    pub fn has_kernel(self, has_kernel: bool) -> Self {
        Self { has_kernel, ..self }
    }

    /// Whether Candle broadcasts an input and adds up its gradient. Default: no.
    #[must_use]
    pub fn is_broadcast(self, is_broadcast: bool) -> Self {
        Self { is_broadcast, ..self }
    }

    /// The numbers of an input, in `f64`.
    fn numbers(&self, key: Key, dims: &[usize]) -> Result<Tensor> {
        let count = dims.iter().product::<usize>();
        let numbers = if self.is_distinct && count > 0 {
            let order = key.permutation(count)?;
            order.to_dtype(DType::F64)?.affine(8. / count as f64, 2. / count as f64 - 4.)?
        } else {
            key.normal(count, DType::F64)?
        };
        Ok(numbers.reshape(dims)?)
    }
}

/// Checks that an operation sums 5,000 terms in each element type: `f` of ones with these shapes has the value `wanted`
/// everywhere, or the sum of it has the gradient `wanted` with respect to the input `at`, to one rounding.
///
/// A sum in the type itself stops growing at 256 in `BF16` and at 2,048 in `F16`.
pub fn check_sum(
    name: &str,
    inputs: &[&[usize]],
    at: Option<usize>,
    wanted: f64,
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let check = |dtype: DType| -> Result<()> {
        let ones = |dims: &&[usize]| Leaf::<Parameter>::new(Tensor::ones(*dims, dtype, device())?);
        let leaves = inputs.iter().map(ones).collect::<Result<Vec<_>>>()?;
        let mut value = None;
        let (_, gradients) = value_and_grad(&leaves, |leaves| {
            let y = f(&leaves.iter().map(Leaf::get).collect::<Result<Vec<_>>>()?)?;
            value = Some(y.detach());
            Ok(y.to_dtype(DType::F64)?.sum_all()?)
        })?;
        let found = at.map(|at| gradients[at].get()).transpose()?.or(value).expect("the closure ran");
        assert_eq!(found.dtype(), dtype, "{name}");
        let wanted = Tensor::new(wanted, &Device::Cpu)?.to_dtype(dtype)?.to_dtype(DType::F64)?;
        let wanted = wanted.to_scalar::<f64>()?;
        let found = numbers(&found)?;
        // Of wide types, the error of the sum; half types are rounded once.
        let tolerance = match dtype {
            DType::F64 => 1e-12,
            DType::F32 => 1e-6,
            _ => 0.,
        };
        let far = found.iter().map(|x| (x - wanted).abs()).fold(0., f64::max);
        assert!(far <= tolerance * wanted.abs(), "`{name}`, {dtype:?}: {found:?}, not {wanted}");
        Ok(())
    };
    for &dtype in ALL {
        for result in [check(dtype), with_reference(|| check(dtype))] {
            result.unwrap_or_else(|error| panic!("`{name}`, {dtype:?}: {error}"));
        }
    }
}

/// How an input comes from a variable.
#[derive(Clone, Copy, Debug)]
enum View {
    Whole,
    Transposed(usize, usize),
    /// A part along an axis.
    Narrowed(usize),
    /// Broadcast along an axis.
    Repeated(usize),
}

impl View {
    fn draw(draw: &mut Draw<'_>, rank: usize) -> Self {
        let axes: Vec<usize> = (0..rank).collect();
        let kind = draw.of(&[0, 0, 1, 1, 2, 2, 3]);
        match kind {
            1 if rank > 1 => Self::Transposed(draw.of(&axes), draw.of(&axes)),
            2 if rank > 0 => Self::Narrowed(draw.of(&axes)),
            3 if rank > 0 => Self::Repeated(draw.of(&axes)),
            _ => Self::Whole,
        }
    }

    /// The shape of the variable for an input.
    fn variable(self, dims: &[usize]) -> Vec<usize> {
        let mut dims = dims.to_vec();
        match self {
            Self::Whole => {}
            Self::Transposed(a, b) => dims.swap(a, b),
            Self::Narrowed(axis) => dims[axis] += 3,
            Self::Repeated(axis) => dims[axis] = 1,
        }
        dims
    }

    fn of(self, variable: &Tensor, dims: &[usize]) -> Result<Tensor> {
        Ok(match self {
            Self::Whole => variable.clone(),
            Self::Transposed(a, b) => variable.transpose(a, b)?,
            // Candle rejects an empty view that starts beyond its memory.
            Self::Narrowed(axis) => {
                variable.narrow(axis, usize::from(variable.elem_count() > 0), dims[axis])?
            }
            Self::Repeated(_) => variable.broadcast_as(dims)?,
        })
    }
}

/// A case with its inputs.
struct Trial<'c> {
    case: &'c Case,
    views: Vec<View>,
    key: Key,
}

impl Trial<'_> {
    fn variables(&self) -> Result<Vec<Tensor>> {
        let of = |(at, (view, dims)): (usize, (&View, &Vec<usize>))| {
            self.case.numbers(self.key.fold_in(at as u32), &view.variable(dims))
        };
        self.views.iter().zip(&self.case.inputs).enumerate().map(of).collect()
    }

    fn call(&self, variables: &[Tensor]) -> Result<Tensor> {
        let views = self.views.iter().zip(variables).zip(&self.case.inputs);
        let inputs = views.map(|((view, variable), dims)| view.of(variable, dims));
        (self.case.f)(&inputs.collect::<Result<Vec<_>>>()?)
    }

    /// By treex's differentiation: the gradients that are `wanted`, and zeros for the others.
    fn outcome(&self, variables: &[Tensor], wanted: impl Fn(usize) -> bool) -> Result<Outcome> {
        outcome(variables, |variables| {
            let of = |(at, x): (usize, &Tensor)| if wanted(at) { x.clone() } else { x.detach() };
            self.call(&variables.iter().enumerate().map(of).collect::<Vec<_>>())
        })
    }

    /// The slope of the loss along a direction of one variable, by a central difference, and its gradient.
    fn slopes(&self, variables: &[Tensor], at: usize, gradient: &Tensor) -> Result<[f64; 2]> {
        let direction = self.key.fold_in(100 + at as u32).normal(variables[at].shape(), DType::F64)?;
        let direction = direction.to_device(variables[at].device())?;
        let moved = |step: f64| -> Result<f64> {
            let mut variables = variables.to_vec();
            variables[at] = (&variables[at] + (&direction * step)?)?;
            Ok(weighted_sum(&self.call(&variables)?)?.to_scalar()?)
        };
        let slope = (moved(STEP)? - moved(-STEP)?) / (2. * STEP);
        Ok([slope, (gradient * direction)?.sum_all()?.to_scalar()?])
    }
}

impl Trial<'_> {
    /// The second derivative of the loss along a direction of all variables, one tensor for each: as the derivative of the
    /// gradient, and as a central difference of gradients.
    fn curvatures(&self, variables: &[Tensor]) -> Result<[Vec<Tensor>; 2]> {
        let direction = |(at, x): (usize, &Tensor)| -> Result<Tensor> {
            let direction = self.key.fold_in(200 + at as u32).normal(x.shape(), DType::F64)?;
            Ok(direction.to_device(x.device())?)
        };
        let directions = variables.iter().enumerate().map(direction).collect::<Result<Vec<_>>>()?;
        let leaves = |all: &[Tensor]| all.iter().map(Leaf::<Parameter>::new).collect::<Result<Vec<_>>>();
        let loss = |leaves: &mut Vec<Leaf<Parameter>>| {
            let y = self.call(&leaves.iter().map(Leaf::get).collect::<Result<Vec<_>>>()?)?;
            let (sum, zero) = (weighted_sum(&y)?, (leaves[0].get()?.sum_all()? * 0.)?);
            Ok((&sum + zero.to_dtype(sum.dtype())?)?)
        };
        let (_, _, exact) = hvp(&leaves(variables)?, Parameter, loss, &leaves(&directions)?)?;
        let moved = |step: f64| -> Result<Vec<Tensor>> {
            let moved = variables.iter().zip(&directions).map(|(x, d)| x + (d * step)?);
            Ok(self.outcome(&moved.collect::<candle_core::Result<Vec<_>>>()?, |_| true)?.tensors.split_off(1))
        };
        let differences = moved(STEP)?.into_iter().zip(moved(-STEP)?).map(|(a, b)| (a - b)? / (2. * STEP));
        let exact = exact.iter().map(Leaf::get).collect::<Result<_>>()?;
        Ok([exact, differences.collect::<candle_core::Result<_>>()?])
    }
}

const STEP: f64 = 1e-6;

/// The error of a difference over [`STEP`]: the rounding of the losses, divided by it.
const SLOPE: f64 = 1e-6;

/// The error of kernels relative to the largest number: half types are rounded once.
fn kernel_tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 1e-5,
        DType::F16 => 2e-3,
        _ => 1.6e-2,
    }
}

/// The error of reference compositions, which round half types after each of their operations.
fn reference_tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 3e-2,
        DType::BF16 => 2e-1,
        wide => kernel_tolerance(wide),
    }
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The largest difference relative to the largest number; infinite for NaN.
fn difference(found: &Tensor, wanted: &Tensor) -> Result<f64> {
    if found.shape() != wanted.shape() {
        return Ok(f64::INFINITY);
    }
    let (found, wanted) = (numbers(found)?, numbers(wanted)?);
    let largest = wanted.iter().fold(1f64, |largest, x| largest.max(x.abs()));
    let far = |(found, wanted): (&f64, &f64)| {
        let far = (found - wanted).abs() / largest;
        if far.is_nan() { f64::INFINITY } else { far }
    };
    Ok(found.iter().zip(&wanted).map(far).fold(0., f64::max))
}

fn same_bits(a: &[Tensor], b: &[Tensor]) -> Result<bool> {
    let bits = |all: &[Tensor]| -> Result<Vec<Vec<u64>>> {
        // Candle's sums start at 0, which changes the sign of a zero alone.
        let of = |x: &Tensor| Ok(numbers(x)?.into_iter().map(|x| (x + 0.).to_bits()).collect());
        all.iter().map(of).collect()
    };
    Ok(bits(a)? == bits(b)?)
}

/// Checks one case; the inner `Err` says what it violates.
fn holds(trial: &Trial<'_>, name: &str, kernels: &[DType]) -> Result<std::result::Result<(), String>> {
    let on = |all: &[Tensor], device: &Device, dtype: DType| -> Result<Vec<Tensor>> {
        all.iter().map(|x| Ok(x.to_device(device)?.to_dtype(dtype)?)).collect()
    };
    let exact = trial.variables()?;
    let count = exact.len();
    for &dtype in ALL {
        // Sorts, which have no kernel of treex.
        let has_ties = name.is_empty() && trial.case.is_distinct && dtype.size_in_bytes() == 2;
        if has_ties && skip("sorts in half precision", "Candle sorts equal numbers in any order on CUDA") {
            continue;
        }
        let rounded = on(&on(&exact, &Device::Cpu, dtype)?, device(), dtype)?;
        let found = trial.outcome(&rounded, |_| true)?;
        let again = trial.outcome(&rounded, |_| true)?;
        let reference = with_reference(|| trial.outcome(&rounded, |_| true))?;
        let wide = on(&rounded, &Device::Cpu, DType::F64)?;
        let wanted = with_reference(|| trial.outcome(&wide, |_| true))?;

        let is_empty =
            trial.case.inputs.iter().any(|dims| dims.contains(&0)) || found.tensors[0].elem_count() == 0;
        let has_kernel = device().is_cpu() && kernels.contains(&dtype) && trial.case.has_kernel;
        if has_kernel && !is_empty && found.operation != Some(name) {
            return Ok(Err(format!("{dtype:?}: computed by {:?}, not by {name:?}", found.operation)));
        }
        for part in 0..=count {
            // Candle adds up the gradient of a repeated view sequentially and rounds after each term: for half types the
            // sum is too inexact to compare; for others the tolerance grows by its error bound.
            let is_half = matches!(dtype, DType::F16 | DType::BF16);
            let times = found.tensors[0].elem_count() / found.tensors[part].elem_count().max(1);
            let is_repeated = part > 0 && matches!(trial.views[part - 1], View::Repeated(_));
            let is_summed = is_repeated || (part > 0 && trial.case.is_broadcast && times > 1);
            if is_half && is_summed {
                continue;
            }
            let epsilon = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
            let of_sum = if is_summed { times as f64 * epsilon } else { 0. };
            let of_reference = reference_tolerance(dtype) + of_sum;
            let of_kernel = match (has_kernel, part > 0 && is_half && trial.case.saves_output) {
                (false, _) => of_reference,
                (true, false) => kernel_tolerance(dtype) + of_sum,
                // The rounded output is in each of the terms, which may cancel: their errors are a random walk.
                (true, true) => kernel_tolerance(dtype) * (times as f64).sqrt().max(4.) + of_sum,
            };
            for (who, outcome, tolerance) in
                [("the kernel", &found, of_kernel), ("the reference", &reference, of_reference)]
            {
                let what = if part == 0 { "value".to_owned() } else { format!("gradient {}", part - 1) };
                let tensor = &outcome.tensors[part];
                let expected = &reference.tensors[part];
                if tensor.dtype() != expected.dtype() || tensor.shape() != wanted.tensors[part].shape() {
                    return Ok(Err(format!("{dtype:?}, {who}, {what}: {tensor:?} for {expected:?}")));
                }
                let far = difference(tensor, &wanted.tensors[part])?;
                if far > tolerance {
                    return Ok(Err(format!("{dtype:?}, {who}, {what}: wrong by {far:e} of {tolerance:e}")));
                }
                note(dtype.as_str(), far, name);
            }
        }
        if !same_bits(&found.tensors, &again.tensors)? {
            return Ok(Err(format!("{dtype:?}: another run gives other bits")));
        }
        if !same_bits(&found.tensors, &value_and_gradients(&rounded, |x| trial.call(x))?)? {
            return Ok(Err(format!("{dtype:?}: Candle's backward pass gives other bits")));
        }
        for only in 0..count {
            let one = trial.outcome(&rounded, |at| at == only)?.tensors;
            let (one, all) = ([&one[0], &one[only + 1]], [&found.tensors[0], &found.tensors[only + 1]]);
            if !same_bits(&one.map(Tensor::clone), &all.map(Tensor::clone))? {
                return Ok(Err(format!("{dtype:?}: gradient {only} alone has other bits")));
            }
        }
        if dtype == DType::F64 {
            let scale = numbers(&(&found.tensors[0] * weights(&found.tensors[0])?)?.abs()?)?;
            let scale = scale.iter().sum::<f64>().max(1.);
            for at in 0..count {
                let [slope, along] = trial.slopes(&rounded, at, &found.tensors[at + 1])?;
                let far = (slope - along).abs() / scale.max(along.abs());
                if far.is_nan() || far > SLOPE {
                    return Ok(Err(format!("gradient {at}: {along}, central difference {slope}")));
                }
            }
            let [exact, differences] = trial.curvatures(&rounded)?;
            let scale = found.tensors[1..].iter().map(numbers).collect::<Result<Vec<_>>>()?.concat();
            let scale = scale.iter().fold(1f64, |largest, x| largest.max(x.abs()));
            for (at, (exact, differences)) in exact.iter().zip(&differences).enumerate() {
                let far = difference(exact, differences)?;
                if far > SLOPE * scale {
                    return Ok(Err(format!("the second derivative by input {at} is wrong by {far:e}")));
                }
            }
        }
    }
    Ok(Ok(()))
}

/// Checks cases of the operation `name`, which has kernels for these element types. Every run draws the same 64 cases;
/// `PROPTEST_RNG_SEED` and `PROPTEST_CASES` select others and more.
///
/// # Panics
/// If a case violates the contract, with the shapes, views and options of the smallest one that was found.
pub fn check(name: &str, kernels: &[DType], case: impl Fn(&mut Draw<'_>) -> Case) {
    skip(&format!("cases of `{name}` without elements"), NO_ELEMENTS);
    // On a simulated device, a case takes seconds: it is told as it was drawn.
    let max_shrink_iters = if device().is_cpu() { 4096 } else { 0 };
    let mut config = Config { failure_persistence: None, max_shrink_iters, ..Config::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(0);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    let run = |choices: Vec<u16>| {
        let mut draw = Draw(choices.iter());
        let key = draw.key();
        let case = case(&mut draw);
        if !device().is_cpu() && case.inputs.iter().any(|dims| dims.contains(&0)) {
            return Ok(());
        }
        let views = case.inputs.iter().map(|dims| View::draw(&mut draw, dims.len())).collect();
        let trial = Trial { case: &case, views, key };
        let violation = match holds(&trial, name, kernels) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(violation)) => violation,
            Err(error) => error.to_string(),
        };
        let (inputs, views, options) = (&case.inputs, &trial.views, &case.options);
        Err(TestCaseError::fail(format!("`{name}` of {inputs:?}, {views:?}, {options}: {violation}")))
    };
    match TestRunner::new(config).run(&vec(any::<u16>(), 48), run) {
        Ok(()) => {}
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(error) => panic!("{error}"),
    }
}
