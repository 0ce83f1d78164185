//! Activation functions with the values and gradients of `jax.nn`, also at points where they are not smooth.
//!
//! Each is a function of a tensor; in a [`Sequential`](crate::Sequential), write `.add_fn(gelu)`, or with another
//! option than Flax's default `.add_fn(|x| gelu_with(x, false))`.
//!
//! Several of Candle's own differ in gradient or precision (`relu` has the derivative 1 at 0, the exact
//! `gelu` loses all digits in its left tail, `softmax_last_dim` has no gradient), so each function here is
//! composed of operations with correct gradients, on every device.
//!
//! ```
//! use candle_core::{D, Device, Tensor};
//! use treex_nn::{glu, relu, softmax};
//!
//! let x = Tensor::new(&[[-1f32, 0., 2., 3.]], &Device::Cpu)?;
//! assert_eq!(relu(&x)?.to_vec2::<f32>()?, [[0., 0., 2., 3.]]);
//! assert_eq!(softmax(&x, D::Minus1)?.dims(), [1, 4]);
//! assert_eq!(glu(&x, 1)?.dims(), [1, 2]);
//! # Ok::<(), treex_core::Error>(())
//! ```

mod algebraic;
mod elementary;
mod elu;
mod gelu;
mod glu;
mod logsumexp;
mod one_hot;
mod relu;
mod sigmoid;
mod softmax;
mod standardize;

