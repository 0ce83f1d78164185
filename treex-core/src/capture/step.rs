//! The step that a program holds.

use std::fmt;

use candle_core::{Device, Tensor};

use super::held::{Held, Trees};
use super::leaves;
#[cfg(feature = "cuda")]
use super::recorded::Recorded;
#[cfg(feature = "cuda")]
use super::tensors::with;
use super::tensors::{Form, Tensors, all, form as form_of};
use crate::error::{Error, Result};

/// A training step that a CUDA device runs without the host between its kernels; see [`capture`].
pub struct Captured<H: Held, B, R, F> {
    pub(super) held: H,
    pub(super) f: F,
    /// The form of the batch at [`capture`].
    form: Form,
    has_fixed_shapes: bool,
    device: Device,
    #[cfg(feature = "cuda")]
    cuda: Option<candle_core::CudaDevice>,
    /// Forms of batches of which a step has run, and those of its results.
    #[cfg(feature = "cuda")]
    known: Vec<(Form, Form)>,
    #[cfg(feature = "cuda")]
    recorded: Option<Recorded<R>>,
    types: std::marker::PhantomData<fn(&B) -> R>,
}

/// A step of training, such as gradient and update, that a CUDA device repeats by itself: the counterpart of `jax.jit`.
///
/// The first [`run`](Captured::run) calls `f`. The second one records what `f` asks of the device as a CUDA graph, which this and
/// all later runs launch as one piece of work: nothing is allocated, no time passes between kernels, and `f` is not called. The
/// results are those of calling `f` each time, bit for bit. On the CPU and on Metal `f` is called each time.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_core::{Leaf, Parameter, capture, prelude::*};
///
/// let device = Device::Cpu; // or `treex_core::cuda_device(0)?`
/// let mut slope = Leaf::<Parameter>::new(Tensor::zeros((), DType::F32, &device)?)?;
/// let batch = (Tensor::new(&[1f32, 2.], &device)?, Tensor::new(&[3f32, 6.], &device)?);
///
/// let mut step = capture(&mut slope, &batch, |slope, (x, y)| {
///     let (loss, gradient) = slope.value_and_grad(Parameter, |slope| {
///         Ok((x.broadcast_mul(&slope.get()?)? - y)?.sqr()?.mean_all()?)
///     })?;
///     *slope = slope.zip_map(&gradient, |slope, gradient| Ok((slope - (gradient * 0.1)?)?))?;
///     Ok(loss)
/// })?;
/// for _ in 0..20 {
///     let loss = step.run(&batch)?;
///     assert!(loss.to_scalar::<f32>()? < 23.);
/// }
/// step.finish()?;
/// assert!((slope.get()?.to_scalar::<f32>()? - 3.).abs() < 0.1);
/// # Ok::<(), treex_core::Error>(())
/// ```
///
/// `held` are mutable references to the trees that the step writes: one, or a tuple of up to four, such as `(&mut model, &mut
/// optimizer)`. While the step lives nothing else can write them; [`finish`](Captured::finish), or dropping the step, gives them
/// back as they are behind the last run. `f` gets a batch of the form of `batch`, and returns [`Tensors`], of which each run hands
/// out a copy. A tree outside of `held` must not change in `f`.
///
/// **On the host** step counts, with the schedules and bias corrections that depend on them, and random keys go on: they are
/// computed 1,024 steps ahead, into a table on the device, and `f` is called again when that is used up. All else that `f` reads on
/// the host is fixed when it is recorded, as in JAX: a number from outside, a field of a module that is no leaf, the branch of an
/// `if`. So `f` is recorded twice, and it is an error if the second recording does not follow from the first.
///
/// **What cannot be captured** is an error in the second run, before anything has changed: a read-back or an upload in `f`, a
/// leaf on the host that `f` changes by itself, a leaf that gets another shape, and transformations of an optimizer that compute on
/// the host in each step, such as [`adafactor`] and [`novograd`]. An error leaves the values of the trees as they were.
///
/// [`adafactor`]: https://docs.rs/treex-optim/latest/treex_optim/fn.adafactor.html
/// [`novograd`]: https://docs.rs/treex-optim/latest/treex_optim/fn.novograd.html
///
/// # Errors
/// If the trees or the batch are on more than one device, or on a CUDA device that is not [`cuda_device`](crate::cuda_device)'s.
pub fn capture<H, B, R, F>(held: H, batch: &B, f: F) -> Result<Captured<H, B, R, F>>
where
    H: Held,
    B: Tensors,
    R: Tensors,
    F: for<'r> Fn(<H::Trees as Trees>::Refs<'r>, &B) -> Result<R>,
{
    let of_batch = all(batch).into_iter().map(Tensor::device).find(|device| !device.is_cpu());
    let device = leaves::device(&held).or(of_batch.cloned()).unwrap_or(Device::Cpu);
    check(batch, &device)?;
    #[cfg(feature = "cuda")]
    let cuda = match &device {
        Device::Cuda(device) if device.is_event_tracking() => {
            let message = "a step on a device whose tensors have events cannot be captured";
            return Err(Error::argument(message).remedy("make the device by `treex::cuda_device`"));
        }
        Device::Cuda(device) => Some(device.clone()),
        _ => None,
    };
    Ok(Captured {
        held,
        f,
        form: form_of(batch),
        has_fixed_shapes: false,
        device,
        #[cfg(feature = "cuda")]
        cuda,
        #[cfg(feature = "cuda")]
        known: Vec::new(),
        #[cfg(feature = "cuda")]
        recorded: None,
        types: std::marker::PhantomData,
    })
}

