//! The kernels of operations, and their plans.

use std::mem::MaybeUninit;

use treex_kernels::add::Add as _;
use treex_kernels::attention::{Attention as _, Inputs, Modifiers, Sizes, StridedView};
use treex_kernels::convolution::{self, Channels, Convolution as _};
use treex_kernels::cross_entropy::{IntegerCrossEntropy as _, SoftCrossEntropy as _};
use treex_kernels::dot::Dot as _;
use treex_kernels::dropout::Dropout as _;
use treex_kernels::elementwise::{Elementwise, ElementwiseKernels as _};
use treex_kernels::embedding::Embedding as _;
use treex_kernels::exact_gelu::ExactGelu as _;
use treex_kernels::expression::Source;
use treex_kernels::float::{bf16, f16};
use treex_kernels::im2col::{self, Im2col as _};
use treex_kernels::log_sum_exp::LogSumExp;
use treex_kernels::matmul::{MatMul as _, Matrix};
use treex_kernels::norm::Extent;
use treex_kernels::norm::group_norm::{BackwardOptions, GroupNorm as _};
use treex_kernels::norm::layer_norm::{LayerNorm as _, Moments};
use treex_kernels::number::Lane;
use treex_kernels::pooling::{self, Pooling as _, Reduction};
use treex_kernels::random::bernoulli::Bernoulli;
use treex_kernels::recurrent::any_cell::AnyCell;
use treex_kernels::recurrent::operands::{Affine, Operands, Sizes as RecurrentSizes};
use treex_kernels::recurrent::order::Order;
use treex_kernels::recurrent::{Forward, Gru, Lstm, Mgu, MguWithoutReset, Recurrent as _, Simple};
use treex_kernels::softmax::Softmax as _;
use treex_kernels::squared_error::SquaredError as _;
use treex_kernels::sum_axis0::SumAxis0 as _;
use treex_kernels::window::Axis;

use crate::{ABSURD, ABSURD_64TH, HALF, Row, refused, too_large};

const MAX: usize = usize::MAX;

