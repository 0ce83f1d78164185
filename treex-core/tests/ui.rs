//! What the derive says to misuse. `TRYBUILD=overwrite cargo test -p treex-core --test ui` writes the
//! snapshots anew; read what changed.

#[test]
fn misuse_of_the_derive() {
    trybuild::TestCases::new().compile_fail("tests/ui/*/*.rs");
}
