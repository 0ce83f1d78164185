//! Muon: orthogonalized momentum.

use candle_core::{DType, Tensor};
use treex_core::{Filter, Leaves, Result, TreeObject, by};

use super::dimension_numbers::{DimensionNumbers, Matrices, WeightDimensionNumbers};
use super::newton_schulz::{NewtonSchulz, newton_schulz};
use crate::alias::adamw::{AdamW, adamw};
use crate::chain::{Chain, chain};
use crate::combinators::masked::Masked;
use crate::engine::{Number, Rule, Times, Updates};
use crate::numerics::{bias_correction, check_decay, check_finite, check_float, zeros_in};
use crate::scalar::Count;
use crate::schedule::Schedule;
use crate::selection::Selection;
use crate::transform::add_decayed_weights::{AddDecayedWeights, add_decayed_weights};
use crate::transform::builder;
use crate::transform::scale_by_learning_rate::{ScaleByLearningRate, scale_by_learning_rate};
use crate::transformation::{GradientTransformation, Member, Stateless};

/// The state of [`scale_by_muon`].
#[derive(Clone, Debug, TreeObject)]
pub struct ScaleByMuonState {
    /// The number of steps so far: a scalar i64.
    pub count: Count,
    /// The average of the gradients: the parameters' shapes, f32 (f64 for f64 parameters), or `mu_dtype`.
    pub mu: Leaves,
}

/// See [`scale_by_muon`].
#[derive(Clone, Debug)]
pub struct ScaleByMuon {
    newton_schulz: NewtonSchulz,
    beta: f64,
    nesterov: bool,
    adaptive: bool,
    mu_dtype: Option<DType>,
    dimensions: WeightDimensionNumbers,
}

/// Orthogonalizes an average of the gradients, so that all directions have equal weight:
///
/// ```text
/// mu  = beta mu + (1 - beta) g
/// mu^ = beta mu / (1 - beta^(t+1)) + (1 - beta) g / (1 - beta^t)      mu / (1 - beta^t) without nesterov
/// u   = newton_schulz(mu^)                                            times sum(mu^ * u) if adaptive
/// ```
///
/// with `beta = 0.95` and [`newton_schulz`]. A leaf of more than two dimensions is a matrix whose columns
/// are its last axis: a kernel `[height, width, in, out]` has `height * width * in` rows; others have
/// [`weight_dimension_numbers`](ScaleByMuon::weight_dimension_numbers). A leaf of fewer
/// dimensions is an error; [`muon`] trains those with AdamW.
///
/// Jordan et al., [Muon: an optimizer for hidden layers in neural
/// networks](https://kellerjordan.github.io/posts/muon/), 2024.
#[must_use]
pub fn scale_by_muon() -> ScaleByMuon {
    ScaleByMuon {
        newton_schulz: newton_schulz(),
        beta: 0.95,
        nesterov: true,
        adaptive: false,
        mu_dtype: None,
        dimensions: WeightDimensionNumbers::default(),
    }
}

builder!(ScaleByMuon {
    /// How the average is orthogonalized.
    newton_schulz: NewtonSchulz,
    /// The decay rate of the average.
    beta: f64,
    /// Whether to use Nesterov momentum.
    nesterov: bool,
    /// Whether updates are scaled by the dual norm of the gradients.
    adaptive: bool,
    /// The element type of `mu`.
    mu_dtype: impl Into<Option<DType>>,
});

impl ScaleByMuon {
    /// The rows and columns of the leaves that `filter` selects, unless an earlier one did. A leaf has a matrix for each
    /// index of its other axes.
    #[must_use]
    pub fn weight_dimension_numbers(
        self,
        filter: impl Filter + Send + Sync + 'static,
        numbers: DimensionNumbers,
    ) -> Self {
        Self { dimensions: self.dimensions.and(filter, numbers), ..self }
    }

