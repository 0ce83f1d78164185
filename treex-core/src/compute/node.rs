//! Operations with a gradient of their own, as nodes of Candle's graph.
//!
//! Candle's custom operations have up to three inputs and one output, and its backward pass makes zeros and
//! adds to them at every edge. Here an operation is a gate: below it hang its inputs, above it its outputs, and
//! what runs between them is one number without meaning; tensors go by [`Call`]:
//!
//! ```text
//! input 0 --\             /-- Out -- output 0
//!            Knot -- Knot
//! input 1 --/             \-- Out -- output 1
//! ```
//!
//! In the backward pass all outputs have their cotangents before the gate asks for the inputs' gradients, and
//! all inputs come after it. Where an input is the output of another such operation, and both are made inside
//! of one gradient scope (`tape`), the gate hangs on that operation's gate and hands the gradient over itself:
//! such an edge costs no memory pass at all.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, InplaceOp1, Layout, MetalStorage, Shape,
    Storage, Tensor, WithDType,
};

use super::{accumulate, tape};
use crate::error::{Error, ErrorKind, Result};

/// The backward half of an operation: what its forward half kept, and how gradients come from it.
pub trait Operation: Send + Sync + 'static {
    /// How errors call it.
    fn name(&self) -> &'static str;

    /// The gradient of each input, in order, of the shape and the element type of the input; `None` for zeros,
    /// and for those that are not [`wanted`](Pass::wanted). It may run more than once, and on another thread.
    ///
    /// # Errors
    /// What the computation reports.
    fn backward(&self, pass: &Pass) -> Result<Vec<Option<Tensor>>>;

    /// Whether [`backward`](Self::backward) reads the outputs, so that their memory must stay until then.
    fn keeps_outputs(&self) -> bool {
        false
    }
}

/// What a backward pass brings to an operation.
#[derive(Debug)]
pub struct Pass {
    outputs: Vec<Tensor>,
    cotangents: Vec<Option<Tensor>>,
    wanted: Vec<bool>,
}

impl Pass {
    /// The outputs, detached; empty unless the operation [keeps](Operation::keeps_outputs) them.
    #[must_use]
    pub fn outputs(&self) -> &[Tensor] {
        &self.outputs
    }

    /// The gradient of the loss with respect to each output, of any strides; `None` for one that the loss does
    /// not depend on. At least one is there.
    #[must_use]
    pub fn cotangents(&self) -> &[Option<Tensor>] {
        &self.cotangents
    }

    /// The gradient of the loss with respect to the only output.
    ///
    /// # Errors
    /// If there is none: an operation with one output has it.
    pub fn cotangent(&self) -> Result<&Tensor> {
        let none = || Error::new(ErrorKind::Structure, "a backward pass brings nothing to an operation");
        self.cotangents.iter().flatten().next().ok_or_else(none)
    }

    /// Whether the gradient of the input at `index` is asked for.
    #[must_use]
    pub fn wanted(&self, index: usize) -> bool {
        self.wanted.get(index).copied().unwrap_or(false)
    }
}

/// Memory that an operation has just filled and nobody else holds: an output to be.
#[derive(Debug)]
pub struct Fresh {
    storage: Storage,
    shape: Shape,
}

impl Fresh {
    /// Elements on the host, row-major.
    ///
    /// # Errors
    /// If `shape` has another number of elements.
    pub fn new<T: WithDType>(elements: Vec<T>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if elements.len() != shape.elem_count() {
            return Err(Error::shape("a kernel computed another number of elements than its shape has")
                .expected(format!("{:?}", shape.dims()))
                .found(elements.len()));
        }
        Ok(Self { storage: Storage::Cpu(T::to_cpu_storage_owned(elements)), shape })
    }

