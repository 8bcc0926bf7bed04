#!/usr/bin/env bash
# Makes a virtual environment with the versions of requirements.txt and this package, editable.
#
#   tools/setup_env.sh [--onedl] [VENV]        VENV: .venv by default; with --onedl .venv-onedl
#
# --onedl: with OneDL's fork of OpenMMLab, tools/onedl.txt, in place of the official packages.
#
# From the environment:
#   PYTHON   the interpreter to make it with; default: the first fitting one of python3.11, python3,
#            python3.12, python3.13, python
#   PIP      the pip command; default: VENV/bin/python -m pip
#
# A finished environment holds a stamp: the checksum of what it was made from. Without the stamp, or
# with another checksum, pip is run again; it leaves alone what already fits, except for what comes
# from this repository, which it installs anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

onedl=
case ${1:-} in
    -h | --help)
        sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' tools/setup_env.sh
        exit 0
        ;;
    --onedl)
        onedl=yes
        shift
        ;;
    -*)
        echo "error: unknown option $1 (see tools/setup_env.sh --help)" >&2
        exit 2
        ;;
esac
venv=${1:-.venv${onedl:+-onedl}}
stamp=$venv/.mmgradaug-ready
# What the newest pins in requirements.txt (numpy, scikit-learn) ask for.
needed='3.11'
fits='import sys; sys.exit(sys.version_info < (3, 11))'

fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    [[ $# -eq 0 ]] || printf '  %s\n' "$@" >&2
    exit 1
}

# The path is part of it: an editable install in a checkout that was moved points nowhere.
# So are the sources of the stand-in for mmcv's ops, of which pip installs a copy.
fallback=(mmcv_ext_fallback/pyproject.toml mmcv_ext_fallback/mmcv/_ext.py)
want=$({
    pwd -P
    cat requirements.txt pyproject.toml ${onedl:+tools/onedl.txt}
    cat "${fallback[@]}" 2>/dev/null || : # if they are missing, pip says so
} | cksum)

if [[ -x $venv/bin/python && -f $stamp && $(cat "$stamp") == "$want" ]]; then
    echo "environment ready: $venv (delete it to start afresh)"
    exit 0
fi
rm -f "$stamp"

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=${PYTHON:-}
    if [[ -n $python ]]; then
        "$python" -c '' 2>/dev/null || fail "PYTHON=$python does not run." \
            'write the path of a Python interpreter: make setup PYTHON=/path/to/python3.11'
        "$python" -c "$fits" ||
            fail "the versions in requirements.txt need Python $needed or newer; PYTHON=$python is $("$python" -V 2>&1)." \
                'write: make setup PYTHON=/path/to/python3.11' \
                'or use your own environment (Python 3.9 or newer): pip install -e .'
    else
        for candidate in python3.11 python3 python3.12 python3.13 python; do
            if "$candidate" -c "$fits" 2>/dev/null; then
                python=$candidate
                break
            fi
        done
        [[ -n $python ]] ||
            fail "no Python $needed or newer found (the versions in requirements.txt need it)." \
                'install one, or say where it is: make setup PYTHON=/path/to/python3.11' \
                'or use your own environment (Python 3.9 or newer): pip install -e .'
    fi
    # Debian and Ubuntu ship Python without these two.
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments: its modules venv and ensurepip are missing." \
            'on Debian and Ubuntu: sudo apt install python3-venv (or python3.11-venv)' \
            'or use another one: make setup PYTHON=/path/to/python3.11'
    echo "making $venv with $python ($("$python" -V 2>&1))"
    "$python" -m venv "$venv"
fi

"$venv/bin/python" -c "$fits" ||
    fail "$venv was made with $("$venv/bin/python" -V 2>&1); the versions in requirements.txt need Python $needed or newer." \
        "delete $venv, then: make setup PYTHON=/path/to/python3.11"

if [[ -n ${PIP:-} ]]; then
    # Unquoted on purpose: it may hold arguments.
    # shellcheck disable=SC2206
    pip=($PIP)
else
    pip=("$venv/bin/python" -m pip)
    # Not there if making the environment was cut off, or if uv made it.
    "${pip[@]}" --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip ||
        fail "$venv has no pip, and it cannot be added." "delete $venv and run the same command again."
fi
echo "installing into $venv (several GB the first time; run it again if it is cut off)"
stopped() {
    fail "pip stopped, see above; $venv is not finished." \
        'mend the cause, then run the same command again: it goes on from there.'
}
if [[ -z $onedl ]]; then
    "${pip[@]}" install -r requirements.txt || stopped
    # Without build isolation, the setuptools just installed builds the package: no second download.
    "${pip[@]}" install --no-build-isolation -r requirements.txt -e '.[dev,quickstart]' || stopped
else
    # Without dependencies, since those of the package name the official distributions.
    tools='import tomllib; print("", *tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")'
    {
        grep -vE '^(mmengine|mmcv-lite|mmdet|mmpretrain|openmim)==' requirements.txt
        cat tools/onedl.txt
        "$venv/bin/python" -c "$tools"
    } >"$venv/requirements.txt"
    "${pip[@]}" install -r "$venv/requirements.txt" || stopped
    "${pip[@]}" install --no-build-isolation --no-deps -e . || stopped
fi

# Last of all, and in one move: a stamp is there only if everything above went well.
printf '%s\n' "$want" >"$stamp.tmp"
mv "$stamp.tmp" "$stamp"
echo "environment ready: $venv (delete it to start afresh)"
