//! Products of two tensors over named axes: `lax.dot_general` and `einsum`.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use treex_core::constants::constant;
use treex_core::{Error, Result, matmul};

use crate::dtype::{common_dtype, wide_dtype};

/// Sums of products over the axes `contract` of `a` and of `b`, for each index of the axes `batch` of both:
/// JAX's `lax.dot_general`. The axes of the result are those of `batch`, then the other axes of `a`, then those of
/// `b`. All axes must exist, and the sizes of matching axes must be equal.
pub(crate) fn dot_general(
    a: &Tensor,
    b: &Tensor,
    contract: [&[usize]; 2],
    batch: [&[usize]; 2],
) -> Result<Tensor> {
    let free = |x: &Tensor, side: usize| -> Vec<usize> {
        (0..x.rank()).filter(|axis| !contract[side].contains(axis) && !batch[side].contains(axis)).collect()
    };
    let dims =
        |x: &Tensor, axes: &[usize]| -> Vec<usize> { axes.iter().map(|&axis| x.dims()[axis]).collect() };
    let (free_a, free_b) = (free(a, 0), free(b, 1));
    let (batches, sums) = (dims(a, batch[0]), dims(a, contract[0]));
    let (rows, columns) = (dims(a, &free_a), dims(b, &free_b));
    let size = |dims: &[usize]| dims.iter().product::<usize>();

    // [batches, rows, sums] by [batches, sums, columns].
    let a = a.permute([batch[0], &free_a, contract[0]].concat())?;
    let b = b.permute([batch[1], contract[1], &free_b].concat())?;
    let (m, k, n) = (size(&rows), size(&sums), size(&columns));
    let y = if batches.is_empty() {
        matmul(&a.reshape((m, k))?, &b.reshape((k, n))?)?
    } else {
        let count = size(&batches);
        matmul(&a.reshape((count, m, k))?, &b.reshape((count, k, n))?)?
    };
    Ok(y.reshape([batches, rows, columns].concat())?)
}

/// `jnp.einsum` of two tensors: `"bqd,bkd->bqk"` keeps the batch axis `b` and sums products over `d`.
///
/// Each letter names an axis, and `...` any number of axes, aligned from the last. Axes of size 1, and axes of `...`
/// that only one operand has, are broadcast. A letter twice in one operand takes the diagonal. The output must be
/// given: an equation without `->` is an error. The work is one matrix product, and a copy of each operand whose
/// strides do not fit it. Half types are summed in `F32` and rounded once, and so are the gradients.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use treex_nn::einsum;
///
/// let query = Tensor::ones((2, 3, 8), DType::F32, &Device::Cpu)?;
/// let key = Tensor::ones((2, 5, 8), DType::F32, &Device::Cpu)?;
/// assert_eq!(einsum("bqd,bkd->bqk", &query, &key)?.dims(), [2, 3, 5]);
/// assert_eq!(einsum("...qd,...kd->k...", &query, &key)?.dims(), [5, 2]);
/// # Ok::<(), treex_nn::treex_core::Error>(())
/// ```
///
/// # Errors
/// If the equation cannot be parsed, or does not match the shapes.
pub fn einsum(equation: &str, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let labels = Equation::read(equation)?.labels(a.dims(), b.dims())?;
    let a = Operand { x: a.clone(), labels: labels.a }.diagonal()?.without_singletons(&labels.sizes)?;
    let b = Operand { x: b.clone(), labels: labels.b }.diagonal()?.without_singletons(&labels.sizes)?;
    let kept = |other: &Operand, label: &Label| other.labels.contains(label) || labels.output.contains(label);
    let dtype = common_dtype(None, [&a.x, &b.x]);
    let (mut a, mut b) = (a.summed(|label| kept(&b, label))?, b.summed(|label| kept(&a, label))?);
    // A sum has not been rounded yet.
    let wide = common_dtype(None, [&a.x, &b.x]);
    (a.x, b.x) = (a.x.to_dtype(wide)?, b.x.to_dtype(wide)?);

    let shared = a.labels.iter().filter(|label| b.labels.contains(label));
    let (batch, contract): (Vec<Label>, Vec<Label>) = shared.partition(|label| labels.output.contains(label));
    let (contract_a, contract_b) = (a.axes(&contract), b.axes(&contract));
    let (batch_a, batch_b) = (a.axes(&batch), b.axes(&batch));
    let y = dot_general(&a.x, &b.x, [&contract_a, &contract_b], [&batch_a, &batch_b])?.to_dtype(dtype)?;

    let free = |operand: &Operand| -> Vec<Label> {
        operand
            .labels
            .iter()
            .copied()
            .filter(|label| !batch.contains(label) && !contract.contains(label))
            .collect()
    };
    let found = Operand { x: y, labels: [batch.clone(), free(&a), free(&b)].concat() };
    // Axes of size 1 in both operands were kept, so every label of the output exists.
    Ok(found.x.permute(found.axes(&labels.output))?)
}