    /// The memory of a tensor that was computed a moment ago and that nobody else reads: without a copy, unless
    /// it is a view with gaps. Whoever still holds it finds it empty.
    ///
    /// # Errors
    /// What Candle reports.
    pub fn take(tensor: Tensor) -> Result<Self> {
        let taken = Taken::default();
        let tensor = tensor.detach();
        let whole = tensor.is_contiguous() && {
            let (storage, layout) = tensor.storage_and_layout();
            let len = match &*storage {
                Storage::Cpu(storage) => elements(storage),
                // Candle hands out views of the host's memory only; elsewhere a copy is the safe answer.
                Storage::Cuda(_) | Storage::Metal(_) => usize::MAX,
            };
            layout.start_offset() == 0 && len == layout.shape().elem_count()
        };
        let tensor = if whole { tensor } else { tensor.force_contiguous()? };
        tensor.inplace_op1(&taken)?;
        match taken.take() {
            Some(storage) => Ok(Self { storage, shape: tensor.shape().clone() }),
            None => Err(elsewhere().into()),
        }
    }

    /// As a tensor outside of any graph.
    #[must_use]
    pub fn into_tensor(self) -> Tensor {
        Tensor::from_storage(self.storage, self.shape, BackpropOp::none(), false)
    }
}

/// The number of elements in memory on the host.
fn elements(storage: &CpuStorage) -> usize {
    match storage {
        CpuStorage::U8(x) => x.len(),
        CpuStorage::U32(x) => x.len(),
        CpuStorage::I64(x) => x.len(),
        CpuStorage::BF16(x) => x.len(),
        CpuStorage::F16(x) => x.len(),
        CpuStorage::F32(x) => x.len(),
        CpuStorage::F64(x) => x.len(),
        _ => usize::MAX,
    }
}

/// The one output of an operation on `inputs`, with its gradient; see [`attach_all`].
///
/// # Errors
/// As [`attach_all`].
pub fn attach(operation: impl Operation, inputs: &[&Tensor], output: Fresh) -> Result<Tensor> {
    let mut outputs = attach_all(operation, inputs, vec![output])?;
    outputs.pop().ok_or_else(|| Error::new(ErrorKind::Structure, "an operation lost its output"))
}

/// The outputs of an operation on `inputs`, which `operation` differentiates. Where no input is tracked,
/// `operation` is dropped and the outputs stand alone.
///
/// # Errors
/// What Candle reports. In the backward pass, what the operation reports, or that it returns gradients of
/// another number or other shapes than the inputs have.
pub fn attach_all(operation: impl Operation, inputs: &[&Tensor], outputs: Vec<Fresh>) -> Result<Vec<Tensor>> {
    if !inputs.iter().any(|input| input.track_op()) {
        return Ok(outputs.into_iter().map(Fresh::into_tensor).collect());
    }
    let keeps_outputs = operation.keeps_outputs();
    let call = Arc::new(Call {
        name: operation.name(),
        kept: Mutex::new(Some(Arc::new(Kept { operation: Box::new(operation), outputs: Mutex::default() }))),
        inputs: inputs.iter().map(|input| Input::of(input)).collect(),
        outputs: outputs.iter().map(|fresh| fresh.shape.clone()).collect(),
        passes: Mutex::default(),
    });
    let gate = hang(&call, inputs)?;
    let output = |(index, fresh): (usize, Fresh)| -> Result<Tensor> {
        let Fresh { storage, shape } = fresh;
        if !storage.dtype().is_float() {
            return Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false));
        }
        let link = Arc::new(Link { gate: gate.clone(), call: Arc::clone(&call), index });
        let value = Taken(Mutex::new(Some(storage)));
        let output = gate.apply_op1(Out { link: Arc::clone(&link), shape, value })?;
        tape::enter(&output, &link);
        Ok(output)
    };
    let outputs = outputs.into_iter().enumerate().map(output).collect::<Result<Vec<_>>>()?;
    if keeps_outputs && let Some(kept) = &*lock(&call.kept) {
        *lock(&kept.outputs) = outputs.iter().map(Tensor::detach).collect();
    }
    Ok(outputs)
}

/// `x.reshape(shape)`, whose gradient goes to the [operation](Operation) that `x` is an output of as directly as that
/// of `x` itself.
///
/// # Errors
/// If the shape has another number of elements.
pub fn reshape(x: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let y = x.reshape(shape.into())?;
    if let Some(link) = tape::find(x) {
        tape::enter(&y, &link);
    }
    Ok(y)
}

