//! Every public function with input that cannot be right: tensors of every rank, of no elements and of every element
//! type, numbers that are no number, views, options that are negative, NaN or huge. The result is a value, or an error
//! that says what was expected or what to do; never a panic, an abort or an endless loop.
//!
//! Each row runs in a process of its own, with a limit of memory and of time. The functions are read from the sources:
//! one without a row and without a reason fails the test. A test that calls [`run`] has a `main` of its own.

mod cases;
#[path = "../../../kernels/tests/bad_input/sources.rs"]
mod sources;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};

pub use cases::{AXES, Cases, DIMS, NUMBERS, SIZES, huge, some, tensors};

/// A module and names of its functions, and what they do with bad input.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct Row {
    names: &'static str,
    run: Box<dyn Fn(&mut Cases) + Send>,
}

impl Row {
    /// `names` is `module function other_function`.
    pub fn new(names: &'static str, run: impl Fn(&mut Cases) + Send + 'static) -> Self {
        Self { names, run: Box::new(run) }
    }

    /// `module::function` for each.
    fn paths(&self) -> impl Iterator<Item = String> {
        let (module, names) = self.names.split_once(' ').unwrap();
        names.split_whitespace().map(move |name| format!("{module}::{name}"))
    }
}

/// A folder of sources below the crate of the test, and the module that it is.
pub type Sources = (&'static str, &'static str);

/// Functions without a row, and why.
pub type Exempt = &'static [(&'static str, &'static str)];

/// The row that this process is to run.
const ROW: &str = "TREEX_BAD_INPUT";

/// Longer than any row takes, in a debug build on a busy machine.
const TIME: Duration = Duration::from_secs(120);

/// Kilobytes of memory for a row; its tensors are small.
const MEMORY: u64 = 4 << 20;

/// The `main` of a test: a test for each row, and one for their completeness over `sources` below `root`.
#[must_use]
pub fn run(mut rows: Vec<Row>, root: &str, sources: &'static [Sources], exempt: Exempt) -> ExitCode {
    if let Ok(name) = std::env::var(ROW) {
        let row = rows.swap_remove(rows.iter().position(|row| row.names == name).unwrap());
        return Cases::run(&row.run);
    }
    let listed: Vec<String> = rows.iter().flat_map(Row::paths).collect();
    let root = PathBuf::from(root);
    let complete = Trial::test("every_public_function_has_a_row", move || {
        every_public_function_has_a_row(&listed, &root, sources, exempt)
    });
    let check = |row: Row| Trial::test(row.names, move || check(row.names));
    let tests = rows.into_iter().map(check).chain([complete]).collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
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

fn every_public_function_has_a_row(
    listed: &[String],
    root: &Path,
    sources: &[Sources],
    exempt: Exempt,
) -> Result<(), Failed> {
    let functions = sources.iter().flat_map(|(folder, module)| {
        let prefix = if module.is_empty() { String::new() } else { format!("{module}::") };
        sources::public_functions(&root.join(folder)).into_iter().map(move |name| format!("{prefix}{name}"))
    });
    // What a macro writes has no type here, or its name in the macro's invocation.
    let public: BTreeSet<String> =
        functions.filter(|name| !name.ends_with("::")).map(|name| name.replace("::::", "::")).collect();
    let listed: BTreeSet<String> =
        listed.iter().cloned().chain(exempt.iter().map(|(name, _)| (*name).to_owned())).collect();
    let missing: Vec<_> = public.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&public).collect();
    if missing.is_empty() && stale.is_empty() {
        return Ok(());
    }
    Err(format!("functions without a row: {missing:#?}\nrows of functions that are no more: {stale:#?}")
        .into())
}
