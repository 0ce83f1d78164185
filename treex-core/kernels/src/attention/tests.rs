use super::*;
use crate::math::Real;

/// `[batch, queries, keys, heads, kv_heads, depth, value_depth]`: tiles that are full, partial, and several of both.
const SIZES: [[usize; 7]; 6] = [
    [1, 1, 1, 1, 1, 1, 1],
    [2, 5, 7, 4, 2, 3, 6],
    [2, QUERY_TILE + 1, QUERY_TILE + 1, 2, 2, 32, 5],
    [1, 2 * QUERY_TILE, KEY_TILE, 2, 1, 8, 33],
    [1, 70, KEY_TILE + 37, 3, 1, 9, 2],
    [2, 3, 2 * KEY_TILE + 1, 1, 1, 16, 4],
];

fn sizes([batch, queries, keys, heads, kv_heads, depth, value_depth]: [usize; 7]) -> Sizes {
    Sizes { batch, queries, keys, heads, kv_heads, depth, value_depth }
}

/// Numbers between -1 and 1.
fn numbers<T: Float>(seed: usize, len: usize) -> Vec<T> {
    let number = |at: usize| ((at * 7919 + seed * 104_729) % 1999) as f64 / 999. - 1.;
    (0..len).map(|at| T::narrow(T::Wide::of(number(at)))).collect()
}

fn to_f64<T: Float>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.widen().to_f64()).collect()
}

/// A contiguous array `[batch, i, j, k]`.
fn view<T>(elements: &[T], batch: usize, [i, j, k]: [usize; 3]) -> StridedView<'_, T> {
    StridedView::new(elements, (0..batch).map(|item| item * i * j * k).collect(), [j * k, k, 1])
}

/// What modifies scores, in full: bias, whether a key is visible, and the factor of a weight.
struct Plain {
    bias: Vec<f64>,
    visible: Vec<bool>,
    factor: Vec<f64>,
}

/// The formula in `f64`: `y` and the gradients of `Σ y · dy`.
fn by_formula(s: Sizes, [query, key, value, dy]: [&[f64]; 4], plain: &Plain) -> [Vec<f64>; 4] {
    let mut y = vec![0.; dy.len()];
    let (mut dquery, mut dkey, mut dvalue) =
        (vec![0.; query.len()], vec![0.; key.len()], vec![0.; value.len()]);
    let scale = 1. / (s.depth as f64).sqrt();
    for (item, head, i) in indices([s.batch, s.heads, s.queries]) {
        let kv_head = head / (s.heads / s.kv_heads);
        let q = ((item * s.queries + i) * s.heads + head) * s.depth;
        let o = ((item * s.queries + i) * s.heads + head) * s.value_depth;
        let k = |j: usize| ((item * s.keys + j) * s.kv_heads + kv_head) * s.depth;
        let v = |j: usize| ((item * s.keys + j) * s.kv_heads + kv_head) * s.value_depth;
        let at = |j: usize| ((item * s.heads + head) * s.queries + i) * s.keys + j;
        let score = |j: usize| {
            let dot: f64 = (0..s.depth).map(|c| query[q + c] * key[k(j) + c]).sum();
            if plain.visible[at(j)] { dot * scale + plain.bias[at(j)] } else { f64::MIN }
        };
        let scores: Vec<f64> = (0..s.keys).map(score).collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp() / sum).collect();
        let dweight = |j: usize| {
            let dot: f64 = (0..s.value_depth).map(|c| dy[o + c] * value[v(j) + c]).sum();
            dot * plain.factor[at(j)]
        };
        let delta: f64 = (0..s.keys).map(|j| weights[j] * dweight(j)).sum();
        for j in 0..s.keys {
            let weight = weights[j] * plain.factor[at(j)];
            for c in 0..s.value_depth {
                y[o + c] += weight * value[v(j) + c];
                dvalue[v(j) + c] += weight * dy[o + c];
            }
            let dscore = weights[j] * (dweight(j) - delta) * scale;
            for c in 0..if plain.visible[at(j)] { s.depth } else { 0 } {
                dquery[q + c] += dscore * key[k(j) + c];
                dkey[k(j) + c] += dscore * query[q + c];
            }
        }
    }
    [y, dquery, dkey, dvalue]
}

fn indices([a, b, c]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |at| (at / (b * c), at / c % b, at % c))
}

