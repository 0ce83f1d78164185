//! Calls with bad input, and the tables of it.

use std::fmt::Debug;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use treex_core::{Leaf, Module, Parameter, Result, prelude::*};

/// Calls, one after the other; each that panics, or whose error does not help, is reported.
#[derive(Debug, Default)]
pub struct Cases {
    failed: usize,
}

/// What the last panic said, and where.
static PANIC: Mutex<String> = Mutex::new(String::new());

impl Cases {
    pub(super) fn run(row: &(impl Fn(&mut Self) + ?Sized)) -> ExitCode {
        panic::set_hook(Box::new(|info| {
            *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string().replace('\n', " ");
        }));
        let mut cases = Self::default();
        row(&mut cases);
        println!("done");
        if cases.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The value of one call, if it has one.
    pub fn call<T>(&mut self, label: &str, f: impl FnOnce() -> Result<T>) -> Option<T> {
        println!("{label}");
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) if error.remedy_text().or(error.expected_text()).is_some() => {}
            Ok(Err(error)) => self.fail(label, &format!("an error without a remedy: {error}")),
            Err(_) => {
                let panic = PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone();
                self.fail(label, &panic);
            }
        }
        None
    }

    fn fail(&mut self, label: &str, why: &str) {
        self.failed += 1;
        // The first of many alike say enough.
        if self.failed <= 12 {
            println!("FAILED {label}: {why}");
        }
    }

    /// `f` of each tensor, and its gradient.
    pub fn tensors(&mut self, label: &str, f: impl Fn(&Tensor) -> Result<Tensor>) {
        for (name, x) in tensors() {
            let label = format!("{label} of {name}");
            let y = self.call(&label, || f(&x));
            if x.dtype().is_float() && y.is_some_and(|y| y.dtype().is_float()) {
                self.call(&format!("gradient of {label}"), || {
                    let mut x = Leaf::<Parameter>::new(&x)?;
                    let sum = |x: &Tensor| Ok(f(x)?.sum_all()?);
                    // A function without a gradient has an error that says so.
                    Ok(x.value_and_grad(Parameter, |x| sum(&x.get()?))
                        .map(drop)
                        .map_err(|error| error.to_string()))
                });
            }
        }
    }

    /// `f` of each pair of tensors.
    pub fn pairs<T>(&mut self, label: &str, f: impl Fn(&Tensor, &Tensor) -> Result<T>) {
        for (name, x) in tensors() {
            for (other, y) in tensors() {
                self.call(&format!("{label} of {name} and {other}"), || f(&x, &y));
            }
        }
    }

    /// Everything that a layer does: made, shown, initialized, with and without an input, and called.
    pub fn layer<M: Module + Clone + Debug>(&mut self, label: &str, make: impl Fn() -> M) {
        let Some(made) = self.call(label, || Ok(make())) else { return };
        self.call(&format!("{label}, shown"), || Ok((format!("{made:?}").len(), made.tabulate().len())));
        let init = self.call(&format!("{label}, initialized"), || made.clone().init(0, &Device::Cpu));
        if let Some(init) = &init {
            self.call(&format!("{label}, initialized and shown"), || {
                Ok((format!("{init:?}"), init.tabulate()))
            });
        }
        let stacked = init.as_ref().filter(|init| !init.filter(Parameter).leaves().is_empty());
        let stacked = stacked.map(|init| M::stack(&[init.clone(), init.clone()]).unwrap());
        for (name, x) in tensors() {
            let mut called = init.clone().unwrap_or_else(|| made.clone());
            let y = self.call(&format!("{label}, called with {name}"), || called.call(&x));
            if let (Some(_), Some(mut stacked)) = (y, stacked.clone()) {
                let label = format!("{label}, stacked and called with {name}");
                match self.call(&label, || Ok(stacked.call(&x).map_err(|error| error.to_string()))) {
                    Some(Err(error)) if error.contains("vmap") => {}
                    other => self.fail(&label, &format!("{:?}", other.map(|y| y.map(|y| y.shape().clone())))),
                }
            }
            self.call(&format!("{label}, initialized with {name}"), || {
                made.clone().init_with(0, &x)?.call(&x)
            });
        }
    }
}

