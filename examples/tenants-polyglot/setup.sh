#!/usr/bin/env bash
# Installs what the four-language demo needs: Debian packages that are missing (as root), the Python SDK
# into notification-service/.venv and the Node SDK into email-service/node_modules. Both directories are
# links into a cache outside the clone, so that a second run, or a second clone, has nothing to do.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/pillion/polyglot

missing=()
java_major() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }
[ "$(java_major 2>/dev/null || true)" -ge 17 ] 2>/dev/null || missing+=(openjdk-17-jdk-headless)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ]; then
    echo "setup.sh: missing ${missing[*]}: run 'apt-get install ${missing[*]}' as root, then again" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

# The directory of one set of dependencies: named after the interpreter and the list, made whole or not at all.
install_into() { # <kind> <list file> <interpreter version> <installer function>
  local key dir
  key=$( { cat "$2"; echo "$3"; } | sha256sum | cut -c1-16)
  dir=$cache/$1-$key
  if [ ! -e "$dir/complete" ]; then
    rm -rf "$dir"
    mkdir -p "$dir"
    "$4" "$dir" "$2"
    touch "$dir/complete"
  fi
  installed=$dir
}

install_python() {
  python3 -m venv "$1/venv"
  "$1/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"
}

install_node() {
  cp "$2" "$1/package.json"
  (cd "$1" && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error)
}

# Some launchers named python3 are shell scripts that depend on the caller's environment: ask the interpreter itself.
python_version=$(python3 -c 'import sys; print(sys.version, sys.base_prefix)')
install_into python "$here/notification-service/requirements.txt" "$python_version" install_python
ln -sfn "$installed/venv" "$here/notification-service/.venv"
install_into node "$here/email-service/package.json" "$(node --version)" install_node
ln -sfn "$installed/node_modules" "$here/email-service/node_modules"
echo "tenants-polyglot is set up"
