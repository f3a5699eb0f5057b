#!/bin/sh
# The runs of files into CockroachDB: points as CSV in chunks beside psql's \copy, a table with a
# UUID key and three more indexes beside other settings, accounts beside a bare loop of the same
# statements, and IMPORT as a whole process beside the bare statement. PARTS=defaults is a sweep:
# points, that table and accounts without flags, beside other chunks, workers, methods and modes.
#
#	sh testdata/bench/files.sh URL [rows [rounds]]
#
# URL is a running CockroachDB. It takes about 6 minutes with the default of 400000 rows and 5
# rounds. PARTS names some of copy, uuid, accounts, import and defaults; the last one is left out
# otherwise.
set -eu
url=$1 rows=${2:-400000} rounds=${3:-5} parts=${PARTS:-copy uuid accounts import}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/loader" ./cmd/loader
go build -o "$dir/turns" ./testdata/bench/turns
go build -o "$dir/handoff" ./testdata/bench/handoff
go build -o "$dir/bank" ./testdata/bench/bank
export D="$dir" N="$rows"
turns() { "$dir/turns" --url "$url" --loader "$dir/loader" --count "$rounds" "$@"; }

# uuids writes a quarter of the rows to uuid.csv: each index costs a row in a range of its own.
uuids() {
	awk -v n=$((rows / 4)) 'BEGIN { srand(7); for (i = 0; i < n; i++) printf "%08x-%04x-4%03x-8%03x-%06x%06x,name %d,%.6f,2024-%02d-%02d %02d:%02d:%02d\n",
		rand() * 2147483647, rand() * 65535, rand() * 4095, rand() * 4095, rand() * 16777215, rand() * 16777215, rand() * 1000000, rand() * 1000,
		1 + rand() * 12, 1 + rand() * 28, rand() * 24, rand() * 60, rand() * 60 }' >"$dir/uuid.csv"
}
uuidtable="DROP TABLE IF EXISTS u; CREATE TABLE u (id UUID PRIMARY KEY, name STRING, v FLOAT8, made TIMESTAMP, INDEX (name), INDEX (v), INDEX (made))"

case $parts in *copy*)
	"$dir/loader" points --n "$rows" --seed 5 --streams 1 --out "$dir/points.csv" --quiet >/dev/null
	tr ',' '\t' <"$dir/points.csv" >"$dir/points.txt"
	csv='"$LOADER" csv "$D/points.csv" --table points --columns id,x,y,z --header no --via insert --workers 2 --quiet --url "$URL"'
	turns --title "$rows points, 2 workers" --want "$rows" \
		--reset "DROP TABLE IF EXISTS points; CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)" \
		'psql \copy as text inside BEGIN=psql -q -v ON_ERROR_STOP=1 "$URL" -c BEGIN -c "\copy points from $D/points.txt" -c COMMIT' \
		"loader csv=$csv" \
		"loader csv --commit transaction=$csv --commit transaction" ;;
esac

case $parts in *uuid*)
	uuids
	csv='"$LOADER" csv "$D/uuid.csv" --table u --columns id,name,v,made --header no --via insert --quiet --url "$URL"'
	turns --title "$((rows / 4)) records, a UUID key and three more indexes" --want $((rows / 4)) --of u \
		--reset "$uuidtable" \
		"loader csv=$csv" "--chunk 500=$csv --chunk 500" "--chunk 5000=$csv --chunk 5000" "--workers 4=$csv --workers 4" \
		"--commit statement --workers 2=$csv --commit statement --workers 2" "--indexes defer=$csv --indexes defer" "--commit transaction=$csv --commit transaction" ;;
esac

case $parts in *accounts*)
	"$dir/bank" --url "$url" --only load --rows $((rows / 4)) --count "$rounds" ${PYTHON:+--python "$PYTHON"} ;;
esac

case $parts in *import*)
	"$dir/handoff" --url "$url" --rows $((rows * 5 / 2)) --count "$rounds" --upload=false ;;
esac

# sweep times a command without flags beside each of the further arguments as its flags. The
# registry is made by a first run; what an earlier load of the table found is forgotten.
sweep() {
	title=$1 want=$2 of=$3 reset=$4 command=$5
	shift 5
	for flags; do
		set -- "$@" "$flags=$command $flags"
		shift
	done
	turns --title "$title" --want "$want" --of "$of" --setup "$reset" --first "$command" --reset "$reset; DELETE FROM loader.tuning WHERE true" "no flags=$command" "$@"
}

case $parts in *defaults*)
	end='--quiet --url "$URL"'
	sweep "$rows points" "$rows" points 'DROP TABLE IF EXISTS points' '"$LOADER" points --n "$N" --seed 5 '"$end" \
		'--chunk 500' '--chunk 1000' '--chunk 5000' '--chunk 9999' '--workers 1' '--workers 4' '--workers 4 --chunk 5000' \
		'--commit transaction' '--via copy --commit transaction' '--via copy --commit transaction --chunk 9999' '--via import'
	uuids
	sweep "$((rows / 4)) records, a UUID key and three more indexes" $((rows / 4)) u "$uuidtable" \
		'"$LOADER" csv "$D/uuid.csv" --table u --columns id,name,v,made --header no '"$end" \
		'--chunk 500' '--chunk 1000' '--chunk 5000' '--workers 1' '--workers 4' '--commit transaction' '--commit statement' '--via copy --commit transaction' '--indexes defer' '--via import'
	sweep "$((rows / 4)) accounts" $((rows / 4)) accounts 'DROP TABLE IF EXISTS accounts' '"$LOADER" accounts --n '$((rows / 4))" $end" \
		'--chunk 500' '--chunk 1000' '--chunk 5000' '--workers 1' '--workers 4' '--via import' ;;
esac