/// Ties the tracked inputs together, three at a time. The last knot is the gate.
fn hang(call: &Arc<Call>, inputs: &[&Tensor]) -> candle_core::Result<Tensor> {
    let mut loose: Vec<(Tensor, Option<usize>)> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        match &call.inputs[index] {
            Input::Untracked => {}
            Input::Tensor(_) => loose.push(((*input).clone(), Some(index))),
            Input::Output(link) => loose.push((link.gate.clone(), Some(index))),
        }
    }
    loose.reverse();
    let mut tied = None;
    loop {
        let mut ends: [(Option<Tensor>, Option<usize>); 3] = Default::default();
        let mut count = 0;
        for end in &mut ends {
            let Some((tensor, index)) = tied.take().map(|token| (token, None)).or_else(|| loose.pop()) else {
                break;
            };
            *end = (Some(tensor), index);
            count += 1;
        }
        let [(a, i), (b, j), (c, k)] = ends;
        let knot = Knot { call: Arc::clone(call), inputs: [i, j, k], is_gate: loose.is_empty() };
        let token = match (a, b, c) {
            (Some(a), Some(b), Some(c)) => a.apply_op3(&b, &c, knot)?,
            (Some(a), Some(b), None) => a.apply_op2(&b, knot)?,
            (Some(a), None, None) => a.apply_op1(knot)?,
            _ => candle_core::bail!("{} ties {count} tensors", call.name),
        };
        if loose.is_empty() {
            return Ok(token);
        }
        tied = Some(token);
    }
}

/// One use of an operation: what its nodes share.
pub(super) struct Call {
    name: &'static str,
    /// Let go by a backward pass that is the last one.
    kept: Mutex<Option<Arc<Kept>>>,
    inputs: Vec<Input>,
    outputs: Vec<Shape>,
    /// Backward passes under way, at most one on each thread.
    passes: Mutex<Vec<(ThreadId, Flow)>>,
}

struct Kept {
    operation: Box<dyn Operation>,
    outputs: Mutex<Vec<Tensor>>,
}

/// Where the gradient of an input goes.
enum Input {
    Untracked,
    /// Through Candle's graph.
    Tensor(Shape),
    /// Straight to the operation that it is an output of.
    Output(Arc<Link>),
}

impl Input {
    fn of(input: &Tensor) -> Self {
        if !input.track_op() {
            return Self::Untracked;
        }
        tape::find(input).map_or_else(|| Self::Tensor(input.shape().clone()), Self::Output)
    }
}

/// An output, as the operations that take it see it.
pub(super) struct Link {
    gate: Tensor,
    call: Arc<Call>,
    index: usize,
}