/// Sizes from none to those that no memory holds, and those whose products overflow.
pub const SIZES: [usize; 5] = [0, 6, 1 << 40, 1 << 62, usize::MAX];

/// Options that are no option.
pub const NUMBERS: [f64; 9] =
    [0., -0., 1., -1., 1e-320, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];

/// Axes of no tensor, of some, and one twice.
pub const AXES: [isize; 6] = [0, 1, -1, 7, isize::MIN, isize::MAX];

/// [`AXES`] from the beginning, several at once.
pub const DIMS: [&[usize]; 7] = [&[], &[0], &[1], &[2, 0], &[0, 0], &[7], &[usize::MAX, 0]];

/// Tensors of every rank, without elements, of every element type, with numbers that are no number, and views. Most
/// have 6 features, so that a layer of that size takes them. Not of `F8E4M3`, whose conversion to `F64` does not end in
/// Candle 0.11.1.
pub fn tensors() -> Vec<(String, Tensor)> {
    let mut tensors = Vec::new();
    let mut add = |label: String, x: candle_core::Result<Tensor>| {
        // A type that this device lacks has no tensors.
        tensors.extend(x.ok().map(|x| (label, x)));
    };
    let shapes: [&[usize]; 14] = [
        &[],
        &[1],
        &[6],
        &[2, 6],
        &[2, 4, 6],
        &[2, 5, 4, 6],
        &[1, 2, 3, 2, 6],
        &[0],
        &[0, 6],
        &[6, 0],
        &[2, 0, 6],
        &[2, 4, 0],
        &[0, 0, 0, 0],
        &[2, 4, 0, 6],
    ];
    for shape in shapes {
        let elements: usize = if shape.contains(&0) { 0 } else { shape.iter().product() };
        let values: Vec<f32> = (0..elements).map(|at| (at as f32 * 0.7).sin()).collect();
        add(format!("{shape:?}"), Tensor::from_vec(values, shape, &Device::Cpu));
    }
    let types =
        [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64, DType::BF16, DType::F16, DType::F64];
    let of = |values: [f64; 6], dtype: DType| {
        Tensor::new(&[values, values], &Device::Cpu).and_then(|x| x.to_dtype(dtype))
    };
    for dtype in types {
        add(format!("{dtype:?}"), of([0., 1., 2., 3., 1., 0.], dtype));
        add(format!("the last of {dtype:?}"), of([1e300, -1e300, 1e300, 0., 1e300, -1e300], dtype));
    }
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    add("no numbers".into(), of([nan, inf, -inf, 3e38, -3e38, 1e-40], DType::F32));
    let whole = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
    add("a transposed view".into(), whole(&[6, 4, 2]).and_then(|x| x.transpose(0, 2)));
    add("a part".into(), whole(&[4, 4, 6]).and_then(|x| x.narrow(0, 1, 2)));
    add("a repeated view".into(), whole(&[1, 4, 1]).and_then(|x| x.broadcast_as((2, 4, 6))));
    tensors
}

/// Tensors without elements, whose other sizes are beyond those of any memory.
pub fn huge() -> Vec<(String, Tensor)> {
    let shapes: [&[usize]; 3] = [&[1 << 40, 0], &[0, 1 << 40, 6], &[0, usize::MAX]];
    let of =
        |shape: &[usize]| (format!("{shape:?}"), Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap());
    shapes.into_iter().map(of).collect()
}

/// Fewer of [`tensors`], for functions of three.
pub fn some() -> Vec<(String, Tensor)> {
    let all = tensors().into_iter();
    all.filter(|(name, _)| {
        [
            "[]",
            "[6]",
            "[2, 6]",
            "[2, 4, 6]",
            "[2, 0, 6]",
            "[0, 6]",
            "U8",
            "the last of U32",
            "the last of I64",
        ]
        .contains(&name.as_str())
            || ["F16", "no numbers", "a transposed view", "[2, 5, 4, 6]"].contains(&name.as_str())
    })
    .collect()
}
