//! The main job, stopped and resumed: the end is the same, bit for bit.

#![allow(clippy::unwrap_used)] // a test says where it failed

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn digits(out: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_digits")).arg("--out").arg(out).args(arguments).output().unwrap()
}

fn assert_success(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn stopped_and_resumed_is_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let text = assert_success(&digits(&whole, &["--epochs", "2", "--batch", "128"]));
    assert!(text.contains("test accuracy") && text.contains("validation:"), "{text}");
    for file in ["loss.png", "samples.png", "checkpoint.safetensors", "config.json"] {
        assert!(whole.join(file).exists(), "{file}");
    }

    // In the middle of an epoch, and at its end; options of the second start do not count.
    let text = assert_success(&digits(&parts, &["--epochs", "2", "--batch", "128", "--steps", "3"]));
    assert!(text.contains("--resume") && !text.contains("test accuracy"), "{text}");
    assert_success(&digits(&parts, &["--resume", "--steps", "10"]));
    assert_success(&digits(&parts, &["--resume", "--epochs", "9"]));
    let read = |folder: &Path, file: &str| fs::read(folder.join(file)).unwrap();
    for file in ["checkpoint.safetensors", "loss.png", "samples.png", "config.json"] {
        assert!(read(&whole, file) == read(&parts, file), "{file} differs");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_saves_and_exits_cleanly() {
    use std::io::{BufRead as _, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_digits"))
        .arg("--out")
        .arg(folder.path())
        .args(["--epochs", "100000"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The table's last row comes when all is set up, and training is about to begin.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(" total ")));
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("continue with `--resume`")), "{rest:?}");
    assert!(folder.path().join("checkpoint.safetensors").exists());
}

#[test]
fn bad_arguments_are_said() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (&["--batch", "0"][..], "`--batch`"),
        (&["--batch", "5000"], "larger than the 1293 training images"),
        (&["--rate", "NaN"], "NaN"),
        (&["--resume"], "nothing to resume"),
        (&["--data", "nowhere"], "`nowhere/train-images-idx3-ubyte`"),
    ] {
        let output = digits(folder.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(words), "{arguments:?}: {text}");
        fs::remove_file(folder.path().join("config.json")).ok();
    }
}
