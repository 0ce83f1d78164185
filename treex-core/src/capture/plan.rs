//! What a captured step takes from the host, for the steps to come: random keys, and the numbers of an optimizer. A kernel reads
//! such a word from memory, at the address of its *column*; a *row* has the words of all columns in one step.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use candle_core::Tensor;
use treex_kernels::expression::Source;

use super::columns::{Column, Columns, MOST_WORDS};
use super::conditions::{ConditionMemory, Conditions, Count};
use super::keys::{Keys, Next, Root};
use super::phase::{Phase, phase, set_phase};
use crate::error::{Error, ErrorKind, Result};
use crate::random::{Key, log};
use crate::tensors::same_bits;
use crate::tree::handle::Handle;
use crate::tree::object::TreeObject;
use crate::tree::walk::walk;

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// The plan of a step while it is recorded.
#[derive(Debug)]
pub(super) struct Plan {
    /// How many steps are looked ahead, with the one that is recorded.
    steps: usize,
    memory: Memory,
    /// The columns of every step, then those of the steps that each condition lets through.
    columns: Vec<Columns>,
    keys: Keys,
    /// For each optimizer, how often it is called in a step.
    calls: Vec<usize>,
    /// By cell, what leaves on the host hold behind this and later calls of an optimizer.
    held: HashMap<usize, Held>,
    /// The programs of the optimizer's call, in order.
    programs: VecDeque<Program>,
    /// Those of one step, while an optimizer looks ahead.
    found: Vec<Found>,
    pub(super) conditions: Conditions,
}

/// Memory of a recording, on its device.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// The address of the columns: [`MOST_WORDS`] of every step, then as many of each condition.
    pub(super) columns: u64,
    /// A tensor of one `F64` number, in the place of what is not computed.
    pub(super) scalar: Tensor,
    pub(super) conditions: ConditionMemory,
}

/// Values of a leaf behind calls of an optimizer.
#[derive(Clone, Debug)]
pub(super) struct Held {
    optimizer: usize,
    /// The condition under which it is called, from 1; 0 for none.
    condition: usize,
    values: Arc<[Tensor]>,
    /// Lives as long as this, so that its cell is that of no other leaf.
    _leaf: Handle,
}

/// A program that an optimizer told of.
#[derive(Debug)]
struct Found {
    source: Source,
    is_wide: bool,
    condition: usize,
}

/// The form of a program, and the columns of its constants.
#[derive(Debug)]
struct Program {
    form: (String, Vec<String>),
    addresses: Vec<u64>,
}

/// The constants of a program: their bits, or in a captured step the addresses of their columns.
#[derive(Clone, Debug)]
pub(crate) enum Constants {
    Bits(Vec<u64>),
    Addresses(Vec<u64>),
    /// A step is captured, and its optimizer did not tell.
    Unknown,
}

impl Plan {
    /// A plan for so many steps.
    pub(super) fn new(steps: usize, memory: Memory, roots: Vec<Option<Root>>) -> Self {
        Self {
            steps,
            columns: vec![Columns::new(memory.columns)],
            conditions: Conditions::new(memory.conditions.clone()),
            memory,
            keys: Keys::new(roots),
            calls: Vec::new(),
            held: HashMap::new(),
            programs: VecDeque::new(),
            found: Vec::new(),
        }
    }

    /// The address of a column under a condition.
    fn address(&mut self, condition: usize, column: Column) -> u64 {
        while self.columns.len() <= condition {
            let first = self.columns_of(self.columns.len());
            self.columns.push(Columns::new(first));
        }
        self.columns[condition].address(column)
    }

    /// The address of the columns under a condition.
    pub(super) fn columns_of(&self, condition: usize) -> u64 {
        self.memory.columns + 8 * (condition * MOST_WORDS) as u64
    }

    /// How what a leaf on the host holds goes on, if `value` is what it holds behind this step, in this cell.
    pub(super) fn goes_on(&self, leaf: usize, cell: usize, held: Option<&Root>) -> Option<GoesOn> {
        if let Some(count) = self.conditions.count(cell) {
            return Some(GoesOn::Counted(count));
        }
        if let Some(held) = self.held.get(&cell) {
            let condition = self.conditions.of(cell).unwrap_or(held.condition);
            return Some(GoesOn::Ahead(Held { condition, ..held.clone() }));
        }
        self.keys.next(leaf, held?).map(GoesOn::Key)
    }

