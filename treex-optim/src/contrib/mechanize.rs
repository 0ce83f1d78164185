//! Mechanic, a learning rate tuner.

use candle_core::{Device, Tensor};
use treex_core::{Error, Leaf, LeafRef, Leaves, OptState, Result, TreeObject};

use crate::combinators::copied;
use crate::engine::Updates;
use crate::extra::Extra;
use crate::linesearch::vdot;
use crate::numerics::check_not_negative;
use crate::scalar::Count;
use crate::step_size::StepSize;
use crate::transfer::to_vec_f64;
use crate::transformation::{GradientTransformation, Member, no_average_inside};

/// The state of [`mechanize`].
#[derive(Clone, Debug, TreeObject)]
pub struct MechanicState<S> {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The reward of each tuner: an f64 for each.
    pub r: Leaf<OptState>,
    /// The largest gain of each: as `r`.
    pub m: Leaf<OptState>,
    /// The sum of the squares of the gains of each: as `r`.
    pub v: Leaf<OptState>,
    /// The factor of each; their sum is used: as `r`.
    pub s: Leaf<OptState>,
    /// The parameters before the first step: their shapes, f32 (f64 for f64 parameters).
    pub x0: Leaves,
    /// The state of the base optimizer.
    pub base_optimizer_state: S,
}

/// See [`mechanize`].
#[derive(Clone, Debug, PartialEq)]
pub struct Mechanize<T> {
    base: T,
    weight_decay: f64,
    eps: f64,
    s_init: f64,
    num_betas: usize,
}

/// Learns a factor on the sum of a base optimizer's updates, starting near zero. With the negative sum `D`
/// of its updates since the start, and `b_i = 1 - 0.1^i` for six tuners:
///
/// ```text
/// D  = (x0 - p) / (sum(s) + eps)              h = <g + decay, D>
/// m  = max(b m, |h| + eps)                    v = b^2 v + h^2
/// r  = b r + clamp(h, -m before, m before) s
/// s  = (s_init / 6 * m + max(0, r)) / (sqrt(v) + eps)
/// p  = x0 - sum(s) (D - base(g))
/// ```
///
/// where `decay = weight_decay * sum(s) * norm(g) / norm(p) * p` with `weight_decay = 1e-2` is used in `h`
/// alone; `eps = 1e-8`, `s_init = 1e-6`. Give the base optimizer its schedule with a peak of 1.
///
/// Cutkosky, Defazio and Mehta, [Mechanic: a learning rate tuner](https://arxiv.org/abs/2306.00144), 2023.
#[must_use]
pub fn mechanize<T: GradientTransformation>(base: T) -> Mechanize<T> {
    Mechanize { base, weight_decay: 1e-2, eps: 1e-8, s_init: 1e-6, num_betas: 6 }
}

impl<T> Mechanize<T> {
    /// The weight of the parameters as a gradient for the tuners.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Avoids divisions by zero.
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// The first factor of each tuner.
    #[must_use]
    pub fn s_init(self, s_init: f64) -> Self {
        Self { s_init, ..self }
    }

    /// The number of tuners.
    #[must_use]
    pub fn num_betas(self, num_betas: usize) -> Self {
        Self { num_betas, ..self }
    }
}

fn vector(values: &[f64]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

impl<T: GradientTransformation> Mechanize<T> {
    fn step(
        &self,
        grads: Leaves,
        state: &mut MechanicState<T::State>,
        params: &Leaves,
        extra: Extra<'_>,
    ) -> Result<Leaves> {
        let base = self
            .base
            .update(
                Updates::new(grads.clone(), params.clone()).with_extra(extra),
                &mut state.base_optimizer_state,
            )?
            .compute()?;
        if state.count.advance()? == 1 {
            // The parameters may have been loaded since `init`.
            state.x0.store(&copied(params)?)?;
        }
        let read = |leaf: &Leaf<OptState>| to_vec_f64(&leaf.get()?);
        let (r, m, v, s) = (read(&state.r)?, read(&state.m)?, read(&state.v)?, read(&state.s)?);
        let s_sum: f64 = s.iter().sum();
        let back = params.combine(&state.x0, |p, x0| Ok((x0 - p.to_dtype(x0.dtype())?)?))?;
        let norm = |leaves: &Leaves| Ok::<_, Error>(vdot(leaves, leaves)?.sqrt());
        let decay = self.weight_decay * s_sum * norm(&grads)? / (norm(params)? + self.eps);
        let h = (vdot(&grads, &back)? + decay * vdot(params, &back)?) / (s_sum + self.eps);

        let mut next = [const { Vec::new() }; 4];
        for (index, (((r, m), v), s)) in r.iter().zip(&m).zip(&v).zip(&s).enumerate() {
            let beta = 1. - 0.1f64.powf(index as f64 + 1.);
            let r = beta * r + h.max(-m).min(*m) * s;
            let m = f64::max(beta * m, h.abs() + self.eps);
            let v = beta * beta * v + h * h;
            let wealth = self.s_init / self.num_betas as f64 * m + r.max(0.);
            let s = wealth / (v.sqrt() + self.eps);
            next.iter_mut().zip([r, m, v, s]).for_each(|(all, value)| all.push(value));
        }
        let [r, m, v, s] = next;
        state.r.set(vector(&r)?)?;
        state.m.set(vector(&m)?)?;
        state.v.set(vector(&v)?)?;
        state.s.set(vector(&s)?)?;
        let new_sum: f64 = s.iter().sum();
        // x0 - sum(s) (D - base) - p, with D = (x0 - p) / (sum(s) before + eps).
        let keep = 1. - new_sum / (s_sum + self.eps);
        back.combine(&base, |back, base| Ok(((back * keep)? + (base.to_dtype(back.dtype())? * new_sum)?)?))
    }
}

impl<T: GradientTransformation> GradientTransformation for Mechanize<T> {
    type State = MechanicState<T::State>;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_not_negative("weight_decay", self.weight_decay)?;
        check_not_negative("eps", self.eps)?;
        check_not_negative("s_init", self.s_init)?;
        let filled = |value: f64| Leaf::new(vector(&vec![value; self.num_betas])?);
        Ok(MechanicState {
            count: Count::zero()?,
            r: filled(0.)?,
            m: filled(0.)?,
            v: filled(0.)?,
            s: filled(self.s_init)?,
            x0: copied(params)?,
            base_optimizer_state: self.base.init(params)?,
        })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let extra = updates.extra();
        Ok(updates.tensors(move |grads, params| self.step(grads, state, params, extra)))
    }

    fn members<'s>(&'s self, state: &'s Self::State) -> Vec<Member<'s>> {
        vec![Member::new(&self.base, &state.base_optimizer_state)]
    }

    /// The gradient of the step decides the factor.
    fn step_size(&self, _state: &Self::State, _leaf: &LeafRef<'_>) -> Result<StepSize> {
        Ok(StepSize::unknown())
    }

    /// An average that `base` keeps follows its own updates, not those of the model.
    fn eval_params(&self, state: &Self::State, params: &Leaves) -> Result<Option<Leaves>> {
        match self.base.eval_params(&state.base_optimizer_state, params)? {
            Some(_) => Err(no_average_inside("mechanize")),
            None => Ok(None),
        }
    }
}