/// An axis: one with a letter, or one of `...`, counted from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Label {
    Letter(char),
    Dots(usize),
}

/// One operand or the output: the letters before and, where it has `...`, after it.
#[derive(Clone, Debug)]
struct Term {
    before: Vec<char>,
    after: Option<Vec<char>>,
}

impl Term {
    fn read(text: &str) -> Option<Self> {
        let letters = |text: &str| -> Option<Vec<char>> {
            text.chars().all(char::is_alphabetic).then(|| text.chars().collect())
        };
        match text.split_once("...") {
            None => Some(Self { before: letters(text)?, after: None }),
            Some((before, after)) => Some(Self { before: letters(before)?, after: Some(letters(after)?) }),
        }
    }

    fn letters(&self) -> usize {
        self.before.len() + self.after.as_ref().map_or(0, Vec::len)
    }

    /// The number of axes of `...`, or `None` if the letters do not match `rank`.
    fn dots(&self, rank: usize) -> Option<usize> {
        rank.checked_sub(self.letters()).filter(|&dots| dots == 0 || self.after.is_some())
    }

    fn labels(&self, dots: usize) -> Vec<Label> {
        let dots = if self.after.is_some() { dots } else { 0 };
        let before = self.before.iter().copied().map(Label::Letter);
        let after = self.after.iter().flatten().copied().map(Label::Letter);
        before.chain((0..dots).rev().map(Label::Dots)).chain(after).collect()
    }
}

/// An equation of two operands, parsed but not yet checked against shapes.
#[derive(Clone, Debug)]
pub(crate) struct Equation {
    text: String,
    a: Term,
    b: Term,
    output: Term,
}

/// The axes of an equation's operands and of its output.
pub(crate) struct Labels {
    a: Vec<Label>,
    pub(crate) b: Vec<Label>,
    pub(crate) output: Vec<Label>,
    sizes: BTreeMap<Label, usize>,
}

impl Equation {
    pub(crate) fn read(text: &str) -> Result<Self> {
        let wrong = || {
            Error::argument("`einsum` got an equation that it cannot read")
                .expected("two operands and an output, of letters and `...`")
                .found(format!("`{text}`"))
                .remedy("write it like `\"...ab,bc->...ac\"`")
        };
        let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (operands, output) = bare.split_once("->").ok_or_else(wrong)?;
        let (a, b) = operands.split_once(',').ok_or_else(wrong)?;
        let term = |text: &str| Term::read(text).ok_or_else(wrong);
        let equation = Self { text: text.to_owned(), a: term(a)?, b: term(b)?, output: term(output)? };

        let output = equation.output.labels(1);
        let operands = [equation.a.labels(1), equation.b.labels(1)].concat();
        let stray = |(at, label): (usize, &Label)| {
            let known = operands.contains(label) || matches!(label, Label::Dots(_));
            (!known || output[..at].contains(label)).then_some(*label)
        };
        match output.iter().enumerate().find_map(stray) {
            Some(Label::Letter(letter)) => {
                Err(Error::argument("`einsum` got a result with an axis that no operand has, or twice")
                    .expected("each letter of the result once, and in an operand")
                    .found(format!("`{letter}` in `{text}`")))
            }
            _ => Ok(equation),
        }
    }

