//! The steps of a recurrent cell on a device: a launch each, between products by its library.

use candle_core::{DType, Device, Tensor};
use treex_kernels::dialect::{EACH, ELEMENT};
use treex_kernels::recurrent::DIALECT;
use treex_kernels::recurrent::any_cell::AnyCell;
use treex_kernels::recurrent::cell::Counts;

use super::groups;
use super::kernel::{Function, Kernel, Launch, Value};
use crate::error::{Error, Result};

const TEXTS: &[&str] = &[ELEMENT, EACH, DIALECT];
static STEP: Kernel = Kernel { name: "recurrent_step", texts: TEXTS };
static STEP_BACKWARD: Kernel = Kernel { name: "recurrent_step_backward", texts: TEXTS };

/// A cell, and the sizes of its sequences.
#[derive(Clone, Copy, Debug)]
pub struct Sequences {
    /// The cell.
    pub cell: AnyCell,
    /// Steps.
    pub time: usize,
    /// Sequences.
    pub items: usize,
    /// Of the output, and of each tensor of the carry.
    pub features: usize,
}

/// What a cell computes, step by step.
#[derive(Debug)]
pub struct Steps {
    sequences: Sequences,
    /// The carry before the first step, `[states, items, features]`.
    first: Tensor,
    /// `[time, items, gates, features]`.
    gates: Tensor,
    /// The carry behind each step, `[states, time, items, features]`.
    carries: Tensor,
}

/// What a step adds up beside the product with the carry: the products with the input of all steps,
/// `[time, items, gates of the input, features]`, and biases of the gates of the input and of the carry.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'t> {
    /// The products.
    pub products: &'t Tensor,
    /// `[gates of the input, features]`.
    pub input_bias: Option<&'t Tensor>,
    /// `[gates of the carry, features]`.
    pub carry_bias: Option<&'t Tensor>,
}

/// The gradients of steps, from the last to the first.
#[derive(Debug)]
pub struct Gradients<'s> {
    steps: &'s Steps,
    /// Of the carry, `[states, items, features]`.
    carry: Tensor,
    /// Of the products with the input, `[time, items, gates, features]`.
    input: Tensor,
    /// Of the products with the carry.
    of_carry: Tensor,
}

impl Sequences {
    fn len(&self) -> usize {
        self.items * self.features
    }

    fn defines(&self) -> [(&'static str, usize); 4] {
        let Counts { gates, states, of_input, of_carry } = self.cell.counts();
        [("GATES", gates), ("STATES", states), ("FROM_INPUT", gates - of_input), ("FROM_CARRY", of_carry)]
    }

    /// An error unless a tensor has `count` numbers for each feature.
    fn check(&self, what: &str, x: &Tensor, count: usize) -> Result<()> {
        if Some(x.elem_count()) == count.checked_mul(self.features) {
            return Ok(());
        }
        Err(Error::shape(format!("{what} of a recurrent cell do not fit"))
            .expected(format!("{count} times {} features", self.features))
            .found(format!("{:?}", x.dims())))
    }

    fn values(&self, step: usize) -> [Value; 4] {
        [self.len(), self.features, step, self.time].map(Value::Index)
    }

    fn zeros(&self, dims: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(Tensor::zeros([dims, &[self.features]].concat(), dtype, device)?)
    }
}

impl Steps {
    /// Before the first step, from the carry, `[states, items, features]` in the type that is computed in.
    ///
    /// # Errors
    /// If the carry has another size, or memory cannot be allocated.
    pub fn new(sequences: Sequences, first: Tensor) -> Result<Self> {
        let Sequences { cell, time, items, .. } = sequences;
        let Counts { gates, states, .. } = cell.counts();
        sequences.check("the tensors of the carry", &first, states * items)?;
        let zeros = |dims: &[usize]| sequences.zeros(dims, first.dtype(), first.device());
        let (gates, carries) = (zeros(&[time, items, gates])?, zeros(&[states, time, items])?);
        Ok(Self { sequences, first, gates, carries })
    }

    /// The output before a step, `[items, features]`.
    ///
    /// # Errors
    /// If the step is behind the last one.
    pub fn before(&self, step: usize) -> Result<Tensor> {
        let last = self.first.dim(0)? - 1;
        Ok(match step.checked_sub(1) {
            Some(before) => self.carries.get(last)?.get(before)?,
            None => self.first.get(last)?,
        })
    }

    /// Computes a step, behind those before it, from the product of the output before it with the kernels of the carry.
    ///
    /// # Errors
    /// If sizes do not fit, or the launch fails.
    pub fn step(&mut self, step: usize, inputs: Inputs<'_>, product: &Tensor) -> Result<()> {
        let Self { sequences, first, gates, carries } = self;
        let Sequences { cell, time, items, .. } = *sequences;
        let Counts { of_input, of_carry, .. } = cell.counts();
        let Inputs { products, input_bias, carry_bias } = inputs;
        sequences.check("the products with the input", products, time * items * of_input)?;
        sequences.check("the products with the carry", product, items * of_carry)?;
        input_bias.map_or(Ok(()), |bias| sequences.check("the biases", bias, of_input))?;
        carry_bias.map_or(Ok(()), |bias| sequences.check("the biases", bias, of_carry))?;
        check_step(step, time)?;
        let [a, b, c, d] = sequences.defines();
        let element = first.dtype();
        let launch = Launch {
            kernel: &STEP,
            element,
            defines: &[
                a,
                b,
                c,
                d,
                ("IS_BACKWARD", 0),
                ("HAS_INPUT_BIAS", input_bias.is_some().into()),
                ("HAS_CARRY_BIAS", carry_bias.is_some().into()),
            ],
            groups: groups(sequences.len()),
            reads: &[products, product, input_bias.unwrap_or(first), carry_bias.unwrap_or(first), first]
                .map(|x| (x, element)),
            writes: [],
            values: &sequences.values(step),
        };
        let traced = || cell.traced();
        // SAFETY: the tensors have the sizes of the sequences; gates and carries are this run's own, and a step writes what no other
        // one has written.
        #[expect(unsafe_code, reason = "a launch")]
        let [] = unsafe { launch.run_into(&[gates, carries], function(cell, &traced)) }?;
        Ok(())
    }

