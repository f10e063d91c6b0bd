#!/usr/bin/env bash
# What goes with the programs and is made of them: texts.sh PROGRAMS DIRECTORY writes DIRECTORY/man and
# DIRECTORY/completion.
set -euo pipefail
programs=$1
directory=$2
rm -rf "$directory/man" "$directory/completion"
mkdir -p "$directory/completion"
"$programs/landfall-man" "$directory/man"
gzip -9n "$directory"/man/*.1
"$programs/ctl" completion bash >"$directory/completion/ctl.bash"
"$programs/ctl" completion zsh >"$directory/completion/_ctl"
"$programs/ctl" completion fish >"$directory/completion/ctl.fish"
