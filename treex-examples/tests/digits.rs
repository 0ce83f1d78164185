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
    for file in ["loss.png", "samples.png", "checkpoint.safetensors"] {
        assert!(whole.join(file).exists(), "{file}");
    }

    // In the middle of an epoch, and at its end.
    let text = assert_success(&digits(&parts, &["--epochs", "2", "--batch", "128", "--steps", "3"]));
    assert!(text.contains("--resume") && !text.contains("test accuracy"), "{text}");
    assert_success(&digits(&parts, &["--resume", "--steps", "10"]));
    assert_success(&digits(&parts, &["--resume", "--save-every", "1"]));
    let read = |folder: &Path, file: &str| fs::read(folder.join(file)).unwrap();
    for file in ["checkpoint.safetensors", "loss.png", "samples.png"] {
        assert!(read(&whole, file) == read(&parts, file), "{file} differs");
    }
}

/// A run that is started, and its lines from when training is about to begin.
#[cfg(unix)]
fn started(out: &Path, arguments: &[&str]) -> (std::process::Child, impl Iterator<Item = String> + use<>) {
    use std::io::{BufRead as _, BufReader};
    let mut child = Command::new(env!("CARGO_BIN_EXE_digits"))
        .arg("--out")
        .arg(out)
        .args(arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The table's last row comes when all is set up.
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(" total ")));
    (child, lines)
}

#[cfg(unix)]
fn signal(child: &std::process::Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_exits_cleanly() {
    for name in ["-INT", "-TERM", "-HUP"] {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, lines) = started(folder.path(), &["--epochs", "100000"]);
        signal(&child, name);
        let rest: Vec<String> = lines.collect();
        assert!(child.wait().unwrap().success(), "{name}: {rest:?}");
        assert!(rest.iter().any(|line| line.contains("continue with `--resume`")), "{name}: {rest:?}");
        assert!(folder.path().join("checkpoint.safetensors").exists());
    }
}

/// A run in the folder of another, killed before it saved what it learned: `--resume` continues it from its start, with
/// its own configuration, and not with the weights of the other.
#[cfg(unix)]
#[test]
fn a_killed_run_is_resumed_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let new = ["--epochs", "1", "--batch", "256", "--seed", "5", "--rate", "0.002"];
    assert_success(&digits(&whole, &new));
    assert_success(&digits(&killed, &["--epochs", "1", "--batch", "128", "--steps", "4"]));
    let checkpoint = killed.join("checkpoint.safetensors");
    let old = fs::read(&checkpoint).unwrap();
    let (mut child, _lines) = started(&killed, &[&new[..], &["--save-every", "1"]].concat());
    while fs::read(&checkpoint).unwrap() == old {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&child, "-KILL");
    child.wait().unwrap();
    let text = assert_success(&digits(&killed, &["--resume"]));
    assert!(text.contains("\"seed\":5"), "{text}");
    assert!(fs::read(&checkpoint).unwrap() == fs::read(whole.join("checkpoint.safetensors")).unwrap());
}

/// What cannot be resumed exactly is refused.
#[test]
fn a_resume_that_would_differ_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |out: &Path, arguments: &[&str], words: &str| {
        let output = digits(out, arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(words), "{arguments:?}: {text}");
    };
    let out = folder.path();
    assert_success(&digits(out, &["--epochs", "1", "--steps", "1"]));
    for option in ["--epochs", "--batch", "--rate", "--seed", "--seeds"] {
        refused(out, &["--resume", option, "1"], "cannot be used with");
    }
    // Another data set.
    let data = out.join("data");
    fs::create_dir(&data).unwrap();
    let header = |rank: u8, sizes: &[u8]| {
        let sizes = sizes.iter().flat_map(|&size| [0, 0, 0, size]);
        [0, 0, 8, rank].into_iter().chain(sizes).collect::<Vec<u8>>()
    };
    for set in ["train", "t10k"] {
        let images = [header(3, &[200, 8, 8]), vec![9; 200 * 64]].concat();
        let labels = [header(1, &[200]), (0..200).map(|label| label % 10).collect()].concat();
        fs::write(data.join(format!("{set}-images-idx3-ubyte")), images).unwrap();
        fs::write(data.join(format!("{set}-labels-idx1-ubyte")), labels).unwrap();
    }
    refused(out, &["--resume", "--data", data.to_str().unwrap()], "the data differ");
    // A checkpoint of another program.
    let foreign = out.join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/checkpoint_init.safetensors"),
        foreign.join("checkpoint.safetensors"),
    )
    .unwrap();
    refused(&foreign, &["--resume"], "does not tell its configuration");
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
        (&["--seeds", "0"], "--seeds"),
        (&["--save-every", "0"], "--save-every"),
        (&["--seed", "4294967296"], "--seed"),
        (&["--seed", "-1"], "unexpected argument"),
        (&["--seed", "4294967295", "--seeds", "2"], "exceed 32 bits"),
    ] {
        let output = digits(folder.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(words), "{arguments:?}: {text}");
        assert!(!folder.path().join("checkpoint.safetensors").exists(), "{arguments:?}");
    }
}
