#!/bin/bash
# Trains on several machines of 8 GPUs under SLURM, one process for each GPU:
#   sbatch --nodes=8 examples/training/cluster/slurm.sh examples/training/k400-vits16.yaml data.path=/shared/k400/train
# `output` must be a folder that all machines see. Five minutes before the time limit the run is asked to stop: it finishes its
# step, saves, and the job is queued again, where it continues. Jobs that are preempted or lose a machine continue too, from the
# newest checkpoint.
#SBATCH --job-name=siammae
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=siammae-%j.log
set -uo pipefail

export OMP_NUM_THREADS=1
export MASTER_ADDR MASTER_PORT=${MASTER_PORT:-29500} WORLD_SIZE=$SLURM_NTASKS
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

stopping=no
trap 'stopping=yes; kill -TERM "$training"' USR1 # srun passes it to all processes

srun --kill-on-bad-exit=1 bash -c \
    'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID exec python -m siammae train "$@"' siammae "$@" &
training=$!

code=0
while kill -0 "$training" 2>/dev/null; do # a signal interrupts wait
    wait "$training"
    code=$?
done
if [ "$stopping" = yes ] && [ "$code" -eq 0 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
