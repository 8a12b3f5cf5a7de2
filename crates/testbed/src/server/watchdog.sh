# Clears up after a process of the testbed, however it ended: a copy of sh that holds the reading end of a pipe from it.
# Lines: "server PID START" and "ended PID" (START tells a process from a later one with the same id), "directory PATH"
# and "removed PATH". At the end of the input, which is the writer's death, the servers named last are killed with all
# their descendants and the directories removed. Only builtins where it counts: no ps, no awk.
trap '' HUP INT TERM
set -f
newline='
'
servers=' '
directories=$newline

# Prints "PID PARENT START" of every process. The command in /proc/PID/stat may hold blanks and brackets: cut it off.
processes() {
    set +f
    for stat in /proc/[0-9]*/stat; do
        { IFS= read -r line < "$stat"; } 2>/dev/null || continue
        process=${line%% *}
        IFS=' '
        set -f
        set -- ${line##*) }
        set +f
        shift 1
        parent=$1
        shift 18
        echo "$process $parent $1"
    done
    set -f
}

while IFS=' ' read -r word value rest; do
    case $word in
    server) servers="$servers$value:$rest " ;;
    ended)
        kept=' '
        for server in $servers; do
            [ "${server%%:*}" = "$value" ] || kept="$kept$server "
        done
        servers=$kept
        ;;
    directory) directories="$directories$value${rest:+ $rest}$newline" ;;
    removed)
        gone="$value${rest:+ $rest}"
        kept=$newline
        IFS=$newline
        for directory in $directories; do
            [ "$directory" = "$gone" ] || kept="$kept$directory$newline"
        done
        directories=$kept
        ;;
    esac
    IFS=' '
done

# The table is read twice: a postmaster may have started another backend while it was read first.
for round in 1 2; do
    table=$(processes)
    doomed=' '
    IFS=$newline
    for entry in $table; do
        process=${entry%% *}
        start=${entry##* }
        case $servers in *" $process:$start "*) doomed="$doomed$process " ;; esac
    done
    found=yes
    while [ "$found" = yes ]; do
        found=no
        for entry in $table; do
            process=${entry%% *}
            parent=${entry#* }
            parent=${parent%% *}
            case $doomed in *" $process "*) continue ;; esac
            case $doomed in *" $parent "*)
                doomed="$doomed$process "
                found=yes
                ;;
            esac
        done
    done
    IFS=' '
    # In round 1 everything is stopped, so that nothing new starts; in round 2 it is killed.
    for process in $doomed; do
        if [ "$round" = 1 ]; then kill -STOP "$process"; else kill -KILL "$process"; fi
    done 2>/dev/null
done

IFS=$newline
for directory in $directories; do
    # A killed postmaster leaves a System V segment behind; line 7 of its lock file says which.
    if [ -r "$directory/data/postmaster.pid" ]; then
        segment=$(sed -n 7p "$directory/data/postmaster.pid" 2>/dev/null)
        ipcrm -m "${segment##* }" 2>/dev/null
    fi
    # What is just dying may still write.
    attempt=0
    while [ -e "$directory" ] && [ $attempt -lt 50 ]; do
        rm -rf -- "$directory" 2>/dev/null
        [ -e "$directory" ] && sleep 0.1
        attempt=$((attempt + 1))
    done
done
