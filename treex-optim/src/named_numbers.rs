//! Access by name to numbers in the state of an optimizer.

use candle_core::{Device, Tensor};
use treex_core::{Error, Path, Result, Segment, prelude::*};

use crate::numerics::check_finite;
use crate::optimizer::Optimizer;
use crate::transfer::to_f64;
use crate::transformation::GradientTransformation;

/// The names of the fields of a state that have numbers by name.
const HYPERPARAMS: &str = "hyperparams";
const SCHEDULED: &str = "scheduled";

/// The field that has the number at `path`.
fn folder(path: &Path) -> Option<&'static str> {
    match path.segments() {
        [.., Segment::Field(folder), _] => Some(folder),
        _ => None,
    }
}

impl<T: GradientTransformation> Optimizer<T> {
    /// The value of a number of [`inject_hyperparams`](crate::inject_hyperparams) at the last step, and at the next
    /// one if it has no schedule. If several have the same name, prefix it with more of the path in the state:
    /// `encoder.learning_rate`.
    ///
    /// # Errors
    /// If the optimizer was not initialized, or `name` matches no number or more than one.
    pub fn hyperparam(&self, name: &str) -> Result<f64> {
        self.read(&[HYPERPARAMS, SCHEDULED], name)
    }

    /// Writes a number of [`inject_hyperparams`](crate::inject_hyperparams), from the next step on.
    ///
    /// # Errors
    /// As [`hyperparam`](Self::hyperparam); if a schedule sets the number at each step; if `value` is not finite.
    pub fn set_hyperparam(&mut self, name: &str, value: f64) -> Result<()> {
        check_finite(name, value)?;
        let path = self.named(&[HYPERPARAMS, SCHEDULED], name)?;
        if folder(&path) == Some(SCHEDULED) {
            return Err(Error::argument(format!("`{name}` has a schedule, which sets it at each step"))
                .at(path)
                .remedy("give `inject_hyperparams` a number to write it, or change the schedule"));
        }
        let value = Tensor::new(value, &Device::Cpu)?;
        let mut leaves = self.leaves_mut();
        leaves.iter_mut().filter(|leaf| *leaf.path() == path).try_for_each(|leaf| leaf.handle().write(&value))
    }

    /// What a [`monitor_norm`](crate::monitor_norm) measured at the last step; names as in
    /// [`hyperparam`](Self::hyperparam).
    ///
    /// # Errors
    /// As `hyperparam`.
    pub fn measurement(&self, name: &str) -> Result<f64> {
        self.read(&["measurements"], name)
    }

    fn read(&self, folders: &[&str], name: &str) -> Result<f64> {
        let path = self.named(folders, name)?;
        let leaves = self.leaves();
        let value = leaves.iter().find(|(own, _, _)| *own == path).and_then(|(_, _, leaf)| leaf.value());
        value.map_or(Ok(f64::NAN), to_f64)
    }

    /// The path of the one number in one of the `folders` of the state whose path, without the folder, ends with
    /// `name`.
    fn named(&self, folders: &[&str], name: &str) -> Result<Path> {
        self.state()?;
        let mut all = Vec::new();
        for (path, _, _) in self.leaves() {
            if folder(&path).is_some_and(|folder| folders.contains(&folder)) {
                let mut names: Vec<_> = path.segments().iter().map(Segment::to_string).collect();
                names.remove(names.len() - 2);
                all.push((names.join("."), path));
            }
        }
        let fits =
            |full: &str| full.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let mut found: Vec<_> = all.iter().filter(|(full, _)| fits(full)).collect();
        match (found.pop(), found.pop()) {
            (Some((_, path)), None) => Ok(path.clone()),
            (found, _) => {
                let how_many = if found.is_none() { "nothing" } else { "more than one number" };
                let all: Vec<_> = all.iter().map(|(full, _)| full).collect();
                let folder = folders.first().copied().unwrap_or_default();
                Err(Error::argument(format!("the {folder} of the optimizer have {how_many} named `{name}`"))
                    .expected(format!("the end of one of {all:?}"))
                    .remedy("write enough of the path to make it unique"))
            }
        }
    }
}
