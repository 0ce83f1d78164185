//! A step that was recorded, and what surrounds it: the batch goes in, the row of this step, and the results come out.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use candle_core::{CudaDevice, DType, Device, Shape, Tensor};

use super::columns::MOST_WORDS;
use super::conditions::{ConditionMemory, Count, MOST_CONDITIONS};
use super::graph::{self, Graph};
use super::held::{Held, Trees};
use super::leaves::{self, Leaves};
use super::plan::{self, GoesOn, Memory, Plan, Rows, Sequence};
use super::tensors::{Form, Tensors, all, form, with};
use crate::device::address;
use crate::error::{Error, ErrorKind, Result};
use crate::transfers::{no_transfers, transfer};

/// How many steps the host looks ahead.
const STEPS: usize = 1024;

pub(super) struct Recorded<R> {
    graph: Graph,
    form: Form,
    inputs: Vec<Fixed>,
    outputs: Vec<Output>,
    /// Where kernels find the words of the step that runs, and the words of all steps, those of every step first.
    columns: Tensor,
    words: Vec<Option<Tensor>>,
    conditions: ConditionMemory,
    has_conditions: bool,
    /// What leaves on the host hold behind each step, and before the first.
    held: Vec<(usize, Sequence)>,
    before: Leaves,
    /// How many of the steps were run, and how many there are.
    done: usize,
    steps: usize,
    result: R,
}

/// Memory of a batch's or result's tensor, at the same address in every run.
#[derive(Clone)]
struct Fixed {
    flat: Tensor,
    shape: Shape,
}

/// A result's memory, and memory for the copies that a program gets: one after the other.
struct Output {
    fixed: Fixed,
    copies: Tensor,
    next: usize,
}

/// A recording, the rows of its steps, and the form of its result.
struct Recording<R> {
    graph: Graph,
    rows: Rows,
    result: R,
    /// What the device counts, and what that is at first.
    counts: Vec<(Count, f64)>,
}

impl Fixed {
    fn new((dtype, shape): &(DType, Shape), device: &Device) -> Result<Self> {
        Ok(Self { flat: Tensor::zeros(shape.elem_count(), *dtype, device)?, shape: shape.clone() })
    }

    fn tensor(&self) -> Result<Tensor> {
        Ok(self.flat.reshape(&self.shape)?)
    }

    fn fill(&self, x: &Tensor) -> Result<()> {
        copy(&x.detach().contiguous()?.flatten_all()?, &self.flat, 0)
    }
}

/// Copies one dimension into another one, from `start` on.
fn copy(from: &Tensor, to: &Tensor, start: usize) -> Result<()> {
    if from.elem_count() == 0 {
        return Ok(());
    }
    Ok(to.slice_set(from, 0, start)?)
}

impl Output {
    fn new(form: &(DType, Shape), device: &Device) -> Result<Self> {
        const BYTES: usize = 1 << 16;
        let fixed = Fixed::new(form, device)?;
        let size = (fixed.flat.elem_count() * form.0.size_in_bytes()).max(1);
        let count = (BYTES / size).clamp(1, 256);
        let copies = Tensor::zeros(count * fixed.flat.elem_count(), form.0, device)?;
        Ok(Self { fixed, copies, next: 0 })
    }

    /// A copy that later runs do not write.
    fn taken(&mut self) -> Result<Tensor> {
        let len = self.fixed.flat.elem_count();
        if self.next + len > self.copies.elem_count() {
            self.copies = self.copies.zeros_like()?;
            self.next = 0;
        }
        copy(&self.fixed.flat, &self.copies, self.next)?;
        let taken = self.copies.narrow(0, self.next, len)?.reshape(&self.fixed.shape)?;
        self.next += len;
        Ok(taken)
    }
}