pub(crate) const ROWS: &[Row] = &[
    ("add::Add::broadcast_add", || {
        refused(f32::broadcast_add(&[1.], &[]));
        assert_eq!(f32::broadcast_add(&[], &[]), Ok(vec![]));
        assert_eq!(f64::broadcast_add(&[1.], &[1., 2., 3.]), Ok(vec![2.]));
    }),
    ("add::Add::broadcast_add_backward", || {
        refused(f32::broadcast_add_backward(&[1.; 3], 2));
        refused(f32::broadcast_add_backward(&[1.; 3], 0));
        refused(f32::broadcast_add_backward(&[1.; 3], MAX));
        assert_eq!(f32::broadcast_add_backward(&[], 0), Ok(vec![]));
        assert_eq!(f64::broadcast_add_backward(&[], 2), Ok(vec![0.; 2]));
        [MAX, HALF, ABSURD].into_iter().for_each(|len| too_large(f32::broadcast_add_backward(&[], len)));
        [MAX, HALF, ABSURD].into_iter().for_each(|len| too_large(bf16::broadcast_add_backward(&[], len)));
    }),
    ("attention::Attention::attention", attention),
    ("attention::Attention::attention_backward", attention_backward),
    ("attention::view::StridedView::new", || {
        // What a view may be is checked by the kernel that gets it.
        let _ = StridedView::<f32>::new(&[], vec![MAX; 2], [MAX; 3]);
    }),
    ("convolution::Convolution::convolution", || {
        let plan = convolution_plan();
        let (x, kernel) = ([1f32; 12], [1f32; 8]);
        for (x, kernel) in [(&x[1..], &kernel[..]), (&x, &kernel[1..]), (&[], &kernel), (&x, &[])] {
            refused(f32::convolution(&plan, x, kernel, None));
        }
        for bias in [&[1.][..], &[1.; 3], &[]] {
            refused(f32::convolution(&plan, &x, &kernel, Some(bias)));
        }
    }),
    ("convolution::Convolution::convolution_input_gradient", || {
        let plan = convolution_plan();
        let (kernel, dy) = ([1f32; 8], [1f32; 4]);
        for (kernel, dy) in [(&kernel[1..], &dy[..]), (&kernel, &dy[1..]), (&[], &dy), (&kernel, &[])] {
            refused(f32::convolution_input_gradient(&plan, kernel, dy));
        }
        // The output has another size than the input, whose gradient is expected in its place.
        refused(f32::convolution_input_gradient(&plan, &kernel, &[1.; 12]));
    }),
    ("convolution::Convolution::convolution_kernel_gradient", || {
        let plan = convolution_plan();
        let (x, dy) = ([1f32; 12], [1f32; 4]);
        for (x, dy) in [(&x[1..], &dy[..]), (&x, &dy[1..]), (&[], &dy), (&x, &[]), (&dy, &x)] {
            refused(f32::convolution_kernel_gradient(&plan, x, dy));
        }
    }),
    ("convolution::Plan::new", || {
        let plan = |batch, spatial: &[usize], cin, cout, groups, window: &[Axis]| {
            convolution::Plan::new(batch, spatial, Channels { cin, cout, groups }, window)
        };
        let is_none = |plan: treex_kernels::Result<Option<_>>| assert!(matches!(plan, Ok(None)), "{plan:?}");
        refused(plan(1, &[3, 3], 1, 1, 1, &[AXIS]));
        refused(plan(1, &[], 1, 1, 1, &[AXIS]));
        refused(plan(1, &[3], 1, 1, 0, &[AXIS]));
        refused(plan(1, &[3], 3, 2, 2, &[AXIS]));
        refused(plan(1, &[3], 2, 3, 2, &[AXIS]));
        bad_axes().into_iter().for_each(|axis| refused(plan(1, &[3], 1, 1, 1, &[axis])));
        bad_axes().into_iter().for_each(|axis| refused(plan(1, &[3, 0], 1, 1, 1, &[AXIS, axis])));
        refused(plan(1, &[MAX], 1, 1, 1, &[AXIS]));
        // Documented: no plan without elements or an axis, and for products that overflow.
        is_none(plan(1, &[], 1, 1, 1, &[]));
        is_none(plan(0, &[3], 1, 1, 1, &[AXIS]));
        is_none(plan(1, &[0], 1, 1, 1, &[AXIS]));
        is_none(plan(1, &[3], 0, 1, 1, &[AXIS]));
        is_none(plan(MAX, &[3], 1, 1, 1, &[AXIS]));
        is_none(plan(HALF, &[3], 1, 1, 1, &[AXIS]));
        is_none(plan(1, &[3], HALF, HALF, 1, &[AXIS]));
        is_none(plan(1, &[ABSURD, ABSURD], 1, 1, 1, &[AXIS, AXIS]));
        // A stride and a dilation whose product overflows, over the one element and position that there are.
        for [stride, input_dilation] in [[HALF + 1, HALF - 1], [MAX, MAX], [HALF, 3], [1, MAX], [MAX, 1]] {
            let axis = Axis { size: 3, stride, input_dilation, padding: (1, 1), window_dilation: 1 };
            let plan = plan(1, &[1], 1, 1, 1, &[axis]).unwrap().unwrap();
            assert_eq!(f32::convolution(&plan, &[2.], &[3., 5., 7.], None), Ok(vec![10.]));
            assert_eq!(f32::convolution_input_gradient(&plan, &[3., 5., 7.], &[2.]), Ok(vec![10.]));
            assert_eq!(
                f32::convolution_kernel_gradient(&plan, &[2.], &[3.]),
                Ok((vec![0., 6., 0.], vec![3.]))
            );
        }
        // Tables of positions and of taps that no memory holds.
        too_large(plan(1, &[ABSURD], 1, 1, 1, &[Axis { size: 1, ..AXIS }]));
        too_large(plan(1, &[1], 1, 1, 1, &[Axis { size: ABSURD_64TH, padding: (ABSURD_64TH, 0), ..AXIS }]));
    }),
    ("cross_entropy::IntegerCrossEntropy::integer_cross_entropy", || {
        let of = f32::integer_cross_entropy;
        refused(of(&[1.; 4], &[0; 2], 0));
        refused(of(&[1.; 4], &[0; 2], 3));
        refused(of(&[1.; 4], &[0; 2], MAX));
        refused(of(&[1.; 4], &[0; 1], 2));
        refused(of(&[1.; 4], &[0; 3], 2));
        refused(of(&[1.; 4], &[0, 2], 2));
        refused(of(&[1.; 4], &[0, u32::MAX], 2));
        assert!(of(&[], &[], MAX).is_ok_and(|(losses, sums)| losses.is_empty() && sums.is_empty()));
    }),
    ("cross_entropy::IntegerCrossEntropy::integer_cross_entropy_backward", || {
        let of = |labels: &[u32], classes, sums: usize, cotangents: usize| {
            f32::integer_cross_entropy_backward(
                &[1.; 4],
                labels,
                classes,
                &vec![SUM; sums],
                &vec![1.; cotangents],
            )
        };
        refused(of(&[0; 2], 0, 2, 2));
        refused(of(&[0; 2], 3, 2, 2));
        refused(of(&[0; 2], MAX, 2, 2));
        refused(of(&[0; 1], 2, 2, 2));
        refused(of(&[0; 2], 2, 1, 2));
        refused(of(&[0; 2], 2, 2, 3));
        refused(of(&[0, 2], 2, 2, 2));
        refused(of(&[], 2, 0, 0));
    }),
    ("cross_entropy::SoftCrossEntropy::soft_cross_entropy", || {
        let of = f32::soft_cross_entropy;
        refused(of(&[1.; 4], &[0.; 4], 0));
        refused(of(&[1.; 4], &[0.; 4], 3));
        refused(of(&[1.; 4], &[0.; 2], 2));
        refused(of(&[1.; 4], &[], 2));
        refused(of(&[], &[1.; 4], 2));
        assert!(of(&[], &[], MAX).is_ok_and(|(losses, _)| losses.is_empty()));
    }),
    ("cross_entropy::SoftCrossEntropy::soft_cross_entropy_backward", || {
        let of = |labels: usize, classes, sums: usize, cotangents: usize| {
            let (labels, sums, cotangents) = (vec![0.; labels], vec![SUM; sums], vec![1.; cotangents]);
            f32::soft_cross_entropy_backward(&[1.; 4], &labels, classes, &sums, &cotangents)
        };
        for bad in [(4, 0, 2, 2), (4, 3, 2, 2), (2, 2, 2, 2), (4, 2, 1, 2), (4, 2, 2, 0), (0, MAX, 0, 0)] {
            refused(of(bad.0, bad.1, bad.2, bad.3));
        }
    }),
    ("cross_entropy::SoftCrossEntropy::soft_cross_entropy_backward_labels", || {
        let of = |classes, sums: usize, cotangents: usize| {
            let (sums, cotangents) = (vec![SUM; sums], vec![1.; cotangents]);
            f32::soft_cross_entropy_backward_labels(&[1.; 4], classes, &sums, &cotangents)
        };
        for bad in [(0, 2, 2), (3, 2, 2), (2, 1, 2), (2, 2, 3), (MAX, 0, 0)] {
            refused(of(bad.0, bad.1, bad.2));
        }
    }),
    ("dot::Dot::dot", || {
        refused(f32::dot(&[1.], &[]));
        refused(f16::dot(&[], &[f16::ONE]));
        assert_eq!(f64::dot(&[], &[]), Ok(0.));
    }),
    ("dot::Dot::dot_backward", || assert_eq!(f32::dot_backward(f32::NAN, &[]), Ok(vec![]))),
    ("dropout::Dropout::dropout", || {
        assert_eq!(f32::dropout(&[], [0; 2], Bernoulli::new(f32::NAN), f32::INFINITY), Ok(vec![]));
        assert_eq!(f32::dropout(&[f32::NAN], [0; 2], Bernoulli::new(-1.), 1.), Ok(vec![0.]));
    }),
    ("elementwise::Elementwise::option", || {
        assert!(Elementwise::Elu(f64::NAN).option().is_nan() && Elementwise::Relu.option() == 0.);
    }),
    ("elementwise::Elementwise::traced", || {
        assert_eq!(
            Source::of(&[Elementwise::LeakyRelu(f64::INFINITY).traced()]).constants,
            [0., f64::INFINITY]
        );
    }),
    ("elementwise::Elementwise::traced_gradient", || {
        let constants = Source::of(&[Elementwise::Elu(f64::NAN).traced_gradient()]).constants;
        assert!(constants.iter().any(|constant| constant.is_nan()), "{constants:?}");
    }),
    ("elementwise::Elementwise::name", || assert_eq!(Elementwise::Elu(f64::NAN).name(), "elu")),
    ("elementwise::ElementwiseKernels::map", || {
        assert_eq!(f32::map(Elementwise::Relu, &[]), Ok(vec![]));
        assert!(f32::map(Elementwise::LeakyRelu(f64::NAN), &[-1.]).is_ok_and(|y| y[0].is_nan()));
    }),
    ("elementwise::ElementwiseKernels::map_backward", || {
        refused(f32::map_backward(Elementwise::Relu, &[1.], &[]));
        refused(f32::map_backward(Elementwise::Relu, &[], &[1.]));
    }),
    ("embedding::Embedding::gather", || {
        refused(f32::gather(&[1.; 4], &[0], 0));
        refused(f32::gather(&[1.; 4], &[0], 3));
        refused(f32::gather(&[1.; 4], &[0], MAX));
        refused(f32::gather(&[1.; 4], &[2], 2));
        refused(f32::gather(&[1.; 4], &[u32::MAX], 2));
        refused(f32::gather(&[], &[0], HALF));
        assert_eq!(f32::gather(&[], &[], MAX), Ok(vec![]));
    }),
    ("embedding::Embedding::scatter_add", || {
        refused(f32::scatter_add(&[1.; 4], &[0; 2], 3, 0));
        refused(f32::scatter_add(&[1.; 4], &[0; 2], 3, 1));
        refused(f32::scatter_add(&[1.; 4], &[0; 2], 3, HALF));
        refused(f32::scatter_add(&[1.; 4], &[0, 3], 3, 2));
        refused(f32::scatter_add(&[1.; 4], &[0, 0], 0, 2));
        too_large(f32::scatter_add(&[1.; 4], &[0; 2], MAX, 2));
        too_large(f32::scatter_add(&[1.; 4], &[0; 2], HALF - 1, 2));
        too_large(f32::scatter_add(&[1.; 4], &[0; 2], ABSURD, 2));
        too_large(f16::scatter_add(&[], &[], 1, MAX));
        assert_eq!(f32::scatter_add(&[], &[], 0, MAX), Ok(vec![]));
    }),
    ("exact_gelu::ExactGelu::exact_gelu", || assert_eq!(f32::exact_gelu(&[]), Ok(vec![]))),
    ("exact_gelu::ExactGelu::exact_gelu_derivative", || {
        assert_eq!(f32::exact_gelu_derivative(&[]), Ok(vec![]));
    }),
    ("im2col::Im2col::col2im", || {
        let plan = im2col::Plan::new(2, &[3], 1, &[AXIS]).unwrap();
        [0, 1, 6, 9].into_iter().for_each(|len| refused(f32::col2im(&plan, &vec![1.; len])));
        let of_nothing = im2col::Plan::new(ABSURD, &[1], 1, &[AXIS]).unwrap();
        too_large(f32::col2im(&of_nothing, &[]));
    }),
    ("im2col::Im2col::im2col", || {
        let plan = im2col::Plan::new(2, &[3], 1, &[AXIS]).unwrap();
        [0, 1, 5, 8].into_iter().for_each(|len| refused(f32::im2col(&plan, &vec![1.; len])));
        let padding_alone = Axis { padding: (1, 1), ..AXIS };
        let of_nothing = im2col::Plan::new(ABSURD, &[0], 1, &[padding_alone]).unwrap();
        too_large(f32::im2col(&of_nothing, &[]));
        refused(f32::im2col(&im2col::Plan::new(ABSURD, &[3], 1, &[AXIS]).unwrap(), &[]));
    }),
    ("im2col::Plan::new", || {
        let plan = im2col::Plan::new;
        refused(plan(1, &[3, 3], 1, &[AXIS]));
        refused(plan(1, &[], 1, &[AXIS]));
        bad_axes().into_iter().for_each(|axis| refused(plan(1, &[3], 1, &[axis])));
        bad_axes().into_iter().for_each(|axis| refused(plan(1, &[3, 0], 1, &[AXIS, axis])));
        refused(plan(HALF, &[2], 1, &[AXIS]));
        refused(plan(1, &[2], MAX, &[AXIS]));
        refused(plan(1, &[MAX], 1, &[AXIS]));
        refused(plan(0, &[HALF >> 1, 4], 1, &[AXIS, AXIS]));
        refused(plan(1, &[0, ABSURD, ABSURD], 0, &[AXIS; 3]));
        let one = Axis { size: 1, ..AXIS };
        too_large(plan(1, &[ABSURD], 1, &[one]));
        too_large(plan(1, &[ABSURD, 1], 1, &[one, one]));
        assert!(plan(0, &[0], 0, &[one]).is_ok() && plan(MAX, &[], 1, &[]).is_ok());
    }),
    ("matmul::MatMul::matmul", || {
        let bias = [1.; 3];
        refused(f32::matmul(matrix(2, 2), matrix(1, 2), None, true));
        refused(f32::matmul(matrix(2, 2), matrix(2, 2), Some(&bias), true));
        refused(f32::matmul(matrix(2, 2), matrix(2, 2), Some(&[]), true));
        // One element that is a whole matrix.
        let broadcast = |rows, columns| Matrix::strided(&[1f32], [rows, columns], [0, 0]).unwrap();
        too_large(f32::matmul(broadcast(MAX, 1), broadcast(1, MAX), None, true));
        too_large(f32::matmul(broadcast(ABSURD, 1), broadcast(1, 1), None, true));
        // Strides of a matrix without elements lead nowhere.
        let empty = |rows, columns| Matrix::strided(&[], [rows, columns], [HALF, MAX]).unwrap();
        assert_eq!(f32::matmul(empty(2, 0), empty(0, 40), None, true), Ok(vec![0.; 80]));
        assert_eq!(f32::matmul(empty(0, 2), matrix(2, 2), None, true), Ok(vec![]));
    }),
    ("matmul::MatMul::matmul_add", || {
        let mut c = [1f32; 4];
        refused(f32::matmul_add(&mut c, 2, matrix(2, 2), matrix(1, 2), 1., true));
        refused(f32::matmul_add(&mut c, 1, matrix(2, 2), matrix(2, 2), 1., true));
        refused(f32::matmul_add(&mut c, 3, matrix(2, 2), matrix(2, 2), 1., true));
        refused(f32::matmul_add(&mut c, MAX, matrix(2, 2), matrix(2, 2), 1., true));
        refused(f32::matmul_add(&mut c[1..], 2, matrix(2, 2), matrix(2, 2), 1., true));
        assert_eq!(c, [1.; 4]);
    }),
    ("matmul::MatMul::matmul_each", || {
        let x = [1f32; 4];
        for (count, sizes) in [
            (1, [2, 2, 3]),
            (2, [2, 2, 2]),
            (0, [2, 2, 2]),
            (1, [MAX, 2, 2]),
            (HALF, [2, 2, 2]),
            (MAX, [MAX, MAX, MAX]),
        ] {
            refused(f32::matmul_each(&x, &x, count, sizes, [false; 2]));
            refused(f32::matmul_each(&x, &x, count, sizes, [true; 2]));
        }
        assert_eq!(f32::matmul_each(&[], &[], 1, [2, 0, 2], [true, false]), Ok(vec![0.; 4]));
        too_large(f32::matmul_each(&[], &[], 1, [ABSURD, 0, 1], [false; 2]));
    }),
    ("matmul::MatMul::matmul_into", || {
        let mut c = [MaybeUninit::new(1f32); 4];
        refused(f32::matmul_into(&mut c, 2, matrix(2, 2), matrix(1, 2), None, true));
        refused(f32::matmul_into(&mut c, 2, matrix(2, 2), matrix(2, 2), Some(&[1.]), true));
        refused(f32::matmul_into(&mut c, 1, matrix(2, 2), matrix(2, 2), None, true));
        refused(f32::matmul_into(&mut c, HALF, matrix(2, 2), matrix(2, 2), None, true));
        refused(f32::matmul_into(&mut c[..3], 2, matrix(2, 2), matrix(2, 2), None, true));
        refused(f32::matmul_into(&mut [], 2, matrix(2, 2), matrix(2, 2), None, true));
    }),
    ("matmul::matrix::Matrix::new", || {
        let x = [1f32; 4];
        for sizes in [[2, 3], [1, 3], [0, 0], [4, 0], [MAX, 1], [HALF, 2], [MAX, MAX], [HALF + 2, 2]] {
            refused(Matrix::new(&x, sizes[0], sizes[1]));
        }
        refused(Matrix::<f32>::new(&[], 1, 1));
        assert!(Matrix::<f32>::new(&[], MAX, 0).is_ok());
    }),
    ("matmul::matrix::Matrix::strided", || {
        let x = [1f32; 4];
        for (sizes, strides) in [
            ([2, 2], [3, 1]),
            ([2, 2], [MAX, 1]),
            ([2, 2], [1, HALF]),
            ([3, 3], [HALF, HALF]),
            ([MAX, 1], [1, 0]),
            ([MAX, MAX], [1, 1]),
        ] {
            refused(Matrix::strided(&x, sizes, strides));
        }
        refused(Matrix::<f32>::strided(&[], [1, 1], [0, 0]));
    }),
    ("matmul::matrix::Matrix::t", || {
        let _ = Matrix::<f32>::strided(&[], [MAX, 0], [MAX, MAX]).unwrap().t();
    }),
    ("norm::Extent::columns", || {
        let extent = Extent { outer: 1, rows: 1, groups: HALF, size: 2 };
        assert_eq!(extent.columns(), MAX);
        assert_eq!(Extent { size: 0, ..extent }.columns(), 0);
    }),
    ("norm::Extent::is_rows", || assert!(Extent { outer: MAX, rows: 1, groups: 1, size: MAX }.is_rows())),
    ("norm::group_norm::GroupNorm::group_moments", || {
        bad_extents().into_iter().for_each(|extent| refused(f32::group_moments(&[1.; 4], extent, true)));
        bad_extents().into_iter().for_each(|extent| refused(f32::group_moments(&[], extent, false)));
    }),
    ("norm::group_norm::GroupNorm::group_norm", || {
        let of = |extent, scale: usize, bias: usize, moments: usize| {
            let (scale, bias, moments) = (vec![1.; scale], vec![1.; bias], vec![(0., 1.); moments]);
            f32::group_norm(&[1.; 4], extent, &scale, &bias, &moments, 0.)
        };
        bad_extents().into_iter().for_each(|extent| refused(of(extent, 2, 2, 1)));
        for bad in [(1, 2, 1), (2, 3, 1), (2, 2, 0), (2, 2, 2), (0, 0, 0)] {
            refused(of(EXTENT, bad.0, bad.1, bad.2));
        }
    }),
    ("norm::group_norm::GroupNorm::group_norm_backward", || {
        let scale = [1.; 2];
        let moments = [(0., 1.)];
        let (_, statistics) = f32::group_norm(&[1.; 4], EXTENT, &scale, &scale, &moments, 0.).unwrap();
        let options = BackwardOptions { needs_dx: true, differentiates_moments: true };
        let of = |x: usize, dy: usize, extent, scale: &[f32], count: usize| {
            let statistics = statistics.repeat(count);
            f32::group_norm_backward(&vec![1.; x], &vec![1.; dy], extent, scale, &statistics, options)
        };
        bad_extents().into_iter().for_each(|extent| refused(of(4, 4, extent, &scale, 1)));
        for bad in [(3, 4), (4, 3), (0, 0), (4, 0)] {
            refused(of(bad.0, bad.1, EXTENT, &scale, 1));
        }
        refused(of(4, 4, EXTENT, &[1.], 1));
        refused(of(4, 4, EXTENT, &scale, 0));
        refused(of(4, 4, EXTENT, &scale, 2));
    }),
    ("norm::layer_norm::LayerNorm::layer_norm", || {
        let moments = Moments::Centered { use_fast_variance: true };
        for (x, scale, bias) in [(4, 3, 3), (4, 2, 3), (4, 2, 0), (4, 0, 0), (0, 2, 2), (0, 0, 0), (1, 2, 2)]
        {
            let (x, scale, bias) = (vec![1f32; x], vec![1.; scale], vec![1.; bias]);
            refused(f32::layer_norm(&x, &scale, &bias, moments, f64::NAN));
        }
    }),
    ("norm::layer_norm::LayerNorm::layer_norm_backward", || {
        let (_, statistics) = f32::layer_norm(&[1.; 2], &[1.; 2], &[1.; 2], Moments::Uncentered, 0.).unwrap();
        for bad in
            [(4, 4, 3, 2), (4, 4, 2, 1), (4, 4, 2, 3), (4, 2, 2, 2), (2, 4, 2, 2), (0, 0, 2, 0), (4, 4, 0, 2)]
        {
            let (x, dy, scale) = (vec![1f32; bad.0], vec![1.; bad.1], vec![1.; bad.2]);
            let statistics = statistics.repeat(bad.3);
            refused(f32::layer_norm_backward(&x, &dy, &scale, &statistics, Moments::Uncentered));
        }
    }),
    ("pooling::plan::Plan::new", || {
        let plan = |batch, spatial: &[usize], channels, window: &[Axis]| {
            pooling::Plan::new(batch, spatial, channels, window, Reduction::Max)
        };
        refused(plan(1, &[], 1, &[]));
        refused(plan(1, &[3, 3], 1, &[AXIS]));
        refused(plan(1, &[], 1, &[AXIS]));
        bad_axes().into_iter().for_each(|axis| refused(plan(1, &[3], 1, &[axis])));
        bad_axes().into_iter().for_each(|axis| refused(plan(1, &[3, 0], 1, &[AXIS, axis])));
        refused(plan(1, &[3], 1, &[Axis { window_dilation: 2, ..AXIS }]));
        refused(plan(1, &[3], 1, &[Axis { input_dilation: 2, ..AXIS }]));
        refused(plan(HALF, &[2], 1, &[AXIS]));
        refused(plan(1, &[2], MAX, &[AXIS]));
        refused(plan(1, &[0, ABSURD, ABSURD], 0, &[AXIS; 3]));
        let one = Axis { size: 1, ..AXIS };
        too_large(plan(1, &[ABSURD], 1, &[one]));
        too_large(plan(1, &[ABSURD, 1], 1, &[one, one]));
        // Taps that would be counted in more than 32 bits, which an average does not count.
        let wide = Axis { size: 1 << 33, padding: (1 << 33, 0), ..AXIS };
        refused(plan(1, &[3], 1, &[wide]));
        let average = Reduction::Average { counts_padding: true };
        assert!(pooling::Plan::new(1, &[3], 1, &[wide], average).is_ok());
    }),
    ("pooling::Pooling::pool", || {
        let plan = pooling::Plan::new(2, &[3], 1, &[AXIS], Reduction::Max).unwrap();
        [0, 1, 5, 7].into_iter().for_each(|len| refused(f32::pool(&plan, &vec![1.; len], true)));
        let padding_alone = Axis { padding: (1, 1), ..AXIS };
        let of_nothing = pooling::Plan::new(ABSURD, &[0], 1, &[padding_alone], Reduction::Max).unwrap();
        too_large(f32::pool(&of_nothing, &[], true));
        too_large(f32::pool(&of_nothing, &[], false));
    }),
    ("pooling::Pooling::pool_backward", || {
        let plan = |spatial: &[usize], size, reduction| {
            pooling::Plan::new(1, spatial, 1, &[Axis { size, ..AXIS }], reduction).unwrap()
        };
        let max = plan(&[3], 2, Reduction::Max);
        let (_, taps) = f32::pool(&max, &[1.; 3], true).unwrap();
        [0, 1, 3].into_iter().for_each(|len| refused(f32::pool_backward(&max, &vec![1.; len], &taps)));
        // Taps of other poolings, each with as many outputs: of other windows, inputs, reductions, types of taps.
        let average = Reduction::Average { counts_padding: true };
        for other in [
            plan(&[4], 3, Reduction::Max),
            plan(&[3], 2, Reduction::Min),
            plan(&[301], 300, Reduction::Max),
            plan(&[3], 2, average),
        ] {
            refused(f32::pool_backward(&other, &[1.; 2], &taps));
        }
        let (_, none) = f32::pool(&max, &[1.; 3], false).unwrap();
        refused(f32::pool_backward(&max, &[1.; 2], &none));
        let nothing = pooling::Plan::new(ABSURD, &[1], 1, &[AXIS], Reduction::Max).unwrap();
        let (_, none) =
            f32::pool(&pooling::Plan::new(0, &[1], 1, &[AXIS], Reduction::Max).unwrap(), &[], true).unwrap();
        refused(f32::pool_backward(&nothing, &[], &none));
    }),
    ("pooling::plan::Reduction::identity", || assert_eq!(Reduction::Max.identity(), f64::NEG_INFINITY)),
    ("recurrent::Recurrent::recurrent", recurrent),
    ("recurrent::Recurrent::recurrent_backward", recurrent_backward),
    ("recurrent::any_cell::AnyCell::name", || assert_eq!(AnyCell::from(Gru).name(), "gru")),
    ("recurrent::any_cell::AnyCell::counts", || assert_eq!(AnyCell::from(Gru).counts().gates, 4)),
    ("recurrent::any_cell::AnyCell::traced", || assert_eq!(AnyCell::from(Lstm).traced().len(), 6)),
    ("recurrent::any_cell::AnyCell::traced_gradient", || {
        assert_eq!(AnyCell::from(Mgu).traced_gradient().len(), 4)
    }),
    ("recurrent::cell::Cell::backward", || {
        use treex_kernels::recurrent::cell::Cell as _;
        assert!(Gru.backward([Lane(f32::NAN); 4], [Lane(f32::INFINITY)], [Lane(0.)]).0[1].0.is_nan());
    }),
    ("recurrent::cell::Cell::forward", || {
        use treex_kernels::recurrent::cell::Cell as _;
        assert!(Lstm.forward([Lane(f64::INFINITY); 4], [Lane(f64::NAN); 2]).1[0].0.is_nan());
    }),
    ("recurrent::operands::Operands::as_slices", || assert_eq!(NO_OPERANDS.as_slices().iter().count(), 1)),
    ("recurrent::operands::Operands::iter", || assert_eq!(NO_OPERANDS.iter().count(), 1)),
    ("recurrent::operands::Operands::try_map", || {
        assert_eq!(NO_OPERANDS.try_map(|_| Err::<(), _>("its own error")).unwrap_err(), "its own error");
    }),
    ("recurrent::order::Order::mirror", || {
        let order = |items, time, lengths| {
            Order { time, items, time_major: true, reverse: true, keep_order: false, lengths }.mirror()
        };
        refused(order(2, 3, Some(vec![1])));
        refused(order(2, 3, Some(vec![])));
        refused(order(2, 3, Some(vec![1, 4])));
        refused(order(2, 3, Some(vec![1, 2, 3])));
        refused(order(HALF, 2, None));
        refused(order(MAX, MAX, None));
        refused(order(1 << 20, 1 << 20, None));
        assert_eq!(order(0, 3, None), Ok(vec![]));
        assert_eq!(order(3, 0, Some(vec![0; 3])), Ok(vec![]));
    }),
    ("softmax::Softmax::log_softmax", || {
        [0, 2, MAX].into_iter().for_each(|row| refused(f32::log_softmax(&[1.; 3], row)));
        assert_eq!(f32::log_softmax(&[], MAX), Ok(vec![]));
    }),
    ("softmax::Softmax::log_softmax_backward", || {
        [0, 2, MAX].into_iter().for_each(|row| refused(f32::log_softmax_backward(&[1.; 3], &[1.; 3], row)));
        [0, 1, 4].into_iter().for_each(|len| refused(f32::log_softmax_backward(&[1.; 3], &vec![1.; len], 3)));
    }),
    ("softmax::Softmax::softmax", || {
        [0, 2, MAX].into_iter().for_each(|row| refused(f32::softmax(&[1.; 3], row)));
        assert_eq!(f32::softmax(&[], MAX), Ok(vec![]));
    }),
    ("softmax::Softmax::softmax_backward", || {
        [0, 2, MAX].into_iter().for_each(|row| refused(f32::softmax_backward(&[1.; 3], &[1.; 3], row)));
        [0, 1, 4].into_iter().for_each(|len| refused(f32::softmax_backward(&[1.; 3], &vec![1.; len], 3)));
    }),
    ("squared_error::SquaredError::scaled_error", || {
        refused(f32::scaled_error(&[1.], &[], 1.));
        refused(f32::scaled_error(&[], &[1.], f32::NAN));
    }),
    ("squared_error::SquaredError::sum_squared_error", || {
        refused(f32::sum_squared_error(&[1.], &[]));
        refused(f32::sum_squared_error(&[1.], &[1.; 2]));
    }),
    ("sum_axis0::SumAxis0::sum_axis0", || {
        [0, 2, MAX].into_iter().for_each(|columns| refused(f32::sum_axis0(&[1.; 3], columns)));
        assert_eq!(f32::sum_axis0(&[], 0), Ok(vec![]));
        assert_eq!(f32::sum_axis0(&[], 3), Ok(vec![0.; 3]));
        [MAX, HALF, ABSURD].into_iter().for_each(|columns| too_large(f32::sum_axis0(&[], columns)));
    }),
];

