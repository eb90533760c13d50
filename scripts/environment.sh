# Sourced by the other scripts: enters the project's root and sets up .venv from nothing.
# Afterwards $python is the interpreter of that environment. EXTRAS: what to install besides.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
environment="${VENV:-.venv}"
python="$environment/bin/python"
if ! [ -x "$python" ]; then
    "${PYTHON:-python3}" -m venv "$environment"
fi
wanted="$(cat pyproject.toml; echo "${EXTRAS:-}")"
# Only what is imported is compiled, and then kept: that is a small part of what is installed.
unset PYTHONDONTWRITEBYTECODE
if [ "$(cat "$environment/installed" 2>/dev/null)" != "$wanted" ]; then
    echo "Setting up $environment; a plain torch takes some minutes and 5 GB." >&2
    "$python" -m pip install --disable-pip-version-check --no-compile \
        --editable ".${EXTRAS:+[$EXTRAS]}" >&2
    printf '%s' "$wanted" > "$environment/installed"
fi
