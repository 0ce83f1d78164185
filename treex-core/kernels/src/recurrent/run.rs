//! A run of a cell: its results, and what both directions share.

use crate::math::Real;

/// The results of a run.
#[derive(Debug)]
pub struct Forward<T> {
    /// The outputs, `[rows, features]`.
    pub y: Vec<T>,
    /// Each tensor of the carry after the last step of each sequence, `[items, features]`.
    pub carry: Vec<Vec<T>>,
    /// What the backward pass needs.
    pub saved: Saved<T>,
}

/// What the backward pass of a run needs, complete if the run was told to save it.
#[derive(Debug)]
pub struct Saved<T> {
    pub(super) gates: Vec<T>,
    /// The carry before each step.
    pub(super) carries: Vec<T>,
}

/// Features that are computed side by side.
pub(super) const LANES: usize = 32;

/// `[items, features]` each, concatenated to `[items, parts, features]`; zeros for a part that is `None`. Empty if all
/// are.
pub(super) fn concatenate<T: Real>(parts: &[Option<&[T]>], features: usize) -> Vec<T> {
    let Some(len) = parts.iter().flatten().map(|part| part.len()).next() else {
        return Vec::new();
    };
    let mut all = vec![T::of(0.); len * parts.len()];
    for (index, part) in parts.iter().enumerate() {
        let Some(part) = part else { continue };
        let rows = all.chunks_exact_mut(parts.len() * features).zip(part.chunks_exact(features));
        rows.for_each(|(all, row)| all[index * features..(index + 1) * features].copy_from_slice(row));
    }
    all
}

/// At most [`LANES`] features, padded with zeros.
#[inline(always)]
pub(super) fn padded<R: Real>(piece: &[R]) -> [R; LANES] {
    let mut lanes = [R::of(0.); LANES];
    lanes[..piece.len()].copy_from_slice(piece);
    lanes
}

/// Adds element by element, up to the end of the shorter one.
#[inline(always)]
pub(super) fn add_to<R: Real>(to: &mut [R], from: &[R]) {
    to.iter_mut().zip(from).for_each(|(to, x)| *to = *to + *x);
}
