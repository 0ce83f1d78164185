//! cuRAND: the generators that Candle makes, in the order of the library's host interface.
//!
//! `CURAND_RNG_PSEUDO_DEFAULT` is XORWOW, which is what Candle asks for. Bits and uniform numbers are those of the
//! library; normal numbers differ from a device's in their last digits, as its sine and cosine do.

#[allow(unsafe_code)]
pub mod calls;
mod distribution;
mod philox;
mod xorwow;

pub use distribution::Distribution;
pub use philox::Philox;
pub use xorwow::Xorwow;

use crate::driver::calls::Code;
use crate::driver::device::Device;
use crate::driver::error::Error;
use crate::driver::work::Work;

/// A `curandStatus_t` that is not success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is no such generator.
    NotInitialized = 101,
    /// The generator does not make such numbers, or is not there.
    Type = 103,
    /// An argument is outside of its range.
    OutOfRange = 104,
    /// Normal numbers come in pairs.
    LengthNotMultiple = 105,
    /// The device answered with an error.
    LaunchFailure = 201,
    /// There is no context.
    InitializationFailed = 203,
}

impl Code for Status {
    fn code(self) -> i32 {
        self as i32
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::NOT_INITIALIZED | Error::INVALID_CONTEXT | Error::CONTEXT_IS_DESTROYED => {
                Self::InitializationFailed
            }
            Error::INVALID_VALUE => Self::OutOfRange,
            _ => Self::LaunchFailure,
        }
    }
}

/// Where bits come from.
#[derive(Clone, Debug)]
enum Source {
    Xorwow(Box<Xorwow>),
    Philox(Philox),
}

/// A generator.
#[derive(Clone, Debug)]
pub struct Generator {
    kind: Kind,
    seed: u64,
    /// The place in the sequence.
    offset: u64,
    stream: u64,
    /// Made at the first use after seed or offset are set.
    source: Option<Source>,
}

/// The kind of a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Marsaglia's xorshift with a Weyl sequence.
    Xorwow,
    /// Philox 4x32 of 10 rounds.
    Philox,
}

impl Kind {
    /// By the number in `curand.h`.
    ///
    /// # Errors
    /// If it is none that is there.
    pub fn from_number(number: i32) -> Result<Self, Status> {
        match number {
            100 | 101 => Ok(Self::Xorwow),
            161 => Ok(Self::Philox),
            _ => {
                eprintln!("simcuda: generator {number} of cuRAND is not there");
                Err(Status::Type)
            }
        }
    }
}

impl Generator {
    /// A generator with the library's seed.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, seed: 0, offset: 0, stream: 0, source: None }
    }

    /// Sets the seed, at the place where the sequence is: the library does not go back.
    ///
    /// # Errors
    /// If the generator is a Philox that was used: the library goes to a place that is not documented.
    pub fn set_seed(&mut self, seed: u64) -> Result<(), Status> {
        if matches!(self.source, Some(Source::Philox(_))) {
            eprintln!("simcuda: a new seed for cuRAND's Philox after its first use is not there");
            return Err(Status::Type);
        }
        self.seed = seed;
        self.source = None;
        Ok(())
    }

    /// Sets the place in the sequence.
    pub fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
        self.source = None;
    }

    /// Sets the stream.
    pub fn set_stream(&mut self, stream: u64) {
        self.stream = stream;
    }

    /// The next numbers, as bytes.
    ///
    /// # Errors
    /// If the generator does not make such numbers, or not as many.
    pub fn generate(&mut self, distribution: Distribution, count: usize) -> Result<Vec<u8>, Status> {
        if distribution.is_normal() && !count.is_multiple_of(2) {
            return Err(Status::LengthNotMultiple);
        }
        let source = self.source.get_or_insert_with(|| match self.kind {
            Kind::Xorwow => Source::Xorwow(Box::new(Xorwow::new(self.seed, self.offset))),
            Kind::Philox => Source::Philox(Philox::new(self.seed, self.offset)),
        });
        match source {
            Source::Xorwow(xorwow) => Ok(distribution.generate(count, |words| {
                xorwow.next(words);
                self.offset = self.offset.wrapping_add(1);
            })),
            Source::Philox(philox) if !distribution.is_double() => {
                Ok(distribution.generate(count, |words| {
                    philox.next(words);
                    self.offset = self.offset.wrapping_add(words.len() as u64);
                }))
            }
            Source::Philox(_) => {
                eprintln!("simcuda: numbers of 64 bits from cuRAND's Philox are not there");
                Err(Status::Type)
            }
        }
    }
}

