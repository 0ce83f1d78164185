//! The system's C++ compiler.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether tests can run: without a compiler they fail, or say that they are skipped where the environment variable
/// `TREEX_NO_CXX` is 1.
pub(crate) fn is_there() -> bool {
    let version = Command::new("c++").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return true;
    }
    let is_allowed = std::env::var("TREEX_NO_CXX").is_ok_and(|value| value == "1");
    assert!(
        is_allowed,
        "there is no `c++` to compile kernels with: install one, or set TREEX_NO_CXX=1 to skip"
    );
    eprintln!("SKIPPED: there is no `c++`, and TREEX_NO_CXX=1: no kernel was compiled or run");
    false
}

/// A new folder for the files of one test.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dialect").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The program of `text`, or what the compiler says of it.
pub(crate) fn program(name: &str, text: &str) -> Result<PathBuf, String> {
    let program = folder(name).join("program");
    let source = program.with_extension("cpp");
    std::fs::write(&source, text).unwrap();
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++17", "-O1", "-ffp-contract=off", "-o"]).arg(&program).arg(&source);
    said(&mut compiler).map(|()| program)
}

/// Runs the compiler.
pub(crate) fn said(compiler: &mut Command) -> Result<(), String> {
    let output = compiler.env("LC_ALL", "C").output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}