    /// The carry behind each step, `[states, time, items, features]`.
    #[must_use]
    pub fn carries(&self) -> &Tensor {
        &self.carries
    }

    /// Begins the backward pass, from the gradient of the last carry, `[states, items, features]`; default: zeros.
    ///
    /// # Errors
    /// If the gradient has another size, or memory cannot be allocated.
    pub fn backward(&self, last: Option<&Tensor>) -> Result<Gradients<'_>> {
        let Sequences { cell, time, items, .. } = self.sequences;
        let Counts { states, of_input, of_carry, .. } = cell.counts();
        let zeros = |dims: &[usize]| self.sequences.zeros(dims, self.first.dtype(), self.first.device());
        let carry = match last {
            Some(last) => {
                self.sequences.check("the gradients of the carry", last, states * items)?;
                // It is written in place.
                last.force_contiguous()?
            }
            None => zeros(&[states, items])?,
        };
        let (input, of_carry) = (zeros(&[time, items, of_input])?, zeros(&[time, items, of_carry])?);
        Ok(Gradients { steps: self, carry, input, of_carry })
    }
}

impl Gradients<'_> {
    /// Computes those of a step, before those behind it, from the gradient of the output through the step behind, `[items, features]`,
    /// and the gradients of some tensors of the carry behind all steps, `[time, items, features]`.
    ///
    /// # Errors
    /// If sizes do not fit, or the launch fails.
    pub fn step(&mut self, step: usize, product: Option<&Tensor>, all: &[Option<Tensor>]) -> Result<()> {
        let Steps { sequences, first, gates, carries } = self.steps;
        let Sequences { cell, time, items, .. } = *sequences;
        check_step(step, time)?;
        product.map_or(Ok(()), |product| sequences.check("the gradients of the output", product, items))?;
        for all in all.iter().flatten() {
            sequences.check("the gradients of all outputs", all, time * items)?;
        }
        let of_state = |state: usize| all.get(state).and_then(Option::as_ref);
        let has_all = (0..2).map(|state| usize::from(of_state(state).is_some()) << state).sum();
        let [a, b, c, d] = sequences.defines();
        let element = first.dtype();
        let launch = Launch {
            kernel: &STEP_BACKWARD,
            element,
            defines: &[
                a,
                b,
                c,
                d,
                ("IS_BACKWARD", 1),
                ("HAS_PRODUCT", product.is_some().into()),
                ("HAS_ALL", has_all),
            ],
            groups: groups(sequences.len()),
            reads: &[
                gates,
                carries,
                first,
                product.unwrap_or(first),
                of_state(0).unwrap_or(first),
                of_state(1).unwrap_or(first),
            ]
            .map(|x| (x, element)),
            writes: [],
            values: &sequences.values(step),
        };
        let traced = || cell.traced_gradient();
        // SAFETY: the tensors have the sizes of the sequences; what is written is this pass's own.
        #[expect(unsafe_code, reason = "a launch")]
        let [] =
            unsafe { launch.run_into(&[&self.carry, &self.input, &self.of_carry], function(cell, &traced)) }?;
        Ok(())
    }

    /// Those of the products of a step with the carry, `[items, gates of the carry * features]`.
    ///
    /// # Errors
    /// If the step is behind the last one.
    pub fn of_step(&self, step: usize) -> Result<Tensor> {
        Ok(self.of_carry.get(step)?.flatten_from(1)?)
    }

    /// Those of the carry before the first step, without its part through the products; of the products with the input, and of those
    /// with the carry, each `[time * items, gates * features]`.
    ///
    /// # Errors
    /// What Candle reports.
    pub fn finish(self) -> Result<[Tensor; 3]> {
        let rows = |x: &Tensor| x.flatten(0, 1)?.flatten_from(1);
        Ok([self.carry.clone(), rows(&self.input)?, rows(&self.of_carry)?])
    }
}

fn function<'f>(
    cell: AnyCell,
    traced: &'f dyn Fn() -> Vec<treex_kernels::expression::Expression>,
) -> Function<'f> {
    // A residual connection is another cell of the same name, and so is one without a reset gate, with other counts.
    let is_residual = matches!(cell, AnyCell::Simple(simple) if simple.residual);
    Function { name: cell.name(), option: is_residual.into(), traced }
}

fn check_step(step: usize, time: usize) -> Result<()> {
    if step < time {
        return Ok(());
    }
    Err(Error::argument("a step of a recurrent cell is behind the last one")
        .expected(format!("less than {time}"))
        .found(step))
}
