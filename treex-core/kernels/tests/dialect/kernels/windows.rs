//! What windows read as rows of matrices, the transpose, and poolings.

use treex_kernels::dialect::{EACH, ELEMENT};
use treex_kernels::im2col::{self, Im2col};
use treex_kernels::pooling::{self, Pooling, Reduction};
use treex_kernels::window::{self, Axis};

use super::{Launch, for_each_type};
use crate::element::{Element, numbers};
use crate::host::{Host, Parameter, long, read, short, write};
use crate::layout::groups;
use crate::text::Text;

/// `[batch, *spatial, channels]`, in groups of channels, and a window.
#[derive(Clone, Copy)]
struct Windows {
    batch: usize,
    spatial: &'static [usize],
    channels: usize,
    groups: usize,
    window: &'static [Axis],
}

const fn axis(size: usize, stride: usize, padding: (usize, usize), dilations: [usize; 2]) -> Axis {
    Axis { size, stride, padding, window_dilation: dilations[0], input_dilation: dilations[1] }
}

const WINDOWS: [Windows; 3] = [
    Windows { batch: 3, spatial: &[37], channels: 5, groups: 1, window: &[axis(4, 3, (2, 1), [2, 1])] },
    Windows {
        batch: 1,
        spatial: &[19, 23],
        channels: 4,
        groups: 2,
        window: &[axis(3, 1, (1, 1), [1, 1]), axis(3, 1, (1, 1), [1, 1])],
    },
    Windows {
        batch: 2,
        spatial: &[5, 6, 7],
        channels: 6,
        groups: 3,
        window: &[axis(3, 2, (1, 0), [1, 1]), axis(2, 1, (2, 1), [2, 1]), axis(3, 3, (0, 2), [1, 2])],
    },
];

/// Windows without dilation, of which some overlap, and some cover no element.
const POOLED: [Windows; 3] = [
    Windows { batch: 3, spatial: &[37], channels: 5, groups: 1, window: &[axis(4, 3, (4, 5), [1, 1])] },
    Windows {
        batch: 2,
        spatial: &[19, 23],
        channels: 3,
        groups: 1,
        window: &[axis(3, 1, (1, 1), [1, 1]), axis(2, 2, (0, 1), [1, 1])],
    },
    Windows {
        batch: 2,
        spatial: &[5, 6, 7],
        channels: 7,
        groups: 1,
        window: &[axis(3, 2, (1, 0), [1, 1]), axis(2, 1, (1, 1), [1, 1]), axis(3, 3, (0, 2), [1, 1])],
    },
];

const REDUCTIONS: [Reduction; 4] = [
    Reduction::Average { counts_padding: false },
    Reduction::Average { counts_padding: true },
    Reduction::Max,
    Reduction::Min,
];

pub(super) fn check(host: &mut Host) {
    for_each_type!(matrices(host));
    for_each_type!(poolings(host));
}

/// Launches of one element type, for faults.
pub(crate) fn small_im2col() -> Launch {
    let windows = WINDOWS[0];
    windows.im2col::<f32>("im2col", &numbers(windows.input_len(), 1))
}

/// The gradient of a pooling.
pub(crate) fn small_pooling() -> Launch {
    let windows = POOLED[1];
    let dy: Vec<f32> = numbers(windows.output_len(), 1);
    windows.pool_backward(REDUCTIONS[0], &dy, read::<u32>(&[]))
}

fn matrices<T: Element<Wide: Im2col>>(host: &mut Host) {
    for windows in WINDOWS {
        let x: Vec<T> = numbers(windows.input_len(), 1);
        let columns: Vec<T> = numbers(windows.columns_len(), 2);
        let found = windows.im2col("im2col", &x).run(host);
        host.near("windows", &found[0], &windows.columns_of(&x), 0.);
        let found = windows.im2col("col2im", &columns).run(host);
        host.near("sums of windows", &found[0], &windows.sums_of(&columns), 30.);
    }
}

fn poolings<T: Element<Wide: Pooling>>(host: &mut Host) {
    for windows in POOLED {
        // Some are equal, and few are NaN.
        let number = |(at, x): (usize, f64)| T::of(if at % 97 == 5 { f64::NAN } else { (x * 4.).round() });
        let x: Vec<T> = numbers::<f64>(windows.input_len(), 1).into_iter().enumerate().map(number).collect();
        let dy: Vec<T> = numbers(windows.output_len(), 2);
        for reduction in REDUCTIONS {
            let Windows { batch, spatial, channels, window, .. } = windows;
            let plan = pooling::Plan::new(batch, spatial, channels, window, reduction).unwrap();
            let (y, taps) = T::Wide::pool(&plan, &wide(&x), true).unwrap();
            let dx = T::Wide::pool_backward(&plan, &wide(&dy), &taps).unwrap();
            let found = windows.pool(reduction, &x).run(host);
            host.near("a pooling", &found[0], &narrow::<T>(&y), 8.);
            let taps = Parameter::Read(found[1].clone());
            let found = windows.pool_backward(reduction, &dy, taps).run(host);
            host.near("the gradient of a pooling", &found[0], &narrow::<T>(&dx), 8.);
        }
    }
}