impl Device {
    /// `curandCreateGenerator`.
    ///
    /// # Errors
    /// If there is no context.
    pub fn create_generator(&mut self, kind: Kind) -> Result<u64, Status> {
        self.context()?;
        let handle = self.new_handle();
        self.generators.insert(handle, Generator::new(kind));
        Ok(handle)
    }

    /// The generator of a handle.
    ///
    /// # Errors
    /// If there is none.
    pub fn generator(&mut self, handle: u64) -> Result<&mut Generator, Status> {
        self.generators.get_mut(&handle).ok_or(Status::NotInitialized)
    }

    /// Fills memory with random numbers in the generator's stream. In a capture it is refused: what each launch of the
    /// graph would give is not documented.
    ///
    /// # Errors
    /// If there is no such generator, or it does not make such numbers.
    pub fn generate(
        &mut self,
        handle: u64,
        distribution: Distribution,
        to: u64,
        count: usize,
    ) -> Result<(), Status> {
        let stream = self.generator(handle)?.stream;
        let stream = self.stream(stream)?;
        if self.is_capturing(stream) {
            eprintln!("simcuda: random numbers of cuRAND in a capture are not there");
            return Err(self.refuse_in(stream, Error::CAPTURE_UNSUPPORTED).into());
        }
        let bytes = self.generator(handle)?.generate(distribution, count)?;
        if count == 0 {
            return Ok(());
        }
        Ok(self.submit(stream, Work::Random { to, bytes: bytes.into() })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds each line of the table that `oracle/curand.py` prints, which NVIDIA's library computed.
    #[test]
    fn numbers_are_those_of_the_library() {
        for line in include_str!("known.txt").lines() {
            let mut fields = line.split(" | ");
            let mut number = || fields.next().expect("a field").parse::<u64>().expect("a number");
            let (kind, seed, offset) = (number(), number(), number());
            let mut generator = Generator::new(Kind::from_number(kind as i32).expect("there"));
            generator.set_seed(seed).expect("not used");
            generator.set_offset(offset);
            for call in fields {
                let mut words = call.split(' ');
                let name = words.next().expect("a name");
                let count = words.next().expect("a count");
                let distribution = match name {
                    "Seed" => {
                        generator.set_seed(count.parse().expect("a seed")).expect("no Philox");
                        continue;
                    }
                    "Bits" => Distribution::Bits,
                    "Uniform" => Distribution::Uniform,
                    "UniformDouble" => Distribution::UniformDouble,
                    "Normal" => Distribution::Normal(1.5, 2.0),
                    _ => Distribution::NormalDouble(1.5, 2.0),
                };
                let found = generator.generate(distribution, count.parse().expect("a count")).expect("there");
                for pair in words {
                    let (place, bits) = pair.split_once('=').expect("place and bits");
                    let size = if distribution.is_double() { 8 } else { 4 };
                    let bytes = &found[place.parse::<usize>().expect("a place") * size..][..size];
                    let expected = u64::from_str_radix(bits, 16).expect("bits");
                    let (found, expected, most) = match distribution {
                        Distribution::Normal(..) => {
                            let found = f32::from_le_bytes(bytes.try_into().expect("4 bytes"));
                            (f64::from(found), f64::from(f32::from_bits(expected as u32)), 2e-6)
                        }
                        Distribution::NormalDouble(..) => (
                            f64::from_le_bytes(bytes.try_into().expect("8 bytes")),
                            f64::from_bits(expected),
                            4e-15,
                        ),
                        _ => {
                            let found = bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
                            assert_eq!(found, expected, "{place} of {name} in {line}");
                            continue;
                        }
                    };
                    // Sine, cosine and logarithm differ in their last digits.
                    assert!(
                        (found - expected).abs() <= most,
                        "{found} {expected} at {place} of {name} in {line}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_a_generator_does_not_make_is_an_error() {
        let mut xorwow = Generator::new(Kind::Xorwow);
        assert_eq!(xorwow.generate(Distribution::Normal(0.0, 1.0), 3), Err(Status::LengthNotMultiple));
        assert_eq!(xorwow.generate(Distribution::Bits, 0), Ok(vec![]));
        let mut philox = Generator::new(Kind::Philox);
        assert_eq!(philox.generate(Distribution::UniformDouble, 2), Err(Status::Type));
        philox.generate(Distribution::Bits, 1).expect("there");
        assert_eq!(philox.set_seed(1), Err(Status::Type));
        assert_eq!(Kind::from_number(121), Err(Status::Type));
    }
}
