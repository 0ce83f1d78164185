//! The steps of recurrent cells, with the products between them, over whole sequences.

use treex_kernels::dialect::{EACH, ELEMENT};
use treex_kernels::expression::Source;
use treex_kernels::recurrent::any_cell::AnyCell;
use treex_kernels::recurrent::cell::Counts;
use treex_kernels::recurrent::operands::{Affine, Operands, Sizes};
use treex_kernels::recurrent::order::Order;
use treex_kernels::recurrent::{DIALECT, Gru, Lstm, Mgu, MguWithoutReset, Recurrent, Simple};

use super::elements::printed;
use super::{Launch, for_each_type};
use crate::element::{Element, bytes, elements, numbers};
use crate::host::{Host, Parameter, long, read, short};
use crate::layout::groups;
use crate::text::Text;

/// Cells, and whether the gates of the input and of the carry have biases.
pub(crate) const CELLS: [(AnyCell, [bool; 2]); 6] = [
    (AnyCell::Lstm(Lstm), [false, true]),
    (AnyCell::Gru(Gru), [true, true]),
    (AnyCell::Mgu(Mgu), [true, false]),
    (AnyCell::MguWithoutReset(MguWithoutReset), [true, true]),
    (AnyCell::Simple(Simple { residual: false }), [false, false]),
    (AnyCell::Simple(Simple { residual: true }), [true, true]),
];

/// Steps, sequences, features of the input, and features: more than a group has.
const TIME: usize = 3;
const ITEMS: usize = 35;
const INPUTS: usize = 4;
const FEATURES: usize = 33;
const LEN: usize = ITEMS * FEATURES;

/// Half types are rounded at each step and in each product; the CPU rounds them once.
const ROUNDINGS: f64 = 3.;

pub(super) fn check(host: &mut Host) {
    for_each_type!(check_type(host));
}

fn check_type<T: Element<Wide: Recurrent>>(host: &mut Host) {
    for (cell, has_bias) in CELLS {
        Run::<T>::new(cell, has_bias).check(host);
    }
}

/// A launch of one element type, for faults.
pub(crate) fn small() -> Launch {
    let run = Run::<f32>::new(CELLS[0].0, CELLS[0].1);
    let Counts { gates, states, of_input, of_carry } = run.counts;
    let memory = [TIME * gates, states * TIME].map(|count| bytes::<f32>(&numbers(count * LEN, 1)));
    run.step(1, &numbers(TIME * of_input * LEN, 2), &numbers(of_carry * LEN, 3), memory)
}

/// A cell and its operands.
struct Run<T> {
    cell: AnyCell,
    counts: Counts,
    x: Vec<T>,
    /// `[states, items, features]`.
    first: Vec<T>,
    /// `[inputs, features]` and `[features, features]` for each gate.
    kernels: [Vec<Vec<T>>; 2],
    /// `[gates, features]`, or empty.
    biases: [Vec<T>; 2],
}

/// The elements of one step, of those of all.
fn of_step<T>(x: &[T], step: usize) -> &[T] {
    let len = x.len() / TIME;
    &x[step * len..][..len]
}

impl<T: Element> Run<T> {
    fn new(cell: AnyCell, [has_input_bias, has_carry_bias]: [bool; 2]) -> Self {
        let counts = cell.counts();
        // Small enough that no gate is shut.
        let small =
            |len, seed| -> Vec<T> { numbers::<f64>(len, seed).into_iter().map(|x| T::of(x / 8.)).collect() };
        let kernels = |count: usize, rows: usize, seed: usize| {
            (0..count).map(|gate| small(rows * FEATURES, seed + gate)).collect::<Vec<_>>()
        };
        let bias = |has: bool, count: usize, seed| small(if has { count * FEATURES } else { 0 }, seed);
        Self {
            cell,
            counts,
            x: numbers(TIME * ITEMS * INPUTS, 1),
            first: small(counts.states * LEN, 2),
            kernels: [kernels(counts.of_input, INPUTS, 10), kernels(counts.of_carry, FEATURES, 20)],
            biases: [bias(has_input_bias, counts.of_input, 30), bias(has_carry_bias, counts.of_carry, 31)],
        }
    }

    /// `[rows, gates, features]`, of `[rows, inputs]`.
    fn products(&self, x: &[T], which: usize) -> Vec<T> {
        let kernels = &self.kernels[which];
        let inputs = kernels[0].len() / FEATURES;
        let product = |row: &[T], gate: usize, column: usize| {
            let terms =
                row.iter().enumerate().map(|(i, x)| x.exact() * kernels[gate][i * FEATURES + column].exact());
            T::of(terms.sum())
        };
        let of_row = |row: &[T]| -> Vec<T> {
            (0..kernels.len() * FEATURES).map(|at| product(row, at / FEATURES, at % FEATURES)).collect()
        };
        x.chunks_exact(inputs).flat_map(of_row).collect()
    }

