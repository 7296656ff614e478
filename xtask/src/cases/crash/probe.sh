#!/bin/sh
# probe SLICE PROGRAM...: says of each program whether the kernel starts it in that zone. The shell goes
# into a leaf of the slice first; it has no label, so it counts as the operator.
slice=$1
shift
leaf=/sys/fs/cgroup/governed.slice/$slice/crash-probe
for program in "$@"; do
    if (
        mkdir -p "$leaf" && echo 0 >"$leaf/cgroup.procs" || exit 99
        exec "$program" hello
    ) >/dev/null 2>/run/crash-probe; then
        echo allowed
    else
        code=$?
        case $code in
        126) echo denied ;;
        *) echo "ended with $code: $(cat /run/crash-probe)" ;;
        esac
    fi
done
exit 0
