//! An average over ranks.

use std::fmt;
use std::sync::Arc;

use candle_core::Tensor;
use treex_core::{Error, Result};

/// An average over ranks, as a function: Flax's `axis_name`.
#[derive(Clone)]
pub(crate) struct Pmean(Arc<Average>);

type Average = dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync;

impl Pmean {
    pub(crate) fn new(average: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self(Arc::new(average))
    }

    pub(super) fn call(&self, layer: &str, x: &Tensor) -> Result<Tensor> {
        let average = (self.0)(x)?;
        if (average.dims(), average.dtype()) == (x.dims(), x.dtype()) {
            return Ok(average);
        }
        let array = |x: &Tensor| format!("{:?} of `{}`", x.dims(), x.dtype().as_str());
        Err(Error::shape(format!("the `pmean` of `{layer}` returned another shape than it got"))
            .expected(array(x))
            .found(array(&average)))
    }
}

impl fmt::Debug for Pmean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pmean")
    }
}