    /// The gradients of `[rows, inputs]`, from those of its products.
    fn transposed(&self, gradients: &[T], which: usize) -> Vec<T> {
        let kernels = &self.kernels[which];
        let inputs = kernels[0].len() / FEATURES;
        let product = |row: &[T], input: usize| {
            let of_gate = |(kernel, gradients): (&Vec<T>, &[T])| -> f64 {
                let kernel = &kernel[input * FEATURES..][..FEATURES];
                kernel.iter().zip(gradients).map(|(a, b)| a.exact() * b.exact()).sum()
            };
            T::of(kernels.iter().zip(row.chunks_exact(FEATURES)).map(of_gate).sum())
        };
        let rows = gradients.chunks_exact(kernels.len() * FEATURES);
        rows.flat_map(|row| (0..inputs).map(move |input| product(row, input))).collect()
    }

    /// The gradients of the kernels and biases of each gate, in their order, of the rows that they were multiplied with.
    fn of_layers(&self, rows: &[T], gradients: &[T], which: usize) -> Vec<Vec<T>> {
        let (kernels, mut all) = (&self.kernels[which], Vec::new());
        let inputs = kernels[0].len() / FEATURES;
        for gate in 0..kernels.len() {
            let mut kernel = vec![0.; inputs * FEATURES];
            let mut bias = vec![0.; FEATURES];
            let of_rows = gradients.chunks_exact(kernels.len() * FEATURES);
            for (row, gradients) in rows.chunks_exact(inputs).zip(of_rows) {
                for (column, gradient) in gradients[gate * FEATURES..][..FEATURES].iter().enumerate() {
                    bias[column] += gradient.exact();
                    for (input, x) in row.iter().enumerate() {
                        kernel[input * FEATURES + column] += x.exact() * gradient.exact();
                    }
                }
            }
            all.push(kernel.into_iter().map(T::of).collect());
            if !self.biases[which].is_empty() {
                all.push(bias.into_iter().map(T::of).collect());
            }
        }
        all
    }

