# Functions of scripts/acceptance and scripts/demo: the demo in a temporary directory of its own.
# Every process started here carries PILLION_DEMO_TAG in its environment; that is how the end finds what is
# left, by process id, and never touches a process of anybody else.
#
# After `demo_begin`: work (temporary directory), demo (copy of the example), apps (the four app IDs), ports[].

apps="tenant-service notification-service email-service sms-service"
declare -A ports saved_directory
reason=
fail() { reason=$1; return 1; }

demo_begin() { # <pillion> <directory of the services> <example> [standard: the example's own ports when they are free]
  pillion=$1 services=$2
  work=$(mktemp -d "${TMPDIR:-/tmp}/pillion-demo.XXXXXX")
  demo=$work/demo
  mkdir -p "$work/bin" "$work/runtime" "$work/environment"
  ln -s "$pillion" "$work/bin/dapr"
  cp -a "$3" "$demo"
  rm -rf "$demo/.dapr" "$demo"/*/.dapr
  export PATH="$work/bin:$services:$PATH"
  export DAPR_RUNTIME_PATH=$work/runtime PILLION_DEMO_TAG=$work
  unset APP_PORT APP_ID DAPR_HTTP_PORT DAPR_GRPC_PORT
  local id standard=8080
  for id in $apps; do
    if [ "${4:-}" = standard ] && ! listening $standard; then ports[$id]=$standard; else ports[$id]=$(free_port); fi
    standard=$((standard + 1))
  done
  sed -i -e "s/appPort: 8080/appPort: ${ports[tenant-service]}/" -e "s/appPort: 8081/appPort: ${ports[notification-service]}/" \
    -e "s/appPort: 8082/appPort: ${ports[email-service]}/" -e "s/appPort: 8083/appPort: ${ports[sms-service]}/" "$demo/dapr.yaml"
}

# A port below the ephemeral range on which nothing listens and which was not handed out before.
free_port() {
  local candidate
  while :; do
    candidate=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    case " ${ports[*]} " in *" $candidate "*) continue ;; esac
    listening "$candidate" || { echo "$candidate"; return; }
  done
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port() { echo "${ports[$1]}"; }

# Repeats a command five times a second until it succeeds or the seconds are over.
wait_for() { # <seconds> <command...>
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.2
  done
}

run_quietly() { # <name of the log> <command...>
  local log=$work/$1.log status
  shift
  timeout 60 "$@" >"$log" 2>&1
  status=$?
  [ $status = 0 ] || { fail "'$*' ended with $status: $(tail -n 5 "$log")"; return 1; }
}

# One field of one app in `dapr list -o json`: the entries are flat objects.
listed() { # <app id> <field>
  dapr list -o json 2>/dev/null | tr -d '\n' | sed 's/}/}\n/g' | grep "\"appId\": *\"$1\"" |
    sed -n "s/.*\"$2\": *\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1
}

curl_quickly() { curl -s --max-time 35 "$@"; }
stats() { curl_quickly "http://127.0.0.1:${ports[$1]}/stats"; }
figure() { stats "$1" | tr -d ' ' | sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p"; }
both_stats() { echo "e-mail $(stats email-service | cut -c1-400), SMS $(stats sms-service | cut -c1-400)"; }
counts() { [ "$(figure email-service count)" = "$1" ] && [ "$(figure sms-service count)" = "$2" ]; }
skipped_is() { [ "$(figure sms-service skipped)" = "$1" ]; }
has_id() { stats "$1" | tr -d ' ' | grep -q "\"ids\":\[[^]]*\"$2\""; }

# Prints the status; the answer's body is in $work/answer.
post_tenant() { # <json>
  curl_quickly -o "$work/answer" -w '%{http_code}' -H 'content-type: application/json' -d "$1" \
    "http://127.0.0.1:${ports[tenant-service]}/tenant"
}
answer_id() { { cat "$work/answer"; echo; } | sed -n 's/.*"id": *"\([0-9]*\)".*/\1/p'; }

# Creates tenants with a phone number and prints their ids; stops at the first that is refused.
create_tenants() { # <how many>
  local i
  for ((i = 0; i < $1; i++)); do
    [ "$(post_tenant '{"name":"Numbered","emailId":"n@b.c","phone":"5"}')" = 201 ] || return 1
    answer_id
  done
}

# Starts `run -f` in its own session and waits until apps answer and consumers have subscribed.
demo_start() {
  : >"$work/run.log"
  setsid dapr run -f "$demo" >>"$work/run.log" 2>&1 &
  runner=$!
  local id
  for id in $apps; do
    wait_for 30 started "$id" || { fail "no line 'Started Dapr with app id' for $id"; return 1; }
    wait_for 30 app_ready "$id" || { fail "app $id does not answer"; return 1; }
    wait_for 30 sidecar_ready "$id" || { fail "the sidecar of $id is not healthy"; return 1; }
  done
  wait_for 30 subscribed email-service && wait_for 30 subscribed sms-service ||
    { fail "the consumers' sidecars show no subscription in their metadata"; return 1; }
  grep -q '== APP - tenant-service == ' "$work/run.log" || { fail "no line with the prefix '== APP - tenant-service == '"; return 1; }
}
started() { kill -0 "$runner" 2>/dev/null && grep -q "Started Dapr with app id \"$1\"" "$work/run.log"; }
app_ready() { [ -n "$(stats "$1")" ]; }
sidecar_ready() { [ "$(sidecar_get "$1" /v1.0/healthz -o "$work/health" -w '%{http_code}')" = 204 ]; }
subscribed() { sidecar_get "$1" /v1.0/metadata | grep -q '"subscriptions": *\[ *{'; }
sidecar_get() { # <app id> <path> [curl options]
  local id=$1 path=$2
  shift 2
  curl_quickly "$@" "http://127.0.0.1:$(listed "$id" httpPort)$path"
}

# The processes that carry our tag: `tagged` all, `tagged <port>` the app with that APP_PORT.
tagged() { # [app port]
  local directory pid
  for directory in /proc/[0-9]*; do
    pid=${directory#/proc/}
    [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] || continue
    has_variable "$pid" "PILLION_DEMO_TAG=$work" || continue
    if [ -n "${1:-}" ]; then
      has_variable "$pid" "APP_PORT=$1" || continue
      case $(basename "$(readlink "$directory/exe")") in pillion | dapr | daprd) continue ;; esac
    fi
    echo "$pid"
  done
}
has_variable() { tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | grep -qxF "$2"; } 2>/dev/null

# kill -9, after keeping what is needed to start the very same process again.
kill_app() { # <app id>
  local pid
  pid=$(tagged "${ports[$1]}" | head -n 1)
  [ -n "$pid" ] || return 1
  cat "/proc/$pid/environ" >"$work/environment/$1"
  cat "/proc/$pid/cmdline" >"$work/environment/$1.command"
  saved_directory[$1]=$(readlink "/proc/$pid/cwd")
  kill -9 "$pid"
  wait_for 5 gone "$1"
}
gone() { ! listening "${ports[$1]}"; }

restart_app() { # <app id>
  local environment command
  mapfile -d '' -t environment <"$work/environment/$1"
  mapfile -d '' -t command <"$work/environment/$1.command"
  (cd "${saved_directory[$1]}" && exec env -i "${environment[@]}" "${command[@]}") >>"$work/$1.log" 2>&1 &
  disown $!
  wait_for 20 app_ready "$1"
}

# Starts app and sidecar together, as a developer would after both have died.
run_alone() { # <app id>
  local command
  mapfile -d '' -t command <"$work/environment/$1.command"
  (cd "${saved_directory[$1]}" && exec setsid dapr run --app-id "$1" --app-port "${ports[$1]}" \
    --resources-path "$demo/components" -- "${command[@]}") >>"$work/$1.log" 2>&1 &
  disown $!
  alone="${alone:-} $1"
  wait_for 20 app_ready "$1" && wait_for 20 sidecar_ready "$1" && wait_for 20 subscribed "$1" ||
    { fail "$(tail -n 5 "$work/$1.log")"; return 1; }
}

# Stops as a developer would and checks that nothing is left.
demo_stop() {
  local id pid status=0
  for id in ${alone:-}; do dapr stop --app-id "$id" >>"$work/stop.log" 2>&1; done
  dapr stop -f "$demo" >>"$work/stop.log" 2>&1 || { fail "stop -f ended with $?: $(tail -n 3 "$work/stop.log")"; return 1; }
  wait_for 15 runner_ended || { fail "run -f is still there 15 s after stop -f"; return 1; }
  wait "$runner" || status=$?
  runner=
  [ $status = 0 ] || { fail "run -f ended with $status: $(tail -n 3 "$work/run.log")"; return 1; }
  # Apps that this script restarted by hand have no command that owns them.
  for id in $apps; do for pid in $(tagged "${ports[$id]}"); do [ "$(ps_parent "$pid")" = $$ ] && kill "$pid"; done; done
  wait_for 10 nothing_left || { fail "left over: $(left_over)"; return 1; }
  for id in $apps; do gone "$id" || { fail "port ${ports[$id]} of $id is still taken"; return 1; }; done
}
runner_ended() { ! kill -0 "$runner" 2>/dev/null || [ "$(process_state "$runner")" = Z ]; }
process_state() { sed -n 's/^State:[^A-Z]*\([A-Z]\).*/\1/p' "/proc/$1/status" 2>/dev/null; }
ps_parent() { sed -n 's/^PPid:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status" 2>/dev/null; }
left_over() { local pid; for pid in $(tagged); do tr '\0' ' ' <"/proc/$pid/cmdline"; echo; done; }
nothing_left() { [ -z "$(tagged)" ]; }

# Whatever happened, no process of ours and no file stays.
demo_end() {
  local pid
  for pid in $(tagged); do kill "$pid" 2>/dev/null; done
  wait_for 5 nothing_left || for pid in $(tagged); do kill -9 "$pid" 2>/dev/null; done
  if [ -n "${KEEP_WORK:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