/// An error unless a batch is on the device of the trees.
fn check<B: Tensors>(batch: &B, device: &Device) -> Result<()> {
    match all(batch).into_iter().find(|x| !x.device().same_device(device)) {
        Some(x) => Err(Error::argument("a batch is on another device than the trees of its step")
            .expected(format!("{:?}", device.location()))
            .found(format!("{:?}", x.device().location()))
            .remedy("move it with `to_device`")),
        None => Ok(()),
    }
}

impl<H, B, R, F> Captured<H, B, R, F>
where
    H: Held,
    B: Tensors,
    R: Tensors,
    F: for<'r> Fn(<H::Trees as Trees>::Refs<'r>, &B) -> Result<R>,
{
    /// Makes a batch of other shapes or types than that at [`capture`] an error. Otherwise such a batch is a step of its own, which
    /// runs once as it stands and is recorded anew.
    #[must_use]
    pub fn fixed_shapes(mut self) -> Self {
        self.has_fixed_shapes = true;
        self
    }

    /// One step on a batch.
    ///
    /// # Errors
    /// Those of the function; a batch of another form, if that is to be one; and when the step is recorded: a read-back or an
    /// upload, a value on the host that later steps cannot follow, a leaf that gets another shape. The trees are then as before.
    pub fn run(&mut self, batch: &B) -> Result<R> {
        let form = form_of(batch);
        if self.has_fixed_shapes && form != self.form {
            return Err(Error::shape("a captured step got a batch of another form")
                .expected(format!("{:?}", self.form))
                .found(format!("{form:?}"))
                .remedy("leave `fixed_shapes` out, then it is captured anew"));
        }
        check(batch, &self.device)?;
        #[cfg(feature = "cuda")]
        if let Some(cuda) = self.cuda.clone() {
            return self.run_on(&cuda, batch, form);
        }
        (self.f)(self.held.again(), batch)
    }

    #[cfg(feature = "cuda")]
    fn run_on(&mut self, device: &candle_core::CudaDevice, batch: &B, form: Form) -> Result<R> {
        let Some((_, results)) = self.known.iter().find(|(known, _)| *known == form) else {
            self.stop()?;
            let result = (self.f)(self.held.again(), batch)?;
            // A result may be a view of a leaf, whose memory later runs write.
            let copies = all(&result).into_iter().map(|x| Ok(x.detach().force_contiguous()?));
            let result = with(&result, copies.collect::<Result<_>>()?).unwrap_or(result);
            self.known.push((form, form_of(&result)));
            return Ok(result);
        };
        let results = results.clone();
        if self.recorded.as_ref().is_some_and(|recorded| !recorded.goes_on_with(&form)) {
            self.stop()?;
        }
        let recorded = match self.recorded.take() {
            Some(recorded) => recorded,
            None => Recorded::record(device, &mut self.held, batch, [form, results], &self.f)?,
        };
        self.recorded.insert(recorded).run(batch)
    }
}

impl<H: Held, B, R, F> Captured<H, B, R, F> {
    /// Gives the trees back, as they are behind the last run.
    ///
    /// # Errors
    /// If what they hold on the host cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.stop()
    }

    /// Ends the recording, if there is one: the trees hold what they are to hold, on the host too.
    fn stop(&mut self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if let Some(recorded) = self.recorded.take() {
            recorded.write_on_host(&mut self.held)?;
        }
        Ok(())
    }
}

impl<H: Held, B, R, F> Drop for Captured<H, B, R, F> {
    fn drop(&mut self) {
        let _ = self.stop(); // `finish` reports
    }
}

impl<H: Held, B, R, F> fmt::Debug for Captured<H, B, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured").field("batch", &self.form).finish_non_exhaustive()
    }
}
