//! The rules of a pass, and their division into loops.
//!
//! Each loop reads and writes the chunk in the first-level cache. A rule that only scales the update, or adds a
//! multiple of the parameter, is fused into the loop of its neighbour, with the same roundings.

use std::iter::{Peekable, from_fn};

use treex_kernels::number::Number;

use super::erased::{ErasedRule, ErasedTerms, RuleImpl, Rules};
use super::fusion::{Fusable, Fused};
use super::rule::Rule;
use super::updates::Mask;

/// The rules and sums of a pass.
pub(crate) struct Pass<'r> {
    /// Rules in order.
    pub(crate) rules: Vec<Member>,
    /// The sums over the resulting updates, and their positions.
    pub(crate) terms: Option<(&'r dyn ErasedTerms, &'r Mask)>,
}

/// Rules of a pass, and their positions.
pub(crate) struct Member {
    pub(crate) on: Mask,
    pub(crate) rules: Rules,
    fusable: Option<Fusable>,
}

impl Member {
    pub(crate) fn new(on: Mask, rules: Rules) -> Self {
        let fusable = if let Rules::One(rule) = &rules { rule.fusable() } else { None };
        Self { on, rules, fusable }
    }
}

/// One loop.
pub(crate) struct Loop<'r> {
    pub(crate) rule: &'r dyn ErasedRule,
    pub(crate) fused: Fused,
    /// Whether no loop follows.
    pub(crate) is_last: bool,
}

impl Pass<'_> {
    /// The loops over the leaf at a position; with `at_least_one`, an identity loop if there are no rules.
    pub(crate) fn loops(&self, index: usize, at_least_one: bool) -> impl Iterator<Item = Loop<'_>> {
        let mut members = self.rules.iter().filter(move |member| member.on[index]).peekable();
        let mut more = at_least_one || members.peek().is_some();
        from_fn(move || {
            if !more {
                return None;
            }
            let before = take(&mut members, Fusable::scale).unwrap_or(1.);
            let rule = members.next_if(|member| member.fusable.is_none());
            let rule = rule.map_or(&RuleImpl(Identity) as _, |member| member.rules.at(index));
            let decay = take(&mut members, Fusable::decay);
            let after = take(&mut members, Fusable::scale).unwrap_or(1.);
            more = members.peek().is_some();
            Some(Loop { rule, fused: Fused { before, decay, after }, is_last: !more })
        })
    }
}

/// Consumes the next member if it is fusable in this way.
fn take<'r>(
    members: &mut Peekable<impl Iterator<Item = &'r Member>>,
    kind: fn(Fusable) -> Option<f64>,
) -> Option<f64> {
    let factor = kind(members.peek()?.fusable?)?;
    members.next();
    Some(factor)
}

/// The rule of a loop that has only fused rules.
struct Identity;

impl Rule<0> for Identity {
    #[inline(always)]
    fn apply<N: Number>(&self, u: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
        (u, [])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the last update.
    struct Last;

    impl Rule<1> for Last {
        fn apply<N: Number>(&self, u: N, _: N, [last]: [N; 1]) -> (N, [N; 1]) {
            (last, [u])
        }
    }

    struct Times(f64);

    impl Rule<0> for Times {
        fn apply<N: Number>(&self, u: N, _: N, []: [N; 0]) -> (N, [N; 0]) {
            (u * self.0, [])
        }
    }

    struct Decay(f64);

    impl Rule<0> for Decay {
        fn apply<N: Number>(&self, u: N, p: N, []: [N; 0]) -> (N, [N; 0]) {
            (u + p * self.0, [])
        }
    }

    struct Square;

    impl Rule<0> for Square {
        fn apply<N: Number>(&self, u: N, p: N, []: [N; 0]) -> (N, [N; 0]) {
            (u * p, [])
        }
    }

    fn member<R: Rule<K>, const K: usize>(on: bool, rule: R) -> Member {
        Member::new([on].into(), Rules::One(Box::new(RuleImpl(rule))))
    }

    /// The loops of a leaf: tensors of state, factor before, decay, factor after.
    fn loops(rules: Vec<Member>, at_least_one: bool) -> Vec<(usize, f64, Option<f64>, f64)> {
        let pass = Pass { rules, terms: None };
        let steps: Vec<_> = pass.loops(0, at_least_one).collect();
        assert!(steps.iter().rev().skip(1).all(|step| !step.is_last));
        assert!(steps.last().is_none_or(|step| step.is_last));
        let parts =
            |step: &Loop<'_>| (step.rule.width(), step.fused.before, step.fused.decay, step.fused.after);
        steps.iter().map(parts).collect()
    }

    #[test]
    fn neighbouring_rules_fuse_into_one_loop() {
        let adamw = vec![
            member(true, Times(2.)),
            member(true, Last),
            member(true, Decay(3.)),
            member(true, Times(4.)),
        ];
        assert_eq!(loops(adamw, true), [(1, 2., Some(3.), 4.)]);
        let scales = vec![member(true, Times(2.)), member(true, Times(3.)), member(true, Times(4.))];
        assert_eq!(loops(scales, true), [(0, 2., None, 3.), (0, 4., None, 1.)]);
        let after = vec![member(true, Times(2.)), member(true, Decay(3.)), member(true, Last)];
        assert_eq!(loops(after, true), [(0, 2., Some(3.), 1.), (1, 1., None, 1.)]);
        let rules = vec![member(true, Last), member(true, Square), member(false, Times(2.))];
        assert_eq!(loops(rules, true), [(1, 1., None, 1.), (0, 1., None, 1.)]);
    }

    #[test]
    fn a_leaf_without_rules_has_a_loop_if_it_is_written() {
        assert_eq!(loops(vec![member(false, Last)], true), [(0, 1., None, 1.)]);
        assert_eq!(loops(vec![member(false, Last)], false), []);
    }
}
