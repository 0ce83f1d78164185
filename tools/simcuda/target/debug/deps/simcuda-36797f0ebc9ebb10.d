/work/main/tools/simcuda/target/debug/deps/simcuda-36797f0ebc9ebb10.d: src/lib.rs src/fault.rs src/launch.rs src/memory.rs

/work/main/tools/simcuda/target/debug/deps/simcuda-36797f0ebc9ebb10: src/lib.rs src/fault.rs src/launch.rs src/memory.rs

src/lib.rs:
src/fault.rs:
src/launch.rs:
src/memory.rs:
