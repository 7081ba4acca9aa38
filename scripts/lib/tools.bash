# Functions of scripts/demo and scripts/test: what a fresh Debian machine lacks, and where builds go.

# Builds stay outside the clone, so that a fresh clone finds them again.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pillion/target}

# Installs the packages behind missing commands or files, as root; otherwise says which to install.
need_packages() { # <command or absolute path>=<Debian package> ...
  local pair wanted missing=()
  for pair in "$@"; do
    wanted=${pair%%=*}
    case $wanted in
      /*) [ -e "$wanted" ] ;;
      *) command -v "$wanted" >/dev/null ;;
    esac || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    echo "missing Debian packages: run 'apt-get install ${missing[*]}' as root, then again" >&2
    return 1
  fi
  echo "installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# What building Pillion needs beside Rust: a linker with the C library's headers, and certificates for crates.
need_build_tools() {
  need_packages cc=gcc /usr/include/stdio.h=libc6-dev curl=curl /etc/ssl/certs/ca-certificates.crt=ca-certificates &&
    need_rust
}

need_rust() {
  command -v cargo >/dev/null && return
  if [ -x "$HOME/.cargo/bin/cargo" ]; then PATH=$HOME/.cargo/bin:$PATH; return; fi
  echo "no Rust toolchain: install one with rustup and run this again" >&2
  return 1
}