    /// The rows of the step that was recorded and of later ones, and what the leaves on the host hold behind each. At most as many
    /// as were looked ahead.
    pub(super) fn rows(&self, leaves: &[Option<GoesOn>]) -> Result<Rows> {
        self.columns.iter().try_for_each(Columns::check)?;
        let mut steps = self.steps;
        let mut bound = |optimizer: usize, known: usize| {
            steps = steps.min((known - 1) / self.calls[optimizer] + 1);
        };
        for column in self.columns.iter().flat_map(Columns::iter) {
            if let Column::Ahead(optimizer, words) = column {
                bound(*optimizer, words.len());
            }
        }
        for leaf in leaves.iter().flatten() {
            if let GoesOn::Ahead(held) = leaf {
                bound(held.optimizer, held.values.len());
            }
        }
        let next: Vec<_> = leaves
            .iter()
            .map(|leaf| if let Some(GoesOn::Key(next)) = leaf { Some(*next) } else { None })
            .collect();
        let keys = self.keys.ahead(steps, &next)?;
        let word = |step: usize, column: &Column| match column {
            Column::Key(number) => packed(keys[step].keys[*number]),
            Column::Ahead(optimizer, words) => words[step * self.calls[*optimizer]],
        };
        let row = |columns: &Columns, step| columns.iter().map(|column| word(step, column)).collect();
        let words = self.columns.iter().map(|columns| (0..steps).map(|step| row(columns, step)).collect());
        let mut held = Vec::new();
        for (number, leaf) in leaves.iter().enumerate() {
            let goes_on = match leaf {
                None => continue,
                Some(GoesOn::Counted(count)) => Sequence::Counted(*count),
                Some(GoesOn::Ahead(ahead)) => Sequence::Values {
                    condition: ahead.condition,
                    values: (0..steps)
                        .map(|step| ahead.values[step * self.calls[ahead.optimizer]].clone())
                        .collect(),
                },
                Some(GoesOn::Key(_)) => {
                    let behind = keys.iter().filter_map(|step| step.held[number].as_ref());
                    Sequence::Values {
                        condition: 0,
                        values: behind.map(Root::to_tensor).collect::<Result<_>>()?,
                    }
                }
            };
            held.push((number, goes_on));
        }
        Ok(Rows { steps, words: words.collect(), held })
    }
}

/// How what a leaf on the host holds goes on from step to step.
#[derive(Clone, Debug)]
pub(super) enum GoesOn {
    Key(Next),
    Ahead(Held),
    Counted(Count),
}

/// The steps of a recording.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) steps: usize,
    /// The words of each step: those of every step, then those of each condition.
    pub(super) words: Vec<Vec<Vec<u64>>>,
    /// What leaves on the host hold, by their numbers in order.
    pub(super) held: Vec<(usize, Sequence)>,
}

impl Rows {
    /// What `next`, the rows of the step behind the first one, has that does not follow from these.
    pub(super) fn difference(&self, next: &Self) -> Option<&'static str> {
        let same_words = |(these, next): (&Vec<Vec<u64>>, &Vec<Vec<u64>>)| these.get(1) == next.first();
        if self.words.len() != next.words.len() || !self.words.iter().zip(&next.words).all(same_words) {
            return Some("another random key, or another number of the optimizer");
        }
        let is_same = |((a, these), (b, next)): (&(usize, Sequence), &(usize, Sequence))| {
            a == b
                && match (these, next) {
                    (Sequence::Values { values: these, .. }, Sequence::Values { values: next, .. }) => {
                        these.get(1).zip(next.first()).is_some_and(|(a, b)| same_bits(a, b))
                    }
                    (Sequence::Counted(these), Sequence::Counted(next)) => these == next,
                    _ => false,
                }
        };
        let is_same = self.held.len() == next.held.len() && self.held.iter().zip(&next.held).all(is_same);
        (!is_same).then_some("another value on the host")
    }
}

/// What a leaf on the host holds.
#[derive(Debug)]
pub(super) enum Sequence {
    /// Behind each step that a condition lets through; 0 is no condition.
    Values { condition: usize, values: Vec<Tensor> },
    /// What the device counts.
    Counted(Count),
}

