#!/usr/bin/env bash
# A Ray cluster for the time of one Slurm job, and a sweep on it:
#
#     sbatch --nodes=4 --gpus-per-task=8 --cpus-per-task=64 cluster/slurm.sh experiments/FILE.yaml [--set KEY=VALUE ...]
#
# `results` in the file is a folder that all nodes see, or object storage. Submit it again, or let Slurm requeue it: what
# is done stays done. Activate the environment with pixmix-ray in it before sbatch, which takes PATH along.
#SBATCH --job-name=pixmix-ray
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
umask 077

RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))") # nobody else on the nodes gets in
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
local_disk=${SLURM_TMPDIR:-/tmp}
export PIXMIX_RAY_CACHE=${PIXMIX_RAY_CACHE:-$local_disk/pixmix_ray-$(id -u)} # data are laid out once a node
export CPUS=${SLURM_CPUS_PER_TASK:-1}
export SCRATCH=$local_disk/ray-$SLURM_JOB_ID
host=$(python -c "from ray.util import get_node_ip_address; print(get_node_ip_address())")
export ADDRESS=$host:$((20000 + SLURM_JOB_ID % 10000)) # other jobs may run on this node

srun --ntasks="$SLURM_NTASKS" --kill-on-bad-exit=0 bash -c '
  if [ "$SLURM_PROCID" = 0 ]; then
    exec ray start --head --block --include-dashboard=false --num-cpus="$CPUS" --temp-dir="$SCRATCH" \
      --node-ip-address="${ADDRESS%:*}" --port="${ADDRESS#*:}"
  fi
  until ray health-check --address "$ADDRESS" 2>/dev/null; do sleep 1; done
  until ray start --block --address="$ADDRESS" --num-cpus="$CPUS"; do sleep 1; done # Ray gives up after 30 s
' &
cluster=$!
end() { # with the sweep's own exit code
  status=$?
  kill "$cluster" 2>/dev/null || true
  wait "$cluster" || true
  rm -rf "$SCRATCH"
  exit "$status"
}
trap end EXIT

# the sweep divides the cluster that it finds, so all nodes must be there
is_whole() {
  timeout 60 ray health-check --address "$ADDRESS" && timeout 120 python - "$ADDRESS" "$SLURM_NTASKS" <<'COUNT'
import sys
import ray

ray.init(address=sys.argv[1], logging_level="ERROR")
sys.exit(sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]))
COUNT
}
until is_whole >/dev/null 2>&1; do
  kill -0 "$cluster" || { echo "Ray did not start: see above" >&2; exit 1; }
  sleep 1
done

pixmix-ray run "$@" --address "$ADDRESS"
