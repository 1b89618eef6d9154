# shellcheck shell=sh
# Sourced by the launchers, with $here set to the folder of the project.

: "${here:?is set by the launcher that sources this file}"

# The project's own environment if it was made (run_demo.sh makes it), else the python3 of the shell.
if [ -x "$here/.venv/bin/python" ]; then
    python=$here/.venv/bin/python
else
    python=${PYTHON:-python3}
fi

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
    exec "$python" "$here/$script" "$@"
}