    fn orthogonalize(&self, mu: &Tensor, matrices: Option<&Matrices>) -> Result<Tensor> {
        let orthogonalize = |matrix: &Tensor| self.newton_schulz.orthogonalize(matrix);
        let orthogonal = match matrices {
            Some(matrices) => matrices.map(mu, orthogonalize)?,
            None => orthogonalize(mu)?,
        };
        if !self.adaptive {
            return Ok(orthogonal);
        }
        let dual = (mu * &orthogonal)?.sum_all()?;
        Ok(orthogonal.broadcast_mul(&dual)?)
    }
}

/// A kernel has its inputs in front of its outputs. A leaf of fewer axes is no matrix.
fn kernel(rank: usize) -> Option<DimensionNumbers> {
    (rank > 1).then(|| DimensionNumbers::last_axis(rank))
}

impl GradientTransformation for ScaleByMuon {
    type State = ScaleByMuonState;

    fn init(&self, params: &Leaves) -> Result<Self::State> {
        check_decay("beta", self.beta)?;
        check_float("mu_dtype", self.mu_dtype)?;
        self.dimensions.check(params)?;
        Ok(ScaleByMuonState { count: Count::zero()?, mu: zeros_in(params, self.mu_dtype)? })
    }

    fn update<'a>(&'a self, updates: Updates<'a>, state: &'a mut Self::State) -> Result<Updates<'a>> {
        let t = state.count.advance()?;
        let rule = if self.nesterov {
            let (mu_scale, g_scale) = (
                self.beta / bias_correction(self.beta, t + 1),
                (1. - self.beta) / bias_correction(self.beta, t),
            );
            Momentum { beta: self.beta, mu_scale, g_scale }
        } else {
            Momentum { beta: self.beta, mu_scale: 1. / bias_correction(self.beta, t), g_scale: 0. }
        };
        let updates = updates.map(rule, [&mut state.mu])?;
        Ok(updates.each_step(|mu, _| {
            let matrices = self.dimensions.matrices(&mu, kernel)?;
            let at = |index: usize, mu| self.orthogonalize(mu, matrices[index].as_ref());
            mu.rebuild(|index| mu.get(index).map(|mu| at(index, mu)).transpose())
        }))
    }

    fn members<'s>(&'s self, _state: &'s Self::State) -> Vec<Member<'s>> {
        Vec::new()
    }
}

/// One step of the average.
struct Momentum {
    beta: f64,
    mu_scale: f64,
    g_scale: f64,
}

impl Rule<1> for Momentum {
    #[inline(always)]
    fn apply<N: Number>(&self, g: N, _: N, [mu]: [N; 1]) -> (N, [N; 1]) {
        let mu = mu * self.beta + g.clone() * (1. - self.beta);
        (mu.clone() * self.mu_scale + g * self.g_scale, [mu])
    }
}

/// See [`scale_by_shape`].
#[derive(Clone, Debug, Default)]
pub struct ScaleByShape {
    consistent_rms: Option<f64>,
    output_first: bool,
    dimensions: WeightDimensionNumbers,
}

/// Scales the update of each matrix by a number that depends on its shape, so that one learning rate suits
/// all: `sqrt(max(1, outputs / inputs))`, or `consistent_rms * sqrt(max(inputs, outputs))` if that is given;
/// with 0.2 the root mean square is about Adam's.
///
/// The outputs are on the last axis, as in treex's kernels; `output_first` is for those of Candle and
/// PyTorch, [`weight_dimension_numbers`](ScaleByShape::weight_dimension_numbers) for others.
#[must_use]
pub fn scale_by_shape() -> ScaleByShape {
    ScaleByShape::default()
}

builder!(ScaleByShape {
    /// The root mean square that updates should have, whatever their shape.
    consistent_rms: f64,
    /// Whether the outputs are on the first axis.
    output_first: bool,
});

