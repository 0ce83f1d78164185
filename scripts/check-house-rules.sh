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
rule 'no absolute path of a machine' \
    '(^|[^A-Za-z0-9_.$}~/-])/(Users|farm|home|mnt|opt|root|srv|work)/' ':!*.lock' '.'

if reserved=$(git ls-files --cached --others --exclude-standard | grep -iE '(^|/)(aux|con|nul|prn|com[0-9]|lpt[0-9])(\.|/|$)'); then
    printf '%s\nhouse rule: no file name that Windows reserves\n\n' "$reserved" >&2
    broken=1
fi

exit "$broken"
