//! Optimizers from configuration files.

#![allow(clippy::unwrap_used)]

use candle_core::DType;
use serde::de::value::{Error, MapDeserializer};
use serde::de::{Deserialize, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use treex_core::path;
use treex_optim::*;

fn built(json: &str) -> String {
    let config: OptimizerConfig = serde_json::from_str(json).unwrap();
    let again = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(config, again);
    format!("{:?}", config.build().unwrap())
}

/// A transformation prints all of its options, so equal text is an equal optimizer.
#[test]
fn a_configuration_is_the_function_of_its_name() {
    let cases = [
        (r#"{"name": "sgd", "learning_rate": 0.1}"#, sgd(0.1).boxed()),
        (r#"{"name": "sgd", "learning_rate": 1, "momentum": 0.9}"#, sgd(1.).momentum(0.9).boxed()),
        (
            r#"{"name": "sgd", "learning_rate": {"name": "linear", "init": 1, "end": 0, "steps": 9},
                "momentum": 0.9, "nesterov": true}"#,
            sgd(linear(1., 0., 9)).momentum(0.9).nesterov(true).boxed(),
        ),
        (r#"{"name": "adam", "learning_rate": 0.1}"#, adam(0.1).boxed()),
        (
            r#"{"name": "adam", "b1": 0.8, "b2": 0.9, "eps": 1e-6, "nesterov": true,
                "learning_rate": {"name": "cosine_decay", "init": 0.1, "decay_steps": 9, "alpha": 0.5}}"#,
            adam(cosine_decay(0.1, 9).alpha(0.5)).b1(0.8).b2(0.9).eps(1e-6).nesterov(true).boxed(),
        ),
        (r#"{"name": "adamw", "learning_rate": 0.1}"#, adamw(0.1).boxed()),
        (
            r#"{"name": "adamw", "weight_decay": 0.01, "weight_decay_mask": "**.kernel",
                "learning_rate": {"name": "warmup_cosine", "peak": 0.1, "warmup_steps": 2, "decay_steps": 9}}"#,
            adamw(warmup_cosine(0.1, 2, 9)).weight_decay(0.01).weight_decay_mask(path("**.kernel")).boxed(),
        ),
        (
            r#"{"name": "adamw", "learning_rate": {"name": "warmup_cosine", "init": 0.01, "peak": 0.1,
                "warmup_steps": 2, "decay_steps": 9, "end": 0.02}}"#,
            adamw(warmup_cosine_decay(0.01, 0.1, 2, 9, 0.02)).boxed(),
        ),
        (
            r#"{"name": "adabelief", "learning_rate": 0.1, "eps": 1e-3, "nesterov": true, "weight_decay": 0.1, "weight_decay_mask": "a"}"#,
            adabelief(0.1).eps(1e-3).nesterov(true).weight_decay(0.1).weight_decay_mask(path("a")).boxed(),
        ),
        (
            r#"{"name": "adadelta", "learning_rate": 0.1, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}"#,
            adadelta(0.1).rho(0.8).eps(1e-3).weight_decay(0.1).boxed(),
        ),
        (r#"{"name": "adafactor", "learning_rate": 0.1}"#, adafactor(0.1).boxed()),
        (
            r#"{"name": "adafactor", "learning_rate": 0.1, "min_dim_size_to_factor": 8, "decay_rate": 0.5,
                "decay_offset": 3, "multiply_by_parameter_scale": false, "clipping_threshold": null, "momentum": 0.9,
                "dtype_momentum": "bf16", "weight_decay_rate": 0.1, "eps": 1e-20, "factored": false, "weight_decay_mask": "a"}"#,
            adafactor(0.1)
                .min_dim_size_to_factor(8)
                .decay_rate(0.5)
                .decay_offset(3)
                .multiply_by_parameter_scale(false)
                .clipping_threshold(None)
                .momentum(0.9)
                .dtype_momentum(DType::BF16)
                .weight_decay_rate(0.1)
                .eps(1e-20)
                .factored(false)
                .weight_decay_mask(path("a"))
                .boxed(),
        ),
        (
            r#"{"name": "adagrad", "learning_rate": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3}"#,
            adagrad(0.1).initial_accumulator_value(0.2).eps(1e-3).boxed(),
        ),
        (
            r#"{"name": "ademamix", "learning_rate": 0.1, "b3": 0.99, "eps_root": 1e-3, "weight_decay": 0.1,
                "mu_dtype": "bf16", "alpha": {"name": "linear", "init": 0, "end": 5, "steps": 9}}"#,
            ademamix(0.1)
                .mu_dtype(DType::BF16)
                .b3(0.99)
                .alpha(linear(0., 5., 9))
                .eps_root(1e-3)
                .weight_decay(0.1)
                .boxed(),
        ),
        (
            r#"{"name": "adopt", "learning_rate": 0.1, "b2": 0.99, "nesterov": true}"#,
            adopt(0.1).b2(0.99).nesterov(true).boxed(),
        ),
        (
            r#"{"name": "muon", "learning_rate": 0.02, "beta": 0.9, "consistent_rms": 0.2, "orthogonalize": "layers.**",
                "weight_decay": 0.1, "adam_learning_rate": 1e-3, "adam_weight_decay": 0.01}"#,
            muon(0.02)
                .beta(0.9)
                .consistent_rms(0.2)
                .orthogonalize(path("layers.**"))
                .weight_decay(0.1)
                .adam_learning_rate(1e-3)
                .adam_weight_decay(0.01)
                .boxed(),
        ),
        (
            r#"{"name": "prodigy", "learning_rate": 0.5, "b3": 0.99, "estim_lr_coef": 2, "safeguard_warmup": true}"#,
            prodigy().learning_rate(0.5).b3(0.99).estim_lr_coef(2.).safeguard_warmup(true).boxed(),
        ),
        (
            r#"{"name": "schedule_free_adamw", "learning_rate": 0.1, "b1": 0.95, "b2": 0.99, "weight_decay": 0.1}"#,
            schedule_free_adamw(0.1).b1(0.95).b2(0.99).weight_decay(0.1).boxed(),
        ),
        (
            r#"{"name": "acprop", "learning_rate": 0.1, "eps_root": 1e-3, "weight_decay_mask": "a"}"#,
            acprop(0.1).eps_root(1e-3).weight_decay_mask(path("a")).boxed(),
        ),
        (
            r#"{"name": "cocob", "learning_rate": 0.1, "alpha": 2}"#,
            cocob().learning_rate(0.1).alpha(2.).boxed(),
        ),
        (r#"{"name": "dadapt_adamw", "estim_lr0": 0.1}"#, dadapt_adamw().estim_lr0(0.1).boxed()),
        (
            r#"{"name": "dog", "learning_rate": 0.5, "init_step": {"distance": 0.1}}"#,
            dog().learning_rate(0.5).init_step(InitStep::Distance(0.1)).boxed(),
        ),
        (
            r#"{"name": "dowg", "learning_rate": 0.5, "init_estim_sq_dist": 0.1}"#,
            dowg().learning_rate(0.5).init_estim_sq_dist(0.1).boxed(),
        ),
        (
            r#"{"name": "dpsgd", "learning_rate": 0.1, "l2_norm_clip": 2, "noise_multiplier": 0.5, "key": 7, "momentum": 0.9}"#,
            dpsgd(0.1, 2., 0.5, 7).momentum(0.9).boxed(),
        ),
        (r#"{"name": "galore", "learning_rate": 0.1, "rank": 4}"#, galore(0.1).rank(4).boxed()),
        (
            r#"{"name": "lbfgs", "learning_rate": 0.5, "memory_size": 4, "scale_init_precond": false}"#,
            lbfgs().learning_rate(0.5).memory_size(4).scale_init_precond(false).boxed(),
        ),
        (r#"{"name": "madgrad", "learning_rate": 0.1, "momentum": 0.5}"#, madgrad(0.1).momentum(0.5).boxed()),
        (r#"{"name": "momo", "beta": 0.5, "lower_bound": 1}"#, momo().beta(0.5).lower_bound(1.).boxed()),
        (
            r#"{"name": "momo_adam", "b1": 0.5, "weight_decay": 1}"#,
            momo_adam().b1(0.5).weight_decay(1.).boxed(),
        ),
        (
            r#"{"name": "schedule_free_sgd", "learning_rate": 0.1, "b1": 0.8, "weight_decay": 0.1, "state_dtype": "bf16"}"#,
            schedule_free_sgd(0.1).state_dtype(DType::BF16).b1(0.8).weight_decay(0.1).boxed(),
        ),
        (
            r#"{"name": "simplified_ademamix", "learning_rate": 0.1, "alpha": 0.5}"#,
            simplified_ademamix(0.1).alpha(0.5).boxed(),
        ),
        (
            r#"{"name": "sophia", "learning_rate": 0.1, "clip_threshold": null, "mu_dtype": "bf16"}"#,
            sophia(0.1).clip_threshold(None).mu_dtype(DType::BF16).boxed(),
        ),
        (r#"{"name": "adamax", "learning_rate": 0.1, "b1": 0.8}"#, adamax(0.1).b1(0.8).boxed()),
        (
            r#"{"name": "adamaxw", "learning_rate": 0.1, "weight_decay": 0.1}"#,
            adamaxw(0.1).weight_decay(0.1).boxed(),
        ),
        (
            r#"{"name": "adan", "learning_rate": 0.1, "b3": 0.9, "weight_decay": 0.1}"#,
            adan(0.1).b3(0.9).weight_decay(0.1).boxed(),
        ),
        (
            r#"{"name": "amsgrad", "learning_rate": 0.1, "mu_dtype": "f16", "bias_correction_mu": false,
                "bias_correction_nu": false}"#,
            amsgrad(0.1).mu_dtype(DType::F16).bias_correction_mu(false).bias_correction_nu(false).boxed(),
        ),
        (r#"{"name": "fromage", "learning_rate": 0.1, "min_norm": 0.5}"#, fromage(0.1).min_norm(0.5).boxed()),
        (
            r#"{"name": "lamb", "learning_rate": 0.1, "weight_decay": 0.1, "weight_decay_mask": "a"}"#,
            lamb(0.1).weight_decay(0.1).weight_decay_mask(path("a")).boxed(),
        ),
        (
            r#"{"name": "lars", "learning_rate": 0.1, "trust_ratio_mask": "a", "momentum": 0.5, "nesterov": true}"#,
            lars(0.1).trust_ratio_mask(path("a")).momentum(0.5).nesterov(true).boxed(),
        ),
        (
            r#"{"name": "lion", "learning_rate": 0.1, "mode": "smooth", "smooth_beta": 2, "mu_dtype": "bf16"}"#,
            lion(0.1).mode(LionMode::Smooth).smooth_beta(2.).mu_dtype(DType::BF16).boxed(),
        ),
        (r#"{"name": "nadam", "learning_rate": 0.1}"#, adam(0.1).nesterov(true).boxed()),
        (
            r#"{"name": "nadamw", "learning_rate": 0.1, "weight_decay_mask": "a"}"#,
            adamw(0.1).nesterov(true).weight_decay_mask(path("a")).boxed(),
        ),
        (
            r#"{"name": "noisy_sgd", "learning_rate": 0.1, "key": 7, "eta": 0.1, "gamma": 0.5}"#,
            noisy_sgd(0.1, 7).eta(0.1).gamma(0.5).boxed(),
        ),
        (
            r#"{"name": "novograd", "learning_rate": 0.1, "weight_decay": 0.1}"#,
            novograd(0.1).weight_decay(0.1).boxed(),
        ),
        (
            r#"{"name": "optimistic_adam", "learning_rate": 0.1, "optimism": 0.2}"#,
            optimistic_adam(0.1).optimism(0.2).boxed(),
        ),
        (
            r#"{"name": "optimistic_adam_v2", "learning_rate": 0.1, "alpha": 0.2, "nesterov": false}"#,
            optimistic_adam_v2(0.1).alpha(0.2).nesterov(false).boxed(),
        ),
        (
            r#"{"name": "optimistic_gradient_descent", "learning_rate": 0.1, "beta": 0.2}"#,
            optimistic_gradient_descent(0.1).beta(0.2).boxed(),
        ),
        (r#"{"name": "polyak_sgd"}"#, polyak_sgd().boxed()),
        (
            r#"{"name": "polyak_sgd", "max_learning_rate": 2, "scaling": 0.5, "variant": "sps+"}"#,
            polyak_sgd().max_learning_rate(2.).scaling(0.5).variant(PolyakVariant::SpsPlus).boxed(),
        ),
        (r#"{"name": "radam", "learning_rate": 0.1, "threshold": 6}"#, radam(0.1).threshold(6.).boxed()),
        (
            r#"{"name": "rmsprop", "learning_rate": 0.1, "centered": true, "momentum": 0.9, "decay": 0.99}"#,
            rmsprop(0.1).centered(true).momentum(0.9).decay(0.99).boxed(),
        ),
        (
            r#"{"name": "rprop", "learning_rate": 0.1, "eta_plus": 2, "lagged": true}"#,
            rprop(0.1).eta_plus(2.).lagged(true).boxed(),
        ),
        (r#"{"name": "sign_sgd", "learning_rate": 0.1}"#, sign_sgd(0.1).boxed()),
        (r#"{"name": "signum", "learning_rate": 0.1, "beta": 0.5}"#, signum(0.1).beta(0.5).boxed()),
        (r#"{"name": "sm3", "learning_rate": 0.1, "momentum": 0.5}"#, sm3(0.1).momentum(0.5).boxed()),
        (
            r#"{"name": "yogi", "learning_rate": 0.1, "initial_accumulator_value": 0.1}"#,
            yogi(0.1).initial_accumulator_value(0.1).boxed(),
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(built(json), format!("{expected:?}"), "{json}");
    }
}

#[test]
fn mistakes_are_errors() {
    let cases = [
        (r#"{"name": "adam", "learning_rate": 0.1, "beta1": 0.9}"#, "unknown field `beta1`"),
        (
            r#"{"name": "adamm", "learning_rate": 0.1}"#,
            "unknown variant `adamm`, expected one of `acprop`, `adabelief`, `adadelta`, `adafactor`, `adagrad`, `adam`, ",
        ),
        (r#"{"name": "adam", "learning_rate": 0.1, "b1": null}"#, "invalid type: null, expected f64"),
        (r#"{"name": "adam", "learning_rate": 0.1, "mu_dtype": "i64"}"#, "unknown variant `i64`"),
        (r#"{"name": "adam"}"#, "missing field `learning_rate`"),
        (r#"{"name": "adam", "learning_rate": "fast"}"#, "expected a number, or a schedule with its `name`"),
        (r#"{"name": "adam", "learning_rate": {"name": "linear", "init": 1}}"#, "missing field `end`"),
        (
            r#"{"name": "adam", "learning_rate": {"name": "linear", "init": 1, "end": 0, "steps": 9, "stop": 1}}"#,
            "unknown field `stop`",
        ),
        (r#"{"name": "adam", "learning_rate": {"name": "cosine"}}"#, "unknown variant `cosine`"),
    ];
    for (json, expected) in cases {
        let error = serde_json::from_str::<OptimizerConfig>(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn options_are_checked_without_a_model() {
    let curve = CurveConfig::WarmupCosine(warmup_cosine(0.1, 9, 9));
    let config = OptimizerConfig::Sgd {
        learning_rate: ScheduleConfig::Curve(curve),
        momentum: None,
        nesterov: None,
        accumulator_dtype: None,
    };
    let error = config.build().unwrap_err().to_string();
    assert!(error.starts_with("`decay_steps` of `warmup_cosine(0.1, 9, 9)` is too small"), "{error}");
}

/// Files of `contrib` that are no optimizers: transformations of others, and parts.
const NO_OPTIMIZERS: [&str; 11] = [
    "dimension_numbers",
    "distance_estimate",
    "gauss_newton_bartlett",
    "hutchinson",
    "mechanize",
    "mod",
    "newton_schulz",
    "normalize",
    "reduce_on_plateau",
    "sam",
    "schedule_free",
];

/// Each optimizer is in a file of its name.
#[test]
fn every_optimizer_has_a_configuration() {
    let src = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names =
        vec!["lbfgs".to_owned(), "schedule_free_adamw".to_owned(), "schedule_free_sgd".to_owned()];
    for folder in ["alias", "contrib"] {
        for file in std::fs::read_dir(src.join(folder)).unwrap() {
            let name = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
            if !NO_OPTIMIZERS.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    assert!(names.len() > 45, "the parse found {names:?}");
    for name in names {
        let error =
            serde_json::from_str::<OptimizerConfig>(&format!(r#"{{"name": "{name}", "_": 0}}"#)).unwrap_err();
        assert!(error.to_string().contains("unknown field `_`"), "{name}: {error}");
    }
}

/// What a field of a configuration is, without a file: JSON has no NaN.
#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Number(f64),
}

impl<'de> IntoDeserializer<'de, Error> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Self::Text(text) => visitor.visit_borrowed_str(text),
            Self::Number(number) => visitor.visit_f64(number),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Each number of each optimizer, as the errors of the configuration list them: NaN is refused, and so is a rate of decay
/// that is none.
#[test]
fn numbers_that_mean_nothing_are_refused() {
    let fields = |names: &str| {
        let quoted = names.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect::<Vec<_>>()
    };
    let error = serde_json::from_str::<OptimizerConfig>(r#"{"name": "_"}"#).unwrap_err().to_string();
    let (mut tried, mut taken) = (0, Vec::new());
    for name in fields(error.split_once("expected").unwrap().1) {
        let json = format!(r#"{{"name": "{name}", "_": 0}}"#);
        let error = serde_json::from_str::<OptimizerConfig>(&json).unwrap_err().to_string();
        for field in fields(error.split_once("expected").unwrap().1) {
            // `b3` of AdEMAMix is a schedule.
            let decays = ["b1", "b2"].contains(&&*field) || (&*name, &*field) == ("prodigy", "b3");
            let bad = [f64::NAN].into_iter().chain(decays.then_some(-1.));
            for bad in bad {
                let fields = [
                    ("name", Value::Text(&name)),
                    ("learning_rate", Value::Number(0.1)),
                    (field.as_str(), Value::Number(bad)),
                ];
                let fields = fields.into_iter().filter(|(key, value)| {
                    *key != "learning_rate"
                        || field != *key
                        || matches!(value, Value::Number(x) if x.to_bits() == bad.to_bits())
                });
                let Ok(config) = OptimizerConfig::deserialize(MapDeserializer::new(fields)) else { continue };
                tried += 1;
                if config.build().is_ok() {
                    taken.push(format!("{name}: {field} = {bad}"));
                }
            }
        }
    }
    assert!(tried > 150, "only {tried}");
    assert!(taken.is_empty(), "{taken:#?}");
}
