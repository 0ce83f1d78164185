//! A thread on which Candle keeps the graph of a backward pass.
//!
//! Candle reads the variable `CANDLE_GRAD_DO_NOT_DETACH` once on each thread, at its first backward pass. With it, every
//! gradient stays in the graph: a training step then holds several times the memory. So one thread has it, for gradients of
//! gradients; all others train as before.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;

use candle_core::{Device, Var};

use crate::error::{Error, ErrorKind, Result};

const VARIABLE: &str = "CANDLE_GRAD_DO_NOT_DETACH";

type Job = Box<dyn FnOnce() + Send>;

/// The queue of the keeping thread, once it was started; `None` if Candle did not keep the graph on it.
static KEEPER: OnceLock<Option<Mutex<mpsc::Sender<Job>>>> = OnceLock::new();

/// Prepares derivatives of derivatives: a gradient inside of a function that is differentiated, and what stands on it
/// ([`hvp`](crate::hvp), [`jvp`](crate::jvp), [`hessian`](crate::hessian)). Call it first in `main`, before anything
/// starts a thread. It starts one thread; training of first order is neither slower nor larger for it.
///
/// It sets an environment variable for Candle and takes it back, which is sound only while the process has one thread. Where
/// that is not certain, start the program with `CANDLE_GRAD_DO_NOT_DETACH=1` instead: this function then has nothing to do,
/// but plain Candle code between the layers holds more memory in every backward pass.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use treex_core::{Leaf, Parameter, enable_nested_gradients, grad};
///
/// enable_nested_gradients()?;
/// let x = Leaf::<Parameter>::new(Tensor::new(2f64, &Device::Cpu)?)?;
/// let cube = |x: &mut Leaf<Parameter>| Ok(x.get()?.powf(3.)?);
/// let second = grad(&x, |x| grad(x, cube)?.get())?;
/// assert_eq!(second.get()?.to_scalar::<f64>()?, 12.); // 6 x
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// # Errors
/// If the process has other threads, or the system does not tell; if Candle detaches gradients all the same.
pub fn enable_nested_gradients() -> Result<()> {
    if keeps() || is_running() {
        return Ok(());
    }
    if !has_one_thread() {
        return Err(unavailable(
            "gradients of gradients are enabled where the process may have other threads",
        ));
    }
    start();
    if is_running() { Ok(()) } else { Err(unavailable("Candle detaches gradients on every thread")) }
}

/// Runs `f` on a thread on which Candle keeps the graph: this one, if it does.
///
/// # Errors
/// If there is none; the error of `f`.
pub(super) fn run<R: Send + 'static>(f: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    if keeps() {
        return f();
    }
    if !is_running() && has_one_thread() {
        start();
    }
    let none = || unavailable("a gradient is differentiated, and Candle detaches gradients");
    let queue = KEEPER.get().and_then(Option::as_ref).ok_or_else(none)?;
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (answer, answered) = mpsc::channel();
    let job = Box::new(move || {
        let _ = answer.send(catch_unwind(AssertUnwindSafe(f)));
    });
    queue.send(job).map_err(|_| none())?;
    answered.recv().map_err(|_| none())?.unwrap_or_else(|panic| resume_unwind(panic))
}

fn unavailable(message: &str) -> Error {
    Error::new(ErrorKind::Gradient, message).remedy(
        "call `enable_nested_gradients()?` first in `main`, or start the program with `CANDLE_GRAD_DO_NOT_DETACH=1`; \
         for a gradient that is a constant, pass `stop_gradient(&x)` of the model and of what it is called on",
    )
}

fn is_running() -> bool {
    KEEPER.get().is_some_and(Option::is_some)
}

/// Whether Candle keeps the graph on this thread: the second derivative of x⁴ at 2 is 48.
fn keeps() -> bool {
    thread_local! {
        static KEEPS: Cell<Option<bool>> = const { Cell::new(None) };
    }
    let probe = || -> candle_core::Result<bool> {
        let x = Var::new(2f64, &Device::Cpu)?;
        let Some(first) = x.sqr()?.sqr()?.backward()?.remove(&x) else { return Ok(false) };
        Ok(match first.backward()?.remove(&x) {
            Some(second) => second.to_scalar::<f64>()? == 48.,
            None => false,
        })
    };
    KEEPS.get().unwrap_or_else(|| {
        let keeps = probe().unwrap_or(false);
        KEEPS.set(Some(keeps));
        keeps
    })
}

/// Starts the keeping thread, where the process has one thread.
fn start() {
    KEEPER.get_or_init(|| {
        let before = std::env::var_os(VARIABLE);
        set_variable(Some("1".as_ref()));
        let (queue, jobs) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        let work = move || {
            let _ = ready.send(keeps());
            jobs.into_iter().for_each(|job| job());
        };
        let spawned = thread::Builder::new().name("treex-gradients".into()).spawn(work);
        // The thread has read the variable when it answers.
        let keeps = spawned.is_ok() && is_ready.recv().unwrap_or(false);
        set_variable(before.as_deref());
        keeps.then(|| Mutex::new(queue))
    });
}

#[expect(unsafe_code, reason = "the environment can be changed by unsafe code only")]
fn set_variable(value: Option<&std::ffi::OsStr>) {
    // SAFETY: called by `start` only, which runs where `has_one_thread` holds; the one thread that it starts meanwhile
    // reads the environment through Rust's own lock.
    unsafe {
        match value {
            Some(value) => std::env::set_var(VARIABLE, value),
            None => std::env::remove_var(VARIABLE),
        }
    }
}

/// Whether this thread is certainly the only one of the process, or the system allows changes of the environment at any
/// time.
fn has_one_thread() -> bool {
    if cfg!(windows) {
        return true;
    }
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}