    pub(crate) fn labels(&self, a: &[usize], b: &[usize]) -> Result<Labels> {
        let mut sizes = BTreeMap::new();
        let mut longest = 0;
        let mut of = |term: &Term, dims: &[usize], which: &str| {
            let dots = term.dots(dims.len()).ok_or_else(|| {
                Error::shape(format!("`einsum` got a {which} operand of the wrong rank"))
                    .expected(format!("{} axes, as in `{}`", term.letters(), self.text))
                    .found(format!("{dims:?}"))
            })?;
            longest = longest.max(dots);
            let labels = term.labels(dots);
            for (at, (&label, &size)) in labels.iter().zip(dims).enumerate() {
                let known = sizes.entry(label).or_insert(size);
                let twice = labels[..at].contains(&label);
                if *known != size && (twice || (*known != 1 && size != 1)) {
                    return Err(Error::shape(format!("`einsum` got two sizes for {}", label.describe()))
                        .expected(format!("{known}, as before in `{}`", self.text))
                        .found(format!("{size} in the {which} operand, {dims:?}")));
                }
                *known = if *known == 1 { size } else { *known };
            }
            Ok(labels)
        };
        let (a, b) = (of(&self.a, a, "first")?, of(&self.b, b, "second")?);
        Ok(Labels { a, b, output: self.output.labels(longest), sizes })
    }

    /// The sizes of the axes of the second operand, of this shape, that the output has, in its order.
    pub(crate) fn left_of_second(&self, shape: &[usize]) -> Result<Vec<usize>> {
        let wrong = |what| {
            Error::argument(format!("`einsum` got a second operand {what}"))
                .expected(format!("axes as in `{}`, each once", self.text))
                .found(format!("{shape:?}"))
        };
        let dots = self.b.dots(shape.len()).ok_or_else(|| wrong("of the wrong rank"))?;
        let labels = self.b.labels(dots);
        if (1..labels.len()).any(|at| labels[..at].contains(&labels[at])) {
            return Err(wrong("with an axis twice"));
        }
        let output = self.output.labels(dots);
        let size =
            |label| labels.iter().zip(shape).find(|(known, _)| **known == label).map(|(_, &size)| size);
        Ok(output.into_iter().filter_map(size).collect())
    }
}

impl Label {
    fn describe(self) -> String {
        match self {
            Self::Letter(letter) => format!("the axis `{letter}`"),
            Self::Dots(index) => format!("axis -{} of `...`", index + 1),
        }
    }
}

/// A tensor with named axes.
struct Operand {
    x: Tensor,
    labels: Vec<Label>,
}

impl Operand {
    /// The position of each of `labels`.
    fn axes(&self, labels: &[Label]) -> Vec<usize> {
        labels.iter().filter_map(|label| self.labels.iter().position(|own| own == label)).collect()
    }

    /// The diagonal of axes with the same name.
    fn diagonal(mut self) -> Result<Self> {
        while let Some((first, second)) = self.twice() {
            let n = self.x.dim(first)?;
            let others = (0..self.x.rank()).filter(|axis| ![first, second].contains(axis));
            let order: Vec<_> = [first, second].into_iter().chain(others).collect();
            let square = self.x.permute(order)?;
            let flat = square.flatten(0, 1)?.contiguous()?;
            let index: Vec<u32> = (0..n).map(|at| (at * (n + 1)) as u32).collect();
            self.x = flat.index_select(&constant(&Tensor::new(index, &Device::Cpu)?, flat.device())?, 0)?;
            self.labels.remove(second);
            let label = self.labels.remove(first);
            self.labels.insert(0, label);
        }
        Ok(self)
    }

    fn twice(&self) -> Option<(usize, usize)> {
        let labels = &self.labels;
        let first_of = |second: usize| labels[..second].iter().position(|label| *label == labels[second]);
        (0..labels.len()).find_map(|second| first_of(second).map(|first| (first, second)))
    }

    /// Without axes of size 1 that are larger in the other operand, which broadcasts them.
    fn without_singletons(mut self, sizes: &BTreeMap<Label, usize>) -> Result<Self> {
        for axis in (0..self.labels.len()).rev() {
            if self.x.dim(axis)? == 1 && sizes.get(&self.labels[axis]).is_some_and(|&size| size != 1) {
                self.x = self.x.squeeze(axis)?;
                self.labels.remove(axis);
            }
        }
        Ok(self)
    }

