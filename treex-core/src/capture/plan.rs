//! What a captured step takes from the host, for the steps to come: random keys, and the numbers of an optimizer. A kernel reads
//! such a word from memory, at the address of its *column*; a *row* has the words of all columns in one step.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use candle_core::Tensor;
use treex_kernels::expression::Source;

use super::keys::{Keys, Next, Root};
use super::phase::{Phase, phase, set_phase};
use crate::error::{Error, ErrorKind, Result};
use crate::random::{Key, log};
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
    /// The address of the first column, and the most of them.
    first: u64,
    most: usize,
    /// A tensor of one `F64` number, in the place of what is not computed.
    scalar: Option<Tensor>,
    columns: Vec<Column>,
    numbers: HashMap<Column, usize>,
    keys: Keys,
    /// For each optimizer, how often it is called in a step.
    calls: Vec<usize>,
    /// By cell, what leaves on the host hold behind this and later calls of an optimizer.
    held: HashMap<usize, Held>,
    /// The programs of the optimizer's call, in order.
    programs: VecDeque<Program>,
    /// Those of one step, while an optimizer looks ahead.
    found: Vec<(Source, bool)>,
}

/// A word that is another one in each step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Column {
    /// The key of this number.
    Key(usize),
    /// That of this and later calls of an optimizer, whose number comes first.
    Ahead(usize, Arc<[u64]>),
}

/// Values of a leaf behind calls of an optimizer.
#[derive(Clone, Debug)]
pub(super) struct Held {
    optimizer: usize,
    values: Arc<[Tensor]>,
    /// Lives as long as this, so that its cell is that of no other leaf.
    _leaf: Handle,
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
    /// A plan for so many steps, whose columns start at an address.
    pub(super) fn new(
        steps: usize,
        first: u64,
        most: usize,
        scalar: Option<Tensor>,
        roots: Vec<Option<Root>>,
    ) -> Self {
        Self {
            steps,
            first,
            most,
            scalar,
            columns: Vec::new(),
            numbers: HashMap::new(),
            keys: Keys::new(roots),
            calls: Vec::new(),
            held: HashMap::new(),
            programs: VecDeque::new(),
            found: Vec::new(),
        }
    }

    /// The address of a column.
    fn address(&mut self, column: Column) -> u64 {
        let next = self.columns.len();
        let number = *self.numbers.entry(column.clone()).or_insert(next);
        if number == next {
            self.columns.push(column);
        }
        self.first + 8 * number as u64
    }

    /// Whether all columns have memory.
    pub(super) fn check(&self) -> Result<()> {
        if self.columns.len() <= self.most {
            return Ok(());
        }
        Err(Error::argument("a captured step takes more numbers from the host than there is room for")
            .expected(format!("at most {}", self.most))
            .found(self.columns.len())
            .remedy("give fewer leaves rules of their own, or run the step without `capture`"))
    }

    /// How what a leaf on the host holds goes on, if `value` is what it holds behind this step, in this cell.
    pub(super) fn goes_on(&self, leaf: usize, cell: usize, held: Option<&Root>) -> Option<GoesOn> {
        if let Some(held) = self.held.get(&cell) {
            return Some(GoesOn::Ahead(held.clone()));
        }
        self.keys.next(leaf, held?).map(GoesOn::Key)
    }

