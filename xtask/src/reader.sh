# Runs a command that ends when our standard input does: with the program that started us, however that ended.
# Its output is the only one: ours is closed, so that who reads it sees the command's end.
"$@" </dev/null &
child=$!
exec >/dev/null
cat >/dev/null
kill "$child" 2>/dev/null
wait "$child"
