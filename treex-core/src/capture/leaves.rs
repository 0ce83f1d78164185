//! The leaves of the trees that a captured step holds: their memory stays where it is, and what the host holds of them is put back.

use std::collections::HashSet;

use candle_core::{DType, Device, Tensor, Var};

use super::held::Held;
use super::keys::Root;
use super::plan::{GoesOn, Plan};
use crate::error::{Error, ErrorKind, Result};
use crate::random::Key;
use crate::random::stream::RngStream;
use crate::tensors::{self, storage_id};
use crate::tree::handle::Handle;
use crate::tree::kind::KindTag;
use crate::tree::path::Path;
use crate::tree::walk::{walk, walk_mut};

/// What the leaves hold at some time.
pub(super) struct Leaves(Vec<Leaf>);

struct Leaf {
    path: Path,
    kind: KindTag,
    /// The tensor of the cell, whose memory lives as long as this.
    tensor: Option<Tensor>,
    /// Whether its memory is its own.
    is_sole: bool,
    /// On the host the leaf itself. On the device this would keep its memory from being written in place.
    on_host: Option<Handle>,
}

/// Passes each leaf of all trees to `each`, with its path.
fn each<H: Held>(held: &H, mut each: impl FnMut(&Path, KindTag, &Handle)) {
    for tree in held.trees() {
        walk(tree, |path, kind, leaf| each(&Path::from(path), kind, leaf));
    }
}

/// [`each`] for writing; the first error, with its path.
fn try_each_mut<H: Held>(
    held: &mut H,
    mut each: impl FnMut(usize, KindTag, &mut Handle) -> Result<()>,
) -> Result<()> {
    let (mut number, mut result) = (0, Ok(()));
    for tree in held.trees_mut() {
        walk_mut(tree, |path, kind, leaf| {
            if result.is_ok() {
                result = each(number, kind, leaf).map_err(|error| error.at(path));
            }
            number += 1;
        });
    }
    result
}

/// The device of the first leaf that is not on the host.
pub(super) fn device<H: Held>(held: &H) -> Option<Device> {
    let mut device = None;
    each(held, |_, _, leaf| {
        let on = leaf.value().map(|value| value.device()).filter(|device| !device.is_cpu());
        device = device.take().or(on.cloned());
    });
    device
}

/// Gives each leaf on the device memory of its own, which nothing else holds. A frozen leaf may share its memory.
pub(super) fn unshare<H: Held>(held: &mut H) -> Result<()> {
    try_each_mut(held, |_, kind, leaf| {
        if !leaf.is_frozen() && leaf.value().is_some_and(|value| !value.device().is_cpu()) {
            leaf.make_mut(kind)?;
        }
        Ok(())
    })
}

impl Leaves {
    pub(super) fn of<H: Held>(held: &H) -> Self {
        let mut leaves = Vec::new();
        each(held, |path, kind, leaf| {
            let tensor = leaf.stored().cloned();
            let on_host = tensor.as_ref().filter(|tensor| tensor.device().is_cpu()).map(|_| leaf.clone());
            leaves.push(Leaf { path: path.clone(), kind, tensor, is_sole: leaf.is_sole(), on_host });
        });
        Self(leaves)
    }

    /// What the leaves of random state on the host hold.
    pub(super) fn roots(&self) -> Vec<Option<Root>> {
        self.0.iter().map(|leaf| root(leaf.tensor.as_ref()?)).collect()
    }

    /// Puts all values back, as they are in memory.
    pub(super) fn put_back<H: Held>(&self, held: &mut H) -> Result<()> {
        try_each_mut(held, |number, _, leaf| {
            match self.0.get(number) {
                Some(Leaf { on_host: Some(before), .. }) => leaf.replace(before.clone()),
                Some(before) => before.put_memory_back(leaf),
                None => {}
            }
            Ok(())
        })
    }

