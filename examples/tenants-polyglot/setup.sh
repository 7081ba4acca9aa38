#!/usr/bin/env bash
# Installs what the four-language demo needs: Debian packages that are missing (as root), the Python SDK
# into notification-service/.venv and the Node SDK into email-service/node_modules. Both directories are
# links into a cache outside the clone, so that a second run, or a second clone, has nothing to do.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../scripts/lib/install.bash"

missing=()
# A runtime alone does not run a source file.
[ "$(java_major 2>/dev/null || true)" -ge 17 ] 2>/dev/null && command -v javac >/dev/null || missing+=(openjdk-17-jdk-headless)
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

install_into python "$here/notification-service/requirements.txt" "$(python_version)" install_python
ln -sfn "$installed/venv" "$here/notification-service/.venv"
install_into node "$here/email-service/package.json" "$(node --version)" install_node
ln -sfn "$installed/node_modules" "$here/email-service/node_modules"
echo "tenants-polyglot is set up"