/// Forward and backward, of all sizes, without modifiers and with all of them.
fn check<T: Attention>(tolerance: f64) -> Result<()> {
    for (s, is_modified) in SIZES.into_iter().flat_map(|s| [(sizes(s), false), (sizes(s), true)]) {
        let query: Vec<T> = numbers(1, s.batch * s.queries * s.heads * s.depth);
        let key: Vec<T> = numbers(2, s.batch * s.keys * s.kv_heads * s.depth);
        let value: Vec<T> = numbers(3, s.batch * s.keys * s.kv_heads * s.value_depth);
        let dy: Vec<T> = numbers(4, s.batch * s.queries * s.heads * s.value_depth);

        // A bias for each head and key, a mask for each query and key, of which every third query sees nothing, and
        // dropout of single weights.
        let bias: Vec<T> = numbers(5, s.heads * s.keys);
        let mask: Vec<u8> =
            (0..s.queries * s.keys).map(|at| u8::from(at / s.keys % 3 > 0 && at % 5 > 0)).collect();
        let kept: Vec<u8> =
            (0..s.batch * s.heads * s.queries * s.keys).map(|at| u8::from(at % 7 > 1)).collect();
        let modifiers = if is_modified {
            Modifiers {
                bias: Some(StridedView::new(&bias, vec![0; s.batch], [s.keys, 0, 1])),
                mask: Some(StridedView::new(&mask, vec![0; s.batch], [0, s.keys, 1])),
                causal: true,
                dropout: Some((view(&kept, s.batch, [s.heads, s.queries, s.keys]), 1.5)),
            }
        } else {
            Modifiers { bias: None, mask: None, causal: false, dropout: None }
        };
        let (mut plain_bias, mut visible, mut factor) = (Vec::new(), Vec::new(), Vec::new());
        for (at, kept) in kept.iter().enumerate() {
            let (head, i, j) = (at / (s.queries * s.keys) % s.heads, at / s.keys % s.queries, at % s.keys);
            let bias = bias[head * s.keys + j].widen().to_f64();
            plain_bias.push(if is_modified { bias } else { 0. });
            visible.push(!is_modified || mask[i * s.keys + j] > 0 && j <= i);
            factor.push(if is_modified { f64::from(*kept) * 1.5 } else { 1. });
        }
        let plain = Plain { bias: plain_bias, visible, factor };

        let inputs = Inputs {
            sizes: s,
            query: view(&query, s.batch, [s.queries, s.heads, s.depth]),
            key: view(&key, s.batch, [s.keys, s.kv_heads, s.depth]),
            value: view(&value, s.batch, [s.keys, s.kv_heads, s.value_depth]),
            modifiers,
        };
        let of_y = [s.queries, s.heads, s.value_depth];
        let (y, statistics) = T::attention(&inputs)?;
        let backward = |wanted| {
            let (y, dy) = (view(&y, s.batch, of_y), view(&dy, s.batch, of_y));
            T::attention_backward(&inputs, &statistics, &y, &dy, wanted)
        };
        let gradients = backward([true; 3])?;
        let numbers = [&query, &key, &value, &dy].map(|x| to_f64(x));
        let wanted = by_formula(s, numbers.each_ref().map(Vec::as_slice), &plain);
        for (found, wanted) in [&y].into_iter().chain(&gradients).zip(&wanted) {
            let largest = wanted.iter().fold(1f64, |largest, x| largest.max(x.abs()));
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in to_f64(found).into_iter().zip(wanted) {
                let error = (found - wanted).abs() / largest;
                assert!(error <= tolerance, "{s:?} {is_modified}: {found} instead of {wanted}");
            }
        }

        // One at a time: the same numbers, and nothing for the others.
        for only in 0..3 {
            for (at, found) in backward([0, 1, 2].map(|at| at == only))?.iter().enumerate() {
                assert!(if at == only { *found == gradients[at] } else { found.is_empty() });
            }
        }
    }
    Ok(())
}

#[test]
fn equals_the_formula() -> Result<()> {
    check::<f64>(1e-13)?;
    check::<f32>(2e-6)?;
    check::<f16>(2e-3)?;
    check::<bf16>(2e-2)
}

