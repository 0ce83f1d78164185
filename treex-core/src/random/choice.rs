//! Samplers that pick: of categories, of an order, of a population.

use candle_core::shape::Dim;
use candle_core::{DType, Device, Shape, Tensor};
use half::{bf16, f16};

use super::continuous::wrong_type;
use super::discrete::word;
use super::distribution::{Distribution, Gumbel};
use super::real::Real;
use super::{Key, count, filled, tensor};
use crate::error::{Error, Result};

impl Key {
    /// Categories with the probabilities `softmax(logits)` along `axis`: the position of the largest of
    /// `logits + gumbel`, as `U32`. The shape is `samples`, then that of `logits` without `axis`; `()` for
    /// `samples` draws once.
    ///
    /// `jax.random.categorical(key, logits, axis, (*samples, *batch))`. As there, the first NaN among the
    /// logits wins.
    ///
    /// ```
    /// use candle_core::{D, Device, Tensor};
    /// use treex_core::random::Key;
    ///
    /// let logits = Tensor::new(&[[0.1f32, -1., 2., 0.5], [1., 1., 1., 1.]], &Device::Cpu)?;
    /// let categories = Key::from(42).categorical(&logits, D::Minus1, 2)?;
    /// assert_eq!(categories.to_vec2::<u32>()?, [[2, 3], [3, 0]]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are no categories, or the logits are not of a floating-point type.
    pub fn categorical(self, logits: &Tensor, axis: impl Dim, samples: impl Into<Shape>) -> Result<Tensor> {
        let axis = axis.to_index(logits.shape(), "categorical")?;
        let samples = samples.into();
        match logits.dtype() {
            DType::BF16 => self.categories::<bf16>(logits, axis, &samples),
            DType::F16 => self.categories::<f16>(logits, axis, &samples),
            DType::F32 => self.categories::<f32>(logits, axis, &samples),
            DType::F64 => self.categories::<f64>(logits, axis, &samples),
            other => Err(wrong_type("categorical", "logits of a floating-point type", other)),
        }
    }

    fn categories<T: Real>(self, logits: &Tensor, axis: usize, samples: &Shape) -> Result<Tensor> {
        let dims = logits.dims();
        let n = dims[axis];
        if n == 0 {
            return Err(Error::argument("`categorical` has no categories")
                .expected("at least one along the axis")
                .found(format!("logits of shape {dims:?}, axis {axis}")));
        }
        let batch = [&dims[..axis], &dims[axis + 1..]].concat();
        let inner: usize = dims[axis + 1..].iter().product();
        let values = logits.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<T>()?;
        let gumbel = Gumbel.sampler::<T>();
        tensor([samples.dims(), &batch].concat(), |index| {
            // The place of the first category among all of the noise; the others follow, `inner` apart.
            let inner = inner as u64;
            let first = index / inner * inner * n as u64 + index % inner;
            let noisy = (0..n as u64).map(|category| {
                let at = first + category * inner;
                gumbel(self.block(at)) + values[(at % values.len() as u64) as usize]
            });
            largest(noisy)
        })
    }

    /// The numbers from 0 to `n - 1` in random order, as `U32`: `jax.random.permutation(key, n)`. To shuffle
    /// a tensor, `index_select` with it.
    ///
    /// # Errors
    /// If `n` is more than `U32` can count.
    pub fn permutation(self, n: usize) -> Result<Tensor> {
        let order = self.order(n)?;
        tensor(n, |index| order[index as usize])
    }

    /// Sorts by random words, often enough that equal words leave no trace.
    fn order(mut self, n: usize) -> Result<Vec<u32>> {
        let n = population(n)?;
        let rounds = (3. * f64::from(n.max(1)).ln() / f64::from(u32::MAX).ln()).ceil() as u32;
        let mut order = filled(n as usize, |index| index as u32)?;
        for _ in 0..rounds {
            let [next, words] = self.split2();
            self = next;
            let mut pairs = filled(n as usize, |index| (word(words.block(index)), order[index as usize]))?;
            pairs.sort_by_key(|&(word, _)| word);
            order = pairs.into_iter().map(|(_, number)| number).collect();
        }
        Ok(order)
    }

