//! Schedules as data, for configuration files.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{
    CosineDecay, CosineOnecycle, ExponentialDecay, LinearOnecycle, PiecewiseConstant, PiecewiseInterpolate,
    Polynomial, Schedule, Sgdr, WarmupConstant, WarmupCosineDecay, WarmupExponentialDecay, join_schedules,
};

/// A learning rate: a number, or a schedule by its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ScheduleConfig {
    /// The same at every step.
    Constant(f64),
    /// One that changes.
    Curve(CurveConfig),
}

/// A schedule that changes, by its name. The fields are the arguments and options of the function of that
/// name; options have its defaults.
///
/// ```
/// use treex_optim::{CurveConfig, linear_onecycle};
///
/// let text = r#"{ "name": "linear_onecycle", "steps": 1000, "peak": 0.1, "pct_start": 0.2 }"#;
/// let config: CurveConfig = serde_json::from_str(text)?;
/// assert_eq!(config, CurveConfig::LinearOnecycle(linear_onecycle(1000, 0.1).pct_start(0.2)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum CurveConfig {
    /// [`linear`](crate::linear), with the fields `init`, `end`, `steps` and `begin`.
    Linear(#[serde(with = "super::polynomial::without_power")] Polynomial),
    /// [`polynomial`](crate::polynomial), with the fields of `linear` and `power`.
    Polynomial(Polynomial),
    /// [`piecewise_constant`](crate::piecewise_constant): `init`, and `boundaries_and_scales` as a list of
    /// pairs.
    PiecewiseConstant(PiecewiseConstant),
    /// [`exponential_decay`](crate::exponential_decay): `init`, `steps`, `rate`, `begin`, `staircase`, `end`.
    ExponentialDecay(ExponentialDecay),
    /// [`cosine_decay`](crate::cosine_decay): `init`, `decay_steps`, `alpha`, `exponent`.
    CosineDecay(CosineDecay),
    /// [`piecewise_interpolate`](crate::piecewise_interpolate): `interpolate_type`, which is `linear` or
    /// `cosine`, `init`, `boundaries_and_scales`.
    PiecewiseInterpolate(PiecewiseInterpolate),
    /// [`linear_onecycle`](crate::linear_onecycle): `steps`, `peak`, `pct_start`, `pct_final`, `div_factor`,
    /// `final_div_factor`.
    LinearOnecycle(LinearOnecycle),
    /// [`cosine_onecycle`](crate::cosine_onecycle): the fields of `linear_onecycle` but `pct_final`.
    CosineOnecycle(CosineOnecycle),
    /// [`warmup_constant`](crate::warmup_constant): `init`, which is 0 if left out, `peak`, `warmup_steps`.
    WarmupConstant(WarmupConstant),
    /// [`warmup_cosine_decay`](crate::warmup_cosine_decay): `init` and `end`, which are 0 if left out,
    /// `peak`, `warmup_steps`, `decay_steps`, `exponent`.
    #[serde(alias = "warmup_cosine_decay")]
    WarmupCosine(WarmupCosineDecay),
    /// [`warmup_exponential_decay`](crate::warmup_exponential_decay): `init`, which is 0 if left out, `peak`,
    /// `warmup_steps`, and the fields of `exponential_decay`.
    WarmupExponentialDecay(WarmupExponentialDecay),
    /// [`sgdr`](crate::sgdr): `cycles`, a list of the fields of `warmup_cosine`.
    Sgdr(Sgdr),
    /// [`join_schedules`](crate::join_schedules).
    JoinSchedules {
        /// One after the other.
        schedules: Vec<ScheduleConfig>,
        /// The steps at which the second and the following take over.
        boundaries: Vec<u64>,
    },
}

impl ScheduleConfig {
    /// The schedule.
    #[must_use]
    pub fn build(&self) -> Schedule {
        match self {
            Self::Constant(value) => (*value).into(),
            Self::Curve(curve) => curve.build(),
        }
    }
}

impl CurveConfig {
    /// The schedule.
    #[must_use]
    pub fn build(&self) -> Schedule {
        match self {
            Self::Linear(curve) | Self::Polynomial(curve) => (*curve).into(),
            Self::PiecewiseConstant(curve) => curve.clone().into(),
            Self::ExponentialDecay(curve) => (*curve).into(),
            Self::CosineDecay(curve) => (*curve).into(),
            Self::PiecewiseInterpolate(curve) => curve.clone().into(),
            Self::LinearOnecycle(curve) => (*curve).into(),
            Self::CosineOnecycle(curve) => (*curve).into(),
            Self::WarmupConstant(curve) => (*curve).into(),
            Self::WarmupCosine(curve) => (*curve).into(),
            Self::WarmupExponentialDecay(curve) => (*curve).into(),
            Self::Sgdr(curve) => curve.clone().into(),
            Self::JoinSchedules { schedules, boundaries } => {
                join_schedules(schedules.iter().map(ScheduleConfig::build), boundaries.iter().copied()).into()
            }
        }
    }
}

/// By hand, since serde's untagged enums say of every mistake only that nothing matched.
impl<'de> Deserialize<'de> for ScheduleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NumberOrCurve;

        impl<'de> de::Visitor<'de> for NumberOrCurve {
            type Value = ScheduleConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a schedule with its `name`")
            }

            fn visit_f64<E>(self, value: f64) -> std::result::Result<ScheduleConfig, E> {
                Ok(ScheduleConfig::Constant(value))
            }

            fn visit_u64<E>(self, value: u64) -> std::result::Result<ScheduleConfig, E> {
                Ok(ScheduleConfig::Constant(value as f64))
            }

            fn visit_i64<E>(self, value: i64) -> std::result::Result<ScheduleConfig, E> {
                Ok(ScheduleConfig::Constant(value as f64))
            }

            fn visit_map<A: de::MapAccess<'de>>(
                self,
                map: A,
            ) -> std::result::Result<ScheduleConfig, A::Error> {
                CurveConfig::deserialize(MapAccessDeserializer::new(map)).map(ScheduleConfig::Curve)
            }
        }

        deserializer.deserialize_any(NumberOrCurve)
    }
}