/// Rows in any order and of any strides, as of a transposed tensor.
/// NaN in what a mask hides, by JAX 0.10.2 (`jax.vjp` of Flax's `dot_product_attention`, with the cotangent 1): a weight
/// of 0 does not hide a value that is NaN, and the score that it replaced has the gradient 0.
#[test]
fn nan_under_a_mask() -> Result<()> {
    let nan = f32::NAN;
    let mask = [1, 0, 1, 0];
    for (key, value, wanted) in [
        ([0.5, 1.], [1., nan], [[nan; 2], [nan; 2], [nan, 0.], [2., 0.]]),
        ([0.5, 1.], [1., f32::INFINITY], [[nan; 2], [nan; 2], [nan, 0.], [2., 0.]]),
        ([0.5, nan], [1., 3.], [[1.; 2], [nan; 2], [0.; 2], [2., 0.]]),
        ([0.5, f32::INFINITY], [1., 2.], [[1.; 2], [nan; 2], [0.; 2], [2., 0.]]),
    ] {
        for causal in [false, true] {
            let inputs = Inputs {
                sizes: sizes([1, 2, 2, 1, 1, 1, 1]),
                query: view(&[1., 2.], 1, [2, 1, 1]),
                key: view(&key, 1, [2, 1, 1]),
                value: view(&value, 1, [2, 1, 1]),
                modifiers: Modifiers {
                    bias: None,
                    mask: Some(StridedView::new(&mask, vec![0], [0, 2, 1])),
                    causal,
                    dropout: None,
                },
            };
            let (y, statistics) = f32::attention(&inputs)?;
            let (of_y, dy) = (view(&y, 1, [2, 1, 1]), view(&[1.; 2], 1, [2, 1, 1]));
            let [dq, dk, dv] = f32::attention_backward(&inputs, &statistics, &of_y, &dy, [true; 3])?;
            for (found, wanted) in [&y, &dq, &dk, &dv].into_iter().zip(wanted) {
                let same = found.iter().zip(wanted).all(|(x, y)| *x == y || x.is_nan() && y.is_nan());
                assert!(same, "{key:?} {value:?}: {found:?}, not {wanted:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn strided_views() -> Result<()> {
    let s = sizes([2, 3, 4, 2, 2, 5, 5]);
    let (query_numbers, key_numbers): (Vec<f32>, Vec<f32>) = (numbers(1, 60), numbers(2, 80));
    let modifiers = Modifiers { bias: None, mask: None, causal: false, dropout: None };
    let inputs = |query| {
        let keys = view(&key_numbers, 2, [4, 2, 5]);
        Inputs { sizes: s, query, key: keys.clone(), value: keys, modifiers: modifiers.clone() }
    };
    let (wanted, _) = f32::attention(&inputs(view(&query_numbers, 2, [3, 2, 5])))?;
    // `[heads, batch, queries, gap + depth]`.
    let mut strided = vec![f32::NAN; 2 * 2 * 3 * 7];
    for (item, i, head) in indices([2, 3, 2]) {
        let from = &query_numbers[((item * 3 + i) * 2 + head) * 5..][..5];
        strided[((head * 2 + item) * 3 + i) * 7 + 2..][..5].copy_from_slice(from);
    }
    let (found, _) = f32::attention(&inputs(StridedView::new(&strided, vec![2, 23], [7, 42, 1])))?;
    assert_eq!(found, wanted);

    // The last stride of rows of one element is not used.
    let s = sizes([1, 2, 3, 1, 1, 1, 1]);
    let of_strides = |[query, key]: [[usize; 3]; 2]| {
        let keys = StridedView::new(&key_numbers, vec![0], key);
        let query = StridedView::new(&query_numbers, vec![0], query);
        f32::attention(&Inputs {
            sizes: s,
            query,
            key: keys.clone(),
            value: keys,
            modifiers: modifiers.clone(),
        })
    };
    assert_eq!(of_strides([[1, 1, 9], [1, 9, 0]])?, of_strides([[1, 2, 1], [1, 1, 1]])?);
    Ok(())
}

#[test]
fn sizes_and_views_are_checked() -> Result<()> {
    let x: Vec<f32> = numbers(1, 12);
    let mask = [1; 12];
    let run = |s: [usize; 7], query, mask| {
        let [batch, _, keys, _, kv_heads, depth, value_depth] = s;
        let inputs = Inputs {
            sizes: sizes(s),
            query,
            key: view(&x, batch, [keys, kv_heads, depth]),
            value: view(&x, batch, [keys, kv_heads, value_depth]),
            modifiers: Modifiers { bias: None, mask, causal: false, dropout: None },
        };
        let (y, statistics) = f32::attention(&inputs)?;
        let y = view(&y, 1, [1, 2, 3]);
        f32::attention_backward(&inputs, &statistics[1..], &y, &y, [true; 3])
    };
    let query = || view(&x, 1, [1, 2, 3]);
    let message = |result: Result<[Vec<f32>; 3]>| result.expect_err("an error").to_string();
    let good = [1, 1, 2, 2, 2, 3, 3];
    for (s, query, mask, message_part) in [
        (good, query(), None, "statistics do not belong"),
        ([1, 1, 0, 2, 2, 3, 3], query(), None, "no size of 0"),
        ([1, 1, 1, 2, 0, 3, 3], query(), None, "no size of 0"),
        ([1, 1, 2, 3, 2, 3, 3], query(), None, "a multiple of 2 heads"),
        ([1, usize::MAX / 2, 2, 2, 2, 3, 3], query(), None, "too large"),
        ([1, 3, 2, 2, 2, 3, 3], query(), None, "beyond its slice"),
        ([1, 1, 3, 2, 2, 3, 3], query(), None, "beyond its slice"),
        (good, StridedView::new(&x, vec![7], [6, 3, 1]), None, "beyond its slice"),
        (good, StridedView::new(&x, vec![0], [0, usize::MAX, 1]), None, "beyond its slice"),
        (good, StridedView::new(&x, vec![0, 0], [6, 3, 1]), None, "an offset for each item"),
        (good, StridedView::new(&x, vec![0], [6, 3, 0]), None, "a last stride of 1"),
        (good, query(), Some(StridedView::new(&mask, vec![0], [0, 0, 2])), "a last stride of 0 or 1"),
        (good, query(), Some(StridedView::new(&mask, vec![11], [0, 0, 1])), "beyond its slice"),
    ] {
        let found = message(run(s, query, mask));
        assert!(found.contains(message_part), "{found} instead of {message_part}");
    }
    Ok(())
}