    /// Summed over the axes that are not `needed`, in `F32` at least, which is the type of the sum.
    fn summed(&self, needed: impl Fn(&Label) -> bool) -> Result<Self> {
        let (kept, over): (Vec<usize>, Vec<usize>) =
            (0..self.labels.len()).partition(|&axis| needed(&self.labels[axis]));
        let labels = kept.into_iter().map(|axis| self.labels[axis]).collect();
        if over.is_empty() {
            return Ok(Self { x: self.x.clone(), labels });
        }
        Ok(Self { x: self.x.to_dtype(wide_dtype(self.x.dtype()))?.sum(over)?, labels })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use treex_core::Key;

    use super::*;

    /// The sum over all values of all letters, one product after another.
    fn by_hand(text: &str, a: &Tensor, b: &Tensor) -> Vec<f64> {
        let (operands, output) = text.split_once("->").unwrap();
        let (first, second) = operands.split_once(',').unwrap();
        let mut sizes: Vec<(char, usize)> = Vec::new();
        // The letters of the output first, so that its elements come in order.
        for letter in output.chars().chain(first.chars()).chain(second.chars()) {
            let mut axes = first.chars().zip(a.dims()).chain(second.chars().zip(b.dims()));
            let size = axes.find(|(own, _)| *own == letter).map_or(1, |(_, size)| *size);
            if sizes.iter().all(|(own, _)| *own != letter) {
                sizes.push((letter, size));
            }
        }
        let kept: usize = sizes[..output.len()].iter().map(|(_, size)| size).product();
        let all: usize = sizes.iter().map(|(_, size)| size).product();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let (values_a, values_b) = (values(a), values(b));
        let mut sums = vec![0.; kept];
        for index in 0..all {
            let offset = |term: &str, dims: &[usize]| {
                term.chars().zip(dims).fold(0, |at, (letter, size)| {
                    let inner = sizes.iter().rev().take_while(|(own, _)| *own != letter);
                    let step: usize = inner.map(|(_, size)| size).product();
                    at * size + index / step % size
                })
            };
            sums[index / (all / kept)] +=
                values_a[offset(first, a.dims())] * values_b[offset(second, b.dims())];
        }
        sums
    }

    /// Random equations with a fixed key: any letter any number of times, in any order.
    #[test]
    fn is_the_sum_of_products() -> Result<()> {
        let draw =
            |case: u32, slot: u32, below: u32| Key::from(3).fold_in(case).fold_in(slot).words()[0] % below;
        let letters = [('a', 2), ('b', 3), ('c', 1), ('d', 4), ('e', 2)];
        for case in 0..300 {
            let term = |slot: u32| -> (String, Vec<usize>) {
                let rank = draw(case, slot, 4);
                (0..rank).map(|at| letters[draw(case, slot + 1 + at, 5) as usize]).unzip()
            };
            let ((first, dims_a), (second, dims_b)) = (term(0), term(10));
            let mut output = String::new();
            for at in 0..4 {
                let (letter, _) = letters[draw(case, 20 + at, 5) as usize];
                if !output.contains(letter) && format!("{first}{second}").contains(letter) {
                    output.push(letter);
                }
            }
            let text = format!("{first},{second}->{output}");
            let numbers = |key: u32, dims: Vec<usize>| Key::from(key as u64).normal(dims, DType::F64);
            let (a, b) = (numbers(2 * case, dims_a)?, numbers(2 * case + 1, dims_b)?);
            let found = einsum(&text, &a, &b)?.flatten_all()?.to_vec1::<f64>()?;
            let expected = by_hand(&text, &a, &b);
            assert_eq!(found.len(), expected.len(), "{text}");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{text}: {found} {expected}");
            }
        }
        assert!(
            einsum("a->a", &Tensor::new(1f64, &Device::Cpu)?, &Tensor::new(1f64, &Device::Cpu)?).is_err()
        );
        Ok(())
    }
}