pub use algebraic::{identity, soft_sign, sparse_plus, sparse_sigmoid, squareplus, squareplus_with};
pub use elu::{celu, celu_with, elu, elu_with, selu};
pub use gelu::{gelu, gelu_with};
pub use glu::glu;
pub use logsumexp::{logmeanexp, logmeanexp_where, logsumexp, logsumexp_with};
pub use one_hot::one_hot;
pub use relu::{hard_sigmoid, hard_silu, hard_swish, hard_tanh, leaky_relu, leaky_relu_with, relu, relu6};
pub use sigmoid::{log_sigmoid, log1mexp, mish, sigmoid, silu, softplus, swish, tanh};
pub use softmax::{log_softmax, log_softmax_where, softmax, softmax_where};
pub use standardize::{StandardizeOptions, normalize, standardize, standardize_with};

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use treex_core::{Leaf, Parameter, Result, grad};

    use super::*;

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn infinities() -> Result<()> {
        let x = Tensor::new(&[f32::NEG_INFINITY, f32::INFINITY], &Device::Cpu)?;
        assert_eq!(values(&relu(&x)?), [0., f32::INFINITY]);
        assert_eq!(values(&elu(&x)?), [-1., f32::INFINITY]);
        assert_eq!(values(&softplus(&x)?), [0., f32::INFINITY]);
        assert_eq!(values(&log_sigmoid(&x)?), [f32::NEG_INFINITY, 0.]);
        assert_eq!(values(&logsumexp(&x.narrow(0, 0, 1)?, 0)?), [f32::NEG_INFINITY]);
        assert_eq!(values(&logsumexp(&x, 0)?), [f32::INFINITY]);
        let nan = Tensor::new(f32::NAN, &Device::Cpu)?;
        for f in [relu, relu6, selu, softplus, hard_tanh, sparse_plus, sparse_sigmoid] {
            assert!(values(&f(&nan)?)[0].is_nan());
        }
        Ok(())
    }

    /// Half precision is summed in `F32`.
    #[test]
    fn half_precision() -> Result<()> {
        for dtype in [DType::F16, DType::BF16] {
            let x = Tensor::zeros((1, 5000), dtype, &Device::Cpu)?;
            let sum = softmax(&x, 1)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
            assert!((sum - 1.).abs() < 4e-3, "{dtype:?} {sum}");
            let log = logsumexp(&x, 1)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            assert!((log[0] - 5000f32.ln()).abs() < 0.04, "{dtype:?} {log:?}");
            for y in [softmax(&x, 1)?, log_softmax(&x, 1)?, standardize(&x, 1, 1e-5)?, gelu_with(&x, false)?]
            {
                assert_eq!(y.dtype(), dtype);
            }
        }
        let integers = Tensor::new(&[1i64, 2], &Device::Cpu)?;
        assert_eq!(softmax(&integers, 0)?.dtype(), DType::F32);
        Ok(())
    }

    /// Where the mask hides all elements, the gradient is not NaN.
    #[test]
    fn a_mask_that_hides_all() -> Result<()> {
        let x = Leaf::<Parameter>::new(Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?)?;
        let mask = Tensor::new(&[[0u8, 0], [1, 0]], &Device::Cpu)?;
        let dx = grad(&x, |x| Ok(softmax_where(&x.get()?, 1, &mask)?.sqr()?.sum_all()?))?;
        assert_eq!(values(&dx.get()?), [0.; 4]);
        assert_eq!(values(&softmax_where(&x.get()?, 1, &mask)?), [0., 0., 1., 0.]);
        let log = values(&log_softmax_where(&x.get()?, 1, &mask)?);
        assert_eq!(log, [f32::NEG_INFINITY, f32::NEG_INFINITY, 0., f32::NEG_INFINITY]);
        Ok(())
    }

    #[test]
    fn empty_inputs() -> Result<()> {
        let x = Tensor::zeros((3, 0), DType::F32, &Device::Cpu)?;
        assert_eq!(relu(&x)?.dims(), [3, 0]);
        for dim in [0, 1] {
            assert_eq!(softmax(&x, dim)?.dims(), [3, 0]);
            assert_eq!(log_softmax(&x, dim)?.dims(), [3, 0]);
        }
        assert_eq!(values(&logsumexp(&x, 1)?), [f32::NEG_INFINITY; 3]);
        Ok(())
    }

    /// Views have a gradient as well.
    #[test]
    fn strided() -> Result<()> {
        let x = Leaf::<Parameter>::new(Tensor::new(&[[0f32, 1., 2.], [3., 4., 5.]], &Device::Cpu)?)?;
        let dx = grad(&x, |x| Ok(softplus(&x.get()?.narrow(1, 1, 2)?.t()?)?.sum_all()?))?;
        let sigmoid = |x: f32| 1. / (1. + (-x).exp());
        let expected = [0., sigmoid(1.), sigmoid(2.), 0., sigmoid(4.), sigmoid(5.)];
        assert!(values(&dx.get()?).iter().zip(expected).all(|(got, want)| (got - want).abs() < 1e-6));
        Ok(())
    }

    #[test]
    fn errors() {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let error = glu(&x, 1).unwrap_err().to_string();
        assert_eq!(error, "`glu` cannot halve its input: expected an even size of dimension 1, found [2, 3]");
        let error = softmax_where(&x, 1, &x.narrow(1, 0, 2).unwrap()).unwrap_err().to_string();
        let text =
            "the mask of `softmax_where` does not fit its input: expected a shape that broadcasts to [2, 3]";
        assert_eq!(error, format!("{text}, found [2, 2]"));
        let four = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
        assert!(log_softmax_where(&x, 1, &four).is_err() && logmeanexp_where(&x, 1, &four).is_err());
        assert!(logsumexp_with(&x, 1, Some(&four), None).is_err());
        for mean in [Some(&four), None] {
            let options = StandardizeOptions::default().mean(mean).variance(&four);
            assert!(standardize_with(&x, 1, &options).is_err());
        }
        let error = one_hot(&x, 4, -1).unwrap_err().to_string();
        assert!(
            error.ends_with("expected integers, and an axis from -3 to 2, found `f32` and axis -1"),
            "{error}"
        );
        assert!(one_hot(&x.to_dtype(DType::U8).unwrap(), 4, 3).is_err());
    }
}