const AXIS: Axis = Axis { size: 2, stride: 1, padding: (0, 0), window_dilation: 1, input_dilation: 1 };

const SUM: LogSumExp<f32> = LogSumExp { largest: 0., log_sum: 0. };

/// Of 4 elements in 2 columns.
const EXTENT: Extent = Extent { outer: 1, rows: 2, groups: 1, size: 2 };

/// Axes over 3 elements that are none, or whose sizes overflow.
fn bad_axes() -> Vec<Axis> {
    vec![
        Axis { size: 0, ..AXIS },
        Axis { stride: 0, ..AXIS },
        Axis { window_dilation: 0, ..AXIS },
        Axis { input_dilation: 0, ..AXIS },
        Axis { size: MAX, ..AXIS },
        Axis { size: HALF, ..AXIS },
        Axis { padding: (MAX, 0), ..AXIS },
        Axis { padding: (HALF, HALF), ..AXIS },
        Axis { padding: (MAX, MAX), ..AXIS },
        Axis { size: 3, window_dilation: HALF, ..AXIS },
        Axis { size: MAX, window_dilation: MAX, ..AXIS },
        Axis { size: MAX, window_dilation: MAX, padding: (MAX, MAX), input_dilation: MAX, stride: MAX },
    ]
}

/// Not of 4 elements.
fn bad_extents() -> Vec<Extent> {
    vec![
        Extent { outer: 0, ..EXTENT },
        Extent { rows: 0, ..EXTENT },
        Extent { groups: 0, ..EXTENT },
        Extent { size: 0, ..EXTENT },
        Extent { outer: 2, ..EXTENT },
        Extent { outer: HALF, ..EXTENT },
        Extent { groups: HALF + 1, size: 2, rows: 2, outer: 1 },
        Extent { groups: HALF, size: 2, rows: 0, outer: 0 },
        Extent { outer: MAX, rows: MAX, groups: MAX, size: MAX },
    ]
}