    /// Numbers below `n`, as `U32`, each equally likely or with the probabilities `p` (which need not sum to
    /// 1); no number twice unless `replace`: `jax.random.choice(key, n, shape, replace, p)`.
    ///
    /// Without replacement, numbers of probability 0 come once all others are taken.
    ///
    /// # Errors
    /// If `n` is 0 or more than `U32` can count, if there are fewer numbers than draws without replacement,
    /// or if `p` is not `n` finite numbers, none negative, not all 0.
    pub fn choice(
        self,
        n: usize,
        shape: impl Into<Shape>,
        replace: bool,
        p: Option<&[f32]>,
    ) -> Result<Tensor> {
        let shape = shape.into();
        let draws = count(&shape)?;
        p.map_or(Ok(()), |p| check_probabilities(n, p))?;
        if draws == 0 {
            return tensor(shape, |_| 0u32);
        }
        check_draws(n, draws, replace)?;
        match (replace, p) {
            (true, None) => self.randint(shape, 0, population(n)?.into(), DType::U32),
            (true, Some(p)) => self.by_height(shape, p),
            (false, p) => {
                let order = p.map_or_else(|| self.order(n), |p| self.by_noisy_log(p))?;
                tensor(shape, |index| order[index as usize])
            }
        }
    }

    /// The first number at which the running sum of `p` reaches a uniform height.
    fn by_height(self, shape: Shape, p: &[f32]) -> Result<Tensor> {
        let sums = cumulative(p);
        let total = sums.last().copied().unwrap_or_default();
        self.sample(shape, |block| {
            let height = total * (1. - f32::unit(block));
            sums.partition_point(|&sum| sum < height).min(p.len() - 1) as u32
        })
    }

    /// All numbers, by falling `gumbel + log(p)`: which is a draw without replacement.
    fn by_noisy_log(self, p: &[f32]) -> Result<Vec<u32>> {
        let gumbel = Gumbel.sampler::<f32>();
        let noisy = |index| gumbel(self.block(index)) + Real::log(p[index as usize]);
        let mut pairs = filled(p.len(), |index| (noisy(index), index as u32))?;
        pairs.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        Ok(pairs.into_iter().map(|(_, number)| number).collect())
    }
}

/// The position of the largest number, the first of equals; a NaN is larger than any number.
fn largest<T: Real>(values: impl Iterator<Item = T>) -> u32 {
    let is_nan = |x: T| x.to_f64().is_nan();
    let mut best: Option<(T, u32)> = None;
    for (value, index) in values.zip(0..) {
        if best.is_none_or(|(top, _)| value > top || is_nan(value) && !is_nan(top)) {
            best = Some((value, index));
        }
    }
    best.map_or(0, |(_, index)| index)
}

fn population(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| {
        Error::argument("there are too many numbers to choose from")
            .expected(format!("at most {}", u32::MAX))
            .found(n)
    })
}

fn check_draws(n: usize, draws: usize, replace: bool) -> Result<()> {
    if n == 0 {
        return Err(Error::argument("`choice` has nothing to choose from").expected("at least 1 number"));
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
            .found(p.len()));
    }
    if let Some(bad) = p.iter().find(|p| !p.is_finite() || **p < 0.) {
        return Err(Error::argument("`choice` has a probability that is none")
            .expected("finite numbers, none negative")
            .found(bad));
    }
    let total = cumulative(p).last().copied().unwrap_or_default();
    if n > 0 && !(total > 0. && total.is_finite()) {
        return Err(Error::argument("the probabilities of `choice` have no useful sum")
            .expected("a finite sum above 0")
            .found(total));
    }
    Ok(())
}

/// The running sums, added up pairwise in the order of `jax.lax.associative_scan`: another order rounds
/// otherwise.
fn cumulative(p: &[f32]) -> Vec<f32> {
    if p.len() < 2 {
        return p.to_vec();
    }
    let pairs: Vec<f32> = p.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
    let odd = cumulative(&pairs);
    (0..p.len())
        .map(|index| match index {
            0 => p[0],
            _ if index % 2 == 1 => odd[index / 2],
            _ => odd[index / 2 - 1] + p[index],
        })
        .collect()
}
