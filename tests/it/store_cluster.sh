# Runs a throw-away PostgreSQL in a folder while anybody holds a shared lock on the use file, then stops it and removes the
# folder. Arguments: folder, use file, folder of the programs, then the command that drops privileges, if any.
set -u
folder=$1 use=$2 bin=$3
shift 3
exec 9<"$use"
umask 077
"$@" "$bin/initdb" --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C.UTF-8 -D "$folder/data" \
    >"$folder/initdb.log" 2>&1 || exit 1
"$@" "$bin/postgres" -D "$folder/data" -k "$folder" -c listen_addresses= -c fsync=off -c full_page_writes=off \
    -c synchronous_commit=off -c max_connections=200 -c shared_buffers=32MB >"$folder/postgres.log" 2>&1 9<&- &
server=$!
trap 'kill -INT $server' TERM INT
idle=0
while kill -0 $server 2>/dev/null; do
    sleep 1
    if flock -n -x 9; then
        idle=$((idle + 1))
        # The lock is kept while it stops: whoever comes now waits, and then starts another.
        [ $idle -ge 10 ] && break
        flock -u 9
    else
        idle=0
    fi
done
kill -INT $server 2>/dev/null
wait $server
rm -rf "$folder"