/// Of 3 positions and 4 channels to 2 positions and 2 channels, with a kernel of 8 elements.
fn convolution_plan() -> convolution::Plan {
    convolution::Plan::new(1, &[3], Channels { cin: 4, cout: 2, groups: 2 }, &[AXIS]).unwrap().unwrap()
}

fn matrix(rows: usize, columns: usize) -> Matrix<'static, f32> {
    Matrix::new(&[1.; 4][..rows * columns], rows, columns).unwrap()
}

const SIZES: Sizes = Sizes { batch: 1, queries: 2, keys: 2, heads: 2, kv_heads: 1, depth: 2, value_depth: 2 };

/// Views of ones whose rows are all the same one.
fn inputs(sizes: Sizes) -> Inputs<'static, f32> {
    let view = || StridedView::new(&[1.; 8], vec![0; sizes.batch.min(8)], [0, 0, 1]);
    let modifiers = Modifiers { bias: None, mask: None, causal: false, dropout: None };
    Inputs { sizes, query: view(), key: view(), value: view(), modifiers }
}

fn bad_attentions() -> Vec<Inputs<'static, f32>> {
    let mut all: Vec<_> = [
        Sizes { batch: 0, ..SIZES },
        Sizes { queries: 0, ..SIZES },
        Sizes { keys: 0, ..SIZES },
        Sizes { heads: 0, ..SIZES },
        Sizes { kv_heads: 0, ..SIZES },
        Sizes { depth: 0, ..SIZES },
        Sizes { value_depth: 0, ..SIZES },
        Sizes { heads: 3, kv_heads: 2, ..SIZES },
        Sizes { heads: 1, kv_heads: 2, ..SIZES },
        Sizes { batch: HALF, ..SIZES },
        Sizes { queries: MAX, ..SIZES },
        Sizes { keys: MAX, depth: 1, value_depth: 1, ..SIZES },
        Sizes { keys: ABSURD, depth: 1, value_depth: 1, ..SIZES },
        Sizes { depth: 9, ..SIZES },
        Sizes { value_depth: MAX, ..SIZES },
        Sizes { depth: HALF, value_depth: HALF, heads: 1, queries: 1, keys: 1, ..SIZES },
        Sizes { batch: 2, ..SIZES },
    ]
    .map(inputs)
    .into();
    // The batch of two needs two offsets.
    all.last_mut().unwrap().value = StridedView::new(&[1.; 8], vec![0], [0, 0, 1]);
    let views = [
        StridedView::new(&[1f32; 8], vec![], [0, 0, 1]),
        StridedView::new(&[1.; 8], vec![MAX], [0, 0, 1]),
        StridedView::new(&[1.; 8], vec![7], [0, 0, 1]),
        StridedView::new(&[1.; 8], vec![0], [MAX, 0, 1]),
        StridedView::new(&[1.; 8], vec![0], [8, 0, 1]),
        StridedView::new(&[1.; 8], vec![0], [0, 0, 2]),
        StridedView::new(&[1.; 8], vec![0], [0, 0, 0]),
        StridedView::new(&[], vec![0], [0, 0, 1]),
    ];
    for view in views {
        let good = inputs(SIZES);
        all.extend([
            Inputs { query: view.clone(), ..good.clone() },
            Inputs { key: view.clone(), ..good.clone() },
            Inputs { value: view, ..good },
        ]);
    }
    let masks = [
        StridedView::new(&[1u8; 2], vec![], [0, 0, 1]),
        StridedView::new(&[1; 2], vec![1], [0, 0, 1]),
        StridedView::new(&[1; 2], vec![0], [0, 1, 1]),
        StridedView::new(&[1; 2], vec![0], [0, HALF, 0]),
        StridedView::new(&[], vec![0], [0, 0, 0]),
    ];
    for mask in masks {
        let good = inputs(SIZES);
        let modifiers = Modifiers { mask: Some(mask.clone()), ..good.modifiers.clone() };
        all.push(Inputs { modifiers, ..good.clone() });
        let modifiers = Modifiers { dropout: Some((mask, f32::NAN)), ..good.modifiers.clone() };
        all.push(Inputs { modifiers, ..good });
    }
    let good = inputs(SIZES);
    let bias = Some(StridedView::new(&[1f32; 2], vec![0], [0, 2, 1]));
    all.push(Inputs { modifiers: Modifiers { bias, ..good.modifiers.clone() }, ..good });
    all
}

