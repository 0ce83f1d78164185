/work/main/tools/simcuda/target/debug/deps/simcuda-7884446757787991.d: /work/main/clippy.toml src/lib.rs src/fault.rs src/launch.rs src/memory.rs src/ptx/mod.rs Cargo.toml

/work/main/tools/simcuda/target/debug/deps/libsimcuda-7884446757787991.rmeta: /work/main/clippy.toml src/lib.rs src/fault.rs src/launch.rs src/memory.rs src/ptx/mod.rs Cargo.toml

/work/main/clippy.toml:
src/lib.rs:
src/fault.rs:
src/launch.rs:
src/memory.rs:
src/ptx/mod.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=
# env-dep:CLIPPY_CONF_DIR
