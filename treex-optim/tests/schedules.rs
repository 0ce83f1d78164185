//! Schedules against Optax's values at each step, and as data.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use treex_core::prelude::*;
use treex_optim::{
    GradientTransformation, Interpolation, Schedule, ScheduleConfig, constant, cosine_decay, cosine_onecycle,
    exponential_decay, join_schedules, linear, linear_onecycle, piecewise_constant, piecewise_interpolate,
    polynomial, sgd, sgdr, warmup_constant, warmup_cosine_decay, warmup_exponential_decay,
};
use treex_testing::compare::assert_close;
use treex_testing::fixture;
use treex_testing::oracle::numbers;

/// Both sides compute in f64.
const F64: f64 = 1e-10;

/// Each case of the fixture: its name, the schedule, and the same as a configuration.
fn cases() -> Vec<(&'static str, Schedule, &'static str)> {
    vec![
        ("constant(0.3)", constant(0.3), "0.3"),
        (
            "linear(1,0,4,begin=2)",
            linear(1., 0., 4).begin(2).into(),
            r#"{"name": "linear", "init": 1, "end": 0, "steps": 4, "begin": 2}"#,
        ),
        (
            "polynomial(25,10,2,10)",
            polynomial(25., 10., 2., 10).into(),
            r#"{"name": "polynomial", "init": 25, "end": 10, "power": 2, "steps": 10}"#,
        ),
        (
            "polynomial(1,0,2,0 steps)",
            polynomial(1., 0., 2., 0).into(),
            r#"{"name": "polynomial", "init": 1, "end": 0, "power": 2, "steps": 0}"#,
        ),
        (
            "piecewise_constant(1,{2:.5,5:.1})",
            piecewise_constant(1., [(2, 0.5), (5, 0.1)]).into(),
            r#"{"name": "piecewise_constant", "init": 1, "boundaries_and_scales": [[5, 0.1], [2, 0.5]]}"#,
        ),
        (
            "exponential(1,2,.5)",
            exponential_decay(1., 2, 0.5).into(),
            r#"{"name": "exponential_decay", "init": 1, "steps": 2, "rate": 0.5}"#,
        ),
        (
            "exponential(1,2,.5,begin=3,staircase,end=.2)",
            exponential_decay(1., 2, 0.5).begin(3).staircase(true).end(0.2).into(),
            r#"{"name": "exponential_decay", "init": 1, "steps": 2, "rate": 0.5, "begin": 3, "staircase": true,
                "end": 0.2}"#,
        ),
        (
            "cosine(1,8,alpha=.1,exponent=2)",
            cosine_decay(1., 8).alpha(0.1).exponent(2.).into(),
            r#"{"name": "cosine_decay", "init": 1, "decay_steps": 8, "alpha": 0.1, "exponent": 2}"#,
        ),
        (
            "cosine(1,8)",
            cosine_decay(1., 8).into(),
            r#"{"name": "cosine_decay", "init": 1, "decay_steps": 8}"#,
        ),
        (
            "piecewise_interpolate(linear,200,{5:1.5,10:.25})",
            piecewise_interpolate(Interpolation::Linear, 200., [(5, 1.5), (10, 0.25)]).into(),
            r#"{"name": "piecewise_interpolate", "interpolate_type": "linear", "init": 200,
                "boundaries_and_scales": [[5, 1.5], [10, 0.25]]}"#,
        ),
        (
            "piecewise_interpolate(cosine,400,{5:1.2,3:.6,7:1.0})",
            piecewise_interpolate(Interpolation::Cosine, 400., [(5, 1.2), (3, 0.6), (7, 1.)]).into(),
            r#"{"name": "piecewise_interpolate", "interpolate_type": "cosine", "init": 400,
                "boundaries_and_scales": [[5, 1.2], [3, 0.6], [7, 1]]}"#,
        ),
        (
            "linear_onecycle(10,1000,.3,.7,10,100)",
            linear_onecycle(10, 1000.).pct_final(0.7).div_factor(10.).final_div_factor(100.).into(),
            r#"{"name": "linear_onecycle", "steps": 10, "peak": 1000, "pct_final": 0.7, "div_factor": 10,
                "final_div_factor": 100}"#,
        ),
        (
            "cosine_onecycle(5,1000,.4,10,100)",
            cosine_onecycle(5, 1000.).pct_start(0.4).div_factor(10.).final_div_factor(100.).into(),
            r#"{"name": "cosine_onecycle", "steps": 5, "peak": 1000, "pct_start": 0.4, "div_factor": 10,
                "final_div_factor": 100}"#,
        ),
        (
            "linear_onecycle(10,1) defaults",
            linear_onecycle(10, 1.).into(),
            r#"{"name": "linear_onecycle", "steps": 10, "peak": 1}"#,
        ),
        (
            "cosine_onecycle(10,1) defaults",
            cosine_onecycle(10, 1.).into(),
            r#"{"name": "cosine_onecycle", "steps": 10, "peak": 1}"#,
        ),
        (
            "warmup_constant(0,1,4)",
            warmup_constant(0., 1., 4).into(),
            r#"{"name": "warmup_constant", "peak": 1, "warmup_steps": 4}"#,
        ),
        (
            "warmup_cosine(0,1,3,10,.1)",
            warmup_cosine_decay(0., 1., 3, 10, 0.1).into(),
            r#"{"name": "warmup_cosine_decay", "peak": 1, "warmup_steps": 3, "decay_steps": 10, "end": 0.1}"#,
        ),
        (
            "warmup_exponential(0,1,3,2,.5)",
            warmup_exponential_decay(0., 1., 3, 2, 0.5).into(),
            r#"{"name": "warmup_exponential_decay", "peak": 1, "warmup_steps": 3, "steps": 2, "rate": 0.5}"#,
        ),
        (
            "warmup_exponential(0,1,3,2,.5,begin=1,staircase,end=.2)",
            warmup_exponential_decay(0., 1., 3, 2, 0.5).begin(1).staircase(true).end(0.2).into(),
            r#"{"name": "warmup_exponential_decay", "init": 0, "peak": 1, "warmup_steps": 3, "steps": 2,
                "rate": 0.5, "begin": 1, "staircase": true, "end": 0.2}"#,
        ),
        (
            "sgdr",
            sgdr([warmup_cosine_decay(0., 1., 2, 5, 0.), warmup_cosine_decay(0., 0.5, 1, 6, 0.1)]).into(),
            r#"{"name": "sgdr", "cycles": [{"peak": 1, "warmup_steps": 2, "decay_steps": 5},
                {"peak": 0.5, "warmup_steps": 1, "decay_steps": 6, "end": 0.1}]}"#,
        ),
        (
            "join([const .1, linear 1->0 4],[3])",
            join_schedules([constant(0.1), linear(1., 0., 4).into()], [3]).into(),
            r#"{"name": "join_schedules", "boundaries": [3],
                "schedules": [0.1, {"name": "linear", "init": 1, "end": 0, "steps": 4}]}"#,
        ),
    ]
}