/// As large as the type of sizes, with inputs that are a few elements.
fn absurd_attentions() -> Vec<Inputs<'static, f32>> {
    let one = Sizes { batch: 1, queries: 1, keys: 1, heads: 1, kv_heads: 1, depth: 1, value_depth: 1 };
    [Sizes { keys: ABSURD_64TH, ..one }, Sizes { keys: ABSURD_64TH, queries: 40, ..one }].map(inputs).into()
}

fn attention() {
    bad_attentions().iter().for_each(|inputs| refused(f32::attention(inputs)));
    absurd_attentions().iter().for_each(|inputs| too_large(f32::attention(inputs)));
    let queries = Sizes { queries: ABSURD, ..absurd_attentions()[0].sizes };
    too_large(f32::attention(&inputs(Sizes { keys: 1, ..queries })));
}

fn attention_backward() {
    let good = inputs(SIZES);
    let (y, statistics) = f32::attention(&good).unwrap();
    let of = |elements| StridedView::new(elements, vec![0], [4, 2, 1]);
    let backward = |inputs: &_, statistics: &[_], y: &_, dy: &_| {
        f32::attention_backward(inputs, statistics, y, dy, [true; 3])
    };
    assert!(backward(&good, &statistics, &of(&y), &of(&y)).is_ok());
    for bad in bad_attentions() {
        refused(backward(&bad, &statistics, &of(&y), &of(&y)));
    }
    refused(backward(&good, &statistics[1..], &of(&y), &of(&y)));
    refused(backward(&good, &[], &of(&y), &of(&y)));
    refused(backward(&good, &statistics, &of(&y[1..]), &of(&y)));
    refused(backward(&good, &statistics, &of(&y), &of(&[])));
    for large in absurd_attentions() {
        let statistics = vec![[0., 1.]; large.sizes.queries];
        let zeros = StridedView::new(&[0.], vec![0], [0, 0, 1]);
        for wanted in [[true; 3], [true, false, false]] {
            too_large(f32::attention_backward(&large, &statistics, &zeros, &zeros, wanted));
        }
    }
}

