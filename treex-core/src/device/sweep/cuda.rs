//! Sweeps and sums on a CUDA device.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::sys;
use candle_core::{CudaDevice, DType, Tensor};
use treex_kernels::expression::Source;

use super::part::{Part, Program};
use super::source::{self, Case};
use super::table::{self, Launch, Layout, Row, TOTAL, Total, launches, stride};
use crate::capture::condition;
use crate::capture::plan::Constants;
use crate::device::compile;
use crate::device::groups;
use crate::device::launch::{address, address_to_write, launch, uninitialized};
use crate::error::{Error, Result};
use crate::tensors::storage_id;
use crate::tree::kind::{KindTag, TreePart};

/// The sizes of a kernel's parameter, in words: a kernel for each that is used. The second is the most that every device
/// takes, the last that of devices from compute capability 7.0 on, with CUDA 12.1.
const SIZES: [usize; 3] = [120, 500, 4080];

/// The device, and the sizes of parameters that it takes.
struct Target {
    device: CudaDevice,
    sizes: &'static [usize],
}

/// Tensors of a part, ready for the launch.
struct Open {
    program: Arc<Program>,
    inputs: Vec<Tensor>,
    variables: Vec<Tensor>,
    output: Option<Tensor>,
    scalars: Vec<Tensor>,
}

pub(super) fn sweep(parts: Vec<Part<'_>>) -> Result<()> {
    let Some(target) = Target::of(&parts)? else { return Ok(()) };
    // Everything that allocates or compiles comes before the first launch.
    let (mut open, mut outputs) = (Vec::new(), Vec::new());
    for Part { inputs, leaves, output, program, scalars } in parts {
        let mut variables = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            variables.push(leaf.make_mut(KindTag::of::<TreePart>())?.clone());
        }
        let new = match (&output, inputs.first()) {
            (Some(_), Some(like)) => {
                Some(uninitialized(like.shape(), program.dtype(), &target.device)?.into_tensor())
            }
            _ => None,
        };
        outputs.push(output);
        open.push(Open { program, inputs, variables, output: new, scalars });
    }
    let written: HashSet<usize> = open.iter().flat_map(|part| &part.variables).map(storage_id).collect();
    for input in open.iter_mut().flat_map(|part| &mut part.inputs) {
        if written.contains(&storage_id(input)) {
            *input = input.force_contiguous()?;
        } else if !input.is_contiguous() {
            *input = input.contiguous()?;
        }
    }
    let condition = condition::applied()?;
    let (mut launches, texts, stride) = target.plan(&open, condition.is_some(), |case| case.sweep())?;
    if let Some(condition) = &condition {
        let address = address(condition)?;
        launches.iter_mut().for_each(|launch| launch.words[1] = address);
    }
    target.launch("sweep", launches, stride, |layout| source::sweep(&texts, layout))?;
    target.used(&open)?;
    for (output, part) in outputs.into_iter().zip(open) {
        if let Some(output) = output {
            *output = part.output;
        }
    }
    Ok(())
}

/// The first value of a function of the sums over each range of parts, in `F64`.
pub(super) fn sums(
    parts: Vec<Part<'_>>,
    ranges: &[Range<usize>],
    function: &Source,
    constants: Vec<Constants>,
) -> Result<Tensor> {
    let Some(target) = Target::of(&parts)? else {
        return Err(Error::argument("there is nothing to sum").expected("parts and ranges"));
    };
    let terms = parts.first().map_or(0, |part| part.program.source.values.len());
    let open = parts.into_iter().map(|Part { inputs, program, scalars, .. }| -> Result<Open> {
        let inputs = inputs.iter().map(Tensor::contiguous).collect::<candle_core::Result<_>>()?;
        Ok(Open { program, inputs, variables: Vec::new(), output: None, scalars })
    });
    let open = open.collect::<Result<Vec<_>>>()?;
    let mut starts = vec![0];
    for part in &open {
        starts.push(starts.last().copied().unwrap_or(0) + groups(part.len()));
    }
    let (mut launches, texts, stride) = target.plan(&open, false, |case| case.sums())?;
    let partial =
        uninitialized(&(starts.last().copied().unwrap_or(0), terms).into(), DType::F64, &target.device)?
            .into_tensor();
    let results = uninitialized(&ranges.len().into(), DType::F64, &target.device)?.into_tensor();
    let (bytes, partial_address) = ((terms * 8) as u64, address(&partial)?);
    let mut before = 0;
    for launch in &mut launches {
        launch.words[1] = partial_address + before as u64 * bytes;
        before += launch.groups;
    }
    let total = |(range, constants): (&Range<usize>, &Constants)| -> Result<Total> {
        Ok(Total {
            sums: partial_address + starts[range.start] as u64 * bytes,
            count: starts[range.end] - starts[range.start],
            constants: words(constants)?.to_vec(),
        })
    };
    let ranges = ranges.iter().zip(&constants).map(total).collect::<Result<Vec<_>>>()?;
    let most = target.most_words();
    let totals = table::totals(&ranges, address(&results)?, most).ok_or_else(|| too_many(most))?;
    let is_captured = matches!(constants.first(), Some(Constants::Addresses(_)));
    target.launch("sums", launches, stride, |layout| source::sums(&texts, terms, layout))?;
    target.launch("totals", totals, TOTAL, |layout| source::totals(function, terms, layout, is_captured))?;
    target.used(&open)?;
    Ok(results)
}