impl<R: Tensors> Recorded<R> {
    /// Records a step of `f`, whose batches and results have these forms. If that fails, the trees hold what they held.
    pub(super) fn record<H, B, F>(
        cuda: &CudaDevice,
        held: &mut H,
        batch: &B,
        [form, results]: [Form; 2],
        f: &F,
    ) -> Result<Self>
    where
        H: Held,
        B: Tensors,
        F: for<'r> Fn(<H::Trees as Trees>::Refs<'r>, &B) -> Result<R>,
    {
        let device = &Device::Cuda(cuda.clone());
        leaves::unshare(held)?;
        let fixed =
            |form: &Form| form.iter().map(|form| Fixed::new(form, device)).collect::<Result<Vec<_>>>();
        let inputs = fixed(&form)?;
        let outputs = results.iter().map(|form| Output::new(form, device)).collect::<Result<Vec<_>>>()?;
        let columns = Tensor::zeros(MOST_WORDS * (1 + MOST_CONDITIONS), DType::I64, device)?;
        let conditions = ConditionMemory::new(device)?;
        let recorder = Recorder {
            cuda,
            batch: with(batch, inputs.iter().map(Fixed::tensor).collect::<Result<_>>()?)
                .ok_or_else(other_form)?,
            outputs: &outputs,
            memory: Memory {
                columns: address(&columns)?,
                scalar: Tensor::zeros(1, DType::F64, device)?,
                conditions: conditions.clone(),
            },
            f,
        };
        let before = Leaves::of(held);
        let recorded = recorder.recorded(held, &before);
        let Recording { graph, rows, result, counts } = match recorded {
            Ok(recording) => recording,
            Err(error) => {
                before.put_back(held)?;
                return Err(in_words(error));
            }
        };
        let words = rows.words.iter().map(|rows| uploaded(rows, device)).collect::<Result<Vec<_>>>()?;
        let has_conditions = !counts.is_empty();
        if has_conditions {
            conditions.start(&counts, &rows.words, &words)?;
        }
        let (held, steps) = (rows.held, rows.steps);
        Ok(Self {
            graph,
            form,
            inputs,
            outputs,
            columns,
            words,
            conditions,
            has_conditions,
            held,
            before,
            done: 0,
            steps,
            result,
        })
    }

    /// Whether there is another step of it, for a batch of this form.
    pub(super) fn goes_on_with(&self, form: &Form) -> bool {
        self.done < self.steps && self.form == *form
    }

    /// One step.
    pub(super) fn run<B: Tensors>(&mut self, batch: &B) -> Result<R> {
        self.inputs.iter().zip(all(batch)).try_for_each(|(input, x)| input.fill(x))?;
        if let Some(Some(words)) = self.words.first() {
            copy(&words.get(self.done)?, &self.columns, 0)?;
        }
        self.graph.launch()?;
        self.done += 1;
        let results = self.outputs.iter_mut().map(Output::taken).collect::<Result<_>>()?;
        with(&self.result, results).ok_or_else(other_form)
    }
}

impl<R> Recorded<R> {
    /// Lets the leaves on the host hold what they hold behind the last step. Where the device has counted, this reads back.
    pub(super) fn write_on_host<H: Held>(self, held: &mut H) -> Result<()> {
        self.before.put_back(held)?;
        let counted =
            if self.has_conditions && self.done > 0 { Some(self.conditions.counted()?) } else { None };
        let mut values = Vec::with_capacity(self.held.len());
        for (number, sequence) in &self.held {
            let value = match (sequence, &counted) {
                _ if self.done == 0 => None,
                (Sequence::Counted(count), Some(counted)) => Some(counted.tensor(*count)?),
                (Sequence::Values { condition, values }, counted) => {
                    let made = match counted {
                        Some(counted) if *condition > 0 => counted.made(*condition),
                        _ => self.done,
                    };
                    made.checked_sub(1).and_then(|last| values.get(last)).cloned()
                }
                (Sequence::Counted(_), None) => None,
            };
            values.extend(value.map(|value| (*number, value)));
        }
        leaves::write_on_host(held, &values)
    }
}

/// The rows of all steps as a tensor `[steps, words]`, if there are words.
fn uploaded(rows: &[Vec<u64>], device: &Device) -> Result<Option<Tensor>> {
    let width = rows.first().map_or(0, Vec::len);
    if width == 0 {
        return Ok(None);
    }
    let words: Vec<i64> = rows.iter().flatten().map(|word| word.cast_signed()).collect();
    let words = Tensor::from_vec(words, (rows.len(), width), &Device::Cpu)?;
    transfer(&words, device, "run the step outside").map(Some)
}

