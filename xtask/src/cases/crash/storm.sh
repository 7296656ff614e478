#!/bin/sh
# storm SLICE ALLOWED DENIED: tries both until /run/crash-storm is gone, and counts: tries, allowed ones
# that were not started, denied ones that were, tries that did not come to a verdict.
tries=0 failed=0 passed=0 void=0
while [ -e /run/crash-storm ]; do
    tries=$((tries + 1))
    { read -r first; read -r second; } <<END
$(/root/probe "$1" "$2" "$3")
END
    case $first in
    allowed) ;;
    denied) failed=$((failed + 1)) ;;
    *) void=$((void + 1)) ;;
    esac
    case $second in
    denied) ;;
    allowed) passed=$((passed + 1)) ;;
    *) void=$((void + 1)) ;;
    esac
    [ $tries -ne 1 ] || echo begun
done
echo "tries=$tries failed=$failed passed=$passed void=$void"
