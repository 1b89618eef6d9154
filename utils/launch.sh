# shellcheck shell=sh
# Sourced by the launchers, with $here set to the folder of the project.

: "${here:?is set by the launcher that sources this file}"

# choose_python: set $python to the project's environment, else to an active one that has all packages; else make .venv.
choose_python() {
    python=${PYTHON:-python3}
    if [ -x "$here/.venv/bin/python" ]; then
        python=$here/.venv/bin/python
    fi
    if ! "$python" "$here/utils/environment.py" 2>/dev/null; then
        sh "$here/setup.sh"
        python=$here/.venv/bin/python
    fi
}

# launch SCRIPT "names of positional arguments" COMMAND-LINE...: run it with the named arguments turned into flags.
launch() {
    script=$1
    names=$2
    shift 2
    case ${1-} in -h | --help) names= ;; esac
    for name in $names; do
        case ${1-} in
        '' | -*)
            usage=
            for each in $names; do usage="$usage '$each'"; done
            echo "error: no $name given; usage: sh $(basename "$0")$usage [flags of $script]" >&2
            exit 2
            ;;
        esac
        value=$1
        shift
        set -- "$@" "--$name" "$value"
    done
    choose_python
    exec "$python" "$here/$script" "$@"
}