    /// The rows of the step that was recorded and of later ones, and behind each what the leaves on the host hold. At most as many
    /// as were looked ahead.
    pub(super) fn rows(&self, leaves: &[Option<GoesOn>]) -> Result<Vec<Row>> {
        let mut steps = self.steps;
        let mut bound = |optimizer: usize, known: usize| {
            steps = steps.min((known - 1) / self.calls[optimizer] + 1);
        };
        for column in &self.columns {
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
        let rows = self.keys.ahead(steps, &next)?.into_iter().enumerate();
        rows.map(|(step, keys)| {
            let word = |column: &Column| match column {
                Column::Key(number) => packed(keys.keys[*number]),
                Column::Ahead(optimizer, words) => words[step * self.calls[*optimizer]],
            };
            let mut held = Vec::new();
            for (number, (leaf, root)) in leaves.iter().zip(&keys.held).enumerate() {
                held.extend(match (leaf, root) {
                    (Some(GoesOn::Ahead(ahead)), _) => {
                        Some((number, ahead.values[step * self.calls[ahead.optimizer]].clone()))
                    }
                    (Some(GoesOn::Key(_)), Some(Root::Key(key))) => Some((number, key.to_tensor()?)),
                    (Some(GoesOn::Key(_)), Some(Root::Stream(position))) => {
                        Some((number, position.to_tensor()?))
                    }
                    _ => None,
                });
            }
            Ok(Row { words: self.columns.iter().map(word).collect(), held })
        })
        .collect()
    }
}

/// How what a leaf on the host holds goes on from step to step.
#[derive(Clone, Debug)]
pub(super) enum GoesOn {
    Key(Next),
    Ahead(Held),
}

/// The words of a step, and what leaves on the host hold behind it, by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) words: Vec<u64>,
    pub(super) held: Vec<(usize, Tensor)>,
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
            (Err(error), Plan::new(0, 0, 0, None, Vec::new()))
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
        plan.address(Column::Key(number))
    });
    address.unwrap_or_else(|| packed(key))
}

/// The constants of the optimizer's next program.
pub(crate) fn constants(source: &Source, is_wide: bool) -> Constants {
    match phase() {
        Phase::Outside => {}
        Phase::LookingAhead => {
            with(|plan| plan.found.push((source.clone(), is_wide)));
        }
        Phase::Recording => {
            let known = with(|plan| plan.programs.pop_front()).flatten();
            let known = known.filter(|program| program.form == form(source));
            return known.map_or(Constants::Unknown, |program| Constants::Addresses(program.addresses));
        }
    }
    Constants::Bits(bits(source, is_wide))
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
    with(|plan| plan.scalar.clone()).flatten()
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
        let behind = match step() {
            Ok(behind) => behind,
            Err(error) if number == 0 => return Err(error),
            Err(_) => break, // the step itself will say it
        };
        let found = with(|plan| std::mem::take(&mut plan.found)).unwrap_or_default();
        let these: Vec<_> = found.iter().map(|(source, is_wide)| (form(source), *is_wide)).collect();
        if number == 0 {
            forms = these;
            words = found.iter().map(|(source, _)| vec![Vec::new(); source.constants.len()]).collect();
            values = vec![Vec::new(); behind.len()];
        } else if forms != these || values.len() != behind.len() {
            break; // another kernel: the step is captured again
        }
        for (words, (source, is_wide)) in words.iter_mut().zip(&found) {
            words.iter_mut().zip(bits(source, *is_wide)).for_each(|(words, word)| words.push(word));
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
        plan.programs = VecDeque::with_capacity(forms.len());
        for ((form, _), words) in forms.into_iter().zip(words) {
            let column = |words: Vec<u64>| plan.address(Column::Ahead(optimizer, words.into()));
            let addresses = words.into_iter().map(column).collect();
            plan.programs.push_back(Program { form, addresses });
        }
        Ahead { optimizer, values: values.into_iter().map(Into::into).collect() }
    });
    Ok(ahead)
}

impl Ahead {
    /// Behind the call: `state` now holds what was told.
    pub fn reached<S: TreeObject>(self, state: &S) {
        with(|plan| {
            plan.programs.clear();
            let mut values = self.values.into_iter();
            walk(state, |_, _, leaf| {
                if leaf.value().is_some_and(|value| value.device().is_cpu())
                    && let Some(values) = values.next()
                {
                    let held = Held { optimizer: self.optimizer, values, _leaf: leaf.clone() };
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
