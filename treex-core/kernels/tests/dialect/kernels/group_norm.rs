//! Groups of columns that are normalized by their statistics: sums of pieces, their totals, and what is made of them.

use treex_kernels::dialect::{COLUMNS, ELEMENT, ROWS};
use treex_kernels::math::Real;
use treex_kernels::norm::group_norm::{BackwardOptions, DIALECT, GroupNorm, TOTALS};
use treex_kernels::norm::{Extent, STATISTICS};

use super::for_each_type;
use super::layer_norm::totals;
use crate::element::{Element, numbers, wide_numbers};
use crate::host::{Host, Parameter, long, read, real, short, write};
use crate::layout::{Pieces, Rows};
use crate::text::Text;

const EPSILON: f64 = 1e-5;

/// As in a batch norm and in a group norm, with one piece and with several, and with totals for all threads of a group.
const EXTENTS: [Extent; 4] = [
    Extent { outer: 1, rows: 9, groups: 3, size: 1 },
    Extent { outer: 1, rows: 300, groups: 33, size: 1 },
    Extent { outer: 2, rows: 150, groups: 2, size: 17 },
    Extent { outer: 1, rows: 140, groups: 1, size: 1025 },
];

pub(super) fn check(host: &mut Host) {
    for_each_type!(check_type(host));
}

fn check_type<T: Element + GroupNorm>(host: &mut Host) {
    for extent in EXTENTS {
        for use_fast_variance in [true, false] {
            Norm::<T>::new(extent).check(host, use_fast_variance);
        }
    }
}

/// An input, its gradient, scale and bias.
struct Norm<T: Element> {
    extent: Extent,
    x: Vec<T>,
    dy: Vec<T>,
    scale: Vec<T::Wide>,
    bias: Vec<T::Wide>,
}

impl<T: Element + GroupNorm> Norm<T> {
    fn new(extent: Extent) -> Self {
        let columns = extent.columns();
        let len = extent.outer * extent.rows * columns;
        let (scale, bias) = (wide_numbers::<T>(columns, 3), wide_numbers::<T>(columns, 4));
        Self { extent, x: numbers(len, 1), dy: numbers(len, 2), scale, bias }
    }

    /// The number of groups.
    fn groups(&self) -> usize {
        self.extent.outer * self.extent.groups
    }

    fn check(&self, host: &mut Host, use_fast_variance: bool) {
        let Self { extent, x, dy, scale, bias } = self;
        let moments = T::group_moments(x, *extent, use_fast_variance).unwrap();
        let (y, statistics) = T::group_norm(x, *extent, scale, bias, &moments, EPSILON).unwrap();
        let what = |what: &str| format!("{what} of {extent:?}, {use_fast_variance}");

        let (mut saved, mut found) = self.moments(host, None);
        if !use_fast_variance {
            (saved, found) = self.moments(host, Some(saved));
        }
        let (means, vars): (Vec<_>, Vec<_>) = moments.iter().copied().unzip();
        for (what, found, expected) in [("means", &found[0], means), ("variances", &found[1], vars)] {
            host.in_f64(what, found, &expected, 4. * T::WIDE);
        }
        for has_parameters in [true, false] {
            let found = self.normalized(host, &saved, has_parameters);
            let expected = if has_parameters {
                y.clone()
            } else {
                let (ones, zeros) = (vec![T::Wide::of(1.); scale.len()], vec![T::Wide::of(0.); scale.len()]);
                T::group_norm(x, *extent, &ones, &zeros, &moments, EPSILON).unwrap().0
            };
            host.near(&what("y"), &found, &expected, 8.);
        }

        let sums = self.gradient_sums(host, &saved);
        for differentiates_moments in [true, false] {
            let options = BackwardOptions { needs_dx: true, differentiates_moments };
            let expected = T::group_norm_backward(x, dy, *extent, scale, &statistics, options).unwrap();
            let terms = differentiates_moments.then(|| self.terms(host, &sums, &saved));
            let found = self.of_x(host, &saved, terms);
            host.near(&what("dx"), &found, &expected.x.unwrap(), 8.);
            let found = totals::<T>(host, sums.clone(), 2 * extent.columns());
            let both = [expected.scale, expected.bias].concat();
            let scale = 4. * ((extent.outer * extent.rows) as f64).sqrt();
            host.wide_near::<T>(&what("the gradients of scale and bias"), &found, &both, scale);
        }
    }

    fn of_sums(&self) -> Pieces {
        Pieces::of_sums(self.extent.outer, self.extent.rows, self.extent.columns())
    }

    fn of_elements(&self) -> Pieces {
        Pieces::of_elements(self.extent.outer, self.extent.rows, self.extent.columns())
    }