/// A program's words in a table.
fn words(constants: &Constants) -> Result<&[u64]> {
    match constants {
        Constants::Bits(words) | Constants::Addresses(words) => Ok(words),
        Constants::Unknown => {
            let message = "a captured step has work of an optimizer whose numbers are not known ahead";
            Err(Error::argument(message).remedy(
                "call `Optimizer::update`, whose transformation computes with tensors alone in `Updates::each_step`",
            ))
        }
    }
}

fn too_many(most: usize) -> Error {
    Error::argument("the constants of a program do not fit into a launch")
        .expected(format!("less than {most}"))
}

impl Target {
    /// The device of the parts, if there are any.
    fn of(parts: &[Part<'_>]) -> Result<Option<Self>> {
        let Some(first) = parts.first().and_then(|part| part.inputs.first()) else { return Ok(None) };
        let device = first.device().as_cuda_device()?.clone();
        let takes_large = compile::compute_capability(&device)? >= 70 && sys::CUDA_VERSION >= 12010;
        Ok(Some(Self { device, sizes: if takes_large { &SIZES } else { &SIZES[..2] } }))
    }

    fn most_words(&self) -> usize {
        self.sizes.last().copied().unwrap_or_default()
    }

    /// The launches over all parts, the texts of their cases, and the words of a leaf.
    fn plan(
        &self,
        open: &[Open],
        is_conditional: bool,
        text: fn(&Case<'_>) -> String,
    ) -> Result<(Vec<Launch>, Vec<String>, usize)> {
        let mut cases: HashMap<String, usize> = HashMap::new();
        let mut known: HashMap<(usize, Vec<DType>, Vec<DType>), usize> = HashMap::new();
        let (mut numbers, mut constants, mut slots) = (Vec::new(), Vec::new(), 0);
        for part in open {
            let dtypes = |tensors: &[Tensor]| tensors.iter().map(Tensor::dtype).collect::<Vec<_>>();
            let (program, inputs, leaves) = (&*part.program, dtypes(&part.inputs), dtypes(&part.variables));
            let key = (std::ptr::from_ref(program).addr(), inputs.clone(), leaves.clone());
            numbers.push(*known.entry(key).or_insert_with(|| {
                let (has_output, scalars) = (part.output.is_some(), part.scalars.len());
                let case = Case { program, inputs, leaves, has_output, scalars, is_conditional };
                slots = slots.max(case.slots());
                let next = cases.len();
                *cases.entry(text(&case)).or_insert(next)
            }));
            constants.push(words(&program.constants)?);
        }
        let rows = open.iter().zip(numbers).zip(constants).map(|((part, case), constants)| {
            Ok(Row { case, len: part.len(), constants, addresses: part.addresses()? })
        });
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let (stride, most) = (stride(slots), self.most_words());
        let launches = launches(&rows, stride, most).ok_or_else(|| too_many(most))?;
        let mut texts = vec![String::new(); cases.len()];
        cases.into_iter().for_each(|(text, number)| texts[number] = text);
        Ok((launches, texts, stride))
    }

    /// Runs all launches of a kernel, whose text depends on the layout of its table.
    fn launch(
        &self,
        name: &str,
        launches: Vec<Launch>,
        stride: usize,
        text: impl Fn(Layout) -> String,
    ) -> Result<()> {
        let mut functions = Vec::with_capacity(launches.len());
        for launch in &launches {
            let fits = |size: &usize| launch.words.len() <= *size;
            let words = self.sizes.iter().copied().find(fits).unwrap_or(self.most_words());
            functions.push((words, compile::kernel(&self.device, name, &text(Layout { words, stride }))?));
        }
        for (Launch { groups, words }, (size, function)) in launches.into_iter().zip(&functions) {
            // SAFETY: rows have the addresses of tensors with as many elements as they say, and the memory for sums and results
            // has an element for each group and range. What is written is a variable without another holder, or new.
            #[expect(unsafe_code, reason = "a launch")]
            unsafe {
                match *size {
                    120 => launch::<120>(&self.device, function, groups, words)?,
                    500 => launch::<500>(&self.device, function, groups, words)?,
                    _ => launch::<4080>(&self.device, function, groups, words)?,
                }
            }
        }
        Ok(())
    }

    /// Records that tensors were used up to here, where they have events: opening one does.
    fn used(&self, open: &[Open]) -> Result<()> {
        if self.device.is_event_tracking() {
            open.iter().try_for_each(|part| part.addresses().map(drop))?;
        }
        Ok(())
    }
}

impl Open {
    /// Elements of each tensor.
    fn len(&self) -> usize {
        self.inputs.first().map_or(0, Tensor::elem_count)
    }

    /// Where the tensors are on the device.
    fn addresses(&self) -> Result<Vec<u64>> {
        let inputs = self.inputs.iter().map(address);
        let written = self.variables.iter().chain(&self.output).map(address_to_write);
        inputs.chain(written).chain(self.scalars.iter().map(address)).collect()
    }
}
