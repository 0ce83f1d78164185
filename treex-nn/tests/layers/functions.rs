//! Dropout and the activations, element by element, against what Flax computed in f32.

use candle_core::{DType, Tensor};
use serde_json::Value;
use treex_core::{Leaf, Module, Parameter, Result, prelude::*};
use treex_nn::*;
use treex_testing::device;
use treex_testing::fixture;

use crate::case::{assert_close, tensor_of, usize_of};

/// One function of one tensor, with its gradient.
struct Case {
    layer: String,
    name: String,
    all: Value,
}

impl Case {
    fn config(&self, key: &str) -> &Value {
        &self.all["config"][key]
    }

    fn f64(&self, key: &str) -> f64 {
        self.config(key).as_f64().unwrap()
    }

    fn sizes(&self, key: &str) -> Vec<usize> {
        self.config(key).as_array().unwrap().iter().map(usize_of).collect()
    }

    fn tensor(&self, key: &str) -> Option<Tensor> {
        self.all.get(key).map(|value| tensor_of(value, DType::F32))
    }

    fn x(&self) -> Tensor {
        self.tensor("x").unwrap()
    }
}

fn cases() -> Vec<Case> {
    let fixture = fixture!("layers/functions.json");
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let case =
        |case: &Value| Case { layer: text(&case["layer"]), name: text(&case["name"]), all: case.clone() };
    fixture["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn dropout_as_in_flax() -> Result<()> {
    for case in cases().iter().filter(|case| case.layer == "Dropout") {
        let words: Vec<u32> = case.sizes("key").into_iter().map(|word| word as u32).collect();
        let key = treex_core::Key::from_words([words[0], words[1]]);
        let dims: Vec<isize> = case.sizes("broadcast_dims").into_iter().map(|dim| dim as isize).collect();
        let (x, cotangent) = (Leaf::<Parameter>::new(case.x())?, case.tensor("cotangent").unwrap());
        let ((_, y), dx) = treex_core::value_and_grad_aux(&x, |x| {
            let y = dropout(&x.get()?, case.f64("rate"), key, &dims)?;
            Ok(((&y * &cotangent)?.sum_all()?, y))
        })?;
        // Masks and products are equal, without a tolerance.
        assert_close(&y, &case.tensor("y").unwrap(), 0., &case.name);
        assert_close(&dx.get()?, &case.tensor("dx").unwrap(), 0., &case.name);

        let mut layer = Dropout::new(case.f64("rate")).broadcast_dims(dims).init(0, device())?.into_eval();
        assert_close(&layer.call(&case.x())?, &case.tensor("y_eval").unwrap(), 0., &case.name);
    }
    Ok(())
}

fn activation(case: &Case, x: &Tensor) -> Result<Tensor> {
    let option = |key: &str, default: f64| {
        case.config("kwargs").get(key).map_or(default, |value| value.as_f64().unwrap())
    };
    let tensor = |key: &str| {
        case.config("kwargs")
            .get(key)
            .filter(|value| value.is_object())
            .map(|value| tensor_of(value, DType::F32))
    };
    let (mask, b) = (tensor("where"), tensor("b"));
    let dims = || {
        let axes = match &case.config("kwargs")["axis"] {
            Value::Array(axes) => axes.clone(),
            axis => vec![axis.clone()],
        };
        let dim = |axis: Value| axis.as_i64().unwrap().rem_euclid(x.rank() as i64) as usize;
        axes.into_iter().map(dim).collect::<Vec<_>>()
    };
    match case.config("fn").as_str().unwrap() {
        "relu" => relu(x),
        "relu6" => relu6(x),
        "elu" => elu_with(x, option("alpha", 1.)),
        "celu" => celu_with(x, option("alpha", 1.)),
        "selu" => selu(x),
        "gelu" => gelu_with(x, case.config("kwargs")["approximate"].as_bool().unwrap()),
        "silu" => silu(x),
        "swish" => swish(x),
        "sigmoid" => sigmoid(x),
        "log_sigmoid" => log_sigmoid(x),
        "softplus" => softplus(x),
        "soft_sign" => soft_sign(x),
        "leaky_relu" => leaky_relu_with(x, option("negative_slope", 0.01)),
        "hard_tanh" => hard_tanh(x),
        "hard_sigmoid" => hard_sigmoid(x),
        "hard_silu" => hard_silu(x),
        "hard_swish" => hard_swish(x),
        "tanh" => tanh(x),
        "mish" => mish(x),
        "squareplus" => squareplus_with(x, option("b", 4.)),
        "sparse_plus" => sparse_plus(x),
        "sparse_sigmoid" => sparse_sigmoid(x),
        "identity" => identity(x),
        "log1mexp" => log1mexp(x),
        "glu" => glu(x, dims()[0]),
        "softmax" => match mask {
            Some(mask) => softmax_where(x, dims(), &mask),
            None => softmax(x, dims()),
        },
        "log_softmax" => log_softmax(x, dims()),
        "log_softmax_where" => {
            let mask = mask.unwrap();
            let y = log_softmax_where(x, dims(), &mask)?;
            Ok(mask.where_cond(&y, &y.zeros_like()?)?)
        }
        "logsumexp" => logsumexp(x, dims()),
        "logsumexp_with" => {
            let (log, sign) = logsumexp_with(x, dims(), b.as_ref(), mask.as_ref())?;
            Ok(Tensor::stack(&[log, sign], 0)?)
        }
        "logmeanexp" => match mask {
            Some(mask) => logmeanexp_where(x, dims(), &mask),
            None => logmeanexp(x, dims()),
        },
        "standardize" => {
            let (mean, variance) = (tensor("mean"), tensor("variance"));
            let options = StandardizeOptions::default()
                .mean(mean.as_ref())
                .variance(variance.as_ref())
                .epsilon(option("epsilon", 1e-5))
                .mask(mask.as_ref())
                .stable(case.config("kwargs").get("algorithm").is_some_and(|name| name == "stable"));
            standardize_with(x, dims(), &options)
        }
        other => panic!("no activation {other}"),
    }
}

/// Against 60 digits, down to the smallest normal number of the type.
#[test]
fn exact_gelu_in_the_tail() -> Result<()> {
    let fixture = fixture!("layers/gelu.json");
    let numbers = |key: &str| -> Vec<f64> {
        fixture[key].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let (x, sizes) = (numbers("x"), numbers("size"));
    // Without the kernel, the exponential's argument is rounded, and two dozen terms are added.
    for (dtype, smallest, tolerance, plain) in [
        (DType::F32, f64::from(f32::MIN_POSITIVE), 1.2e-7, 1e-6),
        (DType::F64, f64::MIN_POSITIVE, 1e-15, 1e-14),
    ] {
        let found = || -> Result<[Vec<f64>; 2]> {
            let x = Leaf::<Parameter>::new(Tensor::new(x.as_slice(), device())?.to_dtype(dtype)?)?;
            let ((_, y), dx) = treex_core::value_and_grad_aux(&x, |x| {
                let y = gelu_with(&x.get()?, false)?;
                Ok((y.sum_all()?, y))
            })?;
            let wide = |x: &Tensor| x.to_dtype(DType::F64)?.to_vec1();
            Ok([wide(&y)?, wide(&dx.get()?)?])
        };
        let tolerance = if device().is_cpu() { tolerance } else { plain };
        for (found, tolerance) in
            [(found()?, tolerance), (treex_core::autograd::with_reference(found)?, plain)]
        {
            for (key, found) in ["y", "dy"].into_iter().zip(found) {
                for (((x, found), want), size) in x.iter().zip(found).zip(numbers(key)).zip(&sizes) {
                    let size = if key == "dy" { *size } else { want.abs() };
                    let close = (found - want).abs() <= tolerance * size.max(smallest);
                    assert!(close, "{key} at {x} in {}: {found:e}, not {want:e}", dtype.as_str());
                }
            }
        }
    }
    Ok(())
}

/// Functions whose formula, or whose derivative's formula, subtracts nearly equal numbers somewhere: JAX
/// loses digits there too, so the absolute difference counts.
const CANCELLING: &[&str] = &[
    "celu",
    "elu",
    "gelu",
    "glu",
    "selu",
    "sigmoid",
    "soft_sign",
    "softmax",
    "squareplus",
    "standardize",
    "tanh",
];

/// Element by element, unlike layers, since the inputs reach from 1e-30 to 100.
#[test]
fn activations_as_in_flax() -> Result<()> {
    for case in cases().iter().filter(|case| case.layer == "activation") {
        if case.config("fn") == "one_hot" {
            let axis = case.config("kwargs")["axis"].as_i64().unwrap() as isize;
            let y = one_hot(
                &case.x().to_dtype(DType::I64)?,
                usize_of(&case.config("kwargs")["num_classes"]),
                axis,
            )?;
            assert_close(&y, &case.tensor("y").unwrap(), 0., &case.name);
            continue;
        }
        let (x, cotangent) = (Leaf::<Parameter>::new(case.x())?, case.tensor("cotangent").unwrap());
        let ((_, y), dx) = treex_core::value_and_grad_aux(&x, |x| {
            let y = activation(case, &x.get()?)?;
            Ok(((&y * &cotangent)?.sum_all()?, y))
        })?;
        let absolute = if CANCELLING.contains(&case.config("fn").as_str().unwrap()) { 1e-6 } else { 1e-30 };
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (what, got, want) in
            [("y", y, case.tensor("y").unwrap()), ("dx", dx.get()?, case.tensor("dx").unwrap())]
        {
            assert_eq!(got.dims(), want.dims(), "{}: {what}", case.name);
            for (index, (got, want)) in flat(&got).into_iter().zip(flat(&want)).enumerate() {
                let close = (got - want).abs() <= 1e-6 * want.abs() + absolute;
                assert!(close, "{}: {what}[{index}] = {got:e}, not {want:e}", case.name);
            }
        }
    }
    Ok(())
}

/// As `jax.lax.top_k` and `jnp.sort` of JAX 0.10.2, with enough numbers for the check of a total order.
#[test]
fn nan_is_above_all_numbers() -> Result<()> {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let x = Tensor::new(&[1., 9., nan, 3., inf, 8., -inf], device())?.to_dtype(dtype)?;
        assert_eq!(top_k(&x, 3)?.1.to_vec1::<u32>()?, [2, 4, 1], "{dtype:?}");
        assert_eq!(sort(&x, true)?.1.to_vec1::<u32>()?, [6, 0, 3, 5, 1, 4, 2], "{dtype:?}");
        assert_eq!(sort(&x, false)?.1.to_vec1::<u32>()?, [2, 4, 1, 5, 3, 0, 6], "{dtype:?}");
    }
    let many: Vec<f32> = (0..500).map(|i| if i % 3 == 0 { nan } else { (i * 37 % 101) as f32 }).collect();
    let sorted = sort(&Tensor::new(many, device())?, true)?.0.to_vec1::<f32>()?;
    assert!(sorted[..333].is_sorted() && sorted[333..].iter().all(|x| x.is_nan()));
    Ok(())
}
