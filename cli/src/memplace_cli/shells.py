# SPDX-License-Identifier: Apache-2.0
"""What bash, zsh and fish are told to complete the command: they ask it. Pure.

kubectl completes its plugins by itself: it asks a program `kubectl_complete-NAME` on the path. So
these are for the name `memplace`, and for `kubectl-memplace`, typed as a command of its own.
"""

from __future__ import annotations

_BASH = r"""# bash completion of memplace: source <(memplace completion bash)
_memplace() {
    local line found=() cur=${COMP_WORDS[COMP_CWORD]}
    while IFS= read -r line; do
        found+=("${line%%$'\t'*}")
    done < <(memplace __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=()
    ((${#found[@]})) || return 0
    # The last line says whether a file may stand there.
    if [[ ${found[-1]} == :0 ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    else
        COMPREPLY=("${found[@]:0:${#found[@]}-1}")
        [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace 2>/dev/null
    fi
    return 0
}
complete -F _memplace memplace kubectl-memplace
"""

_ZSH = r"""#compdef memplace kubectl-memplace
# zsh completion of memplace: source <(memplace completion zsh), after compinit
_memplace() {
    local -a found
    found=("${(@f)$(memplace __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ $found[-1] == :0 ]]; then
        _files
    else
        compadd -- "${(@)${(@)found[1,-2]}%%$'\t'*}"
    fi
}
compdef _memplace memplace kubectl-memplace
"""

_FISH = r"""# fish completion of memplace: memplace completion fish | source
function __memplace_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (memplace __complete $words[2..-1] 2>/dev/null)
    if test "$found[-1]" = ":0"
        __fish_complete_path (commandline -ct)
    else
        string match -v -r '^:\d+$' -- $found
    end
end
complete -c memplace -f -a '(__memplace_complete)'
complete -c kubectl-memplace -f -a '(__memplace_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
