# A server that leaves a family behind: deaf to SIGTERM, in sessions of their own, with children of their own.
sh -c 'trap "" TERM HUP; sleep 1000 & wait' &
setsid sh -c 'trap "" TERM; setsid sleep 1000 & sleep 1000 & while :; do sleep 1000; done' &
(sleep 1000 &)
while read -r line; do echo '{"jsonrpc":"2.0","id":1,"result":{}}'; done