fn wide<T: Element>(x: &[T]) -> Vec<T::Wide> {
    x.iter().map(|x| x.widen()).collect()
}

fn narrow<T: Element>(x: &[T::Wide]) -> Vec<T> {
    x.iter().map(|x| T::narrow(*x)).collect()
}

impl Windows {
    fn input_len(&self) -> usize {
        self.batch * self.channels * self.spatial.iter().product::<usize>()
    }

    fn positions(&self) -> usize {
        self.window.iter().zip(self.spatial).map(|(axis, &n)| axis.positions(n)).product()
    }

    fn output_len(&self) -> usize {
        self.batch * self.channels * self.positions()
    }

    fn columns_len(&self) -> usize {
        self.output_len() * self.window.iter().map(|axis| axis.size).product::<usize>()
    }

    /// Of the channels of a group.
    fn plan(&self) -> im2col::Plan {
        im2col::Plan::new(self.batch, self.spatial, self.channels / self.groups, self.window).unwrap()
    }

    /// The columns of each group, one after the other.
    fn columns_of<T: Element<Wide: Im2col>>(&self, x: &[T]) -> Vec<T> {
        let (each, plan) = (self.channels / self.groups, self.plan());
        let columns = |group: usize| {
            let of_group = |item: &[T]| wide(&item[group * each..][..each]);
            let x: Vec<_> = x.chunks_exact(self.channels).flat_map(of_group).collect();
            narrow::<T>(&T::Wide::im2col(&plan, &x).unwrap())
        };
        (0..self.groups).flat_map(columns).collect()
    }

    /// The sums of each group, side by side.
    fn sums_of<T: Element<Wide: Im2col>>(&self, columns: &[T]) -> Vec<T> {
        let (each, plan) = (self.channels / self.groups, self.plan());
        let groups = columns.chunks_exact(columns.len() / self.groups);
        let sums: Vec<_> =
            groups.map(|columns| narrow::<T>(&T::Wide::col2im(&plan, &wide(columns)).unwrap())).collect();
        let of_position = |at: usize| sums.iter().flat_map(move |sums| sums[at * each..][..each].to_vec());
        (0..self.input_len() / self.channels).flat_map(of_position).collect()
    }

    /// Along three axes, of which those that are not there have size 1.
    fn axes(&self) -> Vec<Parameter> {
        let there = self.spatial.iter().copied().zip(self.window.iter().copied());
        let missing = std::iter::repeat((1, axis(1, 1, (0, 0), [1, 1])));
        let numbers = |(n, axis): (usize, Axis)| {
            let Axis { size, stride, padding, window_dilation, input_dilation } = axis;
            [n, axis.positions(n), size, stride, padding.0, window_dilation, input_dilation]
        };
        there.chain(missing).take(3).flat_map(numbers).map(short).collect()
    }

    fn im2col<T: Element>(&self, name: &'static str, from: &[T]) -> Launch {
        let len = if name == "im2col" { self.columns_len() } else { self.input_len() };
        let mut parameters = vec![read(from), write::<T>(len), long(len), long(self.batch)];
        parameters.extend([short(self.channels), short(self.groups)]);
        parameters.extend(self.axes());
        let text = Text::of_element(T::NAME, &[ELEMENT, EACH, window::DIALECT, im2col::DIALECT], &[]);
        Launch { text, name, groups: groups(len), parameters }
    }

    fn pool<T: Element>(&self, reduction: Reduction, x: &[T]) -> Launch {
        let len = self.output_len();
        let taps = if matches!(reduction, Reduction::Average { .. }) { 0 } else { len };
        let mut parameters = vec![read(x), write::<T>(len), write::<u32>(taps), long(len)];
        parameters.push(short(self.channels));
        parameters.extend(self.axes());
        Launch { text: pooling_text::<T>(reduction), name: "pool", groups: groups(len), parameters }
    }

    fn pool_backward<T: Element>(&self, reduction: Reduction, dy: &[T], taps: Parameter) -> Launch {
        let len = self.input_len();
        let mut parameters = vec![read(dy), taps, write::<T>(len), long(len), short(self.channels)];
        parameters.extend(self.axes());
        Launch { text: pooling_text::<T>(reduction), name: "pool_backward", groups: groups(len), parameters }
    }
}

fn pooling_text<T: Element>(reduction: Reduction) -> Text {
    let (reduction, counts_padding) = match reduction {
        Reduction::Average { counts_padding } => (0, counts_padding),
        Reduction::Max => (1, false),
        Reduction::Min => (2, false),
    };
    let defines = [("REDUCTION", reduction), ("COUNTS_PADDING", counts_padding.into())];
    Text::of_element(T::NAME, &[ELEMENT, EACH, window::DIALECT, pooling::DIALECT], &defines)
}