/// The two words of a key in one, the first below.
fn packed(key: Key) -> u64 {
    let [low, high] = key.words().map(u64::from);
    low | high << 32
}

/// Records a step with a plan, and gives that back.
pub(super) fn recording<R>(plan: Plan, f: impl FnOnce() -> Result<R>) -> (Result<R>, Plan) {
    /// Leaves nothing behind, after a panic too.
    struct End;

    impl Drop for End {
        fn drop(&mut self) {
            set_phase(Phase::Outside);
            log::stop();
            PLAN.take();
        }
    }

    let spare = Plan::new(0, plan.memory.clone(), Vec::new());
    PLAN.set(Some(plan));
    set_phase(Phase::Recording);
    log::start();
    let end = End;
    let result = f();
    let plan = with(|plan| plan.keys.read(log::take())).and_then(|()| PLAN.take());
    drop(end);
    match plan {
        Some(plan) => (result, plan),
        None => {
            let error = Error::argument("a captured step captures another one")
                .remedy("capture the outer step alone, which holds the trees of both");
            (Err(error), spare)
        }
    }
}

/// Runs `f` with the plan of the step that is recorded.
pub(super) fn with<R>(f: impl FnOnce(&mut Plan) -> R) -> Option<R> {
    if phase() == Phase::Outside { None } else { PLAN.with_borrow_mut(|plan| plan.as_mut().map(f)) }
}

/// The words of a key for a kernel, or in a captured step the address of its column.
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "kernels have it"))]
pub(crate) fn key_word(key: Key) -> u64 {
    let address = with(|plan| {
        plan.keys.read(log::take());
        let number = plan.keys.number(key);
        plan.address(0, Column::Key(number))
    });
    address.unwrap_or_else(|| packed(key))
}

/// The constants of the optimizer's next program.
pub(crate) fn constants(source: &Source, is_wide: bool) -> Constants {
    match phase() {
        Phase::Outside => {}
        Phase::LookingAhead => {
            with(|plan| {
                let condition = plan.conditions.now();
                plan.found.push(Found { source: source.clone(), is_wide, condition });
            });
        }
        Phase::Recording => {
            let known = with(|plan| plan.programs.pop_front()).flatten();
            let known = known.filter(|program| program.form == form(source));
            return known.map_or(Constants::Unknown, |program| Constants::Addresses(program.addresses));
        }
    }
    Constants::bits(source, is_wide)
}

impl Constants {
    pub(crate) fn bits(source: &Source, is_wide: bool) -> Self {
        Self::Bits(bits(source, is_wide))
    }
}

fn form(source: &Source) -> (String, Vec<String>) {
    (source.statements.clone(), source.values.clone())
}

/// The bits of a program's constants, in the type that it computes in.
fn bits(source: &Source, is_wide: bool) -> Vec<u64> {
    let bits = |constant: &f64| match is_wide {
        true => constant.to_bits(),
        false => u64::from((*constant as f32).to_bits()),
    };
    source.constants.iter().map(bits).collect()
}

/// A scalar in the place of one that is not computed, while an optimizer looks ahead.
pub(crate) fn scalar() -> Option<Tensor> {
    with(|plan| plan.memory.scalar.clone())
}

/// What an optimizer has told of its calls; see [`look_ahead`].
#[derive(Debug)]
pub struct Ahead {
    optimizer: usize,
    values: Vec<Arc<[Tensor]>>,
}

