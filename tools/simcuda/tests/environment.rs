//! What the environment chooses, in processes of their own.

mod c;

use std::env;
use std::process::{Command, Output};

use c::*;

/// Runs `some_work` in a process with these variables.
fn child(variables: &[(&str, &str)]) -> Output {
    let program = env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .args(["--exact", "some_work", "--include-ignored", "--nocapture"])
        .envs(variables.iter().copied());
    command.output().expect("a process")
}

#[test]
#[ignore = "the other tests run it in a process of its own"]
fn some_work() {
    let _device = device();
    let s = stream();
    let address = upload(&[1_u8; 7], s);
    read_back(&mut [0_u8; 7], address, s);
}

#[test]
fn the_report_is_written_at_the_end_and_the_trace_on_the_way() {
    let path = env::temp_dir().join(format!("simcuda-report-{}", std::process::id()));
    let text = path.to_str().expect("a path in UTF-8");
    let output = child(&[("SIMCUDA_REPORT", text), ("SIMCUDA_TRACE", "1")]);
    assert!(output.status.success(), "{output:?}");
    let report = std::fs::read_to_string(&path).expect("a report");
    std::fs::remove_file(&path).expect("the report");
    assert!(report.contains("bytes uploaded: 7\nread-backs: 1\n"), "{report}");
    let trace = String::from_utf8_lossy(&output.stderr);
    assert!(
        trace.contains("simcuda: cuInit = 0\n") && trace.contains("simcuda: cuMemAllocAsync = 0\n"),
        "{trace}"
    );
}

#[test]
fn a_transfer_that_is_refused_names_its_place() {
    let output = child(&[("SIMCUDA_TRANSFERS", "refuse")]);
    assert!(!output.status.success(), "the test in it uploads: {output:?}");
    let words = String::from_utf8_lossy(&output.stderr);
    let (_, stack) = words
        .split_once("simcuda: an upload of 7 bytes, while transfers are refused\n")
        .unwrap_or_else(|| panic!("{words}"));
    assert!(stack.contains("environment::some_work"), "{stack}");
    assert!(child(&[("SIMCUDA_TRANSFERS", "allow")]).status.success());
}

#[test]
fn memory_is_as_much_as_is_asked_for() {
    assert!(child(&[("SIMCUDA_MEMORY", "7")]).status.success());
    let output = child(&[("SIMCUDA_MEMORY", "6")]);
    assert!(!output.status.success(), "the test in it found no memory: {output:?}");
}

#[test]
fn a_setting_that_is_not_understood_ends_the_process_in_words() {
    let output = child(&[("SIMCUDA_STREAMS", "sideways")]);
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("SIMCUDA_STREAMS=sideways is none of forward, reversed, and a number"), "{words}");
}
