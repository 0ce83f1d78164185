//! The functions of `libcurand.so.10`.

use super::{Distribution, Kind, Status};
use crate::driver::calls::absent::absent;
use crate::driver::calls::calls;
use crate::driver::calls::pointer::Out;

calls! { Status;
    /// Makes a generator.
    fn curandCreateGenerator(device, generator: Out<u64>, kind: i32) {
        Ok(generator.set(device.create_generator(Kind::from_number(kind)?)?)?)
    }

    /// Destroys a generator.
    fn curandDestroyGenerator(device, generator: u64) {
        device.generators.remove(&generator).map(|_| ()).ok_or(Status::NotInitialized)
    }

    /// Sets the seed.
    fn curandSetPseudoRandomGeneratorSeed(device, generator: u64, seed: u64) {
        device.generator(generator)?.set_seed(seed)
    }

    /// Sets the place in the sequence.
    fn curandSetGeneratorOffset(device, generator: u64, offset: u64) {
        device.generator(generator)?.set_offset(offset);
        Ok(())
    }

    /// Sets the stream.
    fn curandSetStream(device, generator: u64, stream: u64) {
        device.generator(generator)?.set_stream(stream);
        Ok(())
    }

    /// Words.
    fn curandGenerate(device, generator: u64, to: u64, count: usize) {
        device.generate(generator, Distribution::Bits, to, count)
    }

    /// Uniform numbers.
    fn curandGenerateUniform(device, generator: u64, to: u64, count: usize) {
        device.generate(generator, Distribution::Uniform, to, count)
    }

    /// Uniform numbers of 64 bits.
    fn curandGenerateUniformDouble(device, generator: u64, to: u64, count: usize) {
        device.generate(generator, Distribution::UniformDouble, to, count)
    }

    /// Normal numbers.
    fn curandGenerateNormal(device, generator: u64, to: u64, count: usize, mean: f32, deviation: f32) {
        device.generate(generator, Distribution::Normal(mean, deviation), to, count)
    }

    /// Normal numbers of 64 bits.
    fn curandGenerateNormalDouble(device, generator: u64, to: u64, count: usize, mean: f64, deviation: f64) {
        device.generate(generator, Distribution::NormalDouble(mean, deviation), to, count)
    }
}

absent! { Status::Type as i32;
    curandGenerateLogNormal curandGenerateLogNormalDouble curandGenerateLongLong curandGeneratePoisson
}
