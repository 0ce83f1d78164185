//! What a cell computes.

use treex_kernels::math::Real;

/// A cell with `G` sums and `S` tensors in its carry, feature by feature; everything in it `#[inline(always)]`.
///
/// A sum is a bias, a product with the input, and a product with the last tensor of the carry, which is also the
/// output. The first sums may be without the input, and the last ones without the carry.
pub(crate) trait Cell<const G: usize, const S: usize>: Copy + Send + Sync + 'static {
    /// How errors call it.
    const NAME: &'static str;
    /// The sums from this one on have a part of the input.
    const FROM_INPUT: usize = 0;
    /// The sums before this one have a part of the carry.
    const FROM_CARRY: usize = G;

    /// What [`backward`](Self::backward) needs of the sums, and the carry after the step, from the sums and the carry before.
    fn forward<R: Real>(self, sums: [R; G], carry: [R; S]) -> ([R; G], [R; S]);

    /// The gradients of the sums and of the carry before the step without its part in the sums, from what was kept
    /// of the sums, the carry before, and the gradient of the carry after.
    fn backward<R: Real>(self, kept: [R; G], carry: [R; S], gradient: [R; S]) -> ([R; G], [R; S]);
}
