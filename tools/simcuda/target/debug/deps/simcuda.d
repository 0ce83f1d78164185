/work/main/tools/simcuda/target/debug/deps/simcuda.d: src/lib.rs src/fault.rs src/launch.rs src/memory.rs

/work/main/tools/simcuda/target/debug/deps/libsimcuda.so: src/lib.rs src/fault.rs src/launch.rs src/memory.rs

/work/main/tools/simcuda/target/debug/deps/libsimcuda.rlib: src/lib.rs src/fault.rs src/launch.rs src/memory.rs

src/lib.rs:
src/fault.rs:
src/launch.rs:
src/memory.rs:
