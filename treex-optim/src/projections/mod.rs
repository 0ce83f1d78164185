//! Projections: the nearest tree that a constraint allows.

/// By how much to lower `values` so that, with what falls below 0 put to 0, they sum to `scale`: the projection
/// onto the simplex is `max(0, values - threshold)`.
///
/// Duchi et al., [Efficient Projections onto the l1-Ball](https://dl.acm.org/doi/10.1145/1390156.1390191), 2008.
pub(crate) fn simplex_threshold(mut values: Vec<f64>, scale: f64) -> f64 {
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut threshold) = (0., 0.);
    for (index, &value) in values.iter().enumerate() {
        sum += value;
        let lowered = (sum - scale) / (index + 1) as f64;
        if index > 0 && value <= lowered {
            break;
        }
        threshold = lowered;
    }
    threshold
}
