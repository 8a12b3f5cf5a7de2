#!/usr/bin/env bash
# Writes the partition vectors of the Java client (crates/wire/tests/golden/partition.json), or, with --check, only
# compares the committed ones with what the client says. Needs mvn and a JDK of at least 17.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
golden=$root/crates/wire/tests/golden/partition.json
build=${CARGO_TARGET_DIR:-$root/target}/interop/java

case "${1-}" in
"" | --check) ;;
*)
    echo "usage: vectors.sh [--check]" >&2
    exit 2
    ;;
esac

mkdir -p "$build/classes" "$(dirname "$golden")"
if ! compgen -G "$build/lib/kafka-clients-*.jar" >/dev/null || [ "$here/pom.xml" -nt "$build/lib" ]; then
    rm -rf "$build/lib"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$build/lib"
    touch "$build/lib"
fi
javac -Xlint:all -Werror -proc:none -encoding UTF-8 -cp "$build/lib/*" -d "$build/classes" "$here/PartitionVectors.java"
# Written beside the golden file's final place only when complete: an interrupted run leaves the committed vectors alone.
java -cp "$build/classes:$build/lib/*" PartitionVectors >"$build/partition.json"

if [ "${1-}" = --check ]; then
    diff -u "$golden" "$build/partition.json"
    echo "partition vectors are the Java client's"
else
    cp "$build/partition.json" "$golden"
    echo "wrote $golden"
fi
