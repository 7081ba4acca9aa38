# Functions of scripts/sdk-tests and the polyglot example's setup.sh: sets of published packages in a cache outside
# the clone, so that a second run, or a second clone, has nothing to do.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/pillion/polyglot

# The directory of one set of dependencies: named after the interpreter and the list, made whole or not at all.
install_into() { # <kind> <list file> <interpreter version> <installer function>
  local key dir
  key=$( { cat "$2"; echo "$3"; } | sha256sum | cut -c1-16)
  dir=$cache/$1-$key
  if [ ! -e "$dir/complete" ]; then
    rm -rf "$dir"
    mkdir -p "$dir"
    "$4" "$dir" "$2" || return 1
    touch "$dir/complete"
  fi
  installed=$dir
}

install_python() {
  python3 -m venv "$1/venv" &&
    "$1/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$2"
}

install_node() {
  cp "$2" "$1/package.json" &&
    (cd "$1" && npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error)
}

# Some launchers named python3 are shell scripts that depend on the caller's environment: ask the interpreter itself.
python_version() { python3 -c 'import sys; print(sys.version, sys.base_prefix)'; }

java_major() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }
