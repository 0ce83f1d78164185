//! Whether a step is made, against the rule in its own words.

use treex_kernels::dialect::{DECIDE, TABLE};

use crate::element::bytes;
use crate::host::{Host, Parameter, address, read, write};
use crate::text::{GROUP_SIZE, Text};

/// Words of a step: more than a group has threads.
const WIDTH: usize = 300;

const LIMIT: u64 = 3;

pub(super) fn check(host: &mut Host) {
    let text = Text::new(&[TABLE, DECIDE], &[("WORDS", 6), ("GROUP_SIZE", GROUP_SIZE)]);
    let rows: Vec<u64> = (0..4 * WIDTH as u64).collect();
    for has_scale in [false, true] {
        for finite in [1., 0., f64::NAN] {
            for in_row in [0, 1, LIMIT - 1, LIMIT, LIMIT + 1] {
                for scale in [1024., f64::from(f32::MAX), 1.] {
                    let before = State { in_row, left_out: 5, made: 2, scale };
                    let (after, is_made) = before.step(finite == 1., has_scale);
                    let counts =
                        |state: &State| [state.in_row, state.left_out, state.made, address(3), WIDTH as u64];
                    let words = [0, 1, 2, 4].map(address).into_iter().chain([LIMIT, has_scale.into()]);
                    let parameters = [
                        Parameter::Value(bytes(&words.collect::<Vec<_>>())),
                        read(&[finite]),
                        Parameter::Write(bytes(&counts(&before))),
                        Parameter::Write(bytes(&[0.5, scale])),
                        read(&rows),
                        write::<u64>(WIDTH),
                    ];
                    let found = host.launch(&text, "decide", 1, &parameters);
                    let numbers = [if is_made { 1. } else { 0. }, after.scale];
                    host.equal("counts", &found[0], &bytes(&counts(&after)));
                    host.equal("the decision and the scale", &found[1], &bytes(&numbers));
                    let taken =
                        if is_made { bytes(&rows[2 * WIDTH..3 * WIDTH]) } else { vec![0xff; 8 * WIDTH] };
                    host.equal("the words of the step", &found[2], &taken);
                }
            }
        }
    }
}

struct State {
    /// Steps in a row: those that were left out, or those that were made where there is a scale.
    in_row: u64,
    left_out: u64,
    made: u64,
    scale: f64,
}

impl State {
    /// What is behind a step, and whether it is made.
    fn step(&self, is_finite: bool, has_scale: bool) -> (Self, bool) {
        let Self { in_row, left_out, made, scale } = *self;
        let left_out = left_out + u64::from(!is_finite);
        if has_scale {
            let made = made + u64::from(is_finite);
            let state = |in_row, scale| Self { in_row, left_out, made, scale };
            return match (is_finite, in_row + 1 >= LIMIT) {
                (false, _) => (state(0, scale / 2.), false),
                (true, true) => (state(0, (scale * 2.).min(f32::MAX.into())), true),
                (true, false) => (state(in_row + 1, scale), true),
            };
        }
        // After more than the limit in a row that were not finite, one is made all the same.
        let is_made = is_finite || in_row + 1 > LIMIT;
        let in_row = if is_finite { 0 } else { in_row + 1 };
        (Self { in_row, left_out, made: made + u64::from(is_made), scale }, is_made)
    }
}
