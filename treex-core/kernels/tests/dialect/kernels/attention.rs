//! The weights of attention, and the gradient of its scores.
//!
//! The CPU's kernel never writes them down. Here its queries, and the gradients of its outputs, are unit vectors: scores are then the
//! keys, the gradients of weights are the values, and what it returns for both are the gradients of scores, and the weights.

use treex_kernels::attention::{Attention, DIALECT, Inputs, Modifiers, Sizes, StridedView};
use treex_kernels::dialect::{ELEMENT, ROWS, THREEFRY};
use treex_kernels::random::bernoulli::Bernoulli;
use treex_kernels::random::threefry::block;

use super::{Launch, for_each_type};
use crate::element::{Element, elements, numbers};
use crate::host::{Host, Parameter, long, read, real, short, write};
use crate::layout::Rows;
use crate::text::Text;

const KEY: [u32; 2] = [7, 9];

/// The factor of weights that are kept, exact in every type.
const FACTOR: f32 = 1.25;

pub(super) fn check(host: &mut Host) {
    for_each_type!(check_type(host));
}

/// What is done to scores `[examples, heads, queries, keys]`: all of it, or nothing but what is causal.
#[derive(Clone, Copy)]
struct Case {
    shape: [usize; 4],
    /// Strides of bias and mask; `None` without adjustments.
    strides: Option<[[usize; 4]; 2]>,
    is_causal: bool,
    is_shared: bool,
}

/// Several rows for a warp, one, one for a group, and one of more elements than are kept; bias and mask of each row, of each column,
/// of each element, and in other orders.
const CASES: [Case; 5] = [
    Case {
        shape: [2, 3, 11, 3],
        strides: Some([[9, 3, 0, 1], [0, 0, 3, 1]]),
        is_causal: true,
        is_shared: false,
    },
    Case { shape: [1, 2, 5, 33], strides: None, is_causal: true, is_shared: false },
    Case {
        shape: [2, 2, 7, 33],
        strides: Some([[7, 0, 1, 0], [7 * 33, 0, 1, 7]]),
        is_causal: false,
        is_shared: true,
    },
    Case {
        shape: [2, 2, 3, 515],
        strides: Some([[0, 3, 1, 6], [1545, 0, 515, 1]]),
        is_causal: false,
        is_shared: false,
    },
    Case {
        shape: [1, 2, 2, 4100],
        strides: Some([[0, 4100, 0, 1], [0, 0, 4100, 1]]),
        is_causal: false,
        is_shared: true,
    },
];

fn check_type<T: Element + Attention>(host: &mut Host) {
    CASES.iter().for_each(|case| case.check::<T>(host));
}

/// A launch of one element type, for faults.
pub(crate) fn small() -> Launch {
    let case = CASES[0];
    let scores = numbers(case.len(), 1);
    case.weights::<f32>(&scores, 0, case.matrices(), true)
}

