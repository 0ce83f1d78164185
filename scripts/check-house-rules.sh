#!/usr/bin/env bash
# The house rules that a search can see. Prints every line that breaks one, and fails if there is any.
set -euo pipefail
cd "$(dirname "$0")/.."

broken=0
# rule WHAT PATTERN PATHSPEC...: no line of these files matches the extended regular expression
rule() {
    local what=$1 pattern=$2 status=0
    shift 2
    [ -n "$(git ls-files --cached --others --exclude-standard -- "$@")" ] || {
        printf 'house rule: %s: no file to look at: %s\n' "$what" "$*" >&2
        exit 2
    }
    git grep --untracked -nIE "$pattern" -- "$@" || status=$?
    case $status in
        0) printf 'house rule: %s\n\n' "$what" >&2 && broken=1 ;;
        1) ;; # nothing found
        *) exit "$status" ;;
    esac
}

rule 'every doc fence compiles: run it, or mark it `no_run`, `compile_fail` or `text`' \
    '^[[:space:]]*(//[/!])?[[:space:]]*```.*ignore' '*.rs' '*.md'
rule 'no `todo!`, `unimplemented!` or `dbg!` is left behind' \
    '\b(todo|unimplemented|dbg)!\(' '*.rs'
rule 'a copy between devices goes through `treex_core::transfers`, where `no_transfers` sees it' \
    '^[^/]*(\.to_device\(|Tensor::(new|from_vec|from_slice|from_iter|arange)\([^?]*\bdevice(\(\))?\))' \
    'treex-core/src/*.rs' 'treex-nn/src/*.rs' 'treex-optim/src/*.rs' ':!treex-core/src/transfers.rs'
rule 'no absolute path of a machine' \
    '(^|[^A-Za-z0-9_.$}~/-])/(Users|farm|home|mnt|opt|root|srv|work)/' ':!*.lock' '.'

if reserved=$(git ls-files --cached --others --exclude-standard | grep -iE '(^|/)(aux|con|nul|prn|com[0-9]|lpt[0-9])(\.|/|$)'); then
    printf '%s\nhouse rule: no file name that Windows reserves\n\n' "$reserved" >&2
    broken=1
fi

# Words of an earlier vocabulary that the field's terms replaced, by where they meant something else.
gone() { # gone NAMES PATHSPEC...
    rule "the field has another name for it (ARCHITECTURE.md, CHANGELOG.md): $1" \
        "\\b(fn|struct|trait|enum|mod|static|const|type|macro_rules!) ($1)\\b" "${@:2}"
}
gone 'lend|kept|settle|own|unique|redeclare|Whose|place|Edge|Lesson|pupil|learn|Survey|ModuleTurns|Turn|Position|Attempt|replay|Detached|what_was_expected|what_was_found|what_to_do' \
    treex-core/src treex-core/derive/src
gone 'seen|Knot|Out|gate|tape|Pass|Call|hang|hand_over|deposit|Fresh|Taken|Buffer|Turns|LOOKING|IS_LOOKING|Normalizer|Level|is_plain|with_plain' \
    treex-core/src treex-core/kernels/src treex-nn/src
gone 'patches|windows|GiveBack|places|tile|panels|sum_rows' treex-nn/src treex-core/kernels/src
gone 'host|plain|Edge|Edges|AnyRule|Typed|AnyTerms|TypedTerms|Goal|Found|Ready|straight|through|Way' \
    treex-optim/src treex-nn/src/layers
rule 'a plain phrase: "default: ..", "NaN", "out of range", the subject itself, "freed"' \
    'unless said|not a number|outside of what it may be|\b([Nn]obody|[Ss]omebody|[Ww]hoever)\b|\blet go\b' \
    '*.rs' '*.md' '*.toml' '*.py' '*.sh' '.ci/*' ':!scripts/check-house-rules.sh'

exit "$broken"
