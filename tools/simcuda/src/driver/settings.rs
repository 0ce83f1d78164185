//! What the environment chooses.

use std::path::PathBuf;

use super::attribute::VERSION;
use crate::launch::{Options, Order};

/// How the device behaves. Each has a variable of the environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `SIMCUDA_STREAMS=forward|reversed|SEED`: which of the streams that could go on does. A program whose streams are
    /// ordered by events gives the same in any.
    pub streams: Order,
    /// `SIMCUDA_ORDER=forward|reversed|SEED` and `SIMCUDA_CHECKS=off`: how kernels run.
    pub options: Options,
    /// `SIMCUDA_CHECKS=off`: whether uses of global memory that nothing has written are faults.
    pub uninitialized_global: bool,
    /// `SIMCUDA_MEMORY=bytes`: how much memory there is.
    pub memory: u64,
    /// `SIMCUDA_TRANSFERS=refuse`: copies between host and device are refused, from the first on.
    /// `simcuda_refuse_transfers` changes it later.
    pub refuse_transfers: bool,
    /// `SIMCUDA_DRIVER_VERSION=12040`: the version of CUDA that the driver says it has; PTX is read in any case.
    pub driver_version: i32,
    /// `SIMCUDA_TRACE`, if set to anything but nothing: each call, on the standard error stream.
    pub trace: bool,
    /// `SIMCUDA_REPORT=file`: the counts are written there when the process ends.
    pub report: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams: Order::Forward,
            options: Options::default(),
            uninitialized_global: true,
            memory: 4 << 30,
            refuse_transfers: false,
            driver_version: VERSION,
            trace: false,
            report: None,
        }
    }
}

impl Settings {
    /// Reads them by a function from a variable's name to its value.
    ///
    /// # Errors
    /// If a value is not understood, in words: a test that asked for another order must not run in this one.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let order = |name: &str| match variable(name).as_deref() {
            None | Some("forward") => Ok(Order::Forward),
            Some("reversed") => Ok(Order::Reversed),
            Some(seed) => match seed.parse() {
                Ok(seed) => Ok(Order::Seeded(seed)),
                Err(_) => Err(format!("{name}={seed} is none of forward, reversed, and a number")),
            },
        };
        let mut settings = Self { streams: order("SIMCUDA_STREAMS")?, ..Self::default() };
        settings.options.order = order("SIMCUDA_ORDER")?;
        match variable("SIMCUDA_CHECKS").as_deref() {
            None | Some("on") => {}
            Some("off") => {
                settings.options.races = false;
                settings.options.uninitialized_shared = false;
                settings.uninitialized_global = false;
            }
            Some(other) => return Err(format!("SIMCUDA_CHECKS={other} is neither on nor off")),
        }
        if let Some(bytes) = variable("SIMCUDA_MEMORY") {
            settings.memory =
                bytes.parse().map_err(|_| format!("SIMCUDA_MEMORY={bytes} is no number of bytes"))?;
        }
        settings.refuse_transfers = match variable("SIMCUDA_TRANSFERS").as_deref() {
            None | Some("allow") => false,
            Some("refuse") => true,
            Some(other) => return Err(format!("SIMCUDA_TRANSFERS={other} is neither allow nor refuse")),
        };
        if let Some(version) = variable("SIMCUDA_DRIVER_VERSION") {
            settings.driver_version = version
                .parse()
                .map_err(|_| format!("SIMCUDA_DRIVER_VERSION={version} is no version, as 12040 for 12.4"))?;
        }
        settings.trace = variable("SIMCUDA_TRACE").is_some_and(|value| !value.is_empty());
        settings.report = variable("SIMCUDA_REPORT").map(PathBuf::from);
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_and_what_is_not_understood_is_an_error() {
        let read = |set: &[(&str, &str)]| {
            Settings::read(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
        };
        let plain = read(&[]).expect("nothing is set");
        assert_eq!(
            (plain.streams, plain.options, plain.memory),
            (Order::Forward, Options::default(), 4 << 30)
        );
        let all = read(&[
            ("SIMCUDA_STREAMS", "reversed"),
            ("SIMCUDA_ORDER", "7"),
            ("SIMCUDA_CHECKS", "off"),
            ("SIMCUDA_MEMORY", "1024"),
            ("SIMCUDA_TRANSFERS", "refuse"),
            ("SIMCUDA_DRIVER_VERSION", "12040"),
            ("SIMCUDA_TRACE", "1"),
        ])
        .expect("all are right");
        assert_eq!((all.streams, all.options.order), (Order::Reversed, Order::Seeded(7)));
        assert!(!all.options.races && !all.options.uninitialized_shared && !all.uninitialized_global);
        assert!(all.trace && all.memory == 1024);
        assert!(all.refuse_transfers && !plain.refuse_transfers);
        assert_eq!((plain.driver_version, all.driver_version), (VERSION, 12040));
        for wrong in [
            ("SIMCUDA_STREAMS", "backward"),
            ("SIMCUDA_CHECKS", "no"),
            ("SIMCUDA_MEMORY", "1G"),
            ("SIMCUDA_TRANSFERS", "1"),
            ("SIMCUDA_DRIVER_VERSION", "12.4"),
        ] {
            let words = read(&[wrong]).expect_err("wrong");
            assert!(words.starts_with(&format!("{}={}", wrong.0, wrong.1)), "{words}");
        }
    }
}