    fn text(&self, is_backward: bool, defines: &[(&'static str, usize)]) -> Text {
        let source = Source::of(&if is_backward { self.cell.traced_gradient() } else { self.cell.traced() });
        let body = printed(DIALECT, &source);
        let defines = [&of_counts(self.counts)[..], &[("IS_BACKWARD", is_backward.into())], defines].concat();
        Text::of_element(T::NAME, &[ELEMENT, EACH, &body], &defines)
    }

    /// From what gates and carries hold before it.
    fn step(&self, step: usize, of_input: &[T], of_carry: &[T], [gates, carries]: [Vec<u8>; 2]) -> Launch {
        let [input_bias, carry_bias] = &self.biases;
        let flags = [("HAS_INPUT_BIAS", input_bias), ("HAS_CARRY_BIAS", carry_bias)]
            .map(|(name, bias)| (name, usize::from(!bias.is_empty())));
        let mut parameters =
            vec![read(of_input), read(of_carry), read(input_bias), read(carry_bias), read(&self.first)];
        parameters.extend([gates, carries].map(Parameter::Write));
        parameters.extend([long(LEN), short(FEATURES), long(step), long(TIME)]);
        Launch { text: self.text(false, &flags), name: "recurrent_step", groups: groups(LEN), parameters }
    }
}

impl<T: Element<Wide: Recurrent>> Run<T> {
    fn check(&self, host: &mut Host) {
        let Counts { gates: gate_count, states, .. } = self.counts;
        let name = self.cell.name();
        let dy: Vec<T> = numbers(TIME * LEN, 3);
        let dlast: Vec<T> = numbers(states * LEN, 4);
        let (y, last, gradients) = self.on_the_cpu(&dy, &dlast);

        let of_input = self.products(&self.x, 0);
        let new = |len: usize| vec![0xff; len * T::SIZE];
        let (mut gates, mut carries) = (new(TIME * gate_count * LEN), new(states * TIME * LEN));
        let mut before = self.first[(states - 1) * LEN..].to_vec();
        let mut outputs = Vec::new();
        for step in 0..TIME {
            outputs.extend(before.clone());
            let products = self.products(&before, 1);
            let launch = self.step(step, &of_input, &products, [gates, carries]);
            [gates, carries] = launch.run(host).try_into().unwrap();
            let all: Vec<T> = elements(&carries);
            before = of_step(&all[(states - 1) * TIME * LEN..], step).to_vec();
        }
        let all: Vec<T> = elements(&carries);
        host.near_overall(&format!("outputs of `{name}`"), &all[(states - 1) * TIME * LEN..], &y, ROUNDINGS);
        for (state, last) in last.iter().enumerate() {
            let found = of_step(&all[state * TIME * LEN..][..TIME * LEN], TIME - 1);
            host.near_overall(&format!("the carry of `{name}`"), found, last, ROUNDINGS);
        }

        let found = self.backward(host, [gates, carries], &dy, &dlast, &outputs);
        assert_eq!(found.len(), gradients.len());
        for (number, (found, expected)) in found.iter().zip(&gradients).enumerate() {
            host.near_overall(&format!("gradient {number} of `{name}`"), found, expected, ROUNDINGS);
        }
    }

    /// The gradients of all operands, in their order.
    fn backward(
        &self,
        host: &mut Host,
        [gates, carries]: [Vec<u8>; 2],
        dy: &[T],
        dlast: &[T],
        outputs: &[T],
    ) -> Vec<Vec<T>> {
        let Counts { states, of_input, of_carry, .. } = self.counts;
        // The gradient of the last of two tensors is in the carry, and that of the first one among those of all steps.
        let mut dcarry = dlast.to_vec();
        let mut all = [vec![], dy.to_vec()];
        if states == 2 {
            dcarry[..LEN].fill(T::of(0.));
            all[0] = vec![T::of(0.); TIME * LEN];
            all[0][(TIME - 1) * LEN..].copy_from_slice(&dlast[..LEN]);
        } else {
            all.swap(0, 1);
        }
        let has_all = if states == 2 { 3 } else { 1 };
        let new = |count: usize| vec![0xff; TIME * count * LEN * T::SIZE];
        let mut written = vec![bytes(&dcarry), new(of_input), new(of_carry)];
        let mut products = None;
        for step in (0..TIME).rev() {
            let text = self.text(true, &[("HAS_PRODUCT", products.is_some().into()), ("HAS_ALL", has_all)]);
            let mut parameters = [&gates, &carries].map(|x| Parameter::Read(x.clone())).to_vec();
            parameters.extend([read(&self.first), read(products.as_deref().unwrap_or_default())]);
            parameters.extend(all.iter().map(|all| read(all)));
            parameters.extend(written.into_iter().map(Parameter::Write));
            parameters.extend([long(LEN), short(FEATURES), long(step), long(TIME)]);
            let name = "recurrent_step_backward";
            written = Launch { text, name, groups: groups(LEN), parameters }.run(host);
            let dstep: Vec<T> = elements(&written[2]);
            products = Some(self.transposed(of_step(&dstep, step), 1));
        }
        let [mut dcarry, dinput, dstep]: [Vec<T>; 3] =
            written.iter().map(|x| elements(x)).collect::<Vec<_>>().try_into().unwrap();
        for (to, product) in dcarry[(states - 1) * LEN..].iter_mut().zip(products.unwrap()) {
            *to = T::of(to.exact() + product.exact());
        }
        let mut found = vec![self.transposed(&dinput, 0)];
        found.extend(dcarry.chunks_exact(LEN).map(<[T]>::to_vec));
        found.extend(self.of_layers(&self.x, &dinput, 0));
        found.extend(self.of_layers(outputs, &dstep, 1));
        found
    }

    /// Outputs, the last carry, and the gradients of all operands.
    fn on_the_cpu(&self, dy: &[T], dlast: &[T]) -> (Vec<T>, Vec<Vec<T>>, Vec<Vec<T>>) {
        let wide = |x: &[T]| x.iter().map(|x| x.widen()).collect::<Vec<_>>();
        let narrow = |x: &[T::Wide]| x.iter().map(|x| T::narrow(*x)).collect::<Vec<T>>();
        let layers = |which: usize| {
            let biases = &self.biases[which];
            let layer = |(gate, kernel): (usize, &Vec<T>)| Affine {
                kernel: wide(kernel),
                bias: (!biases.is_empty()).then(|| wide(&biases[gate * FEATURES..][..FEATURES])),
            };
            self.kernels[which].iter().enumerate().map(layer).collect()
        };
        let operands = Operands {
            x: wide(&self.x),
            carry: self.first.chunks_exact(LEN).map(wide).collect(),
            of_input: layers(0),
            of_carry: layers(1),
        };
        let order = Order {
            time: TIME,
            items: ITEMS,
            time_major: true,
            reverse: false,
            keep_order: false,
            lengths: None,
        };
        let sizes = Sizes { order, inputs: INPUTS, features: FEATURES };
        let operands = operands.as_slices();
        let forward = T::Wide::recurrent(self.cell, &sizes, &operands, true).unwrap();
        let cotangents: Vec<_> = [wide(dy)].into_iter().chain(dlast.chunks_exact(LEN).map(wide)).collect();
        let cotangents: Vec<_> = cotangents.iter().map(|x| Some(x.as_slice())).collect();
        let wanted = vec![true; operands.iter().count()];
        let gradients =
            T::Wide::recurrent_backward(self.cell, &sizes, &operands, &forward.saved, &cotangents, &wanted);
        let gradients = gradients.unwrap().into_iter().map(|x| narrow(&x.unwrap())).collect();
        (narrow(&forward.y), forward.carry.iter().map(|x| narrow(x)).collect(), gradients)
    }
}

/// What the text leaves open of a cell.
pub(crate) fn of_counts(counts: Counts) -> [(&'static str, usize); 4] {
    let Counts { gates, states, of_input, of_carry } = counts;
    [("GATES", gates), ("STATES", states), ("FROM_INPUT", gates - of_input), ("FROM_CARRY", of_carry)]
}