impl ScaleByShape {
    /// [`ScaleByMuon::weight_dimension_numbers`]
    #[must_use]
    pub fn weight_dimension_numbers(
        self,
        filter: impl Filter + Send + Sync + 'static,
        numbers: DimensionNumbers,
    ) -> Self {
        Self { dimensions: self.dimensions.and(filter, numbers), ..self }
    }

    fn factor(&self, inputs: usize, outputs: usize) -> f64 {
        let (inputs, outputs) = (inputs as f64, outputs as f64);
        match self.consistent_rms {
            Some(rms) => rms * inputs.max(outputs).sqrt(),
            None => f64::max(1., outputs / inputs).sqrt(),
        }
    }
}

impl Stateless for ScaleByShape {
    fn check(&self, params: &Leaves) -> Result<()> {
        self.dimensions.check(params)?;
        check_finite("consistent_rms", self.consistent_rms.unwrap_or(0.))
    }

    fn transform<'a>(&'a self, updates: Updates<'a>) -> Result<Updates<'a>> {
        let kernel = |rank: usize| match self.output_first {
            _ if rank == 0 => None,
            true => Some(DimensionNumbers::new((1..rank as isize).collect::<Vec<_>>(), [0])),
            false => Some(DimensionNumbers::last_axis(rank)),
        };
        let matrices = self.dimensions.matrices(updates.params(), kernel)?;
        let factor = |matrices: &Option<Matrices>| {
            let (inputs, outputs) =
                matrices.as_ref().map_or((1, 1), |matrices| (matrices.rows, matrices.columns));
            self.factor(inputs, outputs)
        };
        let factors: Vec<_> = matrices.iter().map(factor).collect();
        updates.map_each(|index| Times(factors[index]), [])
    }
}

/// The type of [`muon`].
pub type Muon = Chain<(Masked<MuonForMatrices>, Masked<AdamW>)>;

/// The transformation of matrices in [`muon`].
pub type MuonForMatrices = Chain<(ScaleByMuon, ScaleByShape, AddDecayedWeights, ScaleByLearningRate)>;

/// Muon for matrices, AdamW for everything else. Muon is [`scale_by_muon`], [`scale_by_shape`], weight
/// decay (none by default) and the learning rate. Both have Nesterov momentum.
///
/// Embeddings and the last layer are matrices too, but AdamW suits them better:
///
/// ```
/// use treex_core::by;
/// use treex_optim::{muon, prelude::*};
///
/// let hidden = path("blocks.**") & by(|leaf| leaf.rank() == Some(2));
/// let optimizer = muon(0.02).adam_learning_rate(3e-4).orthogonalize(hidden);
/// # let _ = optimizer;
/// ```
#[must_use]
pub fn muon(learning_rate: impl Into<Schedule>) -> Muon {
    let rate = learning_rate.into();
    let matrices = chain((
        scale_by_muon(),
        scale_by_shape(),
        add_decayed_weights(0.),
        scale_by_learning_rate(rate.clone()),
    ));
    let adam = adamw(rate).weight_decay(0.).nesterov(true);
    let selection = Selection::optional(by(is_matrix));
    chain((
        Masked { inner: matrices, selection: selection.clone() },
        Masked { inner: adam, selection: selection.complement() },
    ))
}

fn is_matrix(leaf: &treex_core::LeafRef<'_>) -> bool {
    leaf.rank() == Some(2)
}

impl Muon {
    /// Which leaves are orthogonalized, instead of those with two dimensions; AdamW trains the rest.
    #[must_use]
    pub fn orthogonalize(mut self, filter: impl Filter + Send + Sync + 'static) -> Self {
        let selection = Selection::new(filter);
        self.0.0.selection = selection.clone();
        self.0.1.selection = selection.complement();
        self
    }

