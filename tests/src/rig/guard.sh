# Removes a cluster: `sh -c SCRIPT plainsong-rig-guard HOME`. Waits for the end of standard
# input, which is a pipe from the owner: it comes when the owner closes it or dies. This
# process itself does not carry the cluster in its environment.
trap '' HUP INT TERM
cat >/dev/null
home=$1
case $home in */plainsong-rig/?*) ;; *) echo "not a cluster: $home"; exit 1 ;; esac

carriers() {
    # The pipe's own processes carry nothing, so they are not among the found.
    grep -lszxF "PLAINSONG_RIG=$home" /proc/[0-9]*/environ | sed 's,^/proc/,,; s,/environ$,,'
}

# A process may start another between the look and the kill, so until none is there.
tries=0
while pids=$(carriers) && [ -n "$pids" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 500 ]; then
        echo "processes that do not die:" $pids
        exit 1
    fi
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null
    sleep 0.01
done
rm -rf "$home"
