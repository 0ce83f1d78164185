//! Every public function with input that cannot be right: tensors of every rank, of no elements and of every element
//! type, numbers that are no number, views, options that are negative, NaN or huge. The result is a value, or an error
//! that says what was expected or what to do; never a panic, an abort or an endless loop.
//!
//! Each row runs in a process of its own, with a limit of memory and of time. The functions are read from the sources:
//! one without a row and without a reason in [`EXEMPT`] fails the test.

#![allow(clippy::unwrap_used)] // a test says where it failed

mod cases;
mod functions;
mod layers;
mod metrics;
mod samplers;
#[path = "../../../treex-core/kernels/tests/bad_input/sources.rs"]
mod sources;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cases::Cases;
use libtest_mimic::{Arguments, Failed, Trial};

/// A module and names of its functions, and what they do with bad input.
struct Row {
    names: &'static str,
    run: Box<dyn Fn(&mut Cases) + Send>,
}

impl Row {
    fn new(names: &'static str, run: impl Fn(&mut Cases) + Send + 'static) -> Self {
        Self { names, run: Box::new(run) }
    }

    /// `module::function` for each.
    fn paths(&self) -> impl Iterator<Item = String> {
        let (module, names) = self.names.split_once(' ').unwrap();
        names.split_whitespace().map(move |name| format!("{module}::{name}"))
    }
}

const AN_ORACLE: &str = "not public: exported for tests of operations, whose layers check the shapes";

/// Functions without a row, and why.
const EXEMPT: &[(&str, &str)] = &[
    ("ops::convolution::convolution", AN_ORACLE),
    ("ops::convolution::local_convolution", AN_ORACLE),
    ("ops::embed::rows_of", AN_ORACLE),
    ("ops::linear::linear", AN_ORACLE),
    ("ops::norm::normalize", AN_ORACLE),
    ("functional::normalization::Normalization::mean_and_variance", AN_ORACLE),
    ("functional::normalization::Normalization::mean_square", AN_ORACLE),
    ("functional::normalization::Normalization::new", AN_ORACLE),
    ("functional::normalization::Normalization::normalize", AN_ORACLE),
    ("layers::recurrent::cell::Carry::map_tensors", "runs the caller's code"),
    ("layers::recurrent::cell::Carry::tensors", "has no argument"),
    ("layers::recurrent::cell::RnnCell::fused", "has no argument"),
    ("layers::recurrent::cell::RnnCell::num_feature_axes", "has no argument"),
    ("layers::sequential::IntoLayers::into_layers", "converts; `sequential` calls it"),
    ("layers::sequential::IntoModule::into_module", "converts; `sequential` calls it"),
    ("random::Key::fill", "runs the caller's code"),
    ("random::Key::from_words", "has no input that could be wrong"),
    ("random::Key::map", "runs the caller's code"),
    ("random::Key::to_tensor", "has no input that could be wrong"),
    ("random::Key::words", "has no argument"),
    ("random::stream::Rngs::key", "has no input that could be wrong"),
    ("random::stream::Rngs::new", "has no input that could be wrong"),
    ("random::stream::Rngs::stream", "has no input that could be wrong"),
];

/// The row that this process is to run.
const ROW: &str = "TREEX_BAD_INPUT";

/// Longer than any row takes, in a debug build on a busy machine.
const TIME: Duration = Duration::from_secs(120);

/// Kilobytes of memory for a row; its tensors are small.
const MEMORY: u64 = 4 << 20;

fn rows() -> Vec<Row> {
    [functions::rows(), layers::rows(), metrics::rows(), samplers::rows()].into_iter().flatten().collect()
}

/// Runs this program for one row.
fn check(names: &str) -> Result<(), Failed> {
    let program = std::env::current_exe()?;
    let mut command = if cfg!(unix) {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\"")]).arg(program);
        shell
    } else {
        Command::new(program)
    };
    let mut child = command
        .env(ROW, names)
        .env("RAYON_NUM_THREADS", "2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    let errors = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).map(|_| text)
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if start.elapsed() > TIME => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let (text, errors) = (reader.join().unwrap()?, errors.join().unwrap()?);
    let last = text.lines().last().unwrap_or_default();
    let failures: Vec<&str> = text.lines().filter(|line| line.starts_with("FAILED")).collect();
    match status {
        None => Err(format!("no end after {TIME:?}, at: {last}").into()),
        Some(status) if !status.success() && failures.is_empty() => {
            Err(format!("{status}, at: {last}\n{errors}").into())
        }
        Some(_) if last != "done" || !failures.is_empty() => {
            Err(format!("{} cases fail:\n{}\nlast: {last}\n{errors}", failures.len(), failures.join("\n"))
                .into())
        }
        Some(_) => Ok(()),
    }
}

fn every_public_function_has_a_row(listed: &[String]) -> Result<(), Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut public = sources::public_functions(&root.join("src"));
    let random = sources::public_functions(&root.join("../treex-core/src/random"));
    public.extend(random.into_iter().map(|name| format!("random::{name}")));
    // What a macro writes has no type here, or its name in the macro's invocation.
    public = public
        .into_iter()
        .filter(|name| !name.ends_with("::"))
        .map(|name| name.replace("::::", "::"))
        .collect();
    assert!(public.len() > 350, "the sources were not understood: {public:?}");
    let listed: BTreeSet<String> =
        listed.iter().cloned().chain(EXEMPT.iter().map(|(name, _)| (*name).to_owned())).collect();
    let missing: Vec<_> = public.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&public).collect();
    if missing.is_empty() && stale.is_empty() {
        return Ok(());
    }
    Err(format!("functions without a row: {missing:#?}\nrows of functions that are no more: {stale:#?}")
        .into())
}

fn main() -> ExitCode {
    let mut rows = rows();
    if let Ok(name) = std::env::var(ROW) {
        let row = rows.swap_remove(rows.iter().position(|row| row.names == name).unwrap());
        return Cases::run(&row.run);
    }
    let listed: Vec<String> = rows.iter().flat_map(Row::paths).collect();
    let complete =
        Trial::test("every_public_function_has_a_row", move || every_public_function_has_a_row(&listed));
    let check = |row: Row| Trial::test(row.names, move || check(row.names));
    let tests = rows.into_iter().map(check).chain([complete]).collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}
