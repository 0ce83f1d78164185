//! Random permutations.

use candle_core::shape::Dim;
use candle_core::{Device, Tensor};

use super::{DRAWN, Key, filled};
use crate::error::{Error, Result};
use crate::transfers::transfer;

impl Key {
    /// The numbers from 0 to `n - 1` in random order, as `U32`: `jax.random.permutation(key, n)`.
    ///
    /// # Errors
    /// If `n` is too large for `U32`.
    pub fn permutation(self, n: usize) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.order(&[n], 0)?, n, &Device::Cpu)?)
    }

    /// `x` with its slices along `axis` in random order, or, if `independent`, with each vector along `axis` permuted
    /// independently: `jax.random.permutation(key, x, axis, independent)`.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use treex_core::random::Key;
    ///
    /// let x = Tensor::arange(0u32, 6, &Device::Cpu)?.reshape((2, 3))?;
    /// let key = Key::from(42);
    /// assert_eq!(key.permutation_of(&x, 1, false)?.to_vec2::<u32>()?, [[2, 0, 1], [5, 3, 4]]);
    /// assert_eq!(key.permutation_of(&x, 1, true)?.to_vec2::<u32>()?, [[2, 0, 1], [4, 5, 3]]);
    /// # Ok::<(), treex_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// If `x` has no such axis (a scalar has none), or its length is too large for `U32`.
    pub fn permutation_of(self, x: &Tensor, axis: impl Dim, independent: bool) -> Result<Tensor> {
        let axis = axis.to_index(x.shape(), "permutation")?;
        if !independent {
            let n = x.dims()[axis];
            let order = transfer(&self.permutation(n)?, x.device(), DRAWN)?;
            return Ok(x.contiguous()?.index_select(&order, axis)?);
        }
        let order = Tensor::from_vec(self.order(x.dims(), axis)?, x.dims(), &Device::Cpu)?;
        let order = transfer(&order, x.device(), DRAWN)?;
        Ok(x.contiguous()?.gather(&order, axis)?)
    }

    /// For each element, the flat index of the element that replaces it. The vectors along `axis` are sorted by random
    /// words, repeatedly, so that ties do not matter.
    pub(super) fn order(mut self, dims: &[usize], axis: usize) -> Result<Vec<u32>> {
        let n = dims[axis];
        let stride: usize = dims[axis + 1..].iter().product();
        population(n)?;
        let size: usize = dims.iter().product();
        let rounds = (3. * (size.max(1) as f64).ln() / f64::from(u32::MAX).ln()).ceil() as u32;
        let mut order = filled(size, |at| (at as usize / stride % n) as u32)?;
        for _ in 0..rounds {
            let [next, words] = self.split2();
            self = next;
            let words = words.bits(dims)?.flatten_all()?.to_vec1::<u32>()?;
            // The vectors start at the elements whose index along the axis is 0.
            for first in (0..size).filter(|at| (at / stride).is_multiple_of(n)) {
                let places = || (first..).step_by(stride).take(n);
                let mut vector: Vec<_> = places().map(|at| (words[at], order[at])).collect();
                vector.sort_by_key(|&(word, _)| word);
                for (at, (_, number)) in places().zip(vector) {
                    order[at] = number;
                }
            }
        }
        Ok(order)
    }
}

/// Checks that a population size fits `U32`.
pub(super) fn population(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| {
        Error::argument("the population is too large")
            .expected(format!("at most {}", u32::MAX))
            .found(n)
            .remedy("draw from parts of it")
    })
}
