//! Dropout as a layer.

use candle_core::Tensor;
use treex_core::{Leaf, Mode, Module, Result, Rng, TreeObject, record};

use crate::functional::dropout::{all_dropped, check_rate, dropout};

/// `y = x · mask / (1 - rate)` in training, where an element of `mask` is 0 with probability `rate` and 1
/// otherwise; in evaluation `y = x`. Flax's `Dropout` (Srivastava et al., 2014).
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::{Dropout, prelude::*};
///
/// let mut dropout = Dropout::new(0.5).init(42, &Device::Cpu)?;
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let y = dropout.call(&x)?;
/// assert_eq!(y.dims(), [2, 3]);
/// assert!(y.flatten_all()?.to_vec1::<f32>()?.iter().all(|&y| y == 0. || y == 2.));
///
/// dropout.eval();
/// assert_eq!(dropout.call(&x)?.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, TreeObject)]
pub struct Dropout {
    /// The key of the next mask. Advances at each call in training, and only then.
    pub rng: Leaf<Rng>,
    rate: f64,
    #[tree(skip)]
    broadcast_dims: Vec<isize>,
    mode: Mode,
}

impl Dropout {
    /// Drops elements with probability `rate`, from 0 to 1.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { rng: Leaf::stream("dropout"), rate, broadcast_dims: Vec::new(), mode: Mode::default() }
    }

    /// The stream of the key under `init_linen`; default: `"dropout"`.
    #[must_use]
    pub fn rng_collection(self, name: &str) -> Self {
        Self { rng: Leaf::stream(name), ..self }
    }

    /// Dimensions along which the mask is broadcast. Negative ones count from the end.
    #[must_use]
    pub fn broadcast_dims(self, dims: impl Into<Vec<isize>>) -> Self {
        Self { broadcast_dims: dims.into(), ..self }
    }
}

impl Module for Dropout {
    fn call(&mut self, x: &Tensor) -> Result<Tensor> {
        check_rate("Dropout", self.rate).map_err(|error| error.of(self.identity()))?;
        // A call without a mask uses no key, so the sequence of masks does not shift.
        let y = if self.mode.is_training() && self.rate > 0. && self.rate < 1. {
            // The key advances only on success.
            let mut rng = self.rng.clone();
            let y = dropout(x, self.rate, rng.next_key()?, &self.broadcast_dims);
            let y = y.map_err(|error| error.of(self.identity()))?;
            self.rng = rng;
            y
        } else if self.mode.is_training() && self.rate == 1. {
            all_dropped(x)?
        } else {
            x.clone()
        };
        record(self, x, &y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use treex_core::{ErrorKind, Key, prelude::*};

    use super::*;

    fn ones() -> Tensor {
        Tensor::ones((4, 6), DType::F32, &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn key_is_split_only_when_it_is_used() -> Result<()> {
        let mut layer = Dropout::new(0.5).init(3, &Device::Cpu)?;
        let key = Key::from_tensor(&layer.rng.get()?)?;
        let y = layer.call(&ones())?;
        assert_eq!(values(&y), values(&dropout(&ones(), 0.5, key.split2()[0], &[])?));
        assert_eq!(Key::from_tensor(&layer.rng.get()?)?, key.split2()[1]);
        assert_ne!(values(&y), values(&layer.call(&ones())?));

        let key = layer.rng.get()?.to_vec1::<u32>()?;
        let [mut none, mut all, mut eval] = [0., 1., 0.5].map(|rate| Dropout { rate, ..layer.clone() });
        eval.eval();
        assert_eq!(values(&none.call(&ones())?), [1.; 24]);
        assert_eq!(values(&all.call(&ones())?), [0.; 24]);
        assert_eq!(values(&eval.call(&ones())?), [1.; 24]);
        for layer in [none, all, eval] {
            assert_eq!(layer.rng.get()?.to_vec1::<u32>()?, key);
        }
        Ok(())
    }

    #[test]
    fn frozen_is_not_training() -> Result<()> {
        let mut layer = Dropout::new(0.5).init(3, &Device::Cpu)?;
        layer.freeze(Rng)?;
        assert_eq!(values(&layer.call(&ones())?), [1.; 24]);
        Ok(())
    }

    #[test]
    fn infinities_are_dropped() -> Result<()> {
        let y = dropout(&(ones() * f64::INFINITY)?, 0.5, Key::from(0), &[])?;
        assert!(values(&y).iter().all(|&y| y == 0. || y == f32::INFINITY));
        Ok(())
    }

    #[test]
    fn errors() -> Result<()> {
        for rate in [-0.1, 1.1, f64::NAN] {
            let mut layer = Dropout::new(rate).init(0, &Device::Cpu)?;
            layer.eval();
            let error = layer.call(&ones()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
            let text =
                format!("`Dropout` has a rate out of range: expected a number from 0 to 1, found {rate}");
            assert_eq!(error.to_string(), text);
        }
        for dim in [2, -3] {
            let error = dropout(&ones(), 0.5, Key::from(0), &[dim]).unwrap_err().to_string();
            assert!(error.ends_with(&format!("expected a dimension of [4, 6], found {dim}")), "{error}");
        }
        Ok(())
    }
}