impl Case {
    fn matrices(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn check<T: Element + Attention>(&self, host: &mut Host) {
        let (scores, gradient): (Vec<T>, Vec<T>) = (numbers(self.len(), 1), numbers(self.len(), 2));
        let [weights, _] = self.on_the_cpu(&scores, &gradient, false);
        let [dropped, dscores] = self.on_the_cpu(&scores, &gradient, true);
        let dropped = if self.strides.is_some() { dropped } else { Vec::new() };
        // All heads at once, and in two parts.
        for blocks in [vec![0, self.matrices()], vec![0, 1, self.matrices()]] {
            let mut found = [(); 3].map(|()| Vec::new());
            for block in blocks.windows(2) {
                let count = block[1] - block[0];
                let launch = self.weights(&scores, block[0], count, true);
                let written = launch.run(host);
                let launch = self.gradient::<T>(&written[0], &gradient, block[0], count);
                let all = [&written[0], &written[1], &launch.run(host)[0]];
                found.iter_mut().zip(all).for_each(|(to, from)| to.extend(elements::<T>(from)));
                // Without dropout: the same weights.
                let without = self.weights(&scores, block[0], count, false).run(host);
                host.equal("weights without dropout", &without[0], &written[0]);
            }
            host.near_overall("weights", &found[0], &weights, 1.);
            host.near_overall("weights after dropout", &found[1], &dropped, 1.);
            // The CPU rounds the output that it adds up the gradients of a row from, and here the weights were rounded.
            host.near_overall("the gradient of scores", &found[2], &dscores, 2.);
        }
    }

    /// The index of an element in memory of these strides.
    fn strided(&self, at: usize, strides: [usize; 4]) -> usize {
        let [_, heads, queries, keys] = self.shape;
        let index =
            [at / keys / queries / heads, at / keys / queries % heads, at / keys % queries, at % keys];
        index.iter().zip(strides).map(|(index, stride)| index * stride).sum()
    }

    /// Memory with these strides.
    fn memory_len(&self, strides: [usize; 4]) -> usize {
        self.strided(self.len() - 1, strides) + 1
    }

    fn bias<T: Element>(&self) -> Vec<T> {
        self.strides.map_or(Vec::new(), |[strides, _]| numbers(self.memory_len(strides), 3))
    }

    /// A key of three is masked, and all of each row for some strides.
    fn mask(&self) -> Vec<u8> {
        let len = self.strides.map_or(0, |[_, strides]| self.memory_len(strides));
        (0..len).map(|at| u8::from(at % 3 != 1 && (at < len / 4 || at >= len / 2))).collect()
    }

    fn kept() -> Bernoulli {
        Bernoulli::new(0.8)
    }

    /// The weights after dropout, and the gradients of the scores.
    fn on_the_cpu<T: Element + Attention>(
        &self,
        scores: &[T],
        gradient: &[T],
        has_dropout: bool,
    ) -> [Vec<T>; 2] {
        let [batch, heads, queries, keys] = self.shape;
        let sizes =
            Sizes { batch, queries, keys, heads, kv_heads: heads, depth: queries, value_depth: queries };
        let units: Vec<T> =
            (0..queries * queries).map(|at| T::of(f64::from(u8::from(at % (queries + 1) == 0)))).collect();
        let unit = StridedView::new(&units, vec![0; batch], [queries, 0, 1]);
        let item = |size: usize| (0..batch).map(|at| at * size).collect::<Vec<_>>();
        let (key, value) = (self.by_key(scores), self.by_key(gradient));
        let of_keys = |x| StridedView::new(x, item(keys * heads * queries), [heads * queries, queries, 1]);

        // Bias and mask with all elements.
        let all = |strides| (0..self.len()).map(move |at| self.strided(at, strides));
        let bias = self.strides.map(|[strides, _]| {
            let bias = self.bias::<T>();
            all(strides).map(|at| bias[at]).collect::<Vec<_>>()
        });
        let mask = self.strides.map(|[_, strides]| {
            let mask = self.mask();
            all(strides).map(|at| mask[at]).collect::<Vec<_>>()
        });
        let head = queries * keys;
        let drawn = |at: usize| Self::kept().sample(block(KEY, at as u64)).into();
        let kept: Vec<u8> =
            (0..self.len()).map(|at| drawn(if self.is_shared { at % head } else { at })).collect();
        let modifiers = Modifiers {
            bias: bias.as_deref().map(|bias| self.of_scores(bias)),
            mask: mask.as_deref().map(|mask| self.of_scores(mask)),
            causal: self.is_causal,
            dropout: (has_dropout && self.strides.is_some()).then(|| (self.of_scores(&kept), FACTOR)),
        };
        let inputs =
            Inputs { sizes, query: unit.clone(), key: of_keys(&key), value: of_keys(&value), modifiers };
        let (y, statistics) = T::attention(&inputs).unwrap();
        let y = StridedView::new(&y, item(queries * heads * queries), [heads * queries, queries, 1]);
        let [_, dkey, dvalue] =
            T::attention_backward(&inputs, &statistics, &y, &unit, [false, true, true]).unwrap();
        [self.by_head(&dvalue), self.by_head(&dkey)]
    }

    fn of_scores<'x, T>(&self, x: &'x [T]) -> StridedView<'x, T> {
        let [batch, heads, queries, keys] = self.shape;
        let offsets = (0..batch).map(|item| item * heads * queries * keys).collect();
        StridedView::new(x, offsets, [queries * keys, keys, 1])
    }

    /// From `[examples, heads, queries, keys]` to `[examples, keys, heads, queries]`.
    fn by_key<T: Copy>(&self, x: &[T]) -> Vec<T> {
        let [batch, heads, queries, keys] = self.shape;
        let strides = [heads * queries * keys, 1, queries * keys, keys];
        let turned = Self { shape: [batch, keys, heads, queries], ..*self };
        (0..x.len()).map(|at| x[turned.strided(at, strides)]).collect()
    }

    /// And back.
    fn by_head<T: Copy>(&self, x: &[T]) -> Vec<T> {
        let [_, heads, queries, keys] = self.shape;
        let strides = [heads * queries * keys, queries, 1, heads * queries];
        (0..x.len()).map(|at| x[self.strided(at, strides)]).collect()
    }

    /// The rows of so many heads.
    fn rows(&self, count: usize) -> Rows {
        let [.., queries, keys] = self.shape;
        Rows::new(count * queries, keys)
    }

    fn text<T: Element>(&self, rows: Rows, has_dropout: bool) -> Text {
        let has = self.strides.is_some();
        let defines = rows.defines([
            ("HAS_BIAS", has),
            ("HAS_MASK", has),
            ("IS_CAUSAL", self.is_causal),
            ("HAS_DROPOUT", has && has_dropout),
            ("IS_SHARED", self.is_shared),
            ("IS_CAPTURED", false),
        ]);
        Text::of_element(T::NAME, &[ELEMENT, ROWS, THREEFRY, DIALECT], &defines)
    }

    /// The elements of some heads.
    fn part<'x, T>(&self, x: &'x [T], first: usize, count: usize) -> &'x [T] {
        let [.., queries, keys] = self.shape;
        &x[first * queries * keys..][..count * queries * keys]
    }

    fn weights<T: Element>(&self, scores: &[T], first: usize, count: usize, has_dropout: bool) -> Launch {
        let scores = self.part(scores, first, count);
        let rows = self.rows(count);
        let len = if has_dropout && self.strides.is_some() { scores.len() } else { 0 };
        let mut parameters = vec![read(scores), read(&self.bias::<T>()), read(&self.mask())];
        parameters.extend([write::<T>(scores.len()), write::<T>(len)]);
        parameters.extend(self.values::<T>(rows, first, 2));
        Launch {
            text: self.text::<T>(rows, has_dropout),
            name: "attention_weights",
            groups: rows.groups(),
            parameters,
        }
    }

    fn gradient<T: Element>(&self, weights: &[u8], gradient: &[T], first: usize, count: usize) -> Launch {
        let gradient = self.part(gradient, first, count);
        let rows = self.rows(count);
        let weights = Parameter::Read(weights.to_vec());
        let mut parameters = vec![weights, read(gradient), read(&self.mask()), write::<T>(gradient.len())];
        parameters.extend(self.values::<T>(rows, first, 1));
        Launch {
            text: self.text::<T>(rows, true),
            name: "attention_gradient",
            groups: rows.groups(),
            parameters,
        }
    }

    /// What is no memory, with the strides of bias and mask, or of the mask alone.
    fn values<T: Element>(&self, rows: Rows, first: usize, strided: usize) -> Vec<Parameter> {
        let [_, heads, queries, _] = self.shape;
        let strides = self.strides.unwrap_or_default();
        let mut values = rows.values().to_vec();
        values.extend([long(first), short(heads), short(queries)]);
        values.extend(strides[2 - strided..].iter().flatten().map(|&stride| long(stride)));
        values.push(real::<T>(1. / (queries as f64).sqrt()));
        values.push(long(KEY[0] as usize | (KEY[1] as usize) << 32));
        values.extend([short(Self::kept().below() as usize), real::<T>(FACTOR.into())]);
        values
    }
}
