# Removes a cluster: `sh -c SCRIPT plainsong-rig-guard HOME`. Waits for the end of standard input, a
# pipe that the owner closes when it drops the cluster or dies. The guard itself does not have the
# cluster in its environment.
trap '' HUP INT TERM
cat >/dev/null
home=$1
case $home in */plainsong-rig/?*) ;; *) echo "not a cluster: $home"; exit 1 ;; esac

carriers() {
    # The processes of this pipe do not have the variable, so they are not found.
    grep -lszxF "PLAINSONG_RIG=$home" /proc/[0-9]*/environ | sed 's,^/proc/,,; s,/environ$,,'
}

# A process may start another one between the search and the kill, so repeat until none is left.
tries=0
while pids=$(carriers) && [ -n "$pids" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 500 ]; then
        echo "processes that cannot be killed:" $pids
        exit 1
    fi
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null
    sleep 0.01
done
rm -rf "$home"
