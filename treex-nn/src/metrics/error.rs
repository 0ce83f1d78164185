//! Mean absolute and mean squared error.

use candle_core::Tensor;
use treex_core::transfers::transfer;
use treex_core::{Error, Result, TreeObject};

use super::inputs::sum_dtype;
use super::{Inputs, Mean, Metric};

macro_rules! mean_of_errors {
    ($(#[$doc:meta])* $name:ident, $of_difference:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, TreeObject)]
        pub struct $name {
            /// The mean of all errors so far.
            pub mean: Mean,
        }

        impl $name {
            /// A mean without values.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }
        }

        impl Metric for $name {
            fn observe(&mut self, inputs: &Inputs) -> Result<()> {
                let errors = $of_difference(&difference(stringify!($name), inputs)?)?;
                self.mean.accumulate(stringify!($name), &errors, inputs)
            }

            fn compute(&self) -> Result<Tensor> {
                self.mean.compute()
            }
        }
    };
}

mean_of_errors! {
    /// The mean of `|preds - target|`, optionally weighted; without values, NaN.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use treex_nn::metrics::{Inputs, Mae, Metric};
    ///
    /// let (preds, target) = (Tensor::new(&[1f32, 2.], &Device::Cpu)?, Tensor::new(&[0f32, 5.], &Device::Cpu)?);
    /// let mae = Mae::new().call(&Inputs::new().preds(&preds).target(&target))?;
    /// assert_eq!(mae.to_scalar::<f64>()?, 2.);
    /// # Ok::<(), treex_nn::treex_core::Error>(())
    /// ```
    MeanAbsoluteError, Tensor::abs
}

mean_of_errors! {
    /// The mean of `(preds - target)²`, optionally weighted; without values, NaN.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use treex_nn::metrics::{Inputs, Metric, Mse};
    ///
    /// let (preds, target) = (Tensor::new(&[1f32, 2.], &Device::Cpu)?, Tensor::new(&[0f32, 5.], &Device::Cpu)?);
    /// let mse = Mse::new().call(&Inputs::new().preds(&preds).target(&target))?;
    /// assert_eq!(mse.to_scalar::<f64>()?, 5.);
    /// # Ok::<(), treex_nn::treex_core::Error>(())
    /// ```
    MeanSquaredError, Tensor::sqr
}

fn difference(metric: &str, inputs: &Inputs) -> Result<Tensor> {
    let (preds, target) = inputs.get_pair(metric)?;
    if preds.dims() != target.dims() {
        return Err(Error::shape(format!("`{metric}` got predictions and targets of different shapes"))
            .expected(format!("targets of shape {:?}", preds.dims()))
            .found(format!("{:?}", target.dims())));
    }
    let dtype = sum_dtype(&preds);
    let target = transfer(&target, preds.device(), "make the targets on the device of the predictions")?;
    Ok((preds.to_dtype(dtype)? - target.to_dtype(dtype)?)?)
}
