//! The search for a step that satisfies the strong Wolfe conditions, on a function of one variable.

use treex_core::Result;

use super::zoom_options::ScaleByZoomLinesearch;
use super::{Point, excess};

/// The result of a search.
pub(super) struct WolfePoint {
    pub(super) point: Point,
    pub(super) decrease_error: f64,
    pub(super) curvature_error: f64,
    pub(super) trials: u64,
}

/// The state of a search.
struct Search<'s, F> {
    options: &'s ScaleByZoomLinesearch,
    /// No step.
    start: Point,
    function: F,
    /// The last trial.
    last: WolfePoint,
    /// The best trial that decreases the function enough.
    safe: Point,
}

/// An interval that contains a good step. `low` has the smaller value, and may be at either end.
#[derive(Clone, Copy)]
struct Interval {
    low: Point,
    high: Point,
    /// A third point, for cubic interpolation.
    third: Point,
}

/// Tries steps from `guess` on.
pub(super) fn search<F: FnMut(f64) -> Result<Point>>(
    options: &ScaleByZoomLinesearch,
    start: Point,
    guess: f64,
    function: F,
) -> Result<WolfePoint> {
    let infinite = f64::INFINITY;
    let last = WolfePoint { point: start, decrease_error: infinite, curvature_error: infinite, trials: 0 };
    let mut search = Search { options, start, function, last, safe: start };
    let done = match search.widen(guess)? {
        Some(interval) => search.narrow(interval)?,
        None => {
            search.last.decrease_error.max(search.last.curvature_error) <= options.tol
                || options.max_learning_rate.is_some_and(|largest| search.last.point.step >= largest)
        }
    };
    // Without a better step, the last trial, unless it is outside the domain of the function.
    if !done && (search.safe.step > 0. || search.last.decrease_error.is_infinite()) {
        search.last.point = search.safe;
    }
    Ok(search.last)
}

impl<F: FnMut(f64) -> Result<Point>> Search<'_, F> {
    /// Tries a step; returns whether it is good.
    fn try_step(&mut self, step: f64) -> Result<bool> {
        let (options, start) = (self.options, self.start);
        let point = (self.function)(step)?;
        let mut decrease = point.value - start.value - options.slope_rtol * step * start.slope;
        if let Some(rtol) = options.approx_dec_rtol {
            let slope = point.slope - (2. * options.slope_rtol - 1.) * start.slope;
            let value = point.value - start.value - rtol * start.value.abs();
            decrease = minimum(decrease, maximum(slope, value));
        }
        self.last = WolfePoint {
            point,
            decrease_error: excess(decrease),
            curvature_error: excess(point.slope.abs() - options.curv_rtol * start.slope.abs()),
            trials: self.last.trials + 1,
        };
        Ok(self.last.decrease_error.max(self.last.curvature_error) <= options.tol)
    }

    fn is_exhausted(&self) -> bool {
        self.last.trials >= self.options.max_linesearch_steps
    }

    /// Increases the step until it satisfies the conditions or brackets one that does; `None` if neither can happen.
    fn widen(&mut self, guess: f64) -> Result<Option<Interval>> {
        let mut step = guess;
        loop {
            let (previous, first) = (self.last.point, self.last.trials == 0);
            let largest = self.options.max_learning_rate.unwrap_or(f64::INFINITY);
            let is_largest = step >= largest;
            let good = self.try_step(step.min(largest))?;
            let (point, error) = (self.last.point, self.last.decrease_error);
            if error <= self.options.tol {
                self.safe = point;
            }
            if good {
                return Ok(None);
            }
            let too_high = error > 0. || point.value >= previous.value && !first;
            if too_high || point.slope >= 0. {
                let (low, high) = if too_high { (previous, point) } else { (point, previous) };
                return Ok(Some(Interval { low, high, third: low }));
            }
            if is_largest || self.is_exhausted() {
                return Ok(None);
            }
            step = self.options.increase_factor * point.step;
        }
    }

    /// Narrows the interval down; returns whether a good step was found.
    fn narrow(&mut self, mut interval: Interval) -> Result<bool> {
        while !self.is_exhausted() {
            let Interval { low, high, .. } = interval;
            let is_small = (high.step - low.step).abs() <= self.options.stepsize_precision;
            if self.try_step(interval.within())? {
                return Ok(true);
            }
            let (middle, error) = (self.last.point, self.last.decrease_error);
            if error <= self.options.tol && middle.value < self.safe.value {
                self.safe = middle;
            }
            interval = if error > 0. || middle.value >= low.value {
                Interval { low, high: middle, third: high }
            } else if middle.slope * (high.step - low.step) >= 0. {
                Interval { low: middle, high: low, third: high }
            } else {
                Interval { low: middle, high, third: low }
            };
            if is_small && self.safe.step > 0. {
                break;
            }
        }
        Ok(false)
    }
}

impl Interval {
    /// A step well inside: the minimum of a cubic, or of a parabola, or the middle.
    fn within(&self) -> f64 {
        let Self { low, high, .. } = *self;
        let (left, right) = (low.step.min(high.step), low.step.max(high.step));
        let inside = |step: f64, margin: f64| {
            let margin = margin * (right - left);
            step > left + margin && step < right - margin
        };
        let cubic = self.cubic_minimum();
        if inside(cubic, 0.2) {
            return cubic;
        }
        let quadratic = self.quadratic_minimum();
        if inside(quadratic, 0.1) { quadratic } else { (low.step + high.step) / 2. }
    }

    /// Of the cubic through three values with the slope at `low`; NaN if it does not exist.
    fn cubic_minimum(&self) -> f64 {
        let Self { low, high, third } = self;
        let (db, dc) = (high.step - low.step, third.step - low.step);
        let denominator = (db * dc).powi(2) * (db - dc);
        let (fb, fc) = (high.value - low.value - low.slope * db, third.value - low.value - low.slope * dc);
        let a = (dc.powi(2) * fb - db.powi(2) * fc) / denominator;
        let b = (-dc.powi(3) * fb + db.powi(3) * fc) / denominator;
        low.step + (-b + (b * b - 3. * a * low.slope).sqrt()) / (3. * a)
    }

    /// Of the parabola through two values with the slope at `low`.
    fn quadratic_minimum(&self) -> f64 {
        let Self { low, high, .. } = self;
        let db = high.step - low.step;
        let b = (high.value - low.value - low.slope * db) / (db * db);
        low.step - low.slope / (2. * b)
    }
}

/// The maximum; NaN if either is NaN.
fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The minimum; NaN if either is NaN.
fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}
