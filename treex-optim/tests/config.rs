//! Optimizers from configuration files.

#![allow(clippy::unwrap_used)]

use treex_optim::{
    CurveConfig, GradientTransformation, OptimizerConfig, ScheduleConfig, adam, adamw, cosine_decay, linear,
    sgd, warmup_cosine, warmup_cosine_decay,
};

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
            r#"{"name": "adamw", "weight_decay": 0.01, "decay": "**.kernel",
                "learning_rate": {"name": "warmup_cosine", "peak": 0.1, "warmup_steps": 2, "decay_steps": 9}}"#,
            adamw(warmup_cosine(0.1, 2, 9)).weight_decay(0.01).decay(treex_core::path("**.kernel")).boxed(),
        ),
        (
            r#"{"name": "adamw", "learning_rate": {"name": "warmup_cosine", "init": 0.01, "peak": 0.1,
                "warmup_steps": 2, "decay_steps": 9, "end": 0.02}}"#,
            adamw(warmup_cosine_decay(0.01, 0.1, 2, 9, 0.02)).boxed(),
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(built(json), format!("{expected:?}"), "{json}");
    }
}

#[test]
fn mistakes_are_told() {
    let cases = [
        (r#"{"name": "adam", "learning_rate": 0.1, "beta1": 0.9}"#, "unknown field `beta1`"),
        (
            r#"{"name": "adamm", "learning_rate": 0.1}"#,
            "unknown variant `adamm`, expected one of `sgd`, `adam`, `adamw`",
        ),
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
fn numbers_are_checked_before_there_is_a_model() {
    let curve = CurveConfig::WarmupCosine(warmup_cosine(0.1, 9, 9));
    let config =
        OptimizerConfig::Sgd { learning_rate: ScheduleConfig::Curve(curve), momentum: None, nesterov: false };
    let error = config.build().unwrap_err().to_string();
    assert!(error.starts_with("`decay_steps` of `warmup_cosine(0.1, 9, 9)` is too small"), "{error}");
}
