//! Errors of the derive. `TRYBUILD=overwrite cargo test -p treex-core --test ui` rewrites the snapshots;
//! review the changes.

#[test]
fn misuse_of_the_derive() {
    trybuild::TestCases::new().compile_fail("tests/ui/*/*.rs");
}
