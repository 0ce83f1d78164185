//! Lists the instructions of PTX files that the simulated device does not have: `coverage FILE.ptx ..`.

use std::collections::BTreeMap;

use simcuda::memory::Memory;
use simcuda::ptx::Module;

fn main() {
    let (mut kernels, mut unknown) = (0, BTreeMap::<String, usize>::new());
    for path in std::env::args().skip(1) {
        let mut memory = Memory::new(1 << 30);
        let text = std::fs::read_to_string(&path).expect("a file that can be read");
        let module = match Module::load(&text, &mut memory) {
            Ok(module) => module,
            Err(error) => {
                println!("{path}: {}", error.0);
                std::process::exit(1);
            }
        };
        for kernel in module.kernels() {
            kernels += 1;
            for text in kernel.unknown() {
                *unknown.entry(text.to_owned()).or_default() += 1;
            }
        }
    }
    println!("{kernels} kernels, {} unknown instructions", unknown.len());
    for (text, count) in &unknown {
        println!("{count:6} {text}");
    }
    std::process::exit(i32::from(!unknown.is_empty()));
}
