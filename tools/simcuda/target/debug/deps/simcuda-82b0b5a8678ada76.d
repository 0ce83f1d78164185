/work/main/tools/simcuda/target/debug/deps/simcuda-82b0b5a8678ada76.d: /work/main/clippy.toml src/lib.rs src/fault.rs src/launch.rs src/memory.rs src/ptx/mod.rs Cargo.toml

/work/main/tools/simcuda/target/debug/deps/libsimcuda-82b0b5a8678ada76.rmeta: /work/main/clippy.toml src/lib.rs src/fault.rs src/launch.rs src/memory.rs src/ptx/mod.rs Cargo.toml

/work/main/clippy.toml:
src/lib.rs:
src/fault.rs:
src/launch.rs:
src/memory.rs:
src/ptx/mod.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=
# env-dep:CLIPPY_CONF_DIR