const ORDER: Order =
    Order { time: 2, items: 3, time_major: false, reverse: false, keep_order: false, lengths: None };

const RECURRENT_SIZES: RecurrentSizes = RecurrentSizes { order: ORDER, inputs: 2, features: 2 };

const NO_OPERANDS: Operands<&[f32]> =
    Operands { x: &[], carry: Vec::new(), of_input: Vec::new(), of_carry: Vec::new() };

/// Each cell, with its gates that have an input, those that have a carry, and the tensors of its carry.
const CELLS: [(AnyCell, usize, usize, usize); 5] = [
    (AnyCell::Lstm(Lstm), 4, 4, 2),
    (AnyCell::Gru(Gru), 3, 3, 1),
    (AnyCell::Mgu(Mgu), 2, 2, 1),
    (AnyCell::MguWithoutReset(MguWithoutReset), 2, 2, 1),
    (AnyCell::Simple(Simple { residual: true }), 1, 1, 1),
];

/// Of [`RECURRENT_SIZES`].
fn operands((_, of_input, of_carry, states): (AnyCell, usize, usize, usize)) -> Operands<&'static [f32]> {
    let layer = Affine { kernel: &[0.5; 4][..], bias: Some(&[0.; 2][..]) };
    Operands {
        x: &[1.; 12],
        carry: vec![&[0.; 6]; states],
        of_input: vec![layer.clone(); of_input],
        of_carry: vec![layer; of_carry],
    }
}

fn bad_recurrent_sizes() -> Vec<RecurrentSizes> {
    let good = RECURRENT_SIZES;
    let order = |order| RecurrentSizes { order, ..RECURRENT_SIZES };
    vec![
        RecurrentSizes { inputs: 0, ..good.clone() },
        RecurrentSizes { inputs: MAX, ..good.clone() },
        RecurrentSizes { features: 0, ..good.clone() },
        RecurrentSizes { features: HALF, ..good.clone() },
        RecurrentSizes { features: MAX, inputs: MAX, ..good },
        order(Order { time: 3, ..ORDER }),
        order(Order { items: 2, ..ORDER }),
        order(Order { time: 0, items: HALF, ..ORDER }),
        order(Order { time: HALF, items: 0, ..ORDER }),
        order(Order { time: MAX, items: MAX, ..ORDER }),
        order(Order { lengths: Some(vec![]), ..ORDER }),
        order(Order { lengths: Some(vec![0, 1, 3]), ..ORDER }),
        order(Order { lengths: Some(vec![MAX; 3]), ..ORDER }),
    ]
}

fn bad_operands(good: &Operands<&'static [f32]>) -> Vec<Operands<&'static [f32]>> {
    let change = |change: fn(&mut Operands<&'static [f32]>)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    vec![
        change(|operands| operands.x = &[]),
        change(|operands| operands.x = &[1.; 13]),
        change(|operands| operands.carry.clear()),
        change(|operands| operands.carry.push(&[0.; 6])),
        change(|operands| operands.carry[0] = &[0.; 5]),
        change(|operands| operands.of_input.clear()),
        change(|operands| operands.of_carry.clear()),
        change(|operands| operands.of_input[0].kernel = &[1.; 3]),
        change(|operands| operands.of_carry[0].kernel = &[]),
        change(|operands| operands.of_input[0].bias = Some(&[])),
        change(|operands| operands.of_carry[0].bias = Some(&[1.; 3])),
    ]
}

fn recurrent() {
    for cell in CELLS {
        let good = operands(cell);
        assert!(f32::recurrent(cell.0, &RECURRENT_SIZES, &good, true).is_ok());
        for sizes in bad_recurrent_sizes() {
            refused(f32::recurrent(cell.0, &sizes, &good, true));
        }
        for bad in bad_operands(&good) {
            refused(f32::recurrent(cell.0, &RECURRENT_SIZES, &bad, false));
        }
        refused(f32::recurrent(cell.0, &RECURRENT_SIZES, &NO_OPERANDS, false));
        // Without input features, a few elements are any number of steps.
        let steps =
            RecurrentSizes { order: Order { time: ABSURD, items: 1, ..ORDER }, inputs: 0, features: 1 };
        let layer = |kernel| Affine { kernel, bias: None };
        let none = Operands {
            x: &[][..],
            carry: vec![&[0.][..]; cell.3],
            of_input: vec![layer(&[][..]); cell.1],
            of_carry: vec![layer(&[1.][..]); cell.2],
        };
        too_large(f32::recurrent(cell.0, &steps, &none, false));
    }
}

fn recurrent_backward() {
    for cell in CELLS {
        let good = operands(cell);
        let Forward { saved, .. } = f32::recurrent(cell.0, &RECURRENT_SIZES, &good, true).unwrap();
        let (wanted, dy) = (vec![true; good.iter().count()], [1.; 12]);
        let mut cotangents: Vec<Option<&[f32]>> = vec![None; 1 + cell.3];
        let backward = |sizes: &_, operands: &_, saved: &_, cotangents: &[_], wanted: &[bool]| {
            f32::recurrent_backward(cell.0, sizes, operands, saved, cotangents, wanted)
        };
        let sizes = &RECURRENT_SIZES;
        assert!(backward(sizes, &good, &saved, &cotangents, &wanted).is_ok());
        for sizes in bad_recurrent_sizes() {
            refused(backward(&sizes, &good, &saved, &cotangents, &wanted));
        }
        for bad in bad_operands(&good) {
            refused(backward(sizes, &bad, &saved, &cotangents, &wanted));
        }
        // Of a run that did not save, and of one with other sizes.
        let Forward { saved: unsaved, .. } = f32::recurrent(cell.0, sizes, &good, false).unwrap();
        refused(backward(sizes, &good, &unsaved, &cotangents, &wanted));
        let shorter = RecurrentSizes { order: Order { time: 1, ..ORDER }, ..RECURRENT_SIZES };
        let half = Operands { x: &good.x[..6], ..good.clone() };
        let Forward { saved: other, .. } = f32::recurrent(cell.0, &shorter, &half, true).unwrap();
        refused(backward(sizes, &good, &other, &cotangents, &wanted));

        refused(backward(sizes, &good, &saved, &cotangents[1..], &wanted));
        refused(backward(sizes, &good, &saved, &[], &wanted));
        refused(backward(sizes, &good, &saved, &cotangents, &wanted[1..]));
        refused(backward(sizes, &good, &saved, &cotangents, &[]));
        cotangents[0] = Some(&dy[1..]);
        refused(backward(sizes, &good, &saved, &cotangents, &wanted));
        cotangents[0] = Some(&dy);
        cotangents[1] = Some(&dy);
        refused(backward(sizes, &good, &saved, &cotangents, &wanted));
    }
}