    /// The rows and columns of the leaves that `filter` selects, unless an earlier one did. They are orthogonalized
    /// too, unless [`orthogonalize`](Self::orthogonalize) chooses anew after it.
    ///
    /// ```
    /// use treex_optim::{DimensionNumbers, muon, prelude::*};
    ///
    /// // Projections of an attention, `[embedding, heads, size of a head]`.
    /// let attention = DimensionNumbers::new([0], [1, 2]);
    /// let optimizer = muon(0.02).weight_dimension_numbers(path("**.query.kernel"), attention);
    /// # let _ = optimizer;
    /// ```
    #[must_use]
    pub fn weight_dimension_numbers(
        mut self,
        filter: impl Filter + Send + Sync + 'static,
        numbers: DimensionNumbers,
    ) -> Self {
        let filter = Selection::new(filter);
        let selection = self.0.0.selection.clone().or(filter.clone());
        self.0.0.selection = selection.clone();
        self.0.1.selection = selection.complement();
        let (muon, shape, ..) = self.matrices();
        *muon = muon.clone().weight_dimension_numbers(filter.clone(), numbers.clone());
        *shape = shape.clone().weight_dimension_numbers(filter, numbers);
        self
    }

    /// How averages are orthogonalized.
    #[must_use]
    pub fn newton_schulz(mut self, newton_schulz: NewtonSchulz) -> Self {
        self.matrices().0.newton_schulz = newton_schulz;
        self
    }

    /// The decay rate of the average of the gradients of matrices.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.matrices().0.beta = beta;
        self
    }

    /// Whether the averages look one step ahead, AdamW's too.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.matrices().0.nesterov = nesterov;
        self.adam(|adam| adam.nesterov(nesterov))
    }

    /// Whether the updates of matrices are scaled by the dual norm of their gradients.
    #[must_use]
    pub fn adaptive(mut self, adaptive: bool) -> Self {
        self.matrices().0.adaptive = adaptive;
        self
    }

    /// [`ScaleByShape::consistent_rms`]
    #[must_use]
    pub fn consistent_rms(mut self, consistent_rms: f64) -> Self {
        self.matrices().1.consistent_rms = Some(consistent_rms);
        self
    }

    /// [`ScaleByShape::output_first`]
    #[must_use]
    pub fn output_first(mut self, output_first: bool) -> Self {
        self.matrices().1.output_first = output_first;
        self
    }

    /// The weight decay of matrices, multiplied by the learning rate.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: impl Into<Schedule>) -> Self {
        self.matrices().2 = self.matrices().2.clone().weight_decay(weight_decay);
        self
    }

    /// Only matrices that `filter` selects decay. AdamW has a mask of its own: [`adam`](Self::adam).
    #[must_use]
    pub fn weight_decay_mask(mut self, filter: impl Filter + Send + Sync + 'static) -> Self {
        self.matrices().2 = self.matrices().2.clone().mask(filter);
        self
    }

    /// The element type of the averages of the gradients, AdamW's too.
    #[must_use]
    pub fn mu_dtype(mut self, mu_dtype: impl Into<Option<DType>>) -> Self {
        let mu_dtype = mu_dtype.into();
        self.matrices().0.mu_dtype = mu_dtype;
        self.adam(|adam| adam.mu_dtype(mu_dtype))
    }

    /// The learning rate of AdamW.
    #[must_use]
    pub fn adam_learning_rate(mut self, learning_rate: impl Into<Schedule>) -> Self {
        self.0.1.inner.0.2 = scale_by_learning_rate(learning_rate);
        self
    }

    /// AdamW's weight decay.
    #[must_use]
    pub fn adam_weight_decay(self, weight_decay: impl Into<Schedule>) -> Self {
        self.adam(|adam| adam.weight_decay(weight_decay))
    }

    /// Other options of AdamW: `muon(0.02).adam(|adam| adam.b2(0.95))`.
    #[must_use]
    pub fn adam(mut self, change: impl FnOnce(AdamW) -> AdamW) -> Self {
        self.0.1.inner = change(self.0.1.inner);
        self
    }

    fn matrices(&mut self) -> &mut (ScaleByMuon, ScaleByShape, AddDecayedWeights, ScaleByLearningRate) {
        &mut self.0.0.inner.0
    }
}