/// What is on its way through one call in one backward pass.
#[derive(Default)]
struct Flow {
    cotangents: Vec<Option<Tensor>>,
    gradients: Vec<Option<Tensor>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Call {
    /// Works on this thread's flow.
    fn flow<R>(&self, f: impl FnOnce(&mut Flow) -> R) -> R {
        let mut passes = lock(&self.passes);
        let id = thread::current().id();
        let at = passes.iter().position(|(other, _)| *other == id).unwrap_or_else(|| {
            passes.push((id, Flow::default()));
            passes.len() - 1
        });
        f(&mut passes[at].1)
    }

    fn take_flow(&self) -> Flow {
        let mut passes = lock(&self.passes);
        let id = thread::current().id();
        let at = passes.iter().position(|(other, _)| *other == id);
        at.map(|at| passes.swap_remove(at).1).unwrap_or_default()
    }

    fn receive(&self, index: usize, cotangent: Tensor) -> candle_core::Result<()> {
        let before = self.flow(|flow| {
            flow.cotangents.resize(self.outputs.len(), None);
            flow.cotangents[index].take()
        });
        // The consumer may have seen another shape of the same elements.
        let shape = &self.outputs[index];
        let cotangent = if cotangent.shape() == shape { cotangent } else { cotangent.reshape(shape)? };
        let sum = match before {
            Some(before) => (before + cotangent)?,
            None => cotangent,
        };
        self.flow(|flow| flow.cotangents[index] = Some(sum));
        Ok(())
    }

    fn run(&self) -> Result<()> {
        // Not under a lock: the operation may go backward through another call.
        let mut cotangents = self.take_flow().cotangents;
        cotangents.resize(self.outputs.len(), None);
        let gradients = if cotangents.iter().all(Option::is_none) {
            vec![None; self.inputs.len()]
        } else {
            self.gradients(cotangents)?
        };
        self.flow(|flow| flow.gradients = gradients);
        Ok(())
    }

    fn gradients(&self, cotangents: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
        let kept =
            if accumulate::is_last_pass() { lock(&self.kept).take() } else { lock(&self.kept).clone() };
        let Some(kept) = kept else {
            let message = format!("`{}` was differentiated before, and let go what it had kept", self.name);
            return Err(Error::new(ErrorKind::Structure, message)
                .remedy("differentiate once: return what you need from the closure of `value_and_grad`"));
        };
        let outputs = lock(&kept.outputs).clone();
        let wanted = self.inputs.iter().map(|input| !matches!(input, Input::Untracked)).collect();
        let pass = Pass { outputs, cotangents, wanted };
        let mut gradients = kept.operation.backward(&pass)?;
        drop((pass, kept));
        if gradients.len() != self.inputs.len() {
            let message = format!("the gradient of `{}` has a wrong number of parts", self.name);
            return Err(Error::new(ErrorKind::Structure, message)
                .expected(format!("{}, one for each input", self.inputs.len()))
                .found(gradients.len()));
        }
        for (index, (gradient, input)) in gradients.iter_mut().zip(&self.inputs).enumerate() {
            match (&gradient, input) {
                (_, Input::Untracked) => *gradient = None,
                (Some(found), Input::Tensor(shape)) if found.shape() != shape => {
                    let message =
                        format!("the gradient of `{}` has a wrong shape for input {index}", self.name);
                    return Err(Error::shape(message)
                        .expected(format!("{:?}", shape.dims()))
                        .found(format!("{:?}", found.dims())));
                }
                _ => {}
            }
        }
        Ok(gradients)
    }

    /// The gradient of an input. The last to ask ends the pass.
    fn gradient(&self, index: usize) -> Option<Tensor> {
        let (gradient, is_done) = self.flow(|flow| {
            let gradient = flow.gradients.get_mut(index).and_then(Option::take);
            (gradient, flow.gradients.iter().all(Option::is_none))
        });
        if is_done {
            self.take_flow();
        }
        gradient.map(|gradient| gradient.detach())
    }

    /// What Candle is to add to the gradient of `tensor`, the input at `index`.
    fn hand_over(
        &self,
        index: usize,
        tensor: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        let gradient = self.gradient(index);
        if let Input::Output(link) = &self.inputs[index] {
            if let Some(gradient) = gradient {
                link.call.receive(link.index, gradient)?;
            }
            return Ok(Some(token.clone()));
        }
        match gradient {
            Some(gradient) if tensor.is_variable() => accumulate::deposit(tensor, gradient),
            // Candle needs a gradient for whatever is not a variable.
            None if !tensor.is_variable() => Ok(Some(tensor.zeros_like()?)),
            gradient => Ok(gradient),
        }
    }
}

/// One number on the device of `storage`.
fn token<S>(storage: &S) -> candle_core::Result<(S, Shape)>
where
    S: BackendStorage<Device: BackendDevice<Storage = S>>,
{
    Ok((storage.device().zeros_impl(&Shape::from(()), DType::F32)?, Shape::from(())))
}

/// The forward pass of a node that hands on no tensor, for each backend.
macro_rules! hands_on_a_token {
    ($($rest:ident),*) => {
        hands_on_a_token!(cpu_fwd CpuStorage $($rest)*);
        hands_on_a_token!(cuda_fwd CudaStorage $($rest)*);
        hands_on_a_token!(metal_fwd MetalStorage $($rest)*);
    };
    ($name:ident $storage:ident $($rest:ident)*) => {
        fn $name(
            &self,
            storage: &$storage,
            _: &Layout,
            $($rest: &$storage, _: &Layout,)*
        ) -> candle_core::Result<($storage, Shape)> {
            $(let _ = $rest;)*
            token(storage)
        }
    };
}

/// Ties up to three inputs, or two and the knot before it. The last one is the gate.
struct Knot {
    call: Arc<Call>,
    /// Which input each argument is; `None` for the knot before it.
    inputs: [Option<usize>; 3],
    is_gate: bool,
}

impl Knot {
    fn open(&self) -> Result<()> {
        if self.is_gate { self.call.run() } else { Ok(()) }
    }

