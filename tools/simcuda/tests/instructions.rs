//! Each form of an instruction, against what NVIDIA's PTX manual says that it gives.

mod fixture;

use fixture::device::{Outcome, run};

fn check(name: &str) {
    let forms = fixture::family(name);
    let mut wrong = Vec::new();
    for form in &forms {
        match run(form) {
            Outcome::Right => {}
            Outcome::Wrong(words) => wrong.push(format!("{}: {words}", form.name)),
            Outcome::Missing => wrong.push(format!("{}: is not there", form.name)),
        }
    }
    println!("{name}: {} forms", forms.len());
    assert!(
        wrong.is_empty(),
        "{name}: {} of {} forms are wrong\n{}",
        wrong.len(),
        forms.len(),
        wrong.join("\n")
    );
}

macro_rules! families {
    ($($family:ident),*) => {
        $(
            #[test]
            fn $family() {
                check(stringify!($family));
            }
        )*
    };
}
families!(integers, comparisons, floats, conversions, approximations, memory, warps);

/// These tests see what is wrong: with its words turned around, each row is.
#[test]
fn a_wrong_word_is_seen() {
    for mut form in fixture::FAMILIES.into_iter().flat_map(fixture::family) {
        let mut turned = 0;
        for row in &mut form.rows {
            let words = form.outputs.iter().zip(&mut row.outputs);
            let exact = words.filter_map(|(kind, word)| {
                let bits = u64::from_str_radix(word, 16).ok()?;
                *word = format!("{:x}", kind.cut(!bits));
                Some(())
            });
            turned += usize::from(exact.count() > 0);
        }
        match run(&form) {
            Outcome::Wrong(words) => {
                assert!(words.starts_with(&format!("{turned} of ")), "{}: {words}", form.name)
            }
            Outcome::Right => assert_eq!(turned, 0, "{}", form.name),
            Outcome::Missing => panic!("{} is not there", form.name),
        }
    }
}

/// `SIMCUDA_PTX=FOLDER cargo test --test instructions -- --ignored write_modules` writes the kernels for `ptxas -arch=sm_90`,
/// NVIDIA's assembler, which refuses what is not PTX: see `scripts/test-cuda-sim.sh`.
#[test]
#[ignore = "writes files"]
fn write_modules() {
    let folder =
        std::path::PathBuf::from(std::env::var_os("SIMCUDA_PTX").expect("SIMCUDA_PTX names a folder"));
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in fixture::FAMILIES {
        for (at, form) in fixture::family(name).iter().enumerate() {
            std::fs::write(
                folder.join(format!("{name}-{at}.ptx")),
                format!("// {}\n{}", form.name, form.module()),
            )
            .expect("a file");
        }
    }
}