    /// A launch over pieces.
    fn over_pieces(
        &self,
        host: &mut Host,
        name: &str,
        pieces: Pieces,
        [is_centered, has_parameters, has_terms]: [bool; 3],
        tensors: Vec<Parameter>,
    ) -> Vec<u8> {
        let defines = pieces.defines([
            ("IS_OF_ROWS", false),
            ("IS_CENTERED", is_centered),
            ("HAS_SCALE", has_parameters),
            ("HAS_BIAS", has_parameters),
            ("HAS_TERMS", has_terms),
        ]);
        let text = Text::of_element(T::NAME, &[ELEMENT, COLUMNS, DIALECT], &defines);
        let size = short(self.extent.size);
        let parameters: Vec<_> = tensors.into_iter().chain(pieces.values()).chain([size]).collect();
        host.launch(&text, name, pieces.groups(), &parameters).remove(0)
    }

    /// A launch over groups, whose totals are those of pieces.
    fn over_groups(
        &self,
        host: &mut Host,
        name: &str,
        [is_centered, has_scale]: [bool; 2],
        tensors: Vec<Parameter>,
        values: Vec<Parameter>,
    ) -> Vec<Vec<u8>> {
        let pieces = self.of_sums().pieces;
        let Extent { groups, size, .. } = self.extent;
        let rows = Rows::new(self.groups(), pieces * size);
        let defines = rows.defines([("IS_CENTERED", is_centered), ("HAS_SCALE", has_scale)]);
        let text = Text::of_element(T::NAME, &[ELEMENT, ROWS, STATISTICS, TOTALS], &defines);
        let sizes = [long(self.groups()), short(rows.columns), short(groups), short(size), short(pieces)];
        let count = real::<T>((self.extent.rows * size) as f64);
        let parameters: Vec<_> = tensors.into_iter().chain(sizes).chain([count]).chain(values).collect();
        host.launch(&text, name, rows.groups(), &parameters)
    }

    /// What is saved, and mean and variance of each group.
    fn moments(&self, host: &mut Host, before: Option<Vec<u8>>) -> (Vec<u8>, [Vec<u8>; 2]) {
        let pieces = self.of_sums();
        let is_centered = before.is_some();
        let before = before.map_or_else(|| read::<T>(&[]), Parameter::Read);
        let written = write::<T::Wide>(2 * pieces.all() * self.extent.columns());
        let tensors = vec![read(&self.x), before.clone(), written];
        let sums = self.over_pieces(host, "norm_moment_sums", pieces, [is_centered, false, false], tensors);

        let count = self.groups();
        let (saved, means, vars) = (write::<T::Wide>(3 * count), write::<f64>(count), write::<f64>(count));
        let tensors = vec![Parameter::Read(sums), before, saved, means, vars];
        let epsilon = vec![real::<T>(EPSILON)];
        let mut found = self.over_groups(host, "group_moments", [is_centered, false], tensors, epsilon);
        let (vars, means) = (found.remove(2), found.remove(1));
        (found.remove(0), [means, vars])
    }

    fn normalized(&self, host: &mut Host, saved: &[u8], has_parameters: bool) -> Vec<u8> {
        let [scale, bias] = [&self.scale, &self.bias].map(|x| read(if has_parameters { x } else { &[] }));
        let saved = Parameter::Read(saved.to_vec());
        let tensors = vec![read(&self.x), scale, bias, saved, write::<T>(self.x.len())];
        self.over_pieces(host, "group_norm", self.of_elements(), [false, has_parameters, false], tensors)
    }

    fn gradient_sums(&self, host: &mut Host, saved: &[u8]) -> Vec<u8> {
        let pieces = self.of_sums();
        let written = write::<T::Wide>(2 * pieces.all() * self.extent.columns());
        let tensors = vec![read(&self.x), read(&self.dy), Parameter::Read(saved.to_vec()), written];
        self.over_pieces(host, "norm_gradient_sums", pieces, [false; 3], tensors)
    }

    fn terms(&self, host: &mut Host, sums: &[u8], saved: &[u8]) -> Vec<u8> {
        let [sums, saved] = [sums, saved].map(|bytes| Parameter::Read(bytes.to_vec()));
        let tensors = vec![sums, read(&self.scale), saved, write::<T::Wide>(2 * self.groups())];
        self.over_groups(host, "group_gradients", [false, true], tensors, vec![]).remove(0)
    }

    fn of_x(&self, host: &mut Host, saved: &[u8], terms: Option<Vec<u8>>) -> Vec<u8> {
        let (has_terms, saved) = (terms.is_some(), Parameter::Read(saved.to_vec()));
        let terms = Parameter::Read(terms.unwrap_or_default());
        let written = write::<T>(self.x.len());
        let tensors = vec![read(&self.x), read(&self.dy), read(&self.scale), saved, terms, written];
        self.over_pieces(host, "group_norm_backward", self.of_elements(), [false, true, has_terms], tensors)
    }
}
