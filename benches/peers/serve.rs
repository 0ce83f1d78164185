//! Shared by the Rust peers: the line protocol on standard input described in README.md.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The number of elements in workloads that draw random numbers.
pub(crate) const ELEMENTS: usize = 10_000_000;
/// Their dropout rate.
pub(crate) const RATE: f64 = 0.5;

/// The version of a package in a lock file.
pub(crate) fn locked<'l>(lock: &'l str, package: &str) -> &'l str {
    let after = lock.split_once(&format!("name = \"{package}\"\nversion = \"")).map(|(_, after)| after);
    after.and_then(|after| after.split('"').next()).unwrap_or("of unknown version")
}

/// A prepared workload.
pub(crate) trait Work {
    /// One step.
    fn step(&mut self) -> Result<()>;
    /// The numbers by which peers are compared.
    fn numbers(&self) -> Result<Vec<Value>>;
    /// Reads the results of the last steps.
    fn read(&self) -> Result<()> {
        Ok(())
    }
}

/// Reads after every step.
pub(crate) struct Synchronous<W>(pub(crate) W);

impl<W: Work> Work for Synchronous<W> {
    fn step(&mut self) -> Result<()> {
        self.0.step()?;
        self.0.read()
    }
    fn numbers(&self) -> Result<Vec<Value>> {
        self.0.numbers()
    }
}

/// The files that data.py wrote for a workload.
pub(crate) struct Data<'a> {
    folder: &'a Path,
}

impl Data<'_> {
    pub(crate) fn inputs(&self, workload: &str) -> PathBuf {
        self.folder.join(format!("{workload}.inputs.safetensors"))
    }
    pub(crate) fn params(&self, workload: &str) -> PathBuf {
        self.folder.join(format!("{workload}.params.safetensors"))
    }
}

/// The norm of all values, and the first value.
pub(crate) fn norm<'a>(values: impl IntoIterator<Item = &'a f32>) -> [Value; 2] {
    let mut values = values.into_iter().map(|&x| f64::from(x)).peekable();
    let first = values.peek().copied();
    [json!(values.map(|x| x * x).sum::<f64>().sqrt()), json!(first)]
}

struct Ready {
    work: Box<dyn Work>,
    numbers: Vec<Value>,
    /// The number of steps between two reads of the clock.
    group: u32,
}

impl Ready {
    fn new(mut work: Box<dyn Work>) -> Result<Self> {
        let mut numbers = Vec::new();
        for steps in [1, 9] {
            for _ in 0..steps {
                work.step()?;
            }
            numbers.extend(work.numbers()?);
        }
        let mut ready = Self { work, numbers, group: 1 };
        while ready.time_group()? < 5. && ready.group < 4096 {
            ready.group *= 2;
        }
        Ok(ready)
    }

    /// Milliseconds.
    fn time_group(&mut self) -> Result<f64> {
        let start = Instant::now();
        for _ in 0..self.group {
            self.work.step()?;
        }
        self.work.read()?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    fn measure(&mut self, seconds: Duration, version: &str) -> Result<Value> {
        let (mut ms, start) = (Vec::new(), Instant::now());
        while ms.len() < 3 || start.elapsed() < seconds {
            ms.push(self.time_group()? / f64::from(self.group));
        }
        let steps = ms.len() * self.group as usize;
        Ok(json!({ "ms": ms, "steps": steps, "numbers": self.numbers, "version": version }))
    }
}

/// `make` prepares a workload by name, if it exists. Only one is kept at a time.
pub(crate) fn serve(
    version: &str,
    make: impl Fn(&str, &Data<'_>) -> Result<Option<Box<dyn Work>>>,
) -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("expected the folder that data.py wrote")?);
    let mut current: Option<(String, Ready)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (name, seconds) = line.split_once(' ').ok_or("expected a workload and seconds")?;
        if current.as_ref().is_none_or(|(current, _)| current != name) {
            drop(current.take());
            let work = make(name, &Data { folder: &folder })?;
            current = work.map(Ready::new).transpose()?.map(|ready| (name.to_owned(), ready));
        }
        let answer = match &mut current {
            Some((_, ready)) => ready.measure(Duration::from_secs_f64(seconds.parse()?), version)?,
            None => json!({}),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}