    fn end(&self, at: usize, tensor: &Tensor, token: &Tensor) -> candle_core::Result<Option<Tensor>> {
        match self.inputs[at] {
            Some(index) => self.call.hand_over(index, tensor, token),
            None => Ok(Some(token.clone())),
        }
    }
}

impl CustomOp1 for Knot {
    fn name(&self) -> &'static str {
        self.call.name
    }

    hands_on_a_token!();

    fn bwd(&self, a: &Tensor, _: &Tensor, token: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.open()?;
        self.end(0, a, token)
    }
}

impl CustomOp2 for Knot {
    fn name(&self) -> &'static str {
        self.call.name
    }

    hands_on_a_token!(b);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        self.open()?;
        Ok((self.end(0, a, token)?, self.end(1, b, token)?))
    }
}

impl CustomOp3 for Knot {
    fn name(&self) -> &'static str {
        self.call.name
    }

    hands_on_a_token!(b, c);

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        token: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.open()?;
        Ok((self.end(0, a, token)?, self.end(1, b, token)?, self.end(2, c, token)?))
    }
}

/// Hands out an output that was computed before.
struct Out {
    link: Arc<Link>,
    shape: Shape,
    value: Taken,
}

impl CustomOp1 for Out {
    fn name(&self) -> &'static str {
        self.link.call.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Cpu(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(elsewhere()),
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Cuda(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(elsewhere()),
        }
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        match self.value.take() {
            Some(Storage::Metal(storage)) => Ok((storage, self.shape.clone())),
            _ => Err(elsewhere()),
        }
    }

    fn bwd(&self, token: &Tensor, _: &Tensor, cotangent: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.link.call.receive(self.link.index, cotangent.detach())?;
        Ok(Some(token.zeros_like()?))
    }
}

fn elsewhere() -> candle_core::Error {
    Error::argument("an output of an operation is on another device than its inputs").into()
}

/// Memory on its way from one tensor into another.
#[derive(Default)]
struct Taken(Mutex<Option<Storage>>);

impl Taken {
    fn take(&self) -> Option<Storage> {
        lock(&self.0).take()
    }

    fn keep<S>(&self, storage: &mut S, wrap: impl FnOnce(S) -> Storage) -> candle_core::Result<()>
    where
        S: BackendStorage<Device: BackendDevice<Storage = S>>,
    {
        let empty = storage.device().zeros_impl(&Shape::from(0), storage.dtype())?;
        let storage = wrap(mem::replace(storage, empty));
        *lock(&self.0) = Some(storage);
        Ok(())
    }
}

