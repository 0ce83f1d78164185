#!/usr/bin/env bash
# Packages every crate that is published, as `cargo publish` would, and tests what a user gets: no warning; both licences
# and a README in each archive, as files; no file name that Windows reserves; no test that needs an unpublished crate;
# and the unit tests pass from the unpacked archives, each depending on the others' archives.
#
#   scripts/check-packages.sh [arguments of cargo test]
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target} # shared: dependencies are not built again
export CARGO_TERM_PROGRESS_WHEN=never
unpacked=$CARGO_TARGET_DIR/packages

broken=0
fault() {
    printf 'check-packages: %s\n' "$*" >&2
    broken=1
}
value_of() { # value_of KEY MANIFEST: the first string with this key
    sed -nE "s/^$1 = \"(.*)\"$/\1/p" "$2" | head -n 1
}

# --- which crates ---------------------------------------------------------------------------------------------

published=() unpublished=()
while IFS= read -r manifest; do
    grep -q '^\[package\]' "$manifest" || continue
    name=$(value_of name "$manifest")
    if grep -qE '^publish(\.workspace)? = ' "$manifest"; then unpublished+=("$name"); else published+=("$name"); fi
done < <(git ls-files --cached --others --exclude-standard -- Cargo.toml '*/Cargo.toml')
version=$(sed -n '/^\[workspace.package\]/,$p' Cargo.toml | sed -nE 's/^version = "(.*)"$/\1/p' | head -n 1)
[ "${#published[@]}" -gt 1 ] && [ -n "$version" ] || { fault 'found no crates'; exit 2; }

# --- the archives ---------------------------------------------------------------------------------------------

log=$CARGO_TARGET_DIR/check-packages.log
rm -rf "$unpacked" "$CARGO_TARGET_DIR"/package/*.crate
mkdir -p "$unpacked"
selected=("${published[@]/#/--package=}")
# Not verified here: that would build each crate, and all their dependencies, for each crate.
cargo package --no-verify --allow-dirty --locked "${selected[@]}" 2>&1 | tee "$log"
# That integration tests stay out is meant: they use unpublished crates and large fixtures.
if grep '^warning' "$log" | grep -v '^warning: ignoring test .* is not included in the published package$' >&2; then
    fault 'cargo package warns'
fi

for crate in "${published[@]}"; do
    tar -xzf "$CARGO_TARGET_DIR/package/$crate-$version.crate" -C "$unpacked"
    root=$unpacked/$crate-$version
    for file in LICENSE-MIT LICENSE-APACHE; do
        [ ! -L "$root/$file" ] && cmp -s "$file" "$root/$file" || fault "$crate: \`$file\` is missing or differs"
    done
    [ -s "$root/README.md" ] || fault "$crate: no README.md"
    for key in description documentation license readme; do
        [ -n "$(value_of "$key" "$root/Cargo.toml")" ] || fault "$crate: no \`$key\` in its manifest"
    done
    reserved=$(cd "$root" && find . -print |
        grep -iE '/(aux|con|nul|prn|com[0-9]|lpt[0-9])(\.[^/]*)?$|/[^/]*([<>:"|?*\\]|[. ])$|/[^/]*[<>:"|?*\\][^/]*$' || :)
    [ -z "$reserved" ] || fault "$crate: names that Windows reserves: $reserved"
    for name in "${unpublished[@]}"; do
        uses=$(grep -rlE "\b${name//-/_}(::|;)|^\[.*dependencies\.$name\]" "$root" --include='*.rs' --include=Cargo.toml || :)
        [ -z "$uses" ] || fault "$crate: uses \`$name\`, which is not published: ${uses//$'\n'/, }"
    done
done
[ "$broken" -eq 0 ] || exit 1

# --- their unit tests -----------------------------------------------------------------------------------------

{
    printf '[workspace]\nresolver = "3"\nmembers = ["*-%s", "features"]\n\n[patch.crates-io]\n' "$version"
    printf '%s\n' "${published[@]}" | sed -E "s/.*/& = { path = \"&-$version\" }/"
    printf '\n'
    awk '/^\[/ { on = /^\[profile/ } on' Cargo.toml
} >"$unpacked/Cargo.toml"
# With the profiles of the repository's workspace, and with everything that it depends on, the dependencies have the same
# features, and those that `cargo test --workspace` built serve here too. `candle-kernels` needs CUDA.
mkdir "$unpacked/features"
: >"$unpacked/features/lib.rs"
{
    printf '[package]\nname = "features"\nedition = "2024"\n[lib]\npath = "lib.rs"\n[dependencies]\n'
    awk '/^\[/ { on = /^\[workspace.dependencies\]/; next } on' Cargo.toml | grep -vE '^(treex-|candle-treex|candle-kernels|proc-macro|quote|syn)'
} >"$unpacked/features/Cargo.toml"
cp Cargo.lock rust-toolchain.toml clippy.toml "$unpacked"
cp -r .cargo "$unpacked"
cd "$unpacked"
cargo test --offline --workspace --lib "$@"
