# What takes the place of commands that no test can run as they stand. Everything else in a block,
# and in particular every other command, runs unchanged. Each says its name, so that the test knows
# what was not run itself.

say() {
    echo "$*" >&3
}

# Serves on a free port until it is ready. The other targets would begin this very run of the tests,
# or last as long: make says what it would do, if there is such a target.
make() {
    local -a quick=(-o .venv/.installed -o .venv/.installed-for-tests --no-print-directory)
    if [ "$1" != serve ]; then
        say "make $1"
        command make "${quick[@]}" --dry-run "$@" >/dev/null
        return
    fi
    command make "${quick[@]}" "$@" PORT=0 >served.log 2>&1 &
    local process=$!
    until grep -q "causalrn.server.start: ready" served.log; do
        kill -0 $process || { cat served.log >&2; return 1; }
        sleep 0.05
    done
    kill $process
    wait $process || true
}

# Installing changes the environment that runs the tests: only what it would install is looked at.
pip() {
    say "pip $1"
    [ "$1 $2" = "install -e" ]
    grep -q '^\[project\]' "${3%[*}/pyproject.toml"
}

# Building needs a container engine: tests/test_dockerfile.py checks what the Dockerfile names.
docker() {
    say "docker $1"
    case $1 in
        build) [ "$2" = -t ] && image=$3 && [ -f "$4/Dockerfile" ] ;;
        run) [ "${*: -1}" = "$image" ] ;;
        *) return 1 ;;
    esac
}

# Training and evaluating take minutes: a few steps, and one string of each kind, do.
causalrn() {
    case $1 in
        train)
            say "causalrn train"
            command causalrn "$@" --set optimizer.steps=3 --set optimizer.warmup_steps=1 --threads 1
            ;;
        evaluate) say "causalrn evaluate" && command causalrn "$@" --strings 1 --threads 1 ;;
        *) command causalrn "$@" ;;
    esac
}
