#!/bin/bash
# What each job of this run does before its tasks: bootstrap.sh SUBMISSION INDEX [node]
# It starts in the run folder. Values of options do not stand here; Python reads them from slurm/ and tasks/.
set -Eeuo pipefail

submission=$1 index=$2 part=${3:-job}
run=$PWD
step=start
failed=slurm/submission-$submission/setup-failed-$index
own_folder=

fail() { # one line where `fb status` looks, and the end of the job
  local why=${1:-exit code $?}
  trap - ERR EXIT
  trap '' USR1
  # Of several nodes or steps that fail, the first says why.
  [ -s "$run/$failed" ] ||
    printf '%s\n' "$step ($why, node ${SLURMD_NODENAME:-$HOSTNAME})" >"$run/$failed" || true
  echo "setup failed: $step ($why)" >&2
  end
  exit 1
}
end() { # nothing stays on the nodes
  [ -z "${SLURM_TMPDIR:-}" ] ||
    python -I "$run/slurm/node_environment.py" --clean "$SLURM_TMPDIR" 2>/dev/null || true
  [ -n "$own_folder" ] || return 0
  if [ "${SLURM_NNODES:-1}" -gt 1 ] && [ "$part" = job ]; then
    timeout 60 srun --ntasks="$SLURM_NNODES" --ntasks-per-node=1 rm -rf -- "$own_folder" 2>/dev/null || true
  fi
  rm -rf -- "$own_folder" || true
}
say() { echo "$(date +%T) $*" >&2; }
trap fail ERR
# Slurm says by this signal that the time limit comes near; what is running ends first.
trap 'fail "the time limit came near"' USR1

[ "$part" = node ] || rm -f "$failed"

# With --export=NONE a job has next to no environment, and srun would pass on even less.
export SLURM_EXPORT_ENV=ALL PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"
export HOME="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}" USER="${USER:-$(id -un)}"
# Inherited by a nested srun, this would bind all its tasks to the processors of the first one.
unset SLURM_CPU_BIND SLURM_CPU_BIND_LIST SLURM_CPU_BIND_TYPE SLURM_CPU_BIND_VERBOSE
# srun does not take over what the job asked for any more since Slurm 22.05.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"

step='the local folder of the node'
folder=
for name in SLURM_TMPDIR; do
  if [ -n "${!name:-}" ] && [ -d "${!name}" ] && [ -w "${!name}" ]; then
    folder=${!name}
    break
  fi
done
# What the other nodes prepare stays there for the tasks; the job itself removes it at its end.
[ "$part" = node ] || trap end EXIT
if [ -z "$folder" ] || [ "$name" != SLURM_TMPDIR ]; then
  # The same name on each node of the job; nobody else may have made it.
  folder=${folder:-/tmp}/flat-bug-$(id -u)-$SLURM_JOB_ID
  say "node folder: there is no SLURM_TMPDIR here, so $folder is used"
  (umask 077 && mkdir -p "$folder")
  [ ! -L "$folder" ]
  [ -O "$folder" ]
  own_folder=$folder
fi
export SLURM_TMPDIR=$folder

step='loading the modules'
load_modules() { # the code of `module` itself does not bear strict settings
  if ! type module >/dev/null 2>&1; then
    for file in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /usr/share/lmod/lmod/init/bash; do
      [ ! -r "$file" ] || . "$file"
    done
  fi
  module purge
  module load python/3.11.5 opencv/4.10.0 gcc scipy-stack/2024a r/4.4.0
}
trap - ERR
set +eu
load_modules
code=$?
set -eu
trap fail ERR
(exit "$code")
say "modules: ${LOADEDMODULES:-none}"
part_of_nodes=one
[ "$part" = job ] && [ "${SLURM_NNODES:-1}" -le 1 ] || part_of_nodes=several

step='making the environment'
FB_PYTHON=$(python -I slurm/node_environment.py "slurm/environment-$part_of_nodes.json" "$SLURM_TMPDIR")

if [ "${SLURM_NNODES:-1}" -gt 1 ] && [ "$part" = job ] && [ "$index" != finaliser ]; then
  # This one is the first.
  step='preparing the other nodes of the job'
  others=$((SLURM_NNODES - 1))
  srun --relative=1 --nodes="$others" --ntasks="$others" --ntasks-per-node=1 \
    /bin/bash bootstrap.sh "$submission" "$index" node
fi

if [ "$part" = node ]; then
  step='staging'
  "$FB_PYTHON" -m flat_bug.cluster.job "$submission" "$index" --stage-only
  exit 0
fi

# Slurm's signals reach this script alone: each goes on to the tasks, which then leave a record.
step='starting the tasks'
"$FB_PYTHON" -m flat_bug.cluster.job "$submission" "$index" &
tasks=$!
trap 'kill -USR1 "$tasks" 2>/dev/null || true' USR1
trap 'kill -TERM "$tasks" 2>/dev/null || true' TERM
trap - ERR
set +e
while kill -0 "$tasks" 2>/dev/null; do
  wait "$tasks"
done
# The exit code of the tasks, and not of a wait that a signal has ended.
wait "$tasks"
code=$?
# Only before the program is there to hear it does the signal end it.
[ "$code" -ne $((128 + $(kill -l USR1))) ] || fail 'the time limit came near'
exit "$code"
