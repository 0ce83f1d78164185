//! Reparametrization: wrappers that compute the parameters of the layer inside for each call.

use std::fmt::Write as _;

use candle_core::Tensor;
use treex_core::{Handle, KindTag, LeafRef, Parameter, Path, Result, Segment, Tree, by};

/// Flax's name for the layer inside.
pub(super) const INSIDE: &str = "layer_instance";

/// Flax's name for a leaf of the layer inside: `layer_instance/layers_0/kernel`.
fn name(path: &Path) -> String {
    path.segments().iter().fold(INSIDE.to_owned(), |mut name, segment| {
        let separator = if matches!(segment, Segment::Field(_)) { '/' } else { '_' };
        // Writing to a string cannot fail.
        let _ = write!(name, "{separator}{segment}");
        name
    })
}

/// The parameters of `layer` with their names.
pub(super) fn parameters<M: Tree>(layer: &M) -> impl Iterator<Item = (String, &Handle)> {
    let leaves = layer.leaves().into_iter();
    leaves
        .filter(|(_, kind, _)| kind.is(KindTag::of::<Parameter>()))
        .map(|(path, _, leaf)| (name(&path), leaf))
}

/// The parameters of `layer` that `selects` selects by name and that have a value, mapped by `f`; values are
/// tracked inside of a gradient scope. The other leaves are `Nothing`.
pub(super) fn reparametrized<M: Tree>(
    layer: &M,
    selects: impl Fn(&str) -> bool,
    mut f: impl FnMut(&str, &Tensor) -> Result<Tensor>,
) -> Result<M> {
    let selected = layer.filter(by(|leaf: &LeafRef<'_>| {
        leaf.kind().is(KindTag::of::<Parameter>()) && leaf.value().is_some() && selects(&name(&leaf.path()))
    }));
    let mut names = parameters(&selected).map(|(name, _)| name).collect::<Vec<_>>().into_iter();
    // `map` goes over the values in the order of the leaves.
    selected.map(|value| f(&names.next().unwrap_or_default(), value))
}

/// Calls `layer` with `parameters` instead of its own. Other state that the call writes is kept.
pub(super) fn with_parameters<M: Tree, R>(
    layer: &mut M,
    parameters: &M,
    call: impl FnOnce(&mut M) -> Result<R>,
) -> Result<R> {
    let own = layer.filter(Parameter);
    layer.update(parameters)?;
    let result = call(layer);
    layer.update(&own)?;
    result
}

/// `reparametrization!(WeightNorm { scale });` for a struct with the field `layer_instance`, a field of
/// leaves keyed by parameter names, constants, and a `module_init`. As in Flax, the path of such a leaf is
/// its key with slashes, without the field's name.
macro_rules! reparametrization {
    ($layer:ident { $leaves:ident $(, $constant:ident)* }) => {
        treex_core::tree_aux!([M: treex_core::TreeObject + Clone] $layer<M>);

        impl<M: treex_core::TreeObject + Clone> treex_core::TreeObject for $layer<M> {
            fn visit<'a>(&'a self, visitor: &mut dyn treex_core::Visitor<'a>) {
                use treex_core::{ChildInfo, Segment};
                visitor.child(ChildInfo::new(&[Segment::Field(super::reparametrized::INSIDE)]), &self.layer_instance);
                self.$leaves.visit(visitor);
                $(visitor.child(ChildInfo::new(&[Segment::Field(stringify!($constant))]), &self.$constant);)*
            }

            fn visit_mut<'a>(&'a mut self, visitor: &mut dyn treex_core::VisitorMut<'a>) {
                use treex_core::{ChildInfo, Segment};
                let inside = [Segment::Field(super::reparametrized::INSIDE)];
                visitor.child(ChildInfo::new(&inside), &mut self.layer_instance);
                self.$leaves.visit_mut(visitor);
                $(visitor.child(ChildInfo::new(&[Segment::Field(stringify!($constant))]), &mut self.$constant);)*
            }

            fn identity(&self) -> Option<treex_core::ModuleId> {
                Some(treex_core::ModuleId::of(self, stringify!($layer)))
            }

            fn initialize_module(&mut self, key: &mut treex_core::ModuleKey) -> treex_core::Result<()> {
                self.module_init(key)
            }
        }

        impl<M: treex_core::Module + Clone> treex_core::Module for $layer<M> {
            fn call(&mut self, x: &candle_core::Tensor) -> treex_core::Result<candle_core::Tensor> {
                let y = self.call_inner(|layer| layer.call(x))?;
                treex_core::record(self, x, &y);
                Ok(y)
            }
        }
    };
}

pub(super) use reparametrization;