/// For an optimizer in a captured step, before its call: `step` makes one step of what `state` holds on the host. It runs for this
/// call and for later ones, without any work of the device. `None` outside of a captured step.
///
/// # Errors
/// Those of the first call of `step`.
pub fn look_ahead<S: TreeObject>(
    state: &S,
    mut step: impl FnMut() -> Result<Vec<Tensor>>,
) -> Result<Option<Ahead>> {
    /// Back to recording, after a panic too.
    struct Back;

    impl Drop for Back {
        fn drop(&mut self) {
            set_phase(Phase::Recording);
        }
    }

    if phase() != Phase::Recording {
        return Ok(None);
    }
    let mut cells = Vec::new();
    walk(state, |_, _, leaf| cells.push(leaf.cell()));
    let derived = log::take();
    let steps = with(|plan| {
        plan.keys.read(derived);
        plan.steps
    });
    let steps = steps.unwrap_or(0);
    set_phase(Phase::LookingAhead);
    let back = Back;
    let (mut forms, mut words, mut values) =
        (Vec::new(), Vec::<Vec<Vec<u64>>>::new(), Vec::<Vec<Tensor>>::new());
    for number in 0..steps {
        with(|plan| plan.conditions.look_ahead());
        let behind = match step() {
            Ok(behind) => behind,
            Err(error) if number == 0 => return Err(error),
            Err(_) => break, // the step itself will say it
        };
        let found = with(|plan| std::mem::take(&mut plan.found)).unwrap_or_default();
        let these: Vec<_> = found.iter().map(|it| (form(&it.source), it.is_wide, it.condition)).collect();
        if number == 0 {
            forms = these;
            words = found.iter().map(|it| vec![Vec::new(); it.source.constants.len()]).collect();
            values = vec![Vec::new(); behind.len()];
        } else if forms != these || values.len() != behind.len() {
            break; // another kernel: the step is captured again
        }
        for (words, it) in words.iter_mut().zip(&found) {
            words.iter_mut().zip(bits(&it.source, it.is_wide)).for_each(|(words, word)| words.push(word));
        }
        values.iter_mut().zip(behind).for_each(|(values, value)| values.push(value));
    }
    drop(back);
    log::take(); // of steps to come
    let ahead = with(|plan| {
        let earlier = cells.iter().find_map(|cell| Some(plan.held.get(cell)?.optimizer));
        let optimizer = earlier.unwrap_or_else(|| {
            plan.calls.push(0);
            plan.calls.len() - 1
        });
        plan.calls[optimizer] += 1;
        let is_conditional = plan.conditions.now() > 0 || forms.iter().any(|(.., condition)| *condition > 0);
        if plan.calls[optimizer] > 1 && is_conditional {
            return Err(Error::argument(
                "an optimizer that steps only where a gradient is finite steps twice in one captured step",
            )
            .expected("one step")
            .remedy("capture one step at a time"));
        }
        plan.programs = VecDeque::with_capacity(forms.len());
        for ((form, _, condition), words) in forms.into_iter().zip(words) {
            let column = |words: Vec<u64>| plan.address(condition, Column::Ahead(optimizer, words.into()));
            let addresses = words.into_iter().map(column).collect();
            plan.programs.push_back(Program { form, addresses });
        }
        Ok(Ahead { optimizer, values: values.into_iter().map(Into::into).collect() })
    });
    ahead.transpose()
}

impl Ahead {
    /// Behind the call: `state` now holds what was told.
    pub fn reached<S: TreeObject>(self, state: &S) {
        with(|plan| {
            plan.programs.clear();
            let (mut values, condition) = (self.values.into_iter(), plan.conditions.now());
            walk(state, |_, _, leaf| {
                if leaf.value().is_some_and(|value| value.device().is_cpu())
                    && let Some(values) = values.next()
                {
                    let held = Held { optimizer: self.optimizer, condition, values, _leaf: leaf.clone() };
                    plan.held.insert(leaf.cell(), held);
                }
            });
        });
    }
}

/// What the leaves of `state` on the host hold.
#[must_use]
pub fn on_host<S: TreeObject>(state: &S) -> Vec<Tensor> {
    let mut values = Vec::new();
    walk(state, |_, _, leaf| values.extend(leaf.value().filter(|value| value.device().is_cpu()).cloned()));
    values
}

/// Whether a step is captured on this thread.
#[must_use]
pub fn is_capturing() -> bool {
    phase() != Phase::Outside
}

/// Whether an optimizer looks ahead: it finds the numbers of the steps to come, and runs nothing.
#[must_use]
pub fn is_looking_ahead() -> bool {
    phase() == Phase::LookingAhead
}

/// An error in a captured step for what only the host can do.
///
/// # Errors
/// In a captured step.
pub fn refuse(what: &str, instead: &str) -> Result<()> {
    if phase() == Phase::Outside {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Transfer, format!("{what} in a captured step")).remedy(instead))
}