/// What each recording of a step needs.
struct Recorder<'r, B, F> {
    cuda: &'r CudaDevice,
    batch: B,
    outputs: &'r [Output],
    memory: Memory,
    f: &'r F,
}

impl<B: Tensors, F> Recorder<'_, B, F> {
    /// A recording that was compared with the one of the next step.
    fn recorded<H, R>(&self, held: &mut H, before: &Leaves) -> Result<Recording<R>>
    where
        H: Held,
        R: Tensors,
        F: for<'r> Fn(<H::Trees as Trees>::Refs<'r>, &B) -> Result<R>,
    {
        let recording = self.once(held, before, STEPS)?;
        if recording.rows.steps < 2 {
            return Ok(recording);
        }
        let after = Leaves::of(held);
        let next: Recording<R> = self.once(held, &after, 1)?;
        after.put_back(held)?;
        let difference = recording
            .graph
            .difference(&next.graph)
            .or_else(|| recording.rows.difference(&next.rows).map(str::to_owned));
        match difference {
            None => Ok(recording),
            Some(difference) => Err(Error::argument(
                "a captured step depends on something on the host that changes from step to step",
            )
            .expected("the same work in the next step")
            .found(difference)
            .remedy("hold it on the device, give it in the batch, or run the step without `capture`")),
        }
    }

    fn once<H, R>(&self, held: &mut H, before: &Leaves, steps: usize) -> Result<Recording<R>>
    where
        H: Held,
        R: Tensors,
        F: for<'r> Fn(<H::Trees as Trees>::Refs<'r>, &B) -> Result<R>,
    {
        let plan = Plan::new(steps, self.memory.clone(), before.roots());
        // What a step that fails has moved is put back while its memory, which is the graph's, can be freed.
        let step = || match catch_unwind(AssertUnwindSafe(|| self.step(held, before))) {
            Ok(Ok(step)) => Ok(step),
            Ok(Err(error)) => before.put_back(held).and(Err(error)),
            Err(panic) => {
                let _ = before.put_back(held);
                resume_unwind(panic)
            }
        };
        let (recorded, plan) = plan::recording(plan, || no_transfers(|| graph::record(self.cuda, step)));
        let ((result, goes_on), graph) = recorded?;
        Ok(Recording { graph, rows: plan.rows(&goes_on)?, result, counts: plan.conditions.first })
    }

    /// The work of a step: the form of its result, and how the leaves on the host go on.
    fn step<H, R>(&self, held: &mut H, before: &Leaves) -> Result<(R, Vec<Option<GoesOn>>)>
    where
        H: Held,
        R: Tensors,
        F: for<'r> Fn(<H::Trees as Trees>::Refs<'r>, &B) -> Result<R>,
    {
        let result = (self.f)(held.again(), &self.batch)?;
        let expected =
            self.outputs.iter().map(|output| (output.fixed.flat.dtype(), output.fixed.shape.clone()));
        if form(&result) != expected.collect::<Form>() {
            return Err(other_form());
        }
        // First, since a result may be what a leaf held before.
        self.outputs.iter().zip(all(&result)).try_for_each(|(output, x)| output.fixed.fill(x))?;
        let goes_on = plan::with(|plan| before.write_back(held, plan)).ok_or_else(other_form)??;
        // Later results have the form of this one, whose memory is the graph's.
        let form = with(&result, self.outputs.iter().map(|output| output.fixed.flat.clone()).collect());
        Ok((form.ok_or_else(other_form)?, goes_on))
    }
}

fn other_form() -> Error {
    Error::shape("a captured step returned tensors of another form than the step before")
        .remedy("return the same number of tensors, of the same shapes and types, at each step")
}

/// What an error of Candle in a recording means.
fn in_words(error: Error) -> Error {
    let says = |words: &str| error.to_string().contains(words);
    let is_copy = error.kind() == ErrorKind::Candle && (says("CUDA graph capture") || says("STREAM_CAPTURE"));
    if !is_copy {
        return error;
    }
    Error::new(ErrorKind::Transfer, "a captured step reads a tensor back, or uploads one")
        .remedy("make the tensor before `capture` or give it in the batch; what the step returns is read behind it")
        .caused_by(error)
}
