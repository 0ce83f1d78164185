//! Choices from a population.

use candle_core::shape::Dim;
use candle_core::{DType, Device, Shape, Tensor};

use super::categorical::descending_order;
use super::permutation::population;
use super::real::Real;
use super::{DRAWN, Key, count};
use crate::error::{Error, Result};
use crate::transfers::transfer;

impl Key {
    /// Numbers below `n`, as `U32`, uniformly or with probabilities `p` (which need not sum to 1), with or without
    /// replacement: `jax.random.choice(key, n, shape, replace, p)`.
    ///
    /// Without replacement, numbers of probability 0 are drawn after all others. In its 64-bit mode, JAX draws uniform
    /// numbers with replacement from 64 bits, as `key.randint(shape, 0, n, DType::I64)` does; and with a `p` of 64 bits it
    /// draws 64 bits too, which this does not.
    ///
    /// # Errors
    /// If `n` is 0 or too large for `U32`, if there are fewer numbers than draws without replacement, or if `p`
    /// is not `n` finite non-negative numbers with a positive sum. JAX checks only the length of `p`, and returns
    /// meaningless numbers for bad probabilities. With no draws, nothing is checked.
    pub fn choice(
        self,
        n: usize,
        shape: impl Into<Shape>,
        replace: bool,
        p: Option<&[f32]>,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let draws = count(&shape)?;
        if draws > 0 {
            check_draws(n, draws, replace)?;
            p.map_or(Ok(()), |p| check_probabilities(n, p))?;
        }
        let take = |mut order: Vec<u32>| {
            order.truncate(draws);
            Ok(Tensor::from_vec(order, shape.clone(), &Device::Cpu)?)
        };
        match (replace, p) {
            _ if draws == 0 => take(Vec::new()),
            (true, None) => self.randint(shape, 0, population(n)?.into(), DType::U32),
            (true, Some(p)) => self.by_inverse_transform(shape, p),
            (false, None) => take(self.order(&[n], 0)?),
            (false, Some(p)) => take(self.by_gumbel_top_k(p)?),
        }
    }

    /// The slices of `a` along `axis` at the numbers of [`choice`](Self::choice):
    /// `jax.random.choice(key, a, shape, replace, p, axis)`. In the shape of the result, `shape` replaces
    /// the axis.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use treex_core::random::Key;
    ///
    /// let a = Tensor::arange(0u32, 12, &Device::Cpu)?.reshape((3, 4))?;
    /// let columns = Key::from(42).choice_of(&a, 2, false, None, 1)?;
    /// assert_eq!(columns.to_vec2::<u32>()?, [[2, 3], [6, 7], [10, 11]]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As `choice`, and if `a` has no such axis.
    pub fn choice_of(
        self,
        a: &Tensor,
        shape: impl Into<Shape>,
        replace: bool,
        p: Option<&[f32]>,
        axis: impl Dim,
    ) -> Result<Tensor> {
        let axis = axis.to_index(a.shape(), "choice")?;
        let shape = shape.into();
        let dims = [&a.dims()[..axis], shape.dims(), &a.dims()[axis + 1..]].concat();
        let numbers = self.choice(a.dims()[axis], shape, replace, p)?;
        Ok(a.contiguous()?
            .index_select(&transfer(&numbers.flatten_all()?, a.device(), DRAWN)?, axis)?
            .reshape(dims)?)
    }

    /// Inverse transform sampling: the first number at which the cumulative sum of `p` reaches a uniform sample.
    fn by_inverse_transform(self, shape: Shape, p: &[f32]) -> Result<Tensor> {
        let sums = cumulative(p);
        let total = sums.last().copied().unwrap_or_default();
        let units = self.uniform(&shape, DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let numbers = units.into_iter().map(|unit| {
            let height = total * (1. - unit);
            sums.partition_point(|&sum| sum < height).min(p.len() - 1) as u32
        });
        Ok(Tensor::from_iter(numbers, &Device::Cpu)?.reshape(shape)?)
    }

    /// All numbers in descending order of `gumbel + log(p)`, which is a draw without replacement.
    fn by_gumbel_top_k(self, p: &[f32]) -> Result<Vec<u32>> {
        let noise = self.gumbel(p.len(), DType::F32)?.to_vec1::<f32>()?;
        let noisy: Vec<f32> = noise.into_iter().zip(p).map(|(noise, &p)| noise + Real::log(p)).collect();
        Ok(descending_order(&noisy))
    }
}

fn check_draws(n: usize, draws: usize, replace: bool) -> Result<()> {
    if n == 0 {
        return Err(Error::argument("`choice` got an empty population")
            .expected("at least 1 number")
            .remedy("draw nothing from nothing: a shape with a dimension of 0"));
    }
    if !replace && draws > n {
        return Err(Error::argument("`choice` without replacement runs out of numbers")
            .expected(format!("at most {n} draws"))
            .found(draws)
            .remedy("draw fewer, or with replacement"));
    }
    Ok(())
}

fn check_probabilities(n: usize, p: &[f32]) -> Result<()> {
    population(n)?;
    if p.len() != n {
        return Err(Error::argument("`choice` needs one probability for each number")
            .expected(format!("{n} probabilities"))
            .found(p.len())
            .remedy("give 0 to a number that is not to be drawn"));
    }
    if let Some(bad) = p.iter().find(|p| !p.is_finite() || **p < 0.) {
        return Err(Error::argument("`choice` got an invalid probability")
            .expected("finite non-negative numbers")
            .found(bad)
            .remedy("clip the probabilities, or find out where a NaN comes from"));
    }
    let total = cumulative(p).last().copied().unwrap_or_default();
    if n > 0 && !(total > 0. && total.is_finite()) {
        return Err(Error::argument("the probabilities of `choice` cannot be normalized")
            .expected("a finite sum above 0")
            .found(total)
            .remedy("divide them by the largest first"));
    }
    Ok(())
}

/// Cumulative sums in XLA's order on a CPU, since another order rounds differently: within blocks of 16, then each
/// block plus the cumulative sum of the previous blocks.
pub(super) fn cumulative<T: Real>(p: &[T]) -> Vec<T> {
    const BLOCK: usize = 16;
    let within = p.chunks(BLOCK).map(|block| {
        block.iter().scan(T::zero(), |sum, &p| {
            *sum += p;
            Some(*sum)
        })
    });
    if p.len() <= BLOCK {
        return within.flatten().collect();
    }
    let totals: Vec<T> = within.clone().filter_map(Iterator::last).collect();
    let before = [T::zero()].into_iter().chain(cumulative(&totals));
    within.zip(before).flat_map(|(block, before)| block.map(move |sum| sum + before)).collect()
}
