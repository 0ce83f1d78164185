//! What Optax itself computed, in f64 (`fixtures/optax.json`, written by `fixtures/optax.py`): every case that
//! the transformations, schedules and losses of this crate can express.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;
use treex_core::{Leaf, Parameter, Result, path, prelude::*};
use treex_optim::{
    Boxed, Extra, GradientTransformation, Optimizer, Schedule, adam, adamw, add_decayed_weights, chain,
    clip_by_global_norm, constant, cosine_decay, l2_loss, linear, mse, polynomial, scale, scale_by_adam,
    scale_by_schedule, sgd, softmax_cross_entropy, softmax_cross_entropy_with_integer_labels, squared_error,
    trace, warmup_cosine_decay,
};

/// Optax sums in f64 in another order than Candle; nothing else differs.
const F64: f64 = 1e-10;

/// Six steps in f32, each rounding at 6e-8 relative: values are around 1, and Adam divides by a root.
const F32: f64 = 5e-6;

#[derive(Clone, Debug, TreeObject)]
struct Params {
    a: Leaf<Parameter>,
    b: Leaf<Parameter>,
}

impl Params {
    fn read(leaves: &Value, dtype: DType) -> Self {
        let leaf = |index: usize| Leaf::new(tensor(&leaves[index]).to_dtype(dtype).unwrap()).unwrap();
        Self { a: leaf(0), b: leaf(1) }
    }
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/optax.json")).unwrap()
}

/// Nested lists as a tensor.
fn tensor(value: &Value) -> Tensor {
    let (mut dims, mut inner) = (Vec::new(), value);
    while let Some(rows) = inner.as_array() {
        dims.push(rows.len());
        inner = &rows[0];
    }
    Tensor::from_vec(numbers(value), dims, &Device::Cpu).unwrap()
}

/// The numbers in nested lists, in order.
fn numbers(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(values) => values.iter().flat_map(numbers).collect(),
        None => vec![value.as_f64().unwrap()],
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{what}: {found} is not {expected}");
    }
}

/// The transformation for each case of `transforms`. `mask a` there is `path("a")` here.
fn transformations() -> Vec<(&'static str, Boxed)> {
    // Optax counts steps in i32, and a schedule that divides such a count computes in f32, in an f64 run too.
    let exact = Schedule::from(warmup_cosine_decay(0., 0.1, 2, 5, 0.01));
    let rate = Schedule::new("warmup_cosine_decay in f32", move |count| f64::from(exact.value(count) as f32));
    let falling = |first: f64| Schedule::new("first / (1 + c)", move |count| first / (1. + count as f64));
    vec![
        ("identity", chain(()).boxed()),
        ("scale(-0.5)", scale(-0.5).boxed()),
        ("scale_by_adam()", scale_by_adam().boxed()),
        ("scale_by_adam(nesterov)", scale_by_adam().nesterov(true).boxed()),
        ("scale_by_adam(eps_root=1e-3)", scale_by_adam().eps_root(1e-3).boxed()),
        ("scale_by_schedule(1/(1+c))", scale_by_schedule(falling(1.)).boxed()),
        ("trace(.9)", trace(0.9).boxed()),
        ("trace(.9,nesterov)", trace(0.9).nesterov(true).boxed()),
        ("add_decayed_weights(.1)", add_decayed_weights(0.1).boxed()),
        ("add_decayed_weights(.1,mask a)", add_decayed_weights(0.1).to(path("a")).boxed()),
        ("add_decayed_weights(schedule .1/(1+c))", add_decayed_weights(falling(0.1)).boxed()),
        ("clip_by_global_norm(1.)", clip_by_global_norm(1.).boxed()),
        (
            "chain(clip_gn 1, adamw(sched))",
            chain((clip_by_global_norm(1.), adamw(rate.clone()).weight_decay(0.01))).boxed(),
        ),
        // Optax puts the options into the state here; the numbers are those of the optimizer inside.
        ("inject_hyperparams(adamw)(sched)", adamw(rate).weight_decay(0.01).boxed()),
        ("adam(.1)", adam(0.1).boxed()),
        ("nadam(.1)", adam(0.1).nesterov(true).boxed()),
        ("adamw(.1)", adamw(0.1).boxed()),
        ("adamw(.1,wd=.1,mask a)", adamw(0.1).weight_decay(0.1).decay(path("a")).boxed()),
        ("nadamw(.1)", adamw(0.1).nesterov(true).boxed()),
        ("sgd(.1)", sgd(0.1).boxed()),
        ("sgd(.1,.9)", sgd(0.1).momentum(0.9).boxed()),
        ("sgd(.1,.9,nesterov)", sgd(0.1).momentum(0.9).nesterov(true).boxed()),
    ]
}

fn check_transformations(dtype: DType, tolerance: f64) {
    let fixture = fixture();
    for (name, transformation) in transformations() {
        let case = &fixture["transforms"][name];
        assert!(case.is_object(), "there is no case `{name}` in the fixture");
        let mut params = Params::read(&fixture["meta"]["params"], dtype);
        let mut through_optimizer = params.clone();
        let mut optimizer = Optimizer::new(transformation.clone()).init(&params).unwrap();
        let mut state = transformation.init(&params.flatten()).unwrap();
        for (step, grads) in fixture["meta"]["grads"].as_array().unwrap().iter().enumerate() {
            let grads = Params::read(grads, dtype);
            let extra = Extra::value(3. - 0.3 * step as f64);
            let updates =
                transformation.update(grads.flatten(), &mut state, &params.flatten(), &extra).unwrap();
            let found: Vec<f64> = updates.tensors().flat_map(values).collect();
            assert_close(
                &found,
                &numbers(&case["updates"][step]),
                tolerance,
                &format!("{name}, updates {step}"),
            );
            let added = params.flatten().combine(&updates, |p, u| Ok((p + u)?)).unwrap();
            params = params.unflatten(&added).unwrap();
            optimizer.update_with(&grads, &mut through_optimizer, &extra).unwrap();
        }
        let found: Vec<f64> = through_optimizer.flatten().tensors().flat_map(values).collect();
        assert_close(
            &found,
            &numbers(&case["final_params"]),
            tolerance,
            &format!("{name}, final parameters"),
        );
        assert_eq!(optimizer.step().unwrap(), 6);
    }
}