impl InplaceOp1 for Taken {
    fn name(&self) -> &'static str {
        "take storage"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Cpu)
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Cuda)
    }

    fn metal_fwd(&self, storage: &mut MetalStorage, _: &Layout) -> candle_core::Result<()> {
        self.keep(storage, Storage::Metal)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::grad::{grad, value_and_grad_aux};
    use crate::kind::Parameter;
    use crate::leaf::Leaf;

    struct Square {
        x: Tensor,
    }

    impl Operation for Square {
        fn name(&self) -> &'static str {
            "square"
        }

        fn backward(&self, pass: &Pass) -> Result<Vec<Option<Tensor>>> {
            Ok(vec![Some(((&self.x * pass.cotangent()?)? * 2.)?)])
        }
    }

    fn square(x: &Tensor) -> Result<Tensor> {
        let detached = x.detach();
        attach(Square { x: detached.clone() }, &[x], Fresh::take(detached.sqr()?)?)
    }

    fn leaf() -> Result<Leaf<Parameter>> {
        Leaf::new(Tensor::new(&[1f64, -2., 3., 0.5], &Device::Cpu)?)
    }

    type Function = fn(&Tensor, &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor>;

    /// Operations on each other, on what Candle computed, by several consumers, and seen in another shape.
    #[test]
    fn gradients_are_candles() -> Result<()> {
        let functions: [Function; 5] = [
            |x, f| f(&f(x)?),
            |x, f| {
                let y = f(x)?;
                Ok((((&y * 3.)? + f(&y)?)? * f(x)?)?)
            },
            |x, f| f(&(f(x)?.exp()? + x)?),
            |x, f| {
                let y = reshape(&f(x)?, (2, 2))?;
                Ok((f(&y)?.flatten_all()? + f(&reshape(&y, 4)?)?)?)
            },
            |x, f| f(&f(x)?.reshape((2, 2))?.t()?)?.flatten_all().map_err(Error::from),
        ];
        for (index, function) in functions.into_iter().enumerate() {
            let of = |f: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<Vec<f64>> {
                let weights = Tensor::new(&[1f64, 0.5, -1., 2.], &Device::Cpu)?;
                let gradient = grad(&leaf()?, |x| Ok((function(&x.get()?, f)? * &weights)?.sum_all()?))?;
                Ok(gradient.get()?.to_vec1()?)
            };
            let (ours, candle) = (of(&square)?, of(&|x| Ok(x.sqr()?))?);
            for (ours, candle) in ours.iter().zip(&candle) {
                assert!((ours - candle).abs() <= 1e-12 * candle.abs(), "{index}: {ours} {candle}");
            }
        }
        Ok(())
    }

    #[test]
    fn inside_of_another_differentiation() -> Result<()> {
        let (outer, inner) = (leaf()?, leaf()?);
        // The inner gradient is 2 b a, a constant for the outer one: 2 a · 2 a².
        let gradient = grad(&outer, |a| {
            let a = a.get()?;
            let of_inner = grad(&inner, |b| Ok((square(&b.get()?)? * a.detach())?.sum_all()?))?;
            Ok((square(&a)? * of_inner.get()?.detach())?.sum_all()?)
        })?;
        let values = leaf()?.get()?.to_vec1::<f64>()?;
        let wanted: Vec<_> = values.iter().map(|x| 2. * x * (2. * x * x)).collect();
        assert_eq!(gradient.get()?.to_vec1::<f64>()?, wanted);
        Ok(())
    }

    #[test]
    fn what_was_let_go_is_told() -> Result<()> {
        let again = || -> Result<Option<String>> {
            let ((_, y), _) = value_and_grad_aux(&leaf()?, |x| {
                let y = square(&x.get()?)?.sum_all()?;
                Ok((y.clone(), y))
            })?;
            Ok(y.backward().err().map(|error| Error::from(error).to_string()))
        };
        // While another test differentiates, nothing is let go.
        for _ in 0..10_000 {
            if let Some(error) = again()? {
                assert!(error.contains("`square` was differentiated before"), "{error}");
                return Ok(());
            }
        }
        panic!("nothing was ever let go");
    }

    #[test]
    fn memory_is_taken_only_where_it_is_whole() -> Result<()> {
        let x = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
        let part = x.narrow(0, 1, 1)?;
        assert_eq!(Fresh::take(part)?.into_tensor().to_vec2::<f32>()?, [[3., 4., 5.]]);
        assert_eq!(Fresh::take(x.t()?)?.into_tensor().to_vec2::<f32>()?, [[0., 3.], [1., 4.], [2., 5.]]);
        assert_eq!(x.to_vec2::<f32>()?, [[0., 1., 2.], [3., 4., 5.]]);
        assert!(Fresh::new(vec![1f32], (2, 2)).is_err());
        Ok(())
    }
}
