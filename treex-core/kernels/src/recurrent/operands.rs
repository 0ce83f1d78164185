//! The inputs of a run, and its sizes.

use std::convert::Infallible;
use std::ops::{Deref, Range};

use super::cell::Counts;
use super::order::Order;
use crate::error::{Error, Result};
use crate::matmul::Matrix;
use crate::memory::product;
use crate::microkernel::ROWS;

/// The inputs of a run: of slices for the kernels, of tensors for their caller.
#[derive(Clone, Debug)]
pub struct Operands<X> {
    /// `[batch.., time, inputs]` or `[time, batch.., inputs]`, as the [`Order`] says.
    pub x: X,
    /// The tensors of the carry before the first step, each `[batch.., features]`.
    pub carry: Vec<X>,
    /// The layer on the input, for each gate that has one.
    pub of_input: Vec<Affine<X>>,
    /// The layer on the last tensor of the carry, for each gate that has one.
    pub of_carry: Vec<Affine<X>>,
}

/// A kernel, `[inputs, features]` or `[features, features]`, and a bias `[features]`.
#[derive(Clone, Debug)]
pub struct Affine<X> {
    /// The kernel.
    pub kernel: X,
    /// The bias.
    pub bias: Option<X>,
}

impl<X> Operands<X> {
    /// All of them in order: the input, the carry, then of each layer the kernel and the bias.
    pub fn iter(&self) -> impl Iterator<Item = &X> {
        let affine = self.of_input.iter().chain(&self.of_carry);
        let affine = affine.flat_map(|affine| [Some(&affine.kernel), affine.bias.as_ref()]).flatten();
        [&self.x].into_iter().chain(&self.carry).chain(affine)
    }

    /// `f` of each of them.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_map<'a, Y, E>(&'a self, f: impl Fn(&'a X) -> Result<Y, E>) -> Result<Operands<Y>, E> {
        let affine = |affine: &'a Affine<X>| {
            Ok(Affine { kernel: f(&affine.kernel)?, bias: affine.bias.as_ref().map(&f).transpose()? })
        };
        let each = |all: &'a [Affine<X>]| all.iter().map(affine).collect::<Result<_, E>>();
        Ok(Operands {
            x: f(&self.x)?,
            carry: self.carry.iter().map(&f).collect::<Result<_, E>>()?,
            of_input: each(&self.of_input)?,
            of_carry: each(&self.of_carry)?,
        })
    }

    /// Borrows their elements.
    pub fn as_slices<T>(&self) -> Operands<&[T]>
    where
        X: Deref<Target = [T]>,
    {
        let Ok(slices) = self.try_map(|x| Ok::<&[T], Infallible>(x));
        slices
    }
}

impl<T> Operands<&[T]> {
    /// Checks that each has the elements that the sizes ask for.
    pub(super) fn check(&self, counts: Counts, sizes: &Sizes) -> Result<()> {
        let Sizes { order, inputs, features } = sizes;
        check("the tensors of a recurrent cell's carry", counts.states, self.carry.len())?;
        check("the layers on a recurrent cell's input", counts.of_input, self.of_input.len())?;
        check("the layers on a recurrent cell's carry", counts.of_carry, self.of_carry.len())?;
        check("the input of a recurrent cell", sizes.rows() * inputs, self.x.len())?;
        for carry in &self.carry {
            check("the carry of a recurrent cell", order.items * features, carry.len())?;
        }
        for (layers, inputs) in [(&self.of_input, inputs), (&self.of_carry, features)] {
            for Affine { kernel, bias } in layers {
                check("the kernel of a recurrent cell", inputs * features, kernel.len())?;
                check("the bias of a recurrent cell", *features, bias.map_or(*features, <[T]>::len))?;
            }
        }
        Ok(())
    }
}

/// Checks a number of elements or of slices.
pub(super) fn check(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::shape(what, expected, found)) }
}

/// The sizes of a run.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// The sequences.
    pub order: Order,
    /// Features of the input.
    pub inputs: usize,
    /// Features of the output and of each tensor of the carry; at least 1.
    pub features: usize,
}

impl Sizes {
    /// Checks that each step of each sequence has a row, and that numbers of elements do not overflow.
    pub(super) fn check(&self, counts: Counts) -> Result<()> {
        self.order.check()?;
        if self.features == 0 {
            return Err(Error::shape("a recurrent cell has no features", "at least 1", 0));
        }
        let Self { order: Order { time, items, .. }, inputs, features } = *self;
        // A carry has no more tensors than there are gates.
        let gates = product([time, items, counts.gates, features]);
        let kernel = product([inputs.max(features), features]);
        if gates.and(product([time, items, inputs])).and(kernel).is_some() {
            return Ok(());
        }
        Err(Error::shape("the sizes of a recurrent cell overflow", "sizes in memory", format!("{self:?}")))
    }

    /// Rows of the input and of the output: one for each step of each sequence.
    pub(super) fn rows(&self) -> usize {
        self.order.time * self.order.items
    }

    /// The range of one of several vectors of features.
    pub(super) fn part(&self, part: usize) -> Range<usize> {
        part * self.features..(part + 1) * self.features
    }

    /// One of the `N` parts of each row.
    pub(super) fn columns<'a, T, const N: usize>(&self, all: &'a [T], part: usize) -> Result<Matrix<'a, T>> {
        let from = all.get(part * self.features..).unwrap_or_default();
        Matrix::strided(from, [self.rows(), self.features], [N * self.features, 1])
    }

    /// One of the `S` tensors of a carry `[items, S, features]`.
    pub(super) fn state<T: Copy, const S: usize>(&self, carry: &[T], state: usize) -> Vec<T> {
        let rows = carry.chunks_exact(S * self.features);
        rows.flat_map(|row| &row[self.part(state)]).copied().collect()
    }

    /// How many sequences one thread runs together, step by step.
    pub(super) fn group(&self, gates: usize) -> usize {
        // A step is mostly its product.
        let sizes = [self.order.time, gates, self.features, self.features];
        let work = sizes.into_iter().fold(self.order.items, usize::saturating_mul);
        let threads = if work < PARALLEL { 1 } else { rayon::current_num_threads() };
        self.order.items.div_ceil(threads).max(1).next_multiple_of(ROWS)
    }
}

/// Fewer multiplications than this run on the calling thread.
const PARALLEL: usize = 1 << 18;