    /// Behind a step that was recorded, while the recording goes on: copies what has moved to where it was. Says how the leaves on
    /// the host go on, which hold their new values then.
    pub(super) fn write_back<H: Held>(&self, held: &mut H, plan: &Plan) -> Result<Vec<Option<GoesOn>>> {
        let now = Self::of(held);
        let is_same = |(a, b): (&Leaf, &Leaf)| a.path == b.path && a.kind == b.kind;
        if now.0.len() != self.0.len() || !self.0.iter().zip(&now.0).all(is_same) {
            return Err(Error::new(ErrorKind::Structure, "a captured step changed the structure of a tree")
                .expected(format!("{} leaves", self.0.len()))
                .found(format!("{} leaves, or others", now.0.len()))
                .remedy("change the tree before `capture`"));
        }
        let old: HashSet<usize> =
            self.0.iter().filter_map(|leaf| leaf.tensor.as_ref()).map(storage_id).collect();
        let (mut moved, mut goes_on) = (Vec::new(), Vec::new());
        for (number, (before, after)) in self.0.iter().zip(&now.0).enumerate() {
            let step = before.changed(after, number, plan).map_err(|error| error.at(before.path.clone()))?;
            goes_on.push(match step {
                Change::None => None,
                Change::OnHost(step) => Some(step),
                Change::OnDevice(new, to) => {
                    let new = new.detach();
                    // Another leaf's memory may be written before this is read.
                    moved.push((
                        if old.contains(&storage_id(&new)) { new.force_contiguous()? } else { new },
                        to,
                    ));
                    None
                }
            });
        }
        for (new, to) in moved {
            Var::from_tensor(to)?.set(&new)?;
        }
        try_each_mut(held, |number, _, leaf| {
            if let Some(before @ Leaf { on_host: None, .. }) = self.0.get(number) {
                before.put_memory_back(leaf);
            }
            Ok(())
        })?;
        Ok(goes_on)
    }
}

/// What a step did to a leaf.
enum Change<'l> {
    /// Nothing, or what is done in its memory.
    None,
    /// Its value is elsewhere, and belongs into the second tensor.
    OnDevice(&'l Tensor, &'l Tensor),
    OnHost(GoesOn),
}

impl Leaf {
    /// Lets a leaf on the device have its memory again.
    fn put_memory_back(&self, leaf: &mut Handle) {
        if let Some(tensor) = &self.tensor
            && leaf.storage() != Some(storage_id(tensor))
        {
            leaf.replace(Handle::from_shared(tensor.clone()));
        }
    }

    fn changed<'l>(&'l self, after: &'l Self, number: usize, plan: &Plan) -> Result<Change<'l>> {
        let (old, new) = match (&self.tensor, &after.tensor) {
            (None, None) => return Ok(Change::None),
            (Some(old), Some(new)) if old.device().is_cpu() && new.device().is_cpu() => {
                let cell = after.on_host.as_ref().map_or(0, Handle::cell);
                return match plan.goes_on(number, cell, root(new).as_ref()) {
                    Some(goes_on) => Ok(Change::OnHost(goes_on)),
                    None if tensors::same_bits(old, new) => Ok(Change::None),
                    None => Err(Error::argument(
                        "a captured step changed a value on the host in a way that later ones cannot follow",
                    )
                    .remedy("hold it on the device, or change it outside of the step")),
                };
            }
            (Some(old), Some(new))
                if old.device().same_device(new.device())
                    && old.shape() == new.shape()
                    && old.dtype() == new.dtype() =>
            {
                (old, new)
            }
            (old, new) => {
                let what = |x: &Option<Tensor>| match x {
                    Some(x) => {
                        format!("{:?} of `{}` on {:?}", x.dims(), x.dtype().as_str(), x.device().location())
                    }
                    None => "no value".to_owned(),
                };
                return Err(Error::shape("a captured step gave a leaf another shape, type or device")
                    .expected(what(old))
                    .found(what(new))
                    .remedy("make the leaf as it is to be before `capture`"));
            }
        };
        if storage_id(old) == storage_id(new) {
            return Ok(Change::None);
        }
        if !self.is_sole {
            return Err(Error::new(ErrorKind::Frozen, "a captured step wrote a frozen leaf")
                .remedy("unfreeze it before `capture`"));
        }
        Ok(Change::OnDevice(new, old))
    }
}

/// A key or a stream.
fn root(value: &Tensor) -> Option<Root> {
    if !value.device().is_cpu() || value.dtype() != DType::U32 {
        return None;
    }
    match RngStream::from_tensor(value) {
        Some(position) => Some(Root::Stream(position)),
        None => Key::from_tensor(value).ok().map(Root::Key),
    }
}

/// Writes values into leaves on the host, by their numbers in order.
pub(super) fn write_on_host<H: Held>(held: &mut H, values: &[(usize, Tensor)]) -> Result<()> {
    let mut values = values.iter().peekable();
    try_each_mut(held, |number, _, leaf| {
        if let Some((_, value)) = values.next_if(|(other, _)| *other == number) {
            leaf.replace(Handle::from_copy(value)?);
        }
        Ok(())
    })
}