#[test]
fn transformations_in_f64() {
    check_transformations(DType::F64, F64);
}

#[test]
fn transformations_in_f32() {
    check_transformations(DType::F32, F32);
}

/// What Optax says with masks and labels, two optimizers with filters say here: `wrt` is their `freeze` and
/// `partition`.
#[test]
fn parts_of_a_model() {
    let fixture = fixture();
    let cases: [(&str, Vec<(&str, Boxed)>); 3] = [
        ("freeze(a)", vec![("b", chain(()).boxed())]),
        ("selective_transform(sgd .1, freeze a)", vec![("b", sgd(0.1).boxed())]),
        (
            "partition(a:adam(.1),b:sgd(.1,.9))",
            vec![("a", adam(0.1).boxed()), ("b", sgd(0.1).momentum(0.9).boxed())],
        ),
    ];
    for (name, parts) in cases {
        let case = &fixture["transforms"][name];
        let mut params = Params::read(&fixture["meta"]["params"], DType::F64);
        let mut optimizers: Vec<_> = parts
            .into_iter()
            .map(|(part, transformation)| {
                Optimizer::new(transformation).wrt(path(part)).init(&params).unwrap()
            })
            .collect();
        for grads in fixture["meta"]["grads"].as_array().unwrap() {
            let grads = Params::read(grads, DType::F64);
            for optimizer in &mut optimizers {
                optimizer.update(&grads, &mut params).unwrap();
            }
        }
        let found: Vec<f64> = params.flatten().tensors().flat_map(values).collect();
        assert_close(&found, &numbers(&case["final_params"]), F64, name);
    }
}

#[test]
fn schedules() {
    let fixture = fixture();
    let cases: [(&str, Schedule); 8] = [
        ("constant(0.3)", constant(0.3)),
        ("linear(1,0,4,begin=2)", linear(1., 0., 4).begin(2).into()),
        ("polynomial(25,10,2,10)", polynomial(25., 10., 2., 10).into()),
        ("polynomial(1,0,2,0 steps)", polynomial(1., 0., 2., 0).into()),
        ("cosine(1,8,alpha=.1,exponent=2)", cosine_decay(1., 8).alpha(0.1).exponent(2.).into()),
        ("cosine(1,8)", cosine_decay(1., 8).into()),
        ("warmup_constant(0,1,4)", linear(0., 1., 4).into()),
        ("warmup_cosine(0,1,3,10,.1)", warmup_cosine_decay(0., 1., 3, 10, 0.1).into()),
    ];
    for (name, schedule) in cases {
        let expected = numbers(&fixture["schedules"][name]);
        let found: Vec<f64> = (0..expected.len() as u64).map(|count| schedule.value(count)).collect();
        assert_close(&found, &expected, F64, name);
    }
}

type Loss = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// Each loss with what stands on its other side.
fn losses(fixture: &Value) -> Vec<(&'static str, Loss, Tensor)> {
    let classes = fixture["losses"]["int_labels"].as_array().unwrap();
    let labels: Vec<i64> = classes.iter().map(|class| class.as_i64().unwrap()).collect();
    let one_hot = Tensor::new(&[[0f64, 0., 1.], [0., 1., 0.]], &Device::Cpu).unwrap();
    let targets = tensor(&fixture["losses"]["targets"]);
    vec![
        ("squared_error", squared_error, targets.clone()),
        ("l2_loss", l2_loss, targets),
        ("softmax_cross_entropy", softmax_cross_entropy, one_hot),
        (
            "softmax_cross_entropy_with_integer_labels",
            softmax_cross_entropy_with_integer_labels,
            Tensor::new(labels, &Device::Cpu).unwrap(),
        ),
    ]
}

#[test]
fn loss_values_and_gradients() {
    let fixture = fixture();
    for (name, loss, other) in losses(&fixture) {
        let case = &fixture["losses"]["values"][name];
        let x = Var::from_tensor(&tensor(&fixture["losses"]["x"])).unwrap();
        let value = loss(&x, &other).unwrap();
        assert_eq!(value.dims(), tensor(&case["value"]).dims(), "{name}");
        assert_close(&values(&value), &numbers(&case["value"]), F64, name);
        let grads = value.sum_all().unwrap().backward().unwrap();
        assert_close(&values(grads.get(&x).unwrap()), &numbers(&case["grad_of_sum"]), F64, name);
    }
}

/// `mse` is not in Optax, which leaves the mean to its user.
#[test]
fn mse_is_the_mean_of_the_squared_error() {
    let fixture = fixture();
    let (x, targets) = (tensor(&fixture["losses"]["x"]), tensor(&fixture["losses"]["targets"]));
    let errors = numbers(&fixture["losses"]["values"]["squared_error"]["value"]);
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    assert_close(&values(&mse(&x, &targets).unwrap()), &[mean], F64, "mse");
}