#[test]
fn values_at_each_step() {
    let fixture = fixture!("optax.json");
    for (name, schedule, _) in cases() {
        let expected = numbers(&fixture["schedules"][name]);
        let found: Vec<f64> = (0..expected.len() as u64).map(|count| schedule.value(count)).collect();
        assert_close(&found, &expected, F64, name);
    }
}

#[test]
fn every_fixture_case_is_tested() {
    let fixture = fixture!("optax.json");
    let expected: BTreeSet<_> =
        fixture["schedules"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(cases().iter().map(|&(name, ..)| name).collect::<BTreeSet<_>>(), expected);
}

/// A schedule prints all that it is, so equal text is an equal schedule.
#[test]
fn a_configuration_is_the_function_of_its_name() {
    for (name, schedule, json) in cases() {
        let config: ScheduleConfig = serde_json::from_str(json).unwrap();
        assert_eq!(format!("{:?}", config.build()), format!("{schedule:?}"), "{name}");
        let again = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(config, again, "{name}");
    }
}

#[test]
fn mistakes_in_a_configuration_are_errors() {
    let cases = [
        (r#"{"name": "exponential_decay", "init": 1, "steps": 2}"#, "missing field `rate`"),
        (r#"{"name": "sgdr", "cycles": [{"peak": 1}]}"#, "missing field `warmup_steps`"),
        (
            r#"{"name": "cosine_onecycle", "steps": 9, "peak": 1, "pct_final": 0.5}"#,
            "unknown field `pct_final`",
        ),
        (
            r#"{"name": "piecewise_interpolate", "interpolate_type": "cubic", "init": 1, "boundaries_and_scales": []}"#,
            "unknown variant `cubic`, expected `linear` or `cosine`",
        ),
        (r#"{"name": "join_schedules", "schedules": ["fast"], "boundaries": []}"#, "a number, or a schedule"),
        (r#"{"name": "sgdr", "cycle": []}"#, "unknown field `cycle`"),
    ];
    for (json, expected) in cases {
        let error = serde_json::from_str::<ScheduleConfig>(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A transformation asks its schedule when it is initialized.
#[test]
fn nested_schedules_are_checked() {
    let broken = join_schedules([constant(0.1), piecewise_constant(0.1, [(2, -1.)]).into()], [3]);
    let error = sgd(broken).init(&().flatten()).unwrap_err().to_string();
    assert!(
        error.contains("`piecewise_constant(0.1, [(2, -1.0)])` has a factor out of range at step 2 on"),
        "{error}"
    );
}
