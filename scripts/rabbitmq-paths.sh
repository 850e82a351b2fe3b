# What the scripts about RabbitMQ have to agree on. Sourced, not run.
# shellcheck shell=bash
#
# A node takes four ports in a row, so that nobody has to ask it for them: PORT for AMQP, PORT + 1 for Erlang's
# distribution, PORT + 2 for the management plugin where it is enabled; PORT + 3 is left for a TLS listener.
#
# A node alone needs no port mapper. The nodes of a cluster find each other through one: they are started with
# ERL_EPMD_PORT, the port of an epmd that runs already.

# Prints the `sbin` folder of the server in WABBIT_RABBITMQ_HOME, else of the newest that is installed, or nothing. The
# wrappers in /usr/sbin are of no use here: they change the user and stay in between as a process of their own.
rabbitmq_sbin() {
  local home newest=
  local homes=("${WABBIT_RABBITMQ_HOME:-}")
  [[ -n ${homes[0]} ]] || homes=(/usr/lib/rabbitmq/lib/rabbitmq_server-* /opt/rabbitmq_server-* /opt/rabbitmq)
  for home in "${homes[@]}"; do
    [[ -x $home/sbin/rabbitmq-server ]] || continue
    newest=$(printf '%s\n%s\n' "$newest" "$home" | sort -V | tail -n 1)
  done
  [[ -z $newest ]] || printf '%s/sbin\n' "$newest"
}

# Prints the flags of Erlang by which a node, or a control script, finds the node at PORT.
rabbitmq_distribution() {
  if [[ -n ${ERL_EPMD_PORT:-} ]]; then
    echo "-start_epmd false"
  else
    echo "-start_epmd false -erl_epmd_port $(($1 + 1))"
  fi
}

# Sets `environment`, the same for the node and for its control script: everything that RabbitMQ would read from or
# write to the system is pointed into DIR.
rabbitmq_environment() {
  local dir=$1 port=$2
  # shellcheck disable=SC2034 # the callers use it
  environment=(
    HOME="$dir/home"
    LC_ALL=C.UTF-8
    RABBITMQ_CONF_ENV_FILE=/dev/null
    RABBITMQ_NODENAME="wabbit$port@localhost"
    RABBITMQ_NODE_PORT="$port"
    RABBITMQ_DIST_PORT="$((port + 1))"
    RABBITMQ_MNESIA_BASE="$dir/mnesia"
    RABBITMQ_LOG_BASE="$dir/log"
    RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf"
    RABBITMQ_ADVANCED_CONFIG_FILE="$dir/advanced.config"
    RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins"
    RABBITMQ_FEATURE_FLAGS_FILE="$dir/feature_flags"
    RABBITMQ_GENERATED_CONFIG_DIR="$dir/generated"
    RABBITMQ_PID_FILE="$dir/pid"
  )
}
